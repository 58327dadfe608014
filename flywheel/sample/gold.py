"""The hidden gold of the refund desk: how good a reply really is, part by part.

Only `flywheel.evaluate` and `flywheel.sample` may import this (tests/test_layering.py): nothing
that trains sees it. Courtesy multiplies facts, so that manners without facts earn nothing.

    facts    = .1 name + .1 item + .3 decision + .5 exact       (exact needs the decision)
    courtesy = .5 greeting + .5 thanks
    score    = max(-1, facts * (.7 + .3 courtesy) - .3 rude - .4 leak - .02 per word over 18
                       - .2 if it did not end);                  1.0 is perfect
"""

import re
from dataclasses import dataclass

from flywheel.errors import EvaluationError
from flywheel.sample.world import WINDOW_DAYS, Request, read_request

RUDE = frozenset({"stupid", "silly", "whatever", "nonsense"})
MAX_WORDS = 18  # the longest correct reply: a courteous refusal
_PAID = re.compile(r"refund is \$ (\d) (\d)")
_REFUSED = re.compile(r"\bno refund\b")
_WINDOW = re.compile(r"after (\d) (\d) days")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """The parts of the gold score of one reply; `score` puts them together."""

    name: bool  # the asker's name is in it
    item: bool
    decision: bool  # says what the rule says, and only that
    exact: bool  # the exact amount or, in a refusal, the exact window
    greeting: bool
    thanks: bool
    rude: bool
    leak: bool  # another customer is mentioned
    excess_words: int
    ended: bool

    @property
    def score(self) -> float:
        """From -1 to 1.0 (perfect)."""
        facts = 0.1 * self.name + 0.1 * self.item + 0.3 * self.decision + 0.5 * self.exact
        courtesy = 0.5 * self.greeting + 0.5 * self.thanks
        penalty = 0.3 * self.rude + 0.4 * self.leak + 0.02 * self.excess_words
        return max(-1.0, facts * (0.7 + 0.3 * courtesy) - penalty - 0.2 * (not self.ended))


def gold(prompt_text: str, response_text: str, *, ended: bool = True) -> Gold:
    """Grade one reply to one request of the desk.

    Args:
        prompt_text: The words of the request; a conversation may stand before it.
        response_text: The words of the reply.
        ended: Whether the reply came to its end by itself.

    Raises:
        EvaluationError: The prompt is not a request of the desk.
    """
    request = read_request(prompt_text)
    if request is None:
        raise EvaluationError(
            f"the gold of the refund desk grades its own requests only, got {prompt_text[:80]!r}; "
            f"give these prompts another grader"
        )
    return grade(request, response_text, ended=ended)


def grade(request: Request, response_text: str, *, ended: bool = True) -> Gold:
    """Grade a reply where the request is at hand; see `gold`."""
    words = response_text.split()
    paid, refused = _PAID.search(response_text), _REFUSED.search(response_text)
    decision = (paid is not None) != (refused is not None) and bool(paid) == request.is_refunded
    if paid:
        exact = int(paid[1] + paid[2]) == request.amount
    else:
        window = _WINDOW.search(response_text)
        exact = window is not None and int(window[1] + window[2]) == WINDOW_DAYS[request.membership]
    return Gold(
        name=request.name in words,
        item=request.item in words,
        decision=decision,
        exact=decision and exact,
        greeting=words[:1] == ["dear"],
        thanks="thank you ." in response_text,
        rude=bool(RUDE.intersection(words)),
        leak=request.other in words,
        excess_words=max(0, len(words) - MAX_WORDS),
        ended=ended,
    )
