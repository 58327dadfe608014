"""What the votes on pairs of responses come to, and how far each voter can be trusted.

A vote is for response a, for b, or for neither (0, 1, 2). Which response is called a is chance, so
errors are alike from both sides. Three truths are possible, the third being that the two are as
good as each other. What an annotator does then comes down to three shares: how often he is right
where he takes a side, how often he calls a tie what is none, and how often what is one.

Few votes say little, so the accuracy in one domain is shrunk to the annotator's own, his own to the
crowd's, and the crowd's to a guess; ties are a habit, and have no domain. All of it is estimated on
pairs that several judged (a lone vote would only confirm itself) and on gold pairs, whose answer is
known in advance; then every pair is concluded from it. Nobody counts against what he said, and
nobody is trusted beyond .98, however rare his errors: errors are not independent, so no conclusion
is surer than .99 either.

Beside it stands what a left-out vote shows: how often an annotator sides with the weighted vote of
the others on the same pair. It is the ceiling of every reward model trained on such votes.

Source: the model of `dawid_skene.py`, with errors that a turned pair leaves as they are.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flywheel.labels.agreement import left_out
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
SUREST_PAIR = 0.99
UNDECIDED = 1e-9  # log-odds: the votes of both sides cancel, but for rounding
# Before anybody is measured: right three times of four where a side is taken, one vote in ten a
# tie where there is none, one in two where there is; one pair in ten is one.
GUESS = (0.75, 0.1, 0.5)
GUESSED_TIES = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """Votes on pairs, integer-coded.

    Attributes:
        pair: Pairs, 0..P-1 [N].
        annotator: Annotators, 0..W-1 [N].
        domain: Domains, 0..D-1 [N].
        vote: A, B or TIE [N].
        truth: The answer of pairs judged in advance, -1 of all others [P].
    """

    pair: Ints
    annotator: Ints
    domain: Ints
    vote: Ints
    truth: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """How far somebody can be trusted, by rows: annotators, or annotators in one domain.

    Attributes:
        annotator: Whom the row is about [R].
        domain: In which domain; -1 overall [R].
        votes: Votes given [R].
        compared: Votes on pairs that others judged too, or that are gold [R].
        accuracy: How often a vote for a side is right, shrunk; unbounded [R].
        sides: Expected votes for a side of pairs that have a better one [R].
        right: Those of them that were right [R].
        evidence: Votes whose rightness, were it known, would tell as much of the accuracy; fewer
            than `sides`, because which side is right is itself concluded [R].
        gold: Votes on gold pairs [R].
        gold_right: Those that gave the known answer [R].
        tested: Votes for a side where the other votes on the pair decide for one [R].
        tested_right: Those that took the same [R].
    """

    annotator: Ints
    domain: Ints
    votes: Ints
    compared: Ints
    accuracy: Floats
    sides: Floats
    right: Floats
    evidence: Floats
    gold: Ints
    gold_right: Ints
    tested: Ints
    tested_right: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What the votes come to.

    Attributes:
        probability_a: That a is the better, a tie counting half [P].
        probability_tie: That neither is [P].
        tested: Votes on the pair that were tested against the others' weighted vote [P].
        tested_right: Those that agreed with it [P].
        tested_for_a: Those where the others' weighted vote was for a [P].
        trust: Overall first, then by domain.
        prior: Shares of the classes [3].
        rounds: Of expectation maximisation.
    """

    probability_a: Floats
    probability_tie: Floats
    tested: Ints
    tested_right: Ints
    tested_for_a: Ints
    trust: Trust
    prior: Floats
    rounds: int


def weigh(
    votes: Votes, *, strength: float = STRENGTH, domain_strength: float = DOMAIN_STRENGTH
) -> Weighed:
    """Conclude every pair from its votes, and every annotator from his.

    Raises:
        ShapeError: The arrays of votes differ in length, or hold what is no code.
    """
    pairs = len(votes.truth)
    domains = int(votes.domain.max(initial=0)) + 1
    kinds, cell = np.unique(votes.annotator * domains + votes.domain, return_inverse=True)
    gold = votes.truth[votes.pair]
    shared = (np.bincount(votes.pair, minlength=pairs)[votes.pair] > 1) | (gold >= 0)
    habits = _Habits(kinds // domains, strength, domain_strength)
    rounds, known_by = _fit(habits, votes, cell, shared)

    errors, prior = habits.errors(), habits.prior
    odds = Labels(votes.pair, cell, votes.vote, 3).log_odds(errors, prior)
    found = np.repeat(prior[:, None], pairs, axis=1)
    found[:, : odds.shape[1]] = probabilities(odds)
    known = np.flatnonzero(votes.truth >= 0)
    found[:, known] = np.eye(3)[:, votes.truth[known]]

    rest, others = left_out(votes.pair, cell, votes.vote, errors=errors, prior=prior)
    lead = rest[A] - rest[B]  # log-odds of a against b by the other votes
    tested = (votes.vote != TIE) & (others > 0) & (np.abs(lead) > UNDECIDED)
    right = tested & ((lead > 0) == (votes.vote == A))

    def by_pair(which: npt.NDArray[np.bool_]) -> Ints:
        return np.bincount(votes.pair[which], minlength=pairs)

    return Weighed(
        probability_a=np.clip(found[A] + found[TIE] / 2, 1 - SUREST_PAIR, SUREST_PAIR),
        probability_tie=np.minimum(found[TIE], SUREST_PAIR),
        tested=by_pair(tested),
        tested_right=by_pair(right),
        tested_for_a=by_pair(tested & (lead > 0)),
        trust=_trust(votes, habits, kinds % domains, cell, known_by, (shared, tested, right)),
        prior=prior,
        rounds=rounds,
    )


class _Habits:
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
        self.prior = np.array([(1 - share) / 2, (1 - share) / 2, share])

    def whole(self, per_cell: Floats) -> Floats:
        """Sum over the cells of each owner [C] -> [W]."""
        return np.asarray(np.bincount(self.owner, per_cell, self.owners), float)

    def _towards(self, crowd: float, part: Floats, whole: Floats) -> Floats:
        weak = max(self.strength, LEAST)
        return np.asarray((part + weak * crowd) / (whole + weak))

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


def _fit(
    habits: _Habits, votes: Votes, cell: Ints, shared: npt.NDArray[np.bool_]
) -> tuple[int, Floats]:
    """Expectation maximisation on the votes `shared`.

    Returns:
        The number of rounds, and by cell how far the rightness of its votes is known from their
        pairs: 0 where every vote is as likely right as any other, 1 where that is sure of all.
    """
    judged, place = np.unique(votes.pair[shared], return_inverse=True)
    labels = Labels(place, cell[shared], votes.vote[shared], 3, len(habits.owner))
    truth = votes.truth[judged]
    known = np.flatnonzero(truth >= 0)
    told = np.eye(3)[:, truth[known]]
    posterior = labels.shares()
    for done in range(1, ROUNDS + 1):  # noqa: B007
        posterior[:, known] = told
        habits.learn(labels.expected(posterior), posterior.sum(axis=1))
        before = posterior
        posterior = probabilities(labels.log_odds(habits.errors(), habits.prior))
        if not posterior.size or np.abs(posterior - before).mean() < TOLERANCE:
            break
    return done, _known(habits, labels, posterior)


def _known(habits: _Habits, labels: Labels, posterior: Floats) -> Floats:
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


def _trust(
    votes: Votes,
    habits: _Habits,
    domain: Ints,
    cell: Ints,
    known: Floats,
    masks: tuple[npt.NDArray[np.bool_], ...],
) -> Trust:
    """Rows of annotators, then of annotators in one domain."""
    gold = votes.truth[votes.pair]
    shared, tested, agreed = masks

    def count(which: npt.NDArray[np.bool_]) -> Ints:
        overall = np.bincount(votes.annotator[which], minlength=habits.owners)
        return np.concatenate([overall, np.bincount(cell[which], minlength=len(domain))])

    def both(per_cell: Floats) -> Floats:
        return np.concatenate([habits.whole(per_cell), per_cell])

    return Trust(
        annotator=np.concatenate([np.arange(habits.owners), habits.owner]),
        domain=np.concatenate([np.full(habits.owners, -1), domain]),
        votes=count(np.ones(len(cell), bool)),
        compared=count(shared),
        accuracy=np.concatenate([habits.overall, habits.accuracy]),
        sides=both(habits.sides),
        right=both(habits.right),
        evidence=both(habits.sides * known),
        gold=count(gold >= 0),
        gold_right=count((gold >= 0) & (gold == votes.vote)),
        tested=count(tested),
        tested_right=count(agreed),
    )
