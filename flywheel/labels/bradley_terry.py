"""Strengths of what is compared, from who was preferred to whom, with ties.

The difference d of two strengths decides: without ties, the first wins with probability
sigmoid(d). Ties have a parameter of their own (Davidson): win, loss and tie are as
exp(d / 2) : exp(-d / 2) : v. Half a win to each side instead would call two things equal that are
only hard to tell apart. A small ridge on strengths keeps one that never lost finite.

*Crowd-BT* adds the annotators: one of reliability r says what the strengths say with probability r,
and the opposite otherwise, so r = .5 is noise and r = 0 somebody who holds the scale upside down; a
tie says nothing of him. Strengths and reliabilities are found in turns.

`first`, `second` [N] are codes of what was compared, `outcome` [N] is 0 where the first won, 1
where the second did, 2 for a tie.

Source: Bradley and Terry (Biometrika 1952); Davidson, "On extending the Bradley-Terry model to
accommodate ties" (JASA 1970); Chen et al., "Pairwise ranking aggregation in a crowdsourced
setting" (WSDM 2013).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flywheel.errors import ShapeError
from flywheel.labels.dawid_skene import Floats, Ints

RIDGE = 0.1  # pulls a strength to 0 as one win and one loss in ten would
STEPS = 50
DENSE = 2000  # strengths up to which the Hessian is solved whole: 32 MB
SMALL = 1e-8  # change of a strength below which Newton ends


@dataclass(frozen=True, slots=True)
class Strengths:
    """What was found.

    Attributes:
        strength: Of each thing compared [M], mean 0.
        variance: Of each strength, reliabilities taken as known [M]; NaN above DENSE things.
        tie: v, how likely a tie is beside the sides of an even match; 0 where there was none.
        reliability: Of each annotator [W]; empty where they were not asked for.
    """

    strength: Floats
    variance: Floats
    tie: float
    reliability: Floats


@dataclass(frozen=True, slots=True)
class _Matches:
    """Distinct ordered pairs [P], and weights of their outcomes [P, 3]."""

    first: Ints
    second: Ints
    weight: Floats
    things: int


def bradley_terry(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    outcome: npt.ArrayLike,
    *,
    ridge: float = RIDGE,
) -> Strengths:
    """Strengths by Newton's method, taking everybody at his word.

    Raises:
        ShapeError: The arrays differ in length, or an outcome is none of 0, 1, 2.
    """
    matches, place, said, _ = _matches(first, second, outcome)
    width = len(matches.first)
    weight = np.bincount(place * 3 + said, minlength=width * 3).reshape(-1, 3).astype(float)
    return from_counts(matches.first, matches.second, weight, matches.things, ridge=ridge)


def from_counts(
    first: Ints,
    second: Ints,
    weight: Floats,
    things: int,
    *,
    near: Strengths | None = None,
    ridge: float = RIDGE,
) -> Strengths:
    """Strengths from how often each outcome of a pair was seen, which need be no whole number.

    Args:
        first: Of each pair [P].
        second: Of each pair [P].
        weight: Wins of the first, of the second, ties [P, 3].
        things: How many are compared.
        near: Where to begin, as with counts that hardly differ.
        ridge: On strengths.
    """
    matches = _Matches(first, second, weight, things)
    begin = (near.strength, near.tie) if near else (np.zeros(things), 0.0)
    strength, tie = _newton(matches, *begin, ridge)
    return Strengths(strength, _variance(matches, strength, tie, ridge), tie, np.zeros(0))


def crowd_bradley_terry(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    outcome: npt.ArrayLike,
    annotator: npt.ArrayLike,
    *,
    ridge: float = RIDGE,
    prior: tuple[float, float] = (8.0, 2.0),
    rounds: int = 50,
    tolerance: float = 1e-4,
) -> Strengths:
    """Strengths and reliabilities together, by expectation maximisation.

    Args:
        first: What was shown first [N].
        second: What was shown second [N].
        outcome: 0, 1 or 2 [N].
        annotator: Who decided [N].
        ridge: On strengths.
        prior: Votes with and against the strengths that everybody starts with. Both must be above
            0: the mirror image, all strengths and reliabilities turned round, is as likely.
        rounds: At most.
        tolerance: Movement of a reliability below which rounds end.

    Raises:
        ShapeError: The arrays differ in length, or an outcome is none of 0, 1, 2.
    """
    matches, place, said, who = _matches(first, second, outcome, annotator)
    width, count = len(matches.first), int(who.max()) + 1 if len(who) else 0
    decided = said < 2
    ties = np.bincount(place[~decided], minlength=width)
    place, side, whose = place[decided], said[decided], who[decided]
    voted = place * 2 + side  # which pair, and which of its sides
    made = np.bincount(whose, minlength=count)
    reliability = np.full(count, prior[0] / sum(prior))
    strength, tie = np.zeros(matches.things), 0.0
    for number in range(rounds):
        d = strength[matches.first] - strength[matches.second]
        sure = np.stack([_sigmoid(d), _sigmoid(-d)], axis=1).ravel().take(voted)
        honest = reliability.take(whose)
        if number:  # before there are strengths, everybody is as honest as the prior says
            meant = honest * sure
            honest = meant / (meant + (1 - honest) * (1 - sure))
        before = reliability
        reliability = (np.bincount(whose, honest, count) + prior[0]) / (made + sum(prior))
        believed = np.bincount(voted, honest, 2 * width).reshape(-1, 2)
        heard = np.bincount(voted, minlength=2 * width).reshape(-1, 2)
        weight = np.empty((width, 3))
        weight[:, :2] = believed + (heard - believed)[:, ::-1]  # not meant is meant the other way
        weight[:, 2] = ties
        counted = _Matches(matches.first, matches.second, weight, matches.things)
        strength, tie = _newton(counted, strength, tie, ridge)
        if number and np.abs(reliability - before).max(initial=0) < tolerance:
            break
    if not count:
        counted = matches
    return Strengths(strength, _variance(counted, strength, tie, ridge), tie, reliability)


def chance(strength_first: Floats, strength_second: Floats, tie: float) -> tuple[Floats, Floats]:
    """Probability that the first wins, and that neither does."""
    half = (strength_first - strength_second) / 2
    top = np.maximum(np.abs(half), 0)
    won, lost, even = np.exp(half - top), np.exp(-half - top), tie * np.exp(-top)
    total = won + lost + even
    return won / total, even / total


def _matches(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    outcome: npt.ArrayLike,
    annotator: npt.ArrayLike | None = None,
) -> tuple[_Matches, Ints, Ints, Ints]:
    """Distinct ordered pairs, and per vote its pair, its outcome and its annotator."""
    one, other, said = (np.ascontiguousarray(x, np.intp) for x in (first, second, outcome))
    who = np.ascontiguousarray(annotator if annotator is not None else said[:0], np.intp)
    lengths = {len(one), len(other), len(said)} | ({len(who)} if annotator is not None else set())
    if len(lengths) > 1:
        raise ShapeError(f"what is compared, outcomes and annotators differ in length: {lengths}")
    if len(said) and not 0 <= said.min() <= said.max() <= 2:
        raise ShapeError(
            f"an outcome is 0 (first), 1 (second) or 2 (tie), found {said.min()} to {said.max()}"
        )
    things = int(max(one.max(initial=-1), other.max(initial=-1))) + 1
    key = one * max(things, 1) + other
    if things <= DENSE:  # a table of all pairs is faster than sorting the votes
        keys = np.flatnonzero(np.bincount(key, minlength=things**2))
        table = np.zeros(max(things, 1) ** 2, np.intp)
        table[keys] = np.arange(len(keys))
        place = table[key]
    else:
        keys, place = np.unique(key, return_inverse=True)
    empty = np.zeros((len(keys), 3))
    return _Matches(keys // max(things, 1), keys % max(things, 1), empty, things), place, said, who


def _newton(matches: _Matches, strength: Floats, tie: float, ridge: float) -> tuple[Floats, float]:
    """Maximise the likelihood less half the ridge times the squared strengths; ties in turns.

    A step that does not raise the objective is halved: Newton overshoots where wins are lopsided.
    """
    total = matches.weight.sum(axis=1)
    has_ties = bool(matches.weight[:, 2].sum() > 0)
    tie = (tie or 0.5) if has_ties else 0.0
    for _ in range(STEPS):
        won, even = chance(strength[matches.first], strength[matches.second], tie)
        lost = 1 - won - even
        slope = (matches.weight[:, 0] - matches.weight[:, 1] - total * (won - lost)) / 2
        curve = total * (won + lost - (won - lost) ** 2) / 4
        gradient = (
            np.bincount(matches.first, slope, matches.things)
            - np.bincount(matches.second, slope, matches.things)
            - ridge * strength
        )
        step = _solve(matches, curve, ridge, gradient)
        now, size = _objective(matches, strength, tie, ridge), 1.0
        while size > 1e-6 and _objective(matches, strength + size * step, tie, ridge) < now:
            size /= 2
        strength = strength + size * step
        moved = float(np.abs(size * step).max(initial=0))
        if has_ties:
            won, even = chance(strength[matches.first], strength[matches.second], tie)
            alike = tie / (
                2 + tie
            )  # one more even match, half a tie: all ties are not v = infinity
            slack = float(matches.weight[:, 2].sum() - total @ even) + 0.5 - alike
            spread = float(total @ (even * (1 - even))) + alike * (1 - alike)
            shift = np.clip(slack / spread, -1, 1)
            tie *= float(np.exp(shift))
            moved = max(moved, abs(float(shift)))
        if moved < SMALL:
            break
    return strength - strength.mean() if len(strength) else strength, tie


def _objective(matches: _Matches, strength: Floats, tie: float, ridge: float) -> float:
    won, even = chance(strength[matches.first], strength[matches.second], tie)
    lost = np.maximum(1 - won - even, 1e-300)
    parts = matches.weight[:, 0] @ np.log(np.maximum(won, 1e-300)) + (
        matches.weight[:, 1] @ np.log(lost)
    )
    if tie > 0:
        parts += matches.weight[:, 2] @ np.log(np.maximum(even, 1e-300))
    return float(parts - ridge / 2 * (strength @ strength))


def _solve(matches: _Matches, curve: Floats, ridge: float, gradient: Floats) -> Floats:
    """The Newton step: dense for few things, by conjugate gradients for many."""
    if matches.things <= DENSE:
        return np.asarray(np.linalg.solve(_hessian(matches, curve, ridge), gradient))
    one, other, things = matches.first, matches.second, matches.things
    diagonal = np.bincount(one, curve, things) + np.bincount(other, curve, things) + ridge
    found, residual = np.zeros(things), gradient
    scaled = residual / diagonal
    direction, size = scaled, float(residual @ scaled)
    for _ in range(things):
        if size <= 1e-20:
            break
        flow = curve * (direction[one] - direction[other])
        apart = np.bincount(one, flow, things) - np.bincount(other, flow, things)
        pushed = apart + ridge * direction
        length = size / float(direction @ pushed)
        found, residual = found + length * direction, residual - length * pushed
        scaled = residual / diagonal
        size, before = float(residual @ scaled), size
        direction = scaled + size / before * direction
    return found


def _hessian(matches: _Matches, curve: Floats, ridge: float) -> Floats:
    m = matches.things
    cross = np.bincount(matches.first * m + matches.second, curve, m * m).reshape(m, m)
    cross = cross + cross.T
    return np.diag(cross.sum(axis=1) + ridge) - cross


def _variance(matches: _Matches, strength: Floats, tie: float, ridge: float) -> Floats:
    if not 0 < matches.things <= DENSE:
        return np.full(matches.things, np.nan)
    won, even = chance(strength[matches.first], strength[matches.second], tie)
    lost = 1 - won - even
    curve = matches.weight.sum(axis=1) * (won + lost - (won - lost) ** 2) / 4
    found = np.linalg.inv(_hessian(matches, curve, ridge))
    along = found.mean(axis=0)
    return np.asarray(np.diag(found) - 2 * along + along.mean())  # of strengths less their mean


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -x)))
