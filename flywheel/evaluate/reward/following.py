"""How far the challenger followed its reward model, and whether that was too far.

Told side by side: the best of n of the SFT policy's samples on evaluation prompts; the way of the
challenger's own run, as the run recorded it where it measured a gold, or else by the policies that
it put aside; what people say of both, where they were asked; and where the challenger itself lies.
A run's own way says where it should have ended. A challenger that imitates the best of n is held
against the best of n. Of another without a way nothing can be said of a turn; the gate still looks
at whether the proxy rose over SFT and the gold fell.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flywheel.evaluate.graders.graders import Asked
from flywheel.evaluate.graders.people import Votes
from flywheel.evaluate.policies import loaded
from flywheel.evaluate.reward.best_of_n import best_of_n, turn_of_best
from flywheel.evaluate.reward.by_people import by_people
from flywheel.evaluate.reward.curves import turn_at
from flywheel.evaluate.reward.overoptimisation import fitted, is_past, turn_of
from flywheel.evaluate.reward.run_along import nats_from, put_aside, run_along
from flywheel.evaluate.reward.ways import Way, has_gold
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.statistics.stats import ratio
from flywheel.evaluate.versus import Answers, taken
from flywheel.models.publish import manifest_of
from flywheel.rollout import RewardModel

Told = dict[str, Any]


def followed(
    asked: Sequence[Asked],
    answers: dict[str, Answers],
    reward: RewardModel,
    votes: Votes,
    settings: EvaluateSettings,
) -> tuple[Told, list[Way]]:
    """What the result of an evaluation says of over-optimisation.

    Args:
        asked: The prompts.
        answers: Of all policies, the SFT policy and the challenger among them.
        reward: The proxy.
        votes: Of people.
        settings: Of the evaluation.

    Returns:
        best_of_n, as `best_of_n.described`, or None; strayed, the challenger's root nats from the
        SFT policy with its ci, or None where its answers are not known token by token; run, alpha
        and beta of the form fitted to its run; turn, as `turn_of`; by_people, as `by_people.
        by_people` of each way, with the turn where enough is said and the challenger stands on it;
        put_aside, policies that the challenger's run put aside: told by its manifest, and here;
        is_past, by any of these turns, None where none tells. And the ways, for people to be asked
        about.

    Raises:
        ManifestError: A policy put aside is not what its manifest says.
    """
    manifest = manifest_of(Path(settings.policy))
    places = _put(asked, settings)
    put = [asked[at] for at in places]
    mine = {name: taken(answers[name], places) for name in ("sft", "policy")}
    pool = run = None
    ways: list[Way] = []
    if put and settings.best_of_samples > 1:
        pool, way = best_of_n(put, [one.text for one in mine["sft"].responses], reward, settings)
        ways.append(way)
    recorded = turn_of(manifest)
    if recorded:
        curve = fitted(recorded["points"])
        run = {"alpha": curve.alpha, "beta": curve.beta}
    told, aside = put_aside(settings)
    nats = nats_of(asked, answers["policy"], settings)
    along, way_of_run = None, None
    if put and nats.keys() >= set(places):
        far = [nats[at] for at in places]
        along, way_of_run = run_along(put, mine, far, reward, aside, settings)
    if way_of_run:
        ways.append(way_of_run)
    imitated = manifest.get("settings", {})
    n = imitated.get("samples", 0) if "keep" in imitated and imitated.get("reward_model") else 0
    turn = recorded
    if is_past(turn) is None and along:
        turn, run = turn_at(along, -1), along
    if turn is None and pool and n:
        turn = turn_of_best(pool, n)
    people = [by_people(way, votes, settings) for way in ways]
    people = [one for one in people if settings.people_along or one["judgements"]]
    for one in people:
        one["turn"] = _stands(one, n)
    verdicts = [is_past(one) for one in (turn, *(found["turn"] for found in people))]
    said = [one for one in verdicts if one is not None]
    return {
        "best_of_n": pool,
        "strayed": strayed(asked, nats, settings) if nats else None,
        "run": run,
        "turn": turn,
        "by_people": people,
        "put_aside": {"told": told, "here": len(aside)},
        "is_past": any(said) if said else None,
    }, ways


def _put(asked: Sequence[Asked], settings: EvaluateSettings) -> list[int]:
    """Places of the prompts that ways are followed on: those with a gold, else any for people."""
    graded = [at for at, one in enumerate(asked) if has_gold(one)]
    if not graded and settings.people_along:
        graded = [*range(len(asked))]
    return graded[: settings.best_of_prompts]


def _stands(found: Told, imitated: int) -> Told | None:
    """The turn by people's word, where they have said enough and the challenger is on that way."""
    if not found["enough"]:
        return None
    if found["kind"] == "run":
        return turn_at(found, -1)
    return turn_of_best(found, imitated) if imitated else None


def nats_of(
    asked: Sequence[Asked], answers: Answers, settings: EvaluateSettings
) -> dict[int, float]:
    """How far each answer of the challenger strays from the SFT policy, by its prompt's place.

    Measured on the tokens that were sampled; none where they were not drawn at temperature 1.
    """
    known = [place for place, one in enumerate(answers.responses) if one.token_ids]
    if settings.temperature != 1 or not known:
        return {}
    put, said = [asked[at] for at in known], [answers.responses[at] for at in known]
    return dict(zip(known, nats_from(loaded(settings.sft), put, said), strict=True))


def strayed(
    asked: Sequence[Asked], nats: dict[int, float], settings: EvaluateSettings
) -> dict[str, Any]:
    """Root of the divergence from the SFT policy, in nats a response, of what was answered."""
    groups = [asked[place].group for place in nats]
    options: dict[str, Any] = {"resamples": settings.resamples, "seed": settings.seed}
    found = ratio([*nats.values()], [1.0] * len(nats), groups, **options)
    low, value, high = (max(one, 0.0) ** 0.5 for one in (found.low, found.value, found.high))
    return {"root_nats": value, "ci": [low, high], "nats": found.value, "se": found.standard_error}
