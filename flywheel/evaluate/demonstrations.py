"""How well policies predict held-out demonstrations, which nothing was trained on."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from flywheel.datasets.manifest import read_split
from flywheel.evaluate.kept import Keep, Told
from flywheel.evaluate.policies import loaded
from flywheel.evaluate.settings import DEMONSTRATIONS_FRAC, EvaluateSettings
from flywheel.evaluate.statistics.stats import ratios, told
from flywheel.process.clock import pieces
from flywheel.process.content import content_of
from flywheel.records.message import Conversation, load
from flywheel.rollout import response_nll

DECIDE = ("demonstration_limit", "max_tokens")
Asked = tuple[Sequence[Conversation], Sequence[Conversation], Sequence[str | None]]  # with tools
Losses = dict[int, tuple[float, int] | None]  # by place: nats and tokens; None of one too long


def demonstration_loss(settings: EvaluateSettings, keep: Keep) -> dict[str, Any] | None:
    """Nats per token of held-out demonstrations under base, SFT and policy; None without any.

    All their losses over all their tokens: a long demonstration weighs as much as it is long. What
    base and SFT policy say asks no challenger, and is kept.
    """
    rows = read_split(Path(settings.demonstration_dataset), "test").to_pylist()
    rows = rows[: settings.demonstration_limit]
    if not rows:
        return None
    prompts, responses = ([load(row[name]) for row in rows] for name in ("prompt", "response"))
    asked = (prompts, responses, [row.get("tools") for row in rows])
    seconds = settings.seconds_of(DEMONSTRATIONS_FRAC) / 3
    losses: dict[str, Losses] = {}
    reached = list(range(len(rows)))
    for name in ("base", "sft", "policy"):
        model = getattr(settings, name)
        measure = partial(_losses, model, asked, reached, seconds, settings)
        is_kept = name != "policy"
        losses[name] = _kept(name, measure, keep) if is_kept else measure()
        reached, seconds = sorted(losses[name]), math.inf  # the others are asked the same
    kept = [place for place in reached if all(found[place] for found in losses.values())]
    if not kept:
        return None
    fit = {name: [one for place in kept if (one := found[place])] for name, found in losses.items()}
    nats = {name: [total for total, _ in found] for name, found in fit.items()}
    tokens = [count for _, count in fit["base"]]  # the others were trained with its tokenizer
    groups = [rows[place]["group_id"] for place in kept]
    sums = nats | {
        f"{name}_minus_base": [a - b for a, b in zip(nats[name], nats["base"], strict=True)]
        for name in ("sft", "policy")
    }
    options: dict[str, Any] = {"resamples": settings.resamples, "seed": settings.seed}
    found = ratios([(one, tokens) for one in sums.values()], groups, **options)
    measured = dict(zip(sums, found, strict=True))
    return {
        **told(measured),
        "rows": len(kept),
        "tokens": sum(tokens),
        "groups": measured["base"].clusters,
        "too_long": len(reached) - len(kept),
        "without_time": len(rows) - len(reached),
    }


def _kept(name: str, measure: Callable[[], Losses], keep: Keep) -> Losses:
    """What `measure` says of a policy, as `Keep.once` keeps it."""

    def listed() -> Told:
        return {"losses": [*measure().items()]}

    asked = {
        "rows": content_of(Path(keep.settings.demonstration_dataset)),
        "settings": {one: getattr(keep.settings, one) for one in DECIDE},
    }
    found = keep.once(f"demonstrations_{name}.json", name, listed, asked)
    return {place: (one[0], one[1]) if one else None for place, one in found["losses"]}


def _losses(
    model: str,
    texts: Asked,
    places: Sequence[int],
    seconds: float,
    settings: EvaluateSettings,
) -> Losses:
    """Nats and tokens of the responses at some places, by place: as many as there is time for."""
    policy = loaded(model)
    (prompts, responses, tools), found = texts, Losses()
    for piece in pieces(places, seconds, seed=settings.seed):
        losses = response_nll(
            policy,
            [prompts[place] for place in piece],
            [responses[place] for place in piece],
            [tools[place] for place in piece],
            max_tokens=settings.max_tokens,
        )
        found |= zip(piece, losses, strict=True)
    return found
