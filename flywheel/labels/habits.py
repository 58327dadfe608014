"""What annotators do with pairs of responses, learnt from their votes by expectation maximisation.

A cell is an annotator in a domain. The model is that of `pairs.py`.
"""

import numpy as np
import numpy.typing as npt

from flywheel.labels.dawid_skene import (
    LEAST,
    ROUNDS,
    TOLERANCE,
    Floats,
    Ints,
    Labels,
    probabilities,
)

A, B, TIE = range(3)
STRENGTH = 3.0  # votes after which an annotator's own count as much as the crowd's
DOMAIN_STRENGTH = 100.0  # votes in a domain after which they count as much as all of his
SUREST_VOTE = 0.98
# Before anybody is measured: right three times of four where a side is taken, one vote in ten a
# tie where there is none, one in two where there is; one pair in ten is one.
GUESS = (0.75, 0.1, 0.5)
GUESSED_TIES = 0.1
MOST_ODDS = 23.0  # a share of 1e-10, in log-odds
LONGEST = 30.0  # rounds that one round may stand for: far off, two rounds point anywhere


class Habits:
    """What is known of C cells (an annotator in a domain) and their W owners.

    Attributes:
        owner: The annotator of each cell [C].
        accuracy: Of each cell [C]; `overall` is its owner's [W], `crowd` everybody's.
        ties: How often an owner calls a tie where there is none, and where there is [2, W].
        prior: Shares of the three truths; a and b are alike.
        right, sides: Expected right votes of each cell among those for a side where one is
            better [C].
    """

    def __init__(self, owner: Ints, strength: float, domain_strength: float) -> None:
        self.owner, self.owners = owner, int(owner.max(initial=-1)) + 1
        self.strength, self.domain_strength = strength, domain_strength
        self.right, self.sides = np.zeros((2, len(owner)))
        self.learn(np.zeros((len(owner), 3, 3)), np.zeros(3))

    def learn(self, counts: Floats, shares: Floats) -> None:
        """Take over expected votes by cell, truth and vote [C, 3, 3], and pairs by truth [3]."""
        guess, weak = GUESS, max(self.strength, LEAST)
        self.right = counts[:, A, A] + counts[:, B, B]
        self.sides = self.right + counts[:, A, B] + counts[:, B, A]
        self.crowd = float((self.right.sum() + weak * guess[0]) / (self.sides.sum() + weak))
        self.overall = self._towards(self.crowd, self.whole(self.right), self.whole(self.sides))
        self.accuracy = (self.right + self.domain_strength * self.overall[self.owner]) / (
            self.sides + self.domain_strength
        )
        tied = np.array([counts[:, A, TIE] + counts[:, B, TIE], counts[:, TIE, TIE]])
        made = np.array([counts[:, :TIE].sum(axis=(1, 2)), counts[:, TIE].sum(axis=1)])
        self.ties = np.empty((2, self.owners))
        for row, start in enumerate(guess[1:]):
            of_crowd = (tied[row].sum() + weak * start) / (made[row].sum() + weak)
            self.ties[row] = self._towards(of_crowd, self.whole(tied[row]), self.whole(made[row]))
        share = (shares[TIE] + weak * GUESSED_TIES) / (shares.sum() + weak)
        self._believe(share)

    def whole(self, per_cell: Floats) -> Floats:
        """Sum over the cells of each owner [C] -> [W]."""
        return np.asarray(np.bincount(self.owner, per_cell, self.owners), float)

    def _towards(self, crowd: float, part: Floats, whole: Floats) -> Floats:
        weak = max(self.strength, LEAST)
        return np.asarray((part + weak * crowd) / (whole + weak))

    def log_odds(self) -> Floats:
        """All that `errors` and `prior` rest on, as one vector without bounds."""
        shares = np.concatenate([self.accuracy, self.ties.ravel(), self.prior[TIE:]])
        shares = np.clip(shares, LEAST, 1 - LEAST)
        return np.asarray(np.log(shares / (1 - shares)))

    def take_over(self, log_odds: Floats) -> None:
        """Believe what `log_odds` might have returned."""
        shares = 1 / (1 + np.exp(-np.clip(log_odds, -MOST_ODDS, MOST_ODDS)))
        self.accuracy, ties = shares[: len(self.owner)], shares[len(self.owner) : -1]
        self.ties = ties.reshape(2, self.owners)
        self._believe(shares[-1])

    def _believe(self, ties: float) -> None:
        self.prior = np.array([(1 - ties) / 2, (1 - ties) / 2, ties])

    def errors(self) -> Floats:
        """Matrices of the cells [C, 3, 3], within what is believed of anybody."""
        sure = np.clip(self.accuracy, 0.5, SUREST_VOTE)
        none, one = self.ties[:, self.owner]
        found = np.empty((len(self.owner), 3, 3))
        found[:, A, A] = found[:, B, B] = (1 - none) * sure
        found[:, A, B] = found[:, B, A] = (1 - none) * (1 - sure)
        found[:, :TIE, TIE] = none[:, None]
        found[:, TIE, :TIE] = (1 - one[:, None]) / 2
        found[:, TIE, TIE] = one
        return found


def fit(
    habits: Habits,
    pair: Ints,
    cell: Ints,
    vote: Ints,
    truth: Ints,
    shared: npt.NDArray[np.bool_],
) -> tuple[int, Floats]:
    """Expectation maximisation on the votes `shared`, in longer steps.

    Where few pairs are ties, or none is, plain rounds creep: their number falls by a hundredth a
    round. After every two of them a third goes as far as both point (`_leap`); what ends the search
    is a plain round that moves little, so that the end is one of plain rounds too; of a small and
    noisy crowd, where they have several, it may be another one.

    Args:
        habits: Left as they fit the votes.
        pair: Pairs [N].
        cell: Cells [N].
        vote: Votes [N].
        truth: The answer of pairs judged in advance, -1 of all others [P].
        shared: Which votes to learn from [N].

    Returns:
        The number of rounds, and by cell how far the rightness of its votes is known from their
        pairs: 0 where every vote is as likely right as any other, 1 where that is sure of all.
    """
    judged, place = np.unique(pair[shared], return_inverse=True)
    labels = Labels(place, cell[shared], vote[shared], 3, len(habits.owner))
    truth = truth[judged]
    known = np.flatnonzero(truth >= 0)
    told = np.eye(3)[:, truth[known]]
    posterior = labels.shares()
    path: list[Floats] = []
    for done in range(1, ROUNDS + 1):
        posterior[:, known] = told
        habits.learn(labels.expected(posterior), posterior.sum(axis=1))
        path.append(habits.log_odds())
        if is_leap := len(path) == 3 and done < ROUNDS:
            habits.take_over(_leap(*path))
            path = []
        before = posterior
        posterior = probabilities(labels.log_odds(habits.errors(), habits.prior))
        if is_leap:
            continue
        if not posterior.size or np.abs(posterior - before).mean() < TOLERANCE:
            break
    return done, _known(habits, labels, posterior)


def _leap(start: Floats, one: Floats, two: Floats) -> Floats:
    """As far as two rounds point: past `two` where the second moved nearly as far as the first.

    Source: Varadhan and Roland, "Simple and globally convergent methods for accelerating the
    convergence of any EM algorithm" (Scandinavian Journal of Statistics, 2008), scheme S3.
    """
    step, bend = one - start, two - 2 * one + start
    length = float(np.linalg.norm(step) / max(float(np.linalg.norm(bend)), LEAST))
    length = min(max(length, 1.0), LONGEST)
    return np.asarray(start + 2 * length * step + length**2 * bend)


def _known(habits: Habits, labels: Labels, posterior: Floats) -> Floats:
    """Sum of squares between votes over p (1 - p), the share of information that is not missing.

    Source: Louis, "Finding the observed information matrix when using the EM algorithm" (JRSS B,
    1982), for one accuracy with all others given.
    """
    sided = np.flatnonzero(labels.label != TIE)
    item, cell, label = labels.item[sided], labels.annotator[sided], labels.label[sided]
    better = posterior[A, item] + posterior[B, item]
    right = posterior[label, item] / np.maximum(better, LEAST)
    mean = habits.right / np.maximum(habits.sides, LEAST)
    spread = np.bincount(cell, better * (right - mean[cell]) ** 2, len(mean))
    return np.asarray(spread / np.maximum(habits.sides * mean * (1 - mean), LEAST)).clip(0, 1)
