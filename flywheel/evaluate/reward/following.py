"""How far the challenger followed its reward model, and whether that was too far.

Three things are told side by side: the best of n of the SFT policy's samples on evaluation prompts,
the curve that the challenger's own run recorded where it measured a gold, and where the challenger
itself lies. A run's own curve says where it should have ended. A challenger that imitates the best
of n is held against the best of n. Of another without a curve nothing can be said of a turn; the
gate still looks at whether the proxy rose over SFT and the gold fell.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flywheel.datasets.render import Rendered, render_prompts
from flywheel.evaluate.graders.graders import Asked
from flywheel.evaluate.reward.best_of_n import best_of_n, turn_of_best
from flywheel.evaluate.reward.overoptimisation import fitted, is_past, turn_of
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.statistics.stats import ratio
from flywheel.evaluate.versus import Answers
from flywheel.models.publish import manifest_of
from flywheel.rollout import Policy, RewardModel, rendered_logprobs


def followed(
    asked: Sequence[Asked], answers: Answers, reward: RewardModel, settings: EvaluateSettings
) -> dict[str, Any]:
    """What the result of an evaluation says of over-optimisation.

    Returns:
        best_of_n, as `best_of_n.described`, or None; strayed, the challenger's root nats from the
        SFT policy with its ci, or None where its answers are not known token by token; run, alpha
        and beta of the form fitted to its run; turn, as `turn_of`; is_past.
    """
    manifest = manifest_of(Path(settings.policy))
    pool = best_of_n(asked, reward, settings)
    turn = turn_of(manifest)
    run = None
    if turn:
        curve = fitted(turn["points"])
        run = {"alpha": curve.alpha, "beta": curve.beta}
    imitated = manifest.get("settings", {})
    if turn is None and pool and "keep" in imitated and imitated.get("reward_model"):
        turn = turn_of_best(pool, imitated["samples"])
    return {
        "best_of_n": pool,
        "strayed": strayed(asked, answers, settings),
        "run": run,
        "turn": turn,
        "is_past": is_past(turn),
    }


def strayed(
    asked: Sequence[Asked], answers: Answers, settings: EvaluateSettings
) -> dict[str, Any] | None:
    """Root of the divergence from the SFT policy, in nats a response, of what was answered.

    Measured on the tokens that were sampled; None where they were not drawn at temperature 1.
    """
    known = [place for place, one in enumerate(answers.responses) if one.token_ids]
    if settings.temperature != 1 or not known:
        return None
    start = Policy.load(settings.sft)
    given = render_prompts(start.tokenizer, [asked[place].prompt for place in known])
    rows = [
        Rendered([*ids, *answers.responses[place].token_ids], len(ids))
        for ids, place in zip(given, known, strict=True)
    ]
    nats = [
        answers.responses[place].logprob - there
        for place, there in zip(known, rendered_logprobs(start, rows), strict=True)
    ]
    groups = [asked[place].group for place in known]
    options: dict[str, Any] = {"resamples": settings.resamples, "seed": settings.seed}
    found = ratio(nats, [1.0] * len(nats), groups, **options)
    low, value, high = (max(one, 0.0) ** 0.5 for one in (found.low, found.value, found.high))
    return {"root_nats": value, "ci": [low, high], "nats": found.value, "se": found.standard_error}
