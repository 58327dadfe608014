"""The numbers of an evaluation, one row each: value, interval, standard error, counts.

A row says which model it is of, on which set or slice of prompts, and whom it is against. Where
nothing was compared there is no row: a win rate of no outcome is no number.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from flywheel.evaluate.graders.graders import BY_JUDGE, BY_PEOPLE, Asked
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.statistics.stats import Rate, rates, ratios
from flywheel.evaluate.versus import Answers, cut, taken

Row = dict[str, Any]
ALL = "all"  # the axis and the slice of everything
SEVERAL = "several"  # sets or graders
# Metrics of the reward model: with interval and standard error under their own name.
REWARD = (
    "longest_wins",
    "shortest_wins",
    "annotator_accuracy",
    "accuracy_in_their_place",
    "over_annotators",
    "annotator_ceiling",
    "agreement_with_one_annotator",
    "plurality_agreement",
)
COUNTED = {  # where it is not all decided pairs
    "annotator_accuracy": "annotator_accuracy_pairs",
    "accuracy_in_their_place": "annotator_accuracy_pairs",
    "over_annotators": "annotator_accuracy_pairs",
    "annotator_ceiling": "annotator_ceiling_pairs",
    "agreement_with_one_annotator": "annotator_ceiling_pairs",
    "plurality_agreement": "plurality_pairs",
}


def measured(
    result: dict[str, Any],
    settings: EvaluateSettings,
    asked: Sequence[Asked],
    answers: dict[float, dict[str, Answers]],
) -> Iterator[Row]:
    """Every number of an evaluation that has an interval, and some that have none."""
    policy = result["policy"]
    for temperature, found in answers.items():
        contest = policy if temperature == settings.temperature else policy["greedy"]
        put = asked[: len(found["policy"].scores)]  # those that all of them had time for
        common = _common(put) | {"temperature": temperature}
        for row in _of_models(found, put, settings):
            yield common | row
        for row in of_contest(contest):
            yield common | row
    if policy.get("proxy"):
        common = _common(asked) | {"temperature": settings.temperature, "grader": "reward_model"}
        won = _won("policy", "sft", policy["proxy"]) | {"metric": "proxy_win_rate"}
        yield common | won | _counts(policy["proxy"] | {"prompts": len(asked)})
    yield from _of_reward(result["reward_model"])
    yield from _of_following(policy, _common(asked) | {"temperature": settings.temperature})
    yield from _of_demonstrations(result["demonstrations"])
    at = {"temperature": settings.temperature}
    for row in (*of_sets(result["evaluation_sets"]), *of_people(result["people"])):
        yield _common(asked) | at | row
    yield from of_judge(result["judge"])


def of_sets(found: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """Win rate on each set, where several are asked; of one alone it is that of everything."""
    for one in found if len(found) > 1 else ():
        if one["compared"]:
            yield _won("policy", one["opponent"], one) | {
                "evaluation_set": one["name"],
                "grader": one["graders"][0] if len(one["graders"]) == 1 else SEVERAL,
                "observation_count": one["compared"],
                "cluster_count": one["groups"],
            }


def of_people(found: dict[str, dict[str, Any]]) -> Iterator[Row]:
    """How often people prefer the challenger over each other policy, and what the grader says."""
    for other, told in found.items():
        won = _won("policy", other, told) | {"metric": "people_win_rate", "grader": BY_PEOPLE}
        yield won | _counts(told)
        if beside := told["grader_agrees"]:
            told = {"se": None} | beside
            agrees = _named("policy", "grader_agrees_with_people", told, "agreement", "")
            yield agrees | {"against": other, "observation_count": beside["prompts"]}


def of_judge(found: dict[str, Any] | None) -> Iterator[Row]:
    """How often a judge agrees with people on held-out pairs, and how often they do themselves."""
    if not found:
        return
    counts = {"agreement": found["pairs"] - found["unread"], "annotator_ceiling": None}
    for name, count in counts.items():
        if found[name] is not None:
            told = {f"{name}_se": None} | found
            row = _named(BY_JUDGE, f"judge_{name}", told, name, f"{name}_")
            at = {"evaluation_set": "held-out pairs", "grader": "annotators"}
            yield row | at | {"observation_count": count}


def of_other_tools(found: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """What other tools measured of these very weights: the task is the set, the tool the slice."""
    for one in found:
        if one["is_current"] and one["value"] is not None:
            yield _plain("policy", one["metric"], one["value"], one["samples"]) | {
                "evaluation_set": f"{one['task']} {one['task_version']}".strip(),
                "axis": "tool",
                "slice": one["by"],
                "grader": one["by"],
                "standard_error": one["stderr"],
            }


def _common(asked: Sequence[Asked]) -> Row:
    """The set and the grader of these prompts."""
    sets, graders = ({getattr(one, name) for one in asked} for name in ("evaluation_set", "grader"))
    return {
        "evaluation_set": sets.pop() if len(sets) == 1 else SEVERAL,
        "grader": graders.pop() if len(graders) == 1 else SEVERAL,
    }


def _of_models(
    answers: dict[str, Answers], asked: Sequence[Asked], settings: EvaluateSettings
) -> Iterator[Row]:
    """What each model is worth by itself, whole and on each slice: comparable between
    generations as long as prompts and grader are."""
    options: dict[str, Any] = {"resamples": settings.resamples, "seed": settings.seed}
    parts = [(ALL, ALL, list(range(len(asked)))), *cut(answers, asked)]
    for axis, name, places in parts:
        groups = [asked[place].group for place in places]
        given = {model: taken(whole, places) for model, whole in answers.items()}
        sums = {
            (model, "score"): one.scores
            for model, one in given.items()
            if not any(map(math.isnan, one.scores))  # some graders score no single answer
        }
        shares: dict[tuple[str, str], list[float]] = {}
        for model, one in given.items() if axis == ALL else ():
            sums[model, "tokens"] = [float(count) for count in one.lengths]
            shares[model, "ended_frac"] = [float(said.ended) for said in one.responses]
        ones = [1.0] * len(places)
        means = ratios([(one, ones) for one in sums.values()], groups, **options)
        ended = rates([(one, (0.0, 1.0)) for one in shares.values()], groups, **options)
        found = dict(zip((*sums, *shares), (*means, *ended), strict=True))
        for model, one in given.items():
            for metric in ("score", "tokens", "ended_frac"):
                if (model, metric) in found:
                    yield _row(model, metric, found[model, metric], axis, name)
            if axis == ALL:
                yield _plain(model, "distinct_frac", one.distinct_frac, len(places))


def of_contest(contest: dict[str, Any]) -> Iterator[Row]:
    """Win rates of the challenger: over each other model, at equal length, on each slice."""
    for other, told in contest["versus"].items():
        if told["prompts"]:
            yield _won("policy", other, told) | _counts(told)
            even = _won("policy", other, told["length_controlled"]) | _counts(told)
            yield even | {"metric": "length_controlled_win_rate"}
    for one in contest["slices"]:
        if one["prompts"]:
            at = {"axis": one["axis"], "slice": one["name"]}
            yield _won("policy", contest["opponent"], one) | _counts(one) | at


def _counts(told: dict[str, Any]) -> Row:
    """What a win rate rests on: prompts with an outcome, and the groups that these lie in."""
    return {"observation_count": told["prompts"], "cluster_count": len(told["outcomes"])}


def _of_reward(reward: dict[str, Any]) -> Iterator[Row]:
    """How good the reward model is, and what anybody could do."""
    counts = {"observation_count": reward["pairs"], "cluster_count": reward["groups"]}
    whole = {"evaluation_set": "held-out pairs", "grader": "annotators"}
    yield whole | _named("reward_model", "accuracy", reward, "accuracy", "") | counts
    lead = _named("reward_model", "accuracy_lead", reward["over_length"], "difference", "")
    yield whole | lead | counts | {"against": reward["over_length"]["baseline"]}
    for name in REWARD:
        if reward.get(name) is not None:
            count = {"observation_count": reward[COUNTED.get(name, "pairs")], "cluster_count": None}
            yield whole | _named("reward_model", name, reward, name, f"{name}_") | count
    for domain, one in reward["by_domain"].items():
        count = {"observation_count": one["pairs"], "axis": "domain", "slice": domain}
        yield whole | _named("reward_model", "accuracy", one, "accuracy", "") | count

    calibration = reward["calibration"]
    counts = {"observation_count": calibration["pairs"], "cluster_count": calibration["groups"]}
    for name in ("ece", "temperature"):
        yield whole | _named("reward_model", name, calibration, name, f"{name}_") | counts
    for name, one in reward["traps"].items():
        if "preferred" in one:
            count = {"observation_count": one["responses"], "axis": "trap", "slice": name}
            yield (
                whole
                | _named("reward_model", "prefers_trap", one, "preferred", "preferred_")
                | count
            )


def _of_following(policy: dict[str, Any], common: Row) -> Iterator[Row]:
    """The best of n, and how far the challenger strayed."""
    pool, way = policy["best_of_n"], policy["strayed"]
    for one in pool["points"] if pool else ():
        at = {"axis": "best of n", "slice": str(one["n"])}
        counts = {"observation_count": pool["prompts"], "cluster_count": pool["groups"]}
        yield common | _named("sft", "best_of_n_score", one, "gold", "") | counts | at
    if way:
        yield common | _named("policy", "root_nats", way | {"se": None}, "root_nats", "")


def _of_demonstrations(found: dict[str, Any] | None) -> Iterator[Row]:
    """Nats per token of held-out demonstrations; lower is better."""
    for model in ("base", "sft", "policy") if found else ():
        yield {
            "evaluation_set": "held-out demonstrations",
            **_named(model, "nats_per_token", found or {}, model, f"{model}_"),
            "observation_count": (found or {})["rows"],
            "cluster_count": (found or {})["groups"],
        }


def _won(model: str, other: str, told: dict[str, Any]) -> Row:
    return _named(model, "win_rate", told, "win_rate", "") | {"against": other}


def _named(model: str, metric: str, told: dict[str, Any], value: str, prefix: str) -> Row:
    """A number with the interval and the standard error that stand beside it."""
    low, high = told[f"{prefix}ci"]
    numbers = {"value": told[value], "low": low, "high": high}
    return _plain(model, metric, 0.0, 0) | numbers | {"standard_error": told[f"{prefix}se"]}


def _row(model: str, metric: str, found: Rate, axis: str, name: str) -> Row:
    return {
        **_plain(model, metric, found.value, found.count),
        "axis": axis,
        "slice": name,
        "low": found.low,
        "high": found.high,
        "standard_error": found.standard_error,
        "cluster_count": found.clusters,
    }


def _plain(model: str, metric: str, value: float, count: int) -> Row:
    """A number without an interval."""
    return {
        "model": model,
        "metric": metric,
        "axis": ALL,
        "slice": ALL,
        "against": None,
        "value": value,
        "observation_count": count,
    }
