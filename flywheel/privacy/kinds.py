"""The kinds of personal data: how each is written, and what tells it from its likes.

This is the one definition. `pattern` is read by two engines, RE2 over whole columns and Python's
`re` over the few texts that RE2 lets through, so it keeps to what both understand alike: no
look-around, ASCII classes, and every repetition that may begin anywhere bounded, because `re`
tries them all. Group 1 is the value. `check` sees the text around it and says where the value
ends, or None where it is nobody's (example.com, 127.0.0.1, a number with a wrong check digit).
Names and street addresses are not found, nor phone numbers in most national forms.
"""

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

Check = Callable[[str, int, int], int | None]  # text, start, end -> where it ends, or None


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of personal data.

    Attributes:
        name: As settings and counts name it.
        words: As a reason says it: "holds an e-mail address".
        pattern: What may be one; group 1 is the value.
        check: Whether it is one.
        same: The part of a value by which two ways of writing it are known to be one.
    """

    name: str
    words: str
    pattern: str
    check: Check
    same: Callable[[str], str]


NOBODYS_DOMAIN = re.compile(r"[@.](?:example\.(?:com|net|org)|test|invalid|localhost)$", re.I)
PICTURE = re.compile(r"\.(?:png|jpe?g|gif|svg|webp|ico)$", re.I)  # logo@2x.png
VERSION = re.compile(r"(?:\bv|\bver\.?|version|release|build|section|chapter)[ :=]*$", re.I)
NOBODYS_IP = {"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "1.2.3.4"}  # resolvers
MADE_UP = re.compile(r"example|your|x{5}|\.{3}|placeholder|redacted|changeme", re.I)
LEAST_BITS = 3.0  # entropy of a character: random base62 of 20 has 4, a word repeated 2
IBAN_LENGTHS = {  # of the SWIFT registry
    name: int(length)
    for name, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BR29BY28CH21CR22CY28CZ24DE22DK18DO28EE20EG29ES24FI18"
        "FO18FR27GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20"
        "LU20LV21MC27MD24ME22MK19MR27MT31MU30NL18NO15PK24PL28PS29PT25QA29RO24RS22SA24SC31SE24SI19"
        "SK24SM27SV28TL23TN24TR26UA29VA22VG24XK20",
    )
}


def _email(text: str, start: int, end: int) -> int | None:
    value = text[start:end]
    if value.startswith("git@") or text[end : end + 1] == "(":  # a remote, or a product a@b.c()
        return None
    return None if NOBODYS_DOMAIN.search(value) or PICTURE.search(value) else end


def _luhn(text: str, start: int, end: int) -> int | None:
    digits = [int(sign) for sign in reversed(text[start:end]) if sign.isdigit()]
    doubled = [2 * one if place % 2 else one for place, one in enumerate(digits)]
    return end if sum(one // 10 + one % 10 for one in doubled) % 10 == 0 else None


def _phone(text: str, start: int, end: int) -> int | None:
    digits = _digits(text[start:end])
    most = max(map(digits.count, set(digits)))
    return end if most < 0.7 * len(digits) else None  # +1 000 000 0000 is a form to fill in


def _iban(text: str, start: int, end: int) -> int | None:
    """Mod 97 over as many signs as the country's have; what the pattern took beyond is dropped."""
    wanted = IBAN_LENGTHS.get(text[start : start + 2], 0)
    places = [place for place in range(start, end) if text[place] != " "][:wanted]
    if not wanted or len(places) < wanted:
        return None
    stop = places[-1] + 1
    if re.match("[A-Za-z0-9]", text[stop : stop + 1]):  # as in a pattern: a footnote's ¹ is none
        return None
    signs = "".join(text[place] for place in places)
    number = "".join(str(int(sign, 36)) for sign in signs[4:] + signs[:4])
    return stop if int(number) % 97 == 1 else None


def _ip(text: str, start: int, end: int) -> int | None:
    value = text[start:end]
    if re.match(r"\.?[0-9]", text[end : end + 2]) or VERSION.search(
        text[max(0, start - 12) : start]
    ):
        return None
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return None
    return end if address.is_global and value not in NOBODYS_IP else None


def _secret(text: str, start: int, end: int) -> int | None:
    value = text[start:end]
    if value.startswith("-----"):
        return end
    return None if _bits(value) < LEAST_BITS or MADE_UP.search(value) else end


def _assigned_secret(text: str, start: int, end: int) -> int | None:
    """A value given to a name: only one that no person would write, or hex of 128 bits."""
    value = text[start:end]
    mixed = all(re.search(signs, value) for signs in ("[a-z]", "[A-Z]", "[0-9]"))
    return _secret(text, start, end) if mixed or re.fullmatch("[0-9a-f]{32,}", value) else None


def _bits(value: str) -> float:
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares)


def _digits(value: str) -> str:
    return re.sub("[^0-9]", "", value)


def _as_it_is(value: str) -> str:
    return value


EMAIL = r"([\w.%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,24})\b"
CARD = (
    r"(?:^|[^\w.,+-])([2-6][0-9]{12,18}|[2-6][0-9]{3}(?:[ -][0-9]{4}){3}"
    r"|3[0-9]{3}[ -][0-9]{6}[ -][0-9]{5})\b"
)
PHONE = (
    r"(?:^|[^\w+)])(\+[1-9][0-9]{0,2}(?:[ .()/-]{0,2}[0-9]){7,12}"
    r"|\([2-9][0-9]{2}\) ?[2-9][0-9]{2}-[0-9]{4})\b"
)
IBAN = r"\b([A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)\b"
IP = (
    r"(?:^|[^\w.:-])([0-9]{1,3}(?:\.[0-9]{1,3}){3}"
    r"|[23][0-9A-Fa-f]{3}(?::{1,2}[0-9A-Fa-f]{1,4}){2,7}(?:::)?)"
)
SECRET = (
    r"(?:^|[^\w-])((?:AKIA|ASIA)[A-Z0-9]{16}\b|gh[pousr]_[A-Za-z0-9]{36,255}"
    r"|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_-]{20,64}|sk-[A-Za-z0-9_-]{20,200}"
    r"|(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,128}|xox[abeprs]-[A-Za-z0-9-]{10,128}"
    r"|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{30,64}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{40,255}"
    r"|eyJ[A-Za-z0-9_-]{10,999}\.eyJ[A-Za-z0-9_-]{10,999}\.[A-Za-z0-9_-]{10,999}"
    r"|-----BEGIN (?:[A-Z]{1,12} ){0,3}PRIVATE KEY-----[A-Za-z0-9+/=\s]*"
    r"(?:-----END (?:[A-Z]{1,12} ){0,3}PRIVATE KEY-----)?)"
)
ASSIGNED = (
    r"(?i:api[_-]?key|secret|token|passw(?:or)?d|bearer)[\"']{0,2}\s{0,4}[:= ]\s{0,4}[\"']{0,2}"
    r"([A-Za-z0-9+/_=-]{16,255})"
)

KINDS = (  # the first that a text holds is its reason
    Kind("email", "an e-mail address", EMAIL, _email, str.lower),
    Kind("card", "a payment card number", CARD, _luhn, _digits),
    Kind("phone", "a phone number", PHONE, _phone, _digits),
    Kind("iban", "an IBAN", IBAN, _iban, lambda value: value.replace(" ", "")),
    Kind("ip", "an IP address", IP, _ip, str.lower),
    Kind("secret", "a secret", SECRET, _secret, _as_it_is),
    Kind("secret", "a secret", ASSIGNED, _assigned_secret, _as_it_is),
)
NAMES = tuple(dict.fromkeys(kind.name for kind in KINDS))
WORDS = {kind.name: kind.words for kind in KINDS}
