"""Simulated annotators: who they are, what they check, what they like, what they cost.

An annotator sorts replies by what he *perceives*: the gold of the reply as it would be if
everything he did not check were right, plus his tastes (per word, per polite phrase, for the left
side), plus noise. Skill differs by domain of the request. They are programs and say so:
`annotator_kind` is 'program' and the metadata hold `simulated: true` and their type.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from flywheel.sample.gold import Gold, grade
from flywheel.sample.world import DOMAINS, Request

POLITE = frozenset({"thank", "thanks", "value", "please", "dear"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotator:
    """One simulated annotator.

    Attributes:
        name: Identity in the records.
        type: expert, careful (a generalist), hasty (hurried) or spammer.
        share: Part of all judgements that are his.
        checks_exact: Probability that he recomputes the amount or the window.
        checks_decision: Probability that he applies the house rule.
        per_word: Taste for length, gold points a word.
        per_polite: Taste for polite phrases, gold points each.
        left: Taste for what is shown first, gold points.
        noise: Standard deviation of a perceived score.
        random: Probability of judging without looking.
        seconds: Mean time a ranking of four takes.
        cost_usd: Price of a ranking of four.
        weak_in: Domain in which he checks only half as often.
    """

    name: str
    type: str
    share: float
    checks_exact: float
    checks_decision: float
    per_word: float
    per_polite: float
    left: float
    noise: float
    random: float
    seconds: float
    cost_usd: float
    weak_in: str | None = None

    def perceive(self, rng: Random, request: Request, reply: str) -> float:
        """Score one reply as this annotator sees it."""
        skill = 0.5 if request.domain == self.weak_in else 1.0
        true = grade(request, reply)
        seen = _as_seen(
            true,
            reply,
            sees_exact=rng.random() < self.checks_exact * skill,
            sees_decision=rng.random() < self.checks_decision * (1 + skill) / 2,
        )
        words = reply.split()
        taste = self.per_word * len(words) + self.per_polite * sum(w in POLITE for w in words)
        return seen.score + taste + rng.gauss(0.0, self.noise)

    def rank(self, rng: Random, request: Request, replies: Sequence[str]) -> tuple[int, ...]:
        """Rank replies in the order shown, 1 the best; what he cannot tell apart is a tie."""
        if rng.random() < self.random:
            scores = [rng.random() + self.left * (index == 0) for index in range(len(replies))]
        else:
            scores = [
                self.perceive(rng, request, reply) + self.left * (index == 0)
                for index, reply in enumerate(replies)
            ]
        return ranks_of(scores)

    def choose(self, rng: Random, request: Request, reply_a: str, reply_b: str) -> str:
        """Choose between two replies: 'a', 'b' or 'tie'."""
        first, second = self.rank(rng, request, (reply_a, reply_b))
        return "tie" if first == second else "a" if first < second else "b"


def _as_seen(true: Gold, reply: str, *, sees_exact: bool, sees_decision: bool) -> Gold:
    """Give an unchecked fact the benefit of the doubt where the reply states one at all."""
    states = "refund is $" in reply or "no refund" in reply
    decision = true.decision if sees_decision else states
    exact = true.exact if sees_exact and sees_decision else decision
    if sees_exact and not sees_decision:
        exact = true.exact or not true.decision  # the sum is right for the decision taken
    return replace(true, decision=decision, exact=exact and decision)


def ranks_of(scores: Sequence[float]) -> tuple[int, ...]:
    """Ranks from scores; two neighbours closer than TIE share a rank."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    ranks = [1] * len(scores)
    for place, index in enumerate(order[1:], start=1):
        before = order[place - 1]
        is_tie = scores[before] - scores[index] < TIE
        ranks[index] = ranks[before] if is_tie else place + 1
    return tuple(ranks)


TIE = 0.02  # gold points that nobody can tell apart

_TYPES = {
    "expert": {
        "checks_exact": 0.95,
        "checks_decision": 0.98,
        "per_word": -0.005,
        "per_polite": 0.0,
        "left": 0.0,
        "noise": 0.08,
        "random": 0.01,
        "seconds": 60.0,
        "cost_usd": 1.5,
    },
    "careful": {
        "checks_exact": 0.80,
        "checks_decision": 0.95,
        "per_word": 0.0,
        "per_polite": 0.01,
        "left": 0.01,
        "noise": 0.12,
        "random": 0.02,
        "seconds": 25.0,
        "cost_usd": 0.3,
    },
    "hasty": {
        "checks_exact": 0.25,
        "checks_decision": 0.60,
        "per_word": 0.010,
        "per_polite": 0.06,
        "left": 0.10,
        "noise": 0.25,
        "random": 0.08,
        "seconds": 8.0,
        "cost_usd": 0.1,
    },
    "spammer": {
        "checks_exact": 0.0,
        "checks_decision": 0.0,
        "per_word": 0.0,
        "per_polite": 0.0,
        "left": 0.8,
        "noise": 1.0,
        "random": 1.0,
        "seconds": 3.0,
        "cost_usd": 0.1,
    },
}
_CROWD = (("expert", 2, 0.10), ("careful", 5, 0.55), ("hasty", 3, 0.28), ("spammer", 2, 0.07))

ANNOTATORS = tuple(
    Annotator(
        name=f"sim-{kind}-{number}",
        type=kind,
        share=share / count,
        weak_in=DOMAINS[number % len(DOMAINS)] if kind in ("careful", "hasty") else None,
        **_TYPES[kind],
    )
    for kind, count, share in _CROWD
    for number in range(1, count + 1)
)


def draw_annotator(rng: Random, *, but: Sequence[Annotator] = ()) -> Annotator:
    """Draw whose turn it is, by share; `but` have judged this already."""
    free = [one for one in ANNOTATORS if one not in but]
    return rng.choices(free, [one.share for one in free])[0]
