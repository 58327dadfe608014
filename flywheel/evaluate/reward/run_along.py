"""The challenger's run from the SFT policy to its end, on the policies that it put aside.

A policy that learns from pairs follows no reward model, and goes too far all the same: gold rises,
turns and falls along its run as along any other (arXiv:2406.02900, whose figures have the root of
the divergence across, and the form of reinforcement fitted). Each policy answers evaluation
prompts; how far it has strayed from the SFT policy is measured on these answers. The proxy is what
the generation's reward model says of them, which has learned from the same comparisons.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.datasets.render import Rendered, render_prompts
from flywheel.evaluate.graders.graders import BY_REWARD, Asked, score_all
from flywheel.evaluate.policies import answer_alike, loaded
from flywheel.evaluate.reward.curves import Measured, curved, resampled
from flywheel.evaluate.reward.ways import Way, has_gold
from flywheel.evaluate.settings import ALONG_FRAC, EvaluateSettings
from flywheel.evaluate.versus import Answers
from flywheel.models.publish import manifest_of, verify
from flywheel.rollout import Policy, Response, RewardModel, rendered_logprobs

LEAST_ASIDE = 2  # policies between start and end: fewer place no peak


def put_aside(settings: EvaluateSettings) -> tuple[int, dict[int, str]]:
    """How many policies the challenger's run put aside, by its manifest, and step and folder of
    those that are still there.

    Raises:
        ManifestError: One is not what its manifest says.
    """
    known = manifest_of(Path(settings.policy)).get("result", {}).get("along", ())
    found: dict[int, str] = {}
    for one in known if settings.along else ():
        folder = Path(settings.along) / f"step-{one['step']:08d}"
        if manifest_of(folder).get("content_hash") == one["content_hash"]:
            verify(folder)
            found[one["step"]] = str(folder)
    if len(found) < len(known):
        print(
            f"along the run: of {len(known)} policies put aside {len(found)} are still there",
            flush=True,
        )
    return len(known), found


def run_along(
    asked: Sequence[Asked],
    answers: dict[str, Answers],
    far: Sequence[float],
    reward: RewardModel,
    aside: dict[int, str],
    settings: EvaluateSettings,
) -> tuple[dict[str, Any] | None, Way | None]:
    """The curve of the challenger's run, and its answers for people to judge.

    Args:
        asked: The prompts; either all of them have a gold, or none.
        answers: Of the SFT policy, which is the start, and of the challenger, the end.
        far: Nats that each of the challenger's answers strays.
        reward: The proxy.
        aside: Step and folder of the policies that were put aside.
        settings: Of the evaluation.

    Returns:
        As `curves.curved`, with the step of each point, prompts and groups; None where there is no
        gold. The way. Both None where too few policies were put aside, or answers are not known
        token by token at temperature 1.
    """
    ends = answers["sft"].responses, answers["policy"].responses
    known = all(one.token_ids for end in ends for one in end)
    if len(aside) < LEAST_ASIDE or settings.temperature != 1 or not known:
        return None, None
    said = answer_alike(list(aside.values()), [*asked], settings, settings.seconds_of(ALONG_FRAC))
    asked = asked[: len(said[0])]
    rows = [[*ends[0][: len(asked)]], *said, [*ends[1][: len(asked)]]]
    print(f"along the run: {len(said)} policies answer {len(asked)} prompts", flush=True)
    flat, put = [one for row in rows for one in row], [*asked] * len(rows)
    by_reward = [replace(one, grader=BY_REWARD) for one in put]
    shape = len(rows), len(asked)
    proxy = np.reshape(score_all(by_reward, flat, reward, settings.max_tokens), shape).T
    between = [one for row in said for one in row]
    there = nats_from(loaded(settings.sft), [*asked] * len(said), between)
    start = [0.0] * len(asked)  # is where it is measured from
    nats = np.reshape([*start, *there, *far[: len(asked)]], shape).T
    last = manifest_of(Path(settings.policy))["result"]["steps"]
    way = Way(
        kind="run",
        form="reinforcement",
        places=[0, *aside, last],
        asked=[*asked],
        texts=[[one.text for one in row] for row in rows],
        proxy=proxy,
        nats=nats,
    )
    if not has_gold(asked[0]):
        return None, way
    gold = np.reshape(score_all(put, flat, reward, settings.max_tokens), shape).T
    measured = Measured(proxy, gold, nats, [one.group for one in asked])
    found = curved(measured.means(), resampled(measured, settings), way.form)
    for step, point in zip(way.places, found["points"], strict=True):
        point["step"] = step
    return found | {"prompts": len(asked), "groups": len(set(measured.groups))}, way


def nats_from(start: Policy, asked: Sequence[Asked], responses: Sequence[Response]) -> list[float]:
    """What each response's policy gives it less what the start does: in mean, their divergence."""
    given = render_prompts(start.tokenizer, [one.prompt for one in asked])
    rows = [
        Rendered([*ids, *one.token_ids], len(ids))
        for ids, one in zip(given, responses, strict=True)
    ]
    there = rendered_logprobs(start, rows)
    return [one.logprob - nats for one, nats in zip(responses, there, strict=True)]
