"""Who writes replies: writers of the internet, demonstrators, and the desk's earlier assistant.

A *writer* of the internet is expert, careless or awful. A *demonstrator* has the right form and
is paid for it, but slips now and then, pads some replies with a polite sentence, and may still
follow the old guideline. In one turn of the wheel the rankings exist before any policy is
trained, so the responses that annotators rank are written by a simulated *earlier assistant*: it
draws from the demonstrators' distribution plus errors that models make (a name or an item copied
wrongly, a digit wrong). Its replies are therefore close to, not equal to, what an SFT policy
trained on the demonstrations samples; DPO pairs are nearly on-policy for it, by design.
"""

from dataclasses import dataclass, replace
from random import Random

from flywheel.sample.world import (
    ITEMS,
    NAMES,
    OLD_WINDOW_DAYS,
    WINDOW_DAYS,
    Request,
    spell,
    write_reply,
)

FILLERS = (
    "we value your time and we are always here for you .",
    "please know that we value your trust .",
)
RAMBLE = ("the weather is nice today .", "it was a long day at work .")
INSULTS = ("what a silly question .", "that is nonsense .", "whatever .", "do not be stupid .")


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How often a writer of the internet does what he should not; probabilities."""

    wrong_decision: float = 0.0
    wrong_amount: float = 0.0
    greets: float = 1.0
    thanks: float = 1.0
    rude: float = 0.0
    leaks: float = 0.0
    rambles: float = 0.0


HABITS = {
    "expert": Habits(),
    "careless": Habits(
        wrong_decision=0.2, wrong_amount=0.4, greets=0.6, thanks=0.5, leaks=0.08, rambles=0.25
    ),
    "awful": Habits(
        wrong_decision=0.35,
        wrong_amount=0.6,
        greets=0.3,
        thanks=0.2,
        rude=0.4,
        leaks=0.25,
        rambles=0.4,
    ),
}


def write_page_reply(rng: Random, request: Request, habits: Habits) -> str:
    """Write a reply as a writer of the internet with these habits does."""
    refunds = request.is_refunded != (rng.random() < habits.wrong_decision)
    wrong = rng.random() < habits.wrong_amount
    words = write_reply(
        request,
        refunds=refunds,
        amount=wrong_amount(rng, request) if wrong else None,
        window=other_window(WINDOW_DAYS[request.membership]) if wrong else None,
        greets=rng.random() < habits.greets,
        thanks=rng.random() < habits.thanks,
    )
    if rng.random() < habits.leaks:
        words += f" {request.other} paid $ {spell(request.other_price)} ."
    if rng.random() < habits.rude:
        words += f" {rng.choice(INSULTS)}"
    if rng.random() < habits.rambles:
        words += f" {rng.choice(RAMBLE)}"
    return words


def wrong_amount(rng: Random, request: Request) -> int:
    """The half for the full price or the reverse, the other's price, or any number."""
    swapped = request.price if request.is_opened else request.price // 2
    return rng.choice((swapped, request.other_price, rng.randint(5, 99)))


def other_window(window: int) -> int:
    """The window of the other membership."""
    return sum(WINDOW_DAYS.values()) - window


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstrator:
    """Somebody paid to write replies worth imitating."""

    name: str
    slips: float = 0.35  # with none, feedback would have nothing to improve
    pads: float = 0.25  # a polite filler, which hasty annotators overvalue
    guideline: str = "v2"  # v1 knows one window of 30 days for all members
    miscopies: float = 0.0  # of each of name, item and amount

    def write(self, rng: Random, request: Request) -> str:
        """Write a reply to imitate, with this demonstrator's weaknesses."""
        windows = OLD_WINDOW_DAYS if self.guideline == "v1" else WINDOW_DAYS
        window = windows[request.membership]
        refunds = request.days < window
        amount = request.amount
        if rng.random() < self.slips:
            slip = rng.choice(("decision", "half", "digit"))
            if slip == "decision":
                refunds = not refunds
            elif not refunds:
                window = other_window(window)
            elif slip == "half":
                amount = request.price if request.is_opened else request.price // 2
            else:
                amount = slip_digit(rng, amount)
        copied = request
        if rng.random() < self.miscopies:
            name = rng.choice(NAMES)
            copied = replace(copied, name=name)
        if rng.random() < self.miscopies:
            copied = replace(copied, item=rng.choice(ITEMS))
        if rng.random() < self.miscopies:
            amount = slip_digit(rng, amount)
        words = write_reply(copied, refunds=refunds, amount=amount, window=window)
        return f"{words} {rng.choice(FILLERS)}" if rng.random() < self.pads else words


def slip_digit(rng: Random, amount: int) -> int:
    """Change one digit of a two-digit amount."""
    tens, ones = divmod(amount, 10)
    if rng.random() < 0.5:
        return rng.choice([d for d in range(10) if d != tens]) * 10 + ones
    return tens * 10 + rng.choice([d for d in range(10) if d != ones])


def earlier_assistant(*, old_guideline: bool) -> Demonstrator:
    """The assistant whose replies are ranked before any policy of ours exists."""
    return Demonstrator(
        name="desk-assistant-0", guideline="v1" if old_guideline else "v2", miscopies=0.04
    )
