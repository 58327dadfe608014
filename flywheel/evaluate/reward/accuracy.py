"""How good the reward model is on pairs it never saw, beside what anybody could do.

Accuracy is measured on decided pairs, the crowd's label being right. Two ceilings of annotators
stand beside it, each with what the reward model gets in their place. *The others*: each vote is
left out in its turn and held against the weighted vote of all others on its pair, and so is the
model, so that nobody is held against a label that he made himself. *Two annotators*: how often one
agrees with another; pairs on which they are split count there as what they are, disagreement. The
crowd's label weighs annotators; the plurality is the plain count of votes, and pairs without one
are left out there and counted. What a rule that looks at length alone would get
is measured on the decided pairs too. Chance is one half. How sure the model is stands beside how
often it is right (`calibration.py`), and what it makes of preferred responses that were tampered
with (`traps.py`).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from flywheel.errors import EvaluationError
from flywheel.evaluate.reward.calibration import calibrated
from flywheel.evaluate.reward.traps import trapped
from flywheel.evaluate.settings import PAIRS_FRAC, TRAPS_FRAC, EvaluateSettings
from flywheel.evaluate.statistics.stats import agreement, outcomes, rate, told
from flywheel.process.clock import pieces
from flywheel.records.message import load, text_of
from flywheel.rollout import RewardModel

CHANCE = 0.5  # of two responses
LEAST_SLICE = 20  # pairs; smaller slices say nothing


@dataclass(frozen=True, slots=True)
class Judged:
    """A held-out pair with what the reward model and length say of it.

    Attributes:
        scored: 1 where response a has the higher score, 0 where b has, a half where they tie.
        longer: 1 where response a has more words, 0 where b has, a half where they have as many.
        margin: Log-odds of response a, as the model states them.
    """

    row: dict[str, Any]
    scored: float
    longer: float
    margin: float = 0.0

    def right(self, prefers_a: float) -> float:
        """1 where a choice is the crowd's, 0 where it is the other, a half for none."""
        return prefers_a if self.row["probability_a"] > 0.5 else 1 - prefers_a


def measure_reward(
    pairs: pa.Table, reward: RewardModel, settings: EvaluateSettings
) -> dict[str, Any]:
    """Accuracy on decided held-out pairs with its baselines and the annotators' own ceiling.

    Raises:
        EvaluationError: The test split holds no decided pair, or none that can be scored.
    """
    rows = pairs.to_pylist()[: settings.pair_limit]
    if all(row["probability_a"] == 0.5 for row in rows):
        raise EvaluationError("no decided preference in the test split; land more comparisons")
    judged: list[Judged] = []
    scored = 0
    for piece in pieces(rows, settings.seconds_of(PAIRS_FRAC), seed=settings.seed):
        judged += _judge(piece, reward, settings.max_tokens)
        scored += len(piece)
    decided = [one for one in judged if one.row["probability_a"] != 0.5]
    if not decided:
        raise EvaluationError("every held-out response is too long to score; raise max_tokens")
    options: dict[str, Any] = {"resamples": settings.resamples, "seed": settings.seed}
    groups = [one.row["group_id"] for one in decided]
    hits = [one.right(one.scored) for one in decided]
    longer = [one.right(one.longer) for one in decided]
    model = rate(hits, groups, **options)
    return {
        "accuracy": model.value,
        "ci": model.ci,
        "se": model.standard_error,
        "pairs": len(decided),
        "groups": model.clusters,
        "undecided": len(judged) - len(decided),
        "too_long": scored - len(judged),
        "without_time": len(rows) - scored,
        **_length_rules(hits, longer, groups, options),
        **_others(judged, options),
        **_ceiling(judged, options),
        **_plurality(judged, options),
        "chance": CHANCE,
        "calibration": calibrated(
            [one.margin for one in judged],
            [one.row["probability_a"] for one in judged],
            [one.row["group_id"] for one in judged],
            **options,
        ),
        "traps": _traps(decided, reward, settings, options),
        "by_domain": _by_domain(decided, options),
        "by_length": _by_length(hits, longer),
    }


def _traps(
    decided: list[Judged], reward: RewardModel, settings: EvaluateSettings, options: dict[str, Any]
) -> dict[str, Any]:
    """What the model makes of preferred responses that were tampered with, each response once."""
    chosen: dict[tuple[str, str, str | None], str] = {}
    for one in decided:
        side = "response_a" if one.row["probability_a"] > 0.5 else "response_b"
        said = (one.row["prompt"], one.row[side], one.row.get("tools"))
        chosen.setdefault(said, one.row["group_id"])
    mixed = np.random.default_rng(settings.seed).permutation(len(chosen))[: settings.trap_limit]
    keys, groups = list(chosen), list(chosen.values())
    return trapped(
        [load(keys[at][0]) for at in mixed],
        [load(keys[at][1]) for at in mixed],
        [groups[at] for at in mixed],
        reward,
        [keys[at][2] for at in mixed],
        max_tokens=settings.max_tokens,
        seconds=settings.seconds_of(TRAPS_FRAC),
        **options,
    )


def _judge(rows: Sequence[dict[str, Any]], reward: RewardModel, max_tokens: int) -> list[Judged]:
    """Pairs of which both responses can be scored."""
    prompts = [load(row["prompt"]) for row in rows]
    a, b = ([load(row[side]) for row in rows] for side in ("response_a", "response_b"))
    tools = [row.get("tools") for row in rows]
    scores = reward.score(prompts * 2, a + b, tools=tools * 2, max_tokens=max_tokens)
    scores_a, scores_b = scores[: len(rows)], scores[len(rows) :]
    judged = []
    for row, *texts, first, second in zip(rows, a, b, scores_a, scores_b, strict=True):
        if first is None or second is None:
            continue
        words = [len(text_of(text).split()) for text in texts]
        (scored,), (longer,) = outcomes([first], [second]), outcomes(words[:1], words[1:])
        judged.append(Judged(row, scored, longer, (first - second) * reward.scale))
    return judged


def _length_rules(
    hits: list[float], longer: list[float], groups: list[str], options: dict[str, Any]
) -> dict[str, Any]:
    """What "the longer wins" and "the shorter wins" get, and the model's lead on the better."""
    rules = {"longest_wins": longer, "shortest_wins": [1 - one for one in longer]}
    found = {name: rate(values, groups, **options) for name, values in rules.items()}
    better = max(found, key=lambda name: found[name].value)
    ahead = [hit - other for hit, other in zip(hits, rules[better], strict=True)]
    lead = rate(ahead, groups, scale=(-1, 1), **options)
    return {
        **told(found),
        "over_length": {
            "baseline": better,
            "difference": lead.value,
            "ci": lead.ci,
            "se": lead.standard_error,
        },
    }


def _others(judged: list[Judged], options: dict[str, Any]) -> dict[str, Any]:
    """How often a vote left out sides with the weighted vote of the others, and the model with it.

    A dataset that was frozen before votes were tested has none of them.
    """
    votes = [(one, one.row.get("tested_votes") or 0) for one in judged]
    tested = [(one, count) for one, count in votes if count]
    if not tested:
        return {"annotator_accuracy": None, "annotator_accuracy_pairs": 0}
    groups = [one.row["group_id"] for one, _ in tested]
    people = [one.row["tested_votes_right"] / count for one, count in tested]
    for_a = [one.row["tested_votes_for_a"] / count for one, count in tested]
    model = [
        share * one.scored + (1 - share) * (1 - one.scored)
        for share, (one, _) in zip(for_a, tested, strict=True)
    ]
    ahead = [mine - theirs for mine, theirs in zip(model, people, strict=True)]
    found = {"annotator_accuracy": rate(people, groups, **options)}
    found["accuracy_in_their_place"] = rate(model, groups, **options)
    found["over_annotators"] = rate(ahead, groups, scale=(-1, 1), **options)
    return {
        **told(found),
        "annotator_accuracy_pairs": len(tested),
        "annotator_accuracy_votes": sum(count for _, count in tested),
    }


def _ceiling(judged: list[Judged], options: dict[str, Any]) -> dict[str, Any]:
    """How often one annotator agrees with another, and the model with one, on the same pairs."""
    votes = [(one, one.row["votes_a"], one.row["votes_b"]) for one in judged]
    twice = [(one, a, b) for one, a, b in votes if a + b >= 2]
    if not twice:
        return {"annotator_ceiling": None, "annotator_ceiling_pairs": 0}
    groups = [one.row["group_id"] for one, _, _ in twice]
    people = rate([agreement(a, b) for _, a, b in twice], groups, **options)
    model = rate(
        [(a * one.scored + b * (1 - one.scored)) / (a + b) for one, a, b in twice],
        groups,
        **options,
    )
    return {
        **told({"annotator_ceiling": people, "agreement_with_one_annotator": model}),
        "annotator_ceiling_pairs": len(twice),
    }


def _plurality(judged: list[Judged], options: dict[str, Any]) -> dict[str, Any]:
    """How often the model prefers the response that most votes are for.

    Left out and counted: pairs with votes whose top is shared, or is the vote that neither is
    better.
    """
    voted, undecided = [], 0
    for one in judged:
        a, b, ties = (one.row[name] for name in ("votes_a", "votes_b", "ties"))
        if max(a, b) > max(min(a, b), ties):
            voted.append((one.scored if a > b else 1 - one.scored, one.row["group_id"]))
        else:
            undecided += a + b + ties > 0
    found = rate(*zip(*voted, strict=True), **options) if voted else None
    return {
        "plurality_agreement": found.value if found else None,
        "plurality_agreement_ci": found.ci if found else None,
        "plurality_agreement_se": found.standard_error if found else None,
        "plurality_pairs": len(voted),
        "plurality_undecided": undecided,
    }


def _by_domain(decided: list[Judged], options: dict[str, Any]) -> dict[str, Any]:
    """Accuracy by domain with its interval, and what "the longer wins" gets there."""
    slices: dict[str, list[Judged]] = defaultdict(list)
    for one in decided:
        slices[one.row["domain"] or "no domain"].append(one)
    found = {}
    for name, inside in sorted(slices.items()):
        if len(inside) >= LEAST_SLICE:
            groups = [one.row["group_id"] for one in inside]
            model = rate([one.right(one.scored) for one in inside], groups, **options)
            longer = [one.right(one.longer) for one in inside]
            found[name] = {
                "accuracy": model.value,
                "ci": model.ci,
                "se": model.standard_error,
                "longest_wins": sum(longer) / len(longer),
                "pairs": len(inside),
            }
    return found


def _by_length(hits: list[float], longer: list[float]) -> dict[str, dict[str, float]]:
    """Accuracy where the preferred response is the longer, the shorter, or as long."""
    names = {1.0: "longer preferred", 0.0: "shorter preferred", 0.5: "equal length"}
    found: dict[str, list[float]] = defaultdict(list)
    for hit, which in zip(hits, longer, strict=True):
        found[names[which]].append(hit)
    return {name: {"accuracy": sum(v) / len(v), "pairs": len(v)} for name, v in found.items()}
