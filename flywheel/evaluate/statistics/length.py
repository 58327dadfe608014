"""What is left of a win rate once length is taken out of it.

A judge that likes long answers prefers whoever pads them. The chance of a win is fitted as
`sigmoid(theta + phi * t)`, t the difference of the two lengths, squashed; from each outcome the
part is taken off that its own difference in length explains. Coefficients come from the clusters of
the other folds, so that no outcome explains itself away.

`phi` is known from how lengths vary between prompts. Where every answer is longer by the same
amount, nothing can tell length from quality, and a weak prior takes it for quality. The length of
answers is a guardrail of its own beside this.

Source: Dubois et al., "Length-controlled AlpacaEval" (arXiv:2404.04475), without their term for the
difficulty of a prompt: outcomes are paired by prompt here.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flywheel.errors import EvaluationError

Floats = npt.NDArray[np.float64]

SCALE = (-1.0, 2.0)  # a defeat that length helped to avoid lies below 0
FOLDS = 5
PRIOR = 1.0  # precision of phi around 0: a couple of outcomes' worth
NEWTON_STEPS = 25


def controlled(
    outcomes: Sequence[float],
    lengths: Sequence[float],
    other_lengths: Sequence[float],
    clusters: Sequence[object],
) -> Floats:
    """Outcomes as they would be at equal length.

    Args:
        outcomes: (N,) 1 where the first is preferred, 0 where the other is, a half for a tie.
        lengths: (N,) of the first's answers, in tokens.
        other_lengths: (N,) of the other's.
        clusters: (N,) what each belongs to; a cluster lies in one fold.

    Returns:
        (N,) on `SCALE`, of which the mean is the controlled win rate. Equal to the outcomes
        where lengths never differ.

    Raises:
        EvaluationError: The four do not line up.
    """
    given = np.asarray(outcomes, float)
    squashed = squash(lengths, other_lengths)
    folds = np.array([zlib.crc32(str(one).encode()) % FOLDS for one in clusters])
    if not len(given) == len(squashed) == len(folds):
        raise EvaluationError(
            f"length control needs a length and a cluster for each of {len(given)} outcomes, got "
            f"{len(squashed)} and {len(folds)}"
        )
    found = given.copy()
    for fold in range(FOLDS):
        inside = folds == fold
        theta, phi = fit(given[~inside], squashed[~inside])
        explained = _sigmoid(theta + phi * squashed[inside]) - _sigmoid(theta)
        found[inside] = given[inside] - explained
    return found


def squash(lengths: Sequence[float], other_lengths: Sequence[float]) -> Floats:
    """(N,) tanh of the differences in length, in units of their root mean square."""
    differences = np.asarray(lengths, float) - np.asarray(other_lengths, float)
    scale = float(np.sqrt(np.mean(differences**2))) if len(differences) else 0.0
    return np.tanh(differences / scale) if scale else np.zeros_like(differences)


def fit(outcomes: Floats, squashed: Floats) -> tuple[float, float]:
    """theta and phi of greatest posterior density, by Newton; (0, 0) without outcomes."""
    columns = np.stack([np.ones_like(squashed), squashed], axis=1)
    prior = np.diag([1e-6, PRIOR])  # of theta only enough to keep it finite
    found = np.zeros(2)
    for _ in range(NEWTON_STEPS):
        chances = _sigmoid(columns @ found)
        slope = columns.T @ (outcomes - chances) - prior @ found
        bend = columns.T @ (columns * (chances * (1 - chances))[:, None]) + prior
        step = np.linalg.solve(bend, slope)
        found += np.clip(step, -2, 2)  # from far away a whole step overshoots
        if np.abs(step).max() < 1e-10:
            break
    return float(found[0]), float(found[1])


def _sigmoid(values: Floats | float) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))))
