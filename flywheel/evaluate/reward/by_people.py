"""People as the gold of a way: how often they prefer the answers of each place over the start's.

Pairs go out blind with the queue of the evaluation (`collect.pairs`) and come back by the inbox;
here each counts where its words are those that the way holds. A tie is a half, and so are two
answers alike, about which nobody is asked; what people say of the others stands for those that
they were not asked about. Errors are clustered by groups of prompts and by people, both at once:
near repeats of a prompt, and one person's taste, are no further evidence. They are the errors of
either, less those of votes that share both (Cameron, Gelbach and Miller, 2011, equation 2.11).
Until enough is said, nothing is concluded, and it is told how much is missing.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flywheel.evaluate.graders.people import Votes
from flywheel.evaluate.reward.curves import Floats, curved, draws, numbered
from flywheel.evaluate.reward.ways import Way, alike
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.statistics.stats import ADDED, NORMAL

EVEN = 0.5
LEAST_PEOPLE = 3  # in effect: of fewer it cannot be told how far they differ
LEAST_GROUPS = 30  # of prompts judged at a place, as the gate asks for
ROUNDING = 1e-9  # of shares that add up to a whole person
WIDTH = 0.1  # half an interval at most: a fall of a tenth of a win rate is to be seen


@dataclass(frozen=True, slots=True)
class Said:
    """Votes one by one: (V,) each, V votes.

    Attributes:
        prompt: Its number.
        place: Number of the place whose answer was judged, the start aside.
        person: Number of who judged; all without a name are one.
        vote: 1 for the place, 0 for the start, a half for a tie.
        share: 1 over the votes on the same pair.
    """

    prompt: npt.NDArray[np.intp]
    place: npt.NDArray[np.intp]
    person: npt.NDArray[np.intp]
    vote: Floats
    share: Floats


def by_people(way: Way, votes: Votes, settings: EvaluateSettings) -> dict[str, Any]:
    """What people say of a way.

    Returns:
        judgements, annotators and prompts that count here; enough, and if not: prompts_missing,
        about how many more must be judged at the place that lacks most, of prompts_left,
        pairs_missing, what that comes to in pairs, and people_missing, as `_people` counts them.
        Where any are judged at each place also the curve, as `curves.curved`, each point with its
        `n` or `step` and the groups judged.
    """
    said, rows = _said(way, votes)
    same = alike(way)
    groups = numbered([one.group for one in way.asked])
    judged = [
        len(set(groups[said.prompt[said.place == at]].tolist())) for at in range(same.shape[1])
    ]
    told: dict[str, Any] = {
        "kind": way.kind,
        "judgements": len(rows),
        "annotators": len(set(said.person.tolist())),
        "prompts": len(set(said.prompt.tolist())),
        "people_missing": max(LEAST_PEOPLE - _people(said, same.shape[1]), 0),
    }
    halves = [math.inf] * len(judged)
    asked_about = [one > 0 or bool(same[:, at].all()) for at, one in enumerate(judged)]
    if all(asked_about) and len(said.vote):
        curve = _curve(way, said, same, groups, settings)
        told |= curve
        halves = [(one["ci"][1] - one["ci"][0]) / 2 for one in curve["points"][1:]]
        name = "n" if way.kind == "best of n" else "step"
        for at, point in enumerate(told["points"]):
            point |= {name: way.places[at], "groups": judged[at - 1] if at else 0}
    missing = max(
        _missing(count, half, float(1 - same[:, at].mean()), len(set(groups.tolist())))
        for at, (count, half) in enumerate(zip(judged, halves, strict=True))
    )
    told["prompts_missing"] = missing
    told["prompts_left"] = int((~same.all(axis=1)).sum()) - told["prompts"]
    told["pairs_missing"] = math.ceil(missing * _pairs_a_prompt(way))
    told["enough"] = "points" in told and not missing and not told["people_missing"]
    return told


def _missing(judged: int, half: float, differ: float, groups: int) -> int:
    """Prompts that are to be judged beyond those that are, of all that differ at most."""
    planned = (NORMAL * EVEN * differ / WIDTH) ** 2  # where nothing is known: of a coin's throws
    needed = planned if judged < LEAST_GROUPS or math.isinf(half) else judged * (half / WIDTH) ** 2
    if not math.isinf(half) and half <= WIDTH:
        needed = judged
    least = min(LEAST_GROUPS, math.floor(differ * groups))  # fewer differ: all are asked about
    return max(math.ceil(max(needed, least)) - judged, 0)


def _people(said: Said, size: int) -> int:
    """How many people, each of whom judges as much, would say as much of the places: whole ones,
    at the place that has fewest of those that anybody judged.

    Of weights w that is (sum w)^2 / sum w^2 (Kish, 1965): who judges nearly all is nearly alone.
    """
    if not len(said.vote):
        return 0
    weights = np.zeros((size, int(said.person.max()) + 1))
    np.add.at(weights, (said.place, said.person), said.share)
    weights = weights[weights.sum(axis=1) > 0]
    effective = weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)
    return math.floor(float(effective.min()) + ROUNDING)


def _pairs_a_prompt(way: Way) -> float:
    """Different answers to a prompt that are not the start's: places often say the same."""
    count = sum(len(set(one[1:]) - {one[0]}) for one in zip(*way.texts, strict=True))
    return count / len(way.asked)


def _said(way: Way, votes: Votes) -> tuple[Said, set[str]]:
    """The votes on a way, and the ids of the judgements behind them."""
    found: list[tuple[int, int, str, float, float]] = []
    rows = set[str]()
    for at, one in enumerate(way.asked):
        for place, texts in enumerate(way.texts[1:]):
            if texts[at] == way.texts[0][at]:
                continue
            pair = votes.get((one.key, texts[at], way.texts[0][at]), [])
            rows |= {row["judgement_id"] for _, row in pair}
            found += [(at, place, row["voter"] or "", vote, 1 / len(pair)) for vote, row in pair]
    prompt, place_, person, vote_, share = zip(*found, strict=True) if found else ((),) * 5
    return Said(
        np.array(prompt, np.intp),
        np.array(place_, np.intp),
        numbered([*person]),
        np.array(vote_, float),
        np.array(share, float),
    ), rows


def _curve(
    way: Way,
    said: Said,
    same: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.intp],
    settings: EvaluateSettings,
) -> dict[str, Any]:
    """`curved`: of the win rates with normal errors, of proxy and nats with prompts drawn anew."""
    rates, errors = _rates(said, same, groups)
    rng = np.random.default_rng(settings.seed)
    proxy, nats = way.proxy.mean(axis=0), way.nats.mean(axis=0)
    drawn = []
    for times in draws(int(groups.max()) + 1, settings):
        weights = times[groups]
        again = np.clip(rng.multivariate_normal(rates, errors, method="eigh"), 0, 1)
        drawn.append(
            (
                np.average(way.proxy, axis=0, weights=weights),
                np.append(EVEN, again),
                np.average(way.nats, axis=0, weights=weights),
            )
        )
    return curved((proxy, np.append(EVEN, rates), nats), drawn, way.form)


def _rates(
    said: Said, same: npt.NDArray[np.bool_], groups: npt.NDArray[np.intp]
) -> tuple[Floats, Floats]:
    """(K - 1,) win rates over the start, and (K - 1, K - 1) covariances of their errors."""
    size, tied = same.shape[1], same.mean(axis=0)
    mass = np.bincount(said.place, said.share, size)
    won = np.bincount(said.place, said.share * said.vote, size)
    judged = np.divide(won, mass, out=np.full(size, EVEN), where=mass > 0)
    off = said.share * (said.vote - judged[said.place]) / np.maximum(mass, 1)[said.place]
    votes = np.zeros((len(off), size))
    votes[np.arange(len(off)), said.place] = off * (1 - tied[said.place])
    of_ties = (EVEN - judged) * (same - tied) / len(same)
    mine = groups[said.prompt]
    by_group = _covariance(np.concatenate([votes, of_ties]), np.concatenate([mine, groups]))
    both = _covariance(votes, mine * (int(said.person.max()) + 1) + said.person)
    values, axes = np.linalg.eigh(_covariance(votes, said.person) - both)
    errors = by_group + (axes * np.maximum(values, 0)) @ axes.T  # never less than prompts leave
    wary = (won + ADDED) / (mass + 2 * ADDED)  # keeps its width where all agree, as `stats.rate`
    least = (1 - tied) ** 2 * wary * (1 - wary) / (mass + 2 * ADDED)
    errors[np.diag_indices(size)] = np.maximum(errors.diagonal(), least)
    return EVEN * tied + (1 - tied) * judged, errors


def _covariance(parts: Floats, clusters: npt.NDArray[np.intp]) -> Floats:
    """(K, K) from what each observation adds to each rate; none of a single cluster."""
    _, place = np.unique(clusters, return_inverse=True)
    count = int(place.max()) + 1
    sums = np.stack([np.bincount(place, column, count) for column in parts.T], axis=1)
    return np.asarray(count / max(count - 1, 1) * sums.T @ sums)
