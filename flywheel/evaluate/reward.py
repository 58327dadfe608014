"""How good the reward model is on pairs it never saw, beside what anybody could do."""

from collections import defaultdict
from typing import Any

import pyarrow as pa

from flywheel.errors import EvaluationError
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.stats import agreement, outcomes, rate
from flywheel.records.message import load, text_of
from flywheel.rollout import RewardModel

LEAST_SLICE = 20  # pairs; smaller slices say nothing


def measure_reward(
    pairs: pa.Table, reward: RewardModel, settings: EvaluateSettings
) -> dict[str, Any]:
    """Accuracy on decided held-out pairs with its baselines and the annotators' own ceiling.

    Raises:
        EvaluationError: The test split holds no decided pair.
    """
    decided = [row for row in pairs.to_pylist() if row["probability_a"] != 0.5]
    rows = decided[: settings.pair_limit]
    if not rows:
        raise EvaluationError("no decided preference in the test split; land more comparisons")
    prompts = [load(row["prompt"]) for row in rows]
    sides = {side: [load(row[side]) for row in rows] for side in ("response_a", "response_b")}
    scores = {
        side: reward.score(prompts, texts, max_tokens=settings.max_tokens)
        for side, texts in sides.items()
    }
    lengths = {side: [len(text_of(one).split()) for one in texts] for side, texts in sides.items()}
    kept = [
        place
        for place in range(len(rows))
        if scores["response_a"][place] is not None and scores["response_b"][place] is not None
    ]
    if not kept:
        raise EvaluationError("every held-out response is too long to score; raise max_tokens")
    rows = [rows[place] for place in kept]

    def right(values: dict[str, list[Any]]) -> list[float]:
        a, b = ([values[side][place] for place in kept] for side in ("response_a", "response_b"))
        first = outcomes(a, b)
        return [
            one if row["probability_a"] > 0.5 else 1 - one
            for one, row in zip(first, rows, strict=True)
        ]

    keys = [row["group_id"] for row in rows]
    options: dict[str, Any] = {"resamples": settings.resamples, "seed": settings.seed}
    hits, longer = right(scores), right(lengths)
    model, longest = rate(hits, keys, **options), rate(longer, keys, **options)
    ceiling, on = agreement([r["votes_a"] for r in rows], [r["votes_b"] for r in rows])
    slices = defaultdict(list)
    for row, hit in zip(rows, hits, strict=True):
        slices[row["domain"] or "no domain"].append(hit)
    return {
        "accuracy": model.value,
        "ci": model.ci,
        "pairs": len(rows),
        "groups": model.clusters,
        "undecided": len(pairs) - len(decided),
        "too_long": min(len(decided), settings.pair_limit) - len(kept),
        "longest_wins": longest.value,
        "longest_wins_ci": longest.ci,
        "shortest_wins": 1 - longest.value,
        "annotator_ceiling": ceiling,
        "annotator_ceiling_pairs": on,
        "by_domain": {
            name: {"accuracy": sum(one) / len(one), "pairs": len(one)}
            for name, one in sorted(slices.items())
            if len(one) >= LEAST_SLICE
        },
        "by_length": _by_length(hits, longer),
    }


def _by_length(hits: list[float], longer: list[float]) -> dict[str, dict[str, float]]:
    """Accuracy where the preferred response is the longer, the shorter, or as long."""
    names = {1.0: "longer preferred", 0.0: "shorter preferred", 0.5: "equal length"}
    found: dict[str, list[float]] = defaultdict(list)
    for hit, which in zip(hits, longer, strict=True):
        found[names[which]].append(hit)
    return {name: {"accuracy": sum(v) / len(v), "pairs": len(v)} for name, v in found.items()}
