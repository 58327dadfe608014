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
from flywheel.labels.dawid_skene import Floats, Ints, Labels, probabilities
from flywheel.labels.habits import DOMAIN_STRENGTH, STRENGTH, TIE, A, B, Habits, fit

SUREST_PAIR = 0.99
UNDECIDED = 1e-9  # log-odds: the votes of both sides cancel, but for rounding


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
    habits = Habits(kinds // domains, strength, domain_strength)
    rounds, known_by = fit(habits, votes.pair, cell, votes.vote, votes.truth, shared)

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


def _trust(
    votes: Votes,
    habits: Habits,
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
