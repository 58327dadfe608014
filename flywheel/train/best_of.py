"""Best of n: imitate what the reward prefers among the policy's own responses (rejection sampling).

Every prompt of the training split is answered `samples` times by the policy as it starts; the best
response to each, or every correct one, is then a demonstration, trained on like any other. What
was chosen is kept with the run, so that an interrupted one goes on with the same.

Taking the best of n moves a policy at most log n - (n - 1) / n nats from itself, less where
responses tie (arXiv:2401.01879).
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from flywheel.datasets.render import Rendered
from flywheel.errors import TrainingError
from flywheel.process.clock import pieces
from flywheel.process.launch import write_json
from flywheel.process.worker import rank, start
from flywheel.train.asking import Answer, noise_of, seen, unscorable
from flywheel.train.base import parent_of
from flywheel.train.config_reinforce import BestOfSettings
from flywheel.train.data import Row
from flywheel.train.engine import Engine, barrier
from flywheel.train.loop import Objective, Stats, fit
from flywheel.train.on_policy import published
from flywheel.train.ranks import shared_clock
from flywheel.train.rollouts import Learner, Prompt, inputs
from flywheel.train.source import Shuffled

PIECE = 64  # prompts asked at once
SAMPLE_FRAC = 0.5  # of the budget for sampling; prompts that it does not reach are left out


def run(settings: BestOfSettings, run_dir: Path) -> dict[str, Any]:
    """Sample, choose, imitate, and publish the policy."""
    learner = Learner.load(settings, needs_start=False)
    rows, facts = chosen(learner, learner.prompts("train", settings.limit), settings, run_dir)
    source = Shuffled(rows, settings)
    left = settings.for_steps(facts["sample_seconds"])
    result = fit(learner.engine, source, imitate(), left, run_dir)
    uids = {uid for row in rows for uid in row.record_uids}
    return published(learner, result | facts, uids)


def chosen(
    learner: Learner, prompts: Sequence[Prompt], settings: BestOfSettings, run_dir: Path
) -> tuple[list[Row], dict[str, Any]]:
    """The responses to imitate, and what a result says of them.

    Raises:
        TrainingError: None could be scored, or none is good enough.
    """
    config = run_dir / "config.json"  # knows the content of all that the settings name
    known = config.read_text() if config.exists() else json.dumps(asdict(settings))
    content = json.dumps([known, [p.ids for p in prompts]])
    path = run_dir / f"best-of-{hashlib.sha256(content.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        began, asked = shared_clock(), list[int]()
        found: list[list[Answer]] = []
        limit, every = settings.seconds_of(SAMPLE_FRAC), range(len(prompts))
        for piece in pieces(every, limit, seed=settings.seed, clock=shared_clock):
            for first in range(0, len(piece), PIECE):
                part = piece[first : first + PIECE]
                seeds = [noise_of(settings.seed, n) for n in part]
                found += learner.answers([prompts[n] for n in part], seeds, settings.samples)
                asked += part
        places = [picked(row, settings) for row in found]
        answers = [answer for row in found for answer in row]
        if all(reward.total is None for _, reward in answers):
            raise unscorable(learner, len(answers))
        kept = {
            str(n): [row[place][0].token_ids for place in own]
            for n, row, own in zip(asked, found, places, strict=True)
            if own
        }
        facts = _facts(answers, kept, settings)
        facts |= {"asked_count": len(asked), "sample_seconds": shared_clock() - began}
        if rank() == 0:
            write_json(path, {"kept": kept, "facts": facts})
        barrier()
    stored = json.loads(path.read_text())
    rows = [
        Row(
            Rendered(ids=[*prompts[int(n)].ids, *ids], start=len(prompts[int(n)].ids)),
            1.0,
            prompts[int(n)].record_uids,
        )
        for n, responses in stored["kept"].items()
        for ids in responses
    ]
    print(f"{len(rows)} responses to {len(stored['kept'])} of {len(prompts)} prompts are imitated")
    if not rows:
        raise TrainingError(
            f"no response reached the reward of {settings.threshold}; lower threshold, or raise "
            f"samples"
        )
    return rows, dict(stored["facts"])


def picked(answers: Sequence[Answer], settings: BestOfSettings) -> list[int]:
    """Places of the responses to one prompt that are kept; the first of equals, each text once."""
    scored = [(place, one.total) for place, (_, one) in enumerate(answers) if one.total is not None]
    if settings.keep == "best":
        return [max(scored, key=lambda one: one[1])[0]] if scored else []
    good = {
        answers[place][0].token_ids: place
        for place, total in reversed(scored)
        if total >= settings.threshold
    }
    return sorted(good.values())


def kl_bound(samples: int) -> float:
    """Most nats between a policy and its best of `samples`: log n - (n - 1) / n."""
    return math.log(samples) - (samples - 1) / samples


def _facts(
    answers: Sequence[Answer], kept: dict[str, Any], settings: BestOfSettings
) -> dict[str, Any]:
    rewards = [reward.total for _, reward in answers if reward.total is not None]
    count = sum(map(len, kept.values()))
    return {
        "best_of_samples": settings.samples,
        "best_of_temperature": settings.temperature,
        "best_of_reward_model": parent_of(settings.reward_model) if settings.reward_model else None,
        "best_of_verifier": settings.verifier,
        "best_of_kl_bound_nats": kl_bound(settings.samples),
        "accepted_count": count,
        "accepted_frac": count / len(answers),
        "unscorable_count": len(answers) - len(rewards),
        "sampled_reward": sum(rewards) / len(rewards),
        **seen(answers, "sampled_"),
    }


def imitate() -> Objective[Row]:
    """Mean negative log-probability per response token, at temperature 1."""

    def loss(engine: Engine, rows: Sequence[Row]) -> tuple[Tensor, Stats]:
        logps, entropies, _ = engine(*inputs([row.text for row in rows], engine, 1.0))
        spread = (float(entropies.sum()), float(len(entropies)))
        return -(logps.sum()), {"entropy": spread}

    return Objective(
        loss=loss,
        count=lambda row: float(row.text.response_tokens),
        shape=lambda row: (1, len(row.text.ids)),
        tokens=lambda row: len(row.text.ids),
        record_uids=lambda row: row.record_uids,
    )


if __name__ == "__main__":
    start(run, BestOfSettings)
