"""The refund desk: what customers ask, what the house rule says, what a correct reply reads like.

One request is one line of facts in a language of about 120 words; every digit is a word and every
number has two digits, so that a word-level tokenizer needs no tricks. To answer well a policy must
copy (name, item), compare (days with the window of the membership) and calculate (half, rounded
down). Everything here is a pure function of its arguments and of the `Random` it is given.
"""

import re
from dataclasses import dataclass
from random import Random

NAMES = (
    "ann",
    "bob",
    "cid",
    "dan",
    "eva",
    "fay",
    "gus",
    "hal",
    "ian",
    "joy",
    "kim",
    "leo",
    "mia",
    "ned",
    "ola",
    "pam",
)
ITEMS = (
    "desk",
    "lamp",
    "mug",
    "chair",
    "phone",
    "book",
    "coat",
    "clock",
    "radio",
    "bike",
    "tent",
    "rug",
)
SITES = ("#forum", "#chat", "#desk")
ASKED_AT = "#chat"  # where the desk's own customers write
REPLY = "<r>"  # stands between request and reply, on pages as in the chat template
DOMAINS = ("sealed", "opened", "late")

WINDOW_DAYS = {"basic": 30, "gold": 60}  # the house rule, guideline v2
OLD_WINDOW_DAYS = {"basic": 30, "gold": 30}  # guideline v1, which some demonstrators still follow

_NUMBER = r"(\d) (\d)"
_TEMPLATES = (
    re.compile(
        rf"(\w+) paid \$ {_NUMBER} \. one (\w+) (\w+) , {_NUMBER} days ago , (\w+) , "
        rf"for \$ {_NUMBER} \. i am (\w+) \."
    ),
    re.compile(
        rf"bought one (\w+) (\w+) for \$ {_NUMBER} , {_NUMBER} days ago \. "
        rf"(\w+) paid \$ {_NUMBER} \. (\w+) \. i am (\w+) \."
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The facts of one request; `other` is a customer whose business it is not."""

    name: str
    item: str
    price: int  # 10..99
    days: int  # 0..79
    is_opened: bool
    membership: str  # basic or gold
    other: str
    other_price: int
    site: str = ASKED_AT
    template: int = 0

    @property
    def domain(self) -> str:
        """What makes it hard: `late` is decided by the membership, `opened` needs a half."""
        if WINDOW_DAYS["basic"] <= self.days < WINDOW_DAYS["gold"]:
            return "late"
        return "opened" if self.is_opened else "sealed"

    @property
    def is_refunded(self) -> bool:
        """The decision of the house rule."""
        return self.days < WINDOW_DAYS[self.membership]

    @property
    def amount(self) -> int:
        """What is paid if a refund is due: the price, or half of it once opened, rounded down."""
        return self.price // 2 if self.is_opened else self.price

    @property
    def text(self) -> str:
        """The request as the customer writes it: 27 words in either template."""
        state = "opened" if self.is_opened else "sealed"
        other = f"{self.other} paid $ {spell(self.other_price)} ."
        if self.template == 0:
            return (
                f"{self.site} {other} one {state} {self.item} , {spell(self.days)} days ago , "
                f"{self.membership} , for $ {spell(self.price)} . i am {self.name} ."
            )
        return (
            f"{self.site} bought one {state} {self.item} for $ {spell(self.price)} , "
            f"{spell(self.days)} days ago . {other} {self.membership} . i am {self.name} ."
        )


def spell(number: int) -> str:
    """Two digits, each a word: 7 becomes '0 7'."""
    return " ".join(f"{number:02d}")


def draw_request(rng: Random, *, site: str = ASKED_AT) -> Request:
    """Draw a request; 56 % of them deserve a refund."""
    name, other = rng.sample(NAMES, 2)
    return Request(
        name=name,
        item=rng.choice(ITEMS),
        price=rng.randint(10, 99),
        days=rng.randrange(80),
        is_opened=rng.random() < 0.5,
        membership=rng.choice(("basic", "gold")),
        other=other,
        other_price=rng.randint(10, 99),
        site=site,
        template=rng.randrange(2),
    )


def read_request(text: str) -> Request | None:
    """Read a request back from its words; None where the text is not one."""
    for template, pattern in enumerate(_TEMPLATES):
        found = pattern.search(text)
        if not found:
            continue
        part = found.groups()
        if template == 0:
            other, o1, o2, state, item, d1, d2, membership, p1, p2, name = part
        else:
            state, item, p1, p2, d1, d2, other, o1, o2, membership, name = part
        if membership not in WINDOW_DAYS or state not in ("sealed", "opened"):
            return None
        site = text.split(maxsplit=1)[0]
        return Request(
            name=name,
            item=item,
            price=int(p1 + p2),
            days=int(d1 + d2),
            is_opened=state == "opened",
            membership=membership,
            other=other,
            other_price=int(o1 + o2),
            site=site if site in SITES else ASKED_AT,
            template=template,
        )
    return None


def write_reply(
    request: Request,
    *,
    refunds: bool | None = None,
    amount: int | None = None,
    window: int | None = None,
    name: str | None = None,
    item: str | None = None,
    greets: bool = True,
    thanks: bool = True,
) -> str:
    """Write a reply; with no argument the correct and courteous one.

    Args:
        request: What was asked.
        refunds: The decision, where it is not the rule's.
        amount: Dollars paid, where they are not the rule's.
        window: Days named in a refusal, where they are not the rule's.
        name: Whom the reply addresses, where not the asker.
        item: What the reply is about, where not the item asked about.
        greets: Whether it opens with a greeting.
        thanks: Whether it closes with thanks.
    """
    item = item or request.item
    words = [f"dear {name or request.name} ,"] if greets else [f"{name or request.name} ,"]
    if request.is_refunded if refunds is None else refunds:
        paid = request.amount if amount is None else amount
        words.append(f"your {item} refund is $ {spell(paid)} .")
    else:
        days = WINDOW_DAYS[request.membership] if window is None else window
        words.append(f"sorry , no refund for your {item} after {spell(days)} days .")
    if thanks:
        words.append("thank you .")
    return " ".join(words)
