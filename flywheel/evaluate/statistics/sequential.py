"""Evidence that may be looked at at any time: bets against "it is no better than this".

Somebody who doubts that the mean outcome is at most `bar` may bet on each outcome in turn at odds
that would be fair if it were; the wealth is expected never to grow, so that it reaches `1 / level`
at any time at all with a chance of at most `level` (Ville). However often one looks, and whenever
one stops, a better challenger is seen wrongly that seldom. Wealth is a product over outcomes:
neither their order nor the number of looks enters. A share of the money is put on each of a few
sizes of bet, because the right one depends on a difference that nobody knows.

An outcome is the mean of one cluster (prompts that nearly repeat each other): 1 where the
challenger is preferred, 0 where the other is, a half for a tie. Clusters are taken as drawn alike
from the prompts that matter.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting"
(arXiv:2010.09686), with fixed instead of predictable bets.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flywheel.errors import EvaluationError

Floats = npt.NDArray[np.float64]
Outcomes = Sequence[float] | Floats

# Share of the wealth that an outcome of 0 takes from each bet. The best one at a bar of a half is
# about twice the lead: .2 where .6 of outcomes are won. Weights are the money put on each.
BETS = np.array([0.1, 0.2, 0.4, 0.8])
SHARES = np.array([0.25, 0.4, 0.25, 0.1])
STEPS = 50  # of a bisection: a bound is exact to 1e-15
MOST = 1024  # times the clusters that there are: beyond, more of them are no advice


def log_evidence(outcomes: Outcomes, bar: float) -> float:
    """Natural log of the wealth against "the mean is at most `bar`".

    Args:
        outcomes: (N,) from 0 to 1, one a cluster.
        bar: From 0 (excluded) to 1.

    Returns:
        0 without outcomes; at least `log(1 / level)` where the doubt is refuted at that level.

    Raises:
        EvaluationError: An outcome is not from 0 to 1, or is no number: it must not pass for 0.
    """
    return _wealth(*_counted(outcomes), bar)


def bounds(outcomes: Outcomes, level: float) -> tuple[float, float]:
    """Bounds of the mean, each of them wrong at any look ever with a chance of at most `level`.

    Raises:
        EvaluationError: As `log_evidence`.
    """
    values, counts = _counted(outcomes)
    return _lower(values, counts, level), 1 - _lower(1 - values, counts, level)


def clusters_to_decide(outcomes: Outcomes, bar: float, level: float) -> int | None:
    """About how many clusters more refute "the mean is at most `bar`", if they are like these.

    Returns:
        None where that would take more than a thousand times as many.
    """
    values, counts = _counted(outcomes)
    needed = math.log(1 / level)
    enough = 1.0  # times as many, in the same shares
    while _wealth(values, counts * enough, bar) < needed:
        enough *= 2
        if enough > MOST or not counts.sum():
            return None
    low = 1.0 if enough == 1 else enough / 2
    for _ in range(STEPS):
        middle = (low + enough) / 2
        reached = _wealth(values, counts * middle, bar) >= needed
        low, enough = (low, middle) if reached else (middle, enough)
    return math.ceil(counts.sum() * (enough - 1) - 1e-6)


def level_of(level: float, challenger: int) -> float:
    """What the j-th challenger of one champion may spend of a level that all of them share.

    However many come, the chance that any of them is promoted wrongly stays below `level`:
    6 / (pi j)^2 adds up to 1.
    """
    return 6 * level / (math.pi * challenger) ** 2


def _counted(outcomes: Outcomes) -> tuple[Floats, Floats]:
    """Distinct outcomes and how often each occurs: a million wins and losses are two numbers."""
    given = np.asarray(outcomes, dtype=float)
    if given.size and not (np.isfinite(given).all() and given.min() >= 0 and given.max() <= 1):
        raise EvaluationError(
            "every outcome must be a number from 0 to 1; one that is missing is no defeat: find "
            "out why it could not be graded"
        )
    values, counts = np.unique(given, return_counts=True)
    return values, counts.astype(float)


def _growths(values: Floats, counts: Floats, bar: float) -> Floats:
    """Log wealth of each bet alone."""
    return np.asarray(np.log1p(BETS[:, None] * (values / bar - 1)) @ counts)


def _wealth(values: Floats, counts: Floats, bar: float) -> float:
    return float(np.logaddexp.reduce(np.log(SHARES) + _growths(values, counts, bar)))


def _lower(values: Floats, counts: Floats, level: float) -> float:
    """The largest bar that is refuted; evidence falls as the bar rises."""
    low, high, needed = 0.0, 1.0, math.log(1 / level)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _wealth(values, counts, middle) >= needed else (low, middle)
    return low
