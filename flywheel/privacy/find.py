"""Where personal data stand: RE2 over a whole column first, then each text that it lets through.

The first tier looks for the patterns alone and costs a few hundred nanoseconds a short text; it
may let through too much, never too little. The second runs Python's `re` and the checks, on the
texts and for the kinds that the first let through.

JSON text is searched as it lies, with its escapes masked: in `"\\n+44 20 ..."` the letter n is no
part of a word. A mask is as long as what it covers, so that places found in it hold in the text.
Signs of ASCII that need no escape and have one (`"jo\\u0040mail.desk"`) are read as what they mean.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.privacy.kinds import KINDS, NAMES, WORDS, Kind

Placeholder = Callable[[str, str], str]  # kind and value as compared -> what stands in its place
Pattern = tuple[Kind, re.Pattern[str]]
COMPILED = [(kind, re.compile(kind.pattern, re.ASCII)) for kind in KINDS]
ESCAPE_RE2 = r"\\(?:u[0-9a-fA-F]{4}|.)"
ESCAPE = re.compile(ESCAPE_RE2, re.S)
ASCII = re.compile(r"(?<!\\)(\\+)u00([2-7][0-9a-fA-F])")
NEEDED = '"\\\x7f'  # what stays escaped: without, JSON would be none, or hold a control sign
LOOSE = {
    kind: re.sub(r"\{(\d+),\d+\}", r"{\1,}", kind.pattern) for kind in KINDS
}  # RE2 needs no bounds


@dataclass(frozen=True, slots=True)
class Found:
    """One value of a person, from `start` to before `end`."""

    kind: Kind
    start: int
    end: int
    value: str


def find(text: str, *, escaped: bool = False, kinds: Iterable[str] = NAMES) -> list[Found]:
    """Every value in a text, in order; those that overlap are one, of the kind that begins first.

    Args:
        text: What is searched.
        escaped: It is JSON text, or holds some.
        kinds: Names of those to look for.
    """
    return _find(text, escaped, _patterns(kinds))


def redact(
    text: str, placeholder: Placeholder, *, escaped: bool = False, kinds: Iterable[str] = NAMES
) -> tuple[str, Counter[str]]:
    """A text with a placeholder for every value, and how many of each kind there were.

    JSON text stays JSON: where a value was a number, its placeholder is a string. Of a text in
    which anything is found, signs of ASCII with a needless escape come back without.
    """
    counts: Counter[str] = Counter()
    result = unescaped(text) if escaped else text
    while found := find(result, escaped=escaped, kinds=kinds):  # again: one may have hidden another
        pieces, at = [], 0
        for one in found:
            pieces += [result[at : one.start], placeholder(one.kind.name, one.kind.same(one.value))]
            at = one.end
        result = "".join([*pieces, result[at:]])
        counts.update(one.kind.name for one in found)
    if counts and escaped and _is_json(text) and not _is_json(result):
        value, counts = _redact_value(msgspec.json.decode(text), placeholder, kinds)
        return msgspec.json.encode(value).decode(), counts
    return (result if counts else text), counts


def unescaped(text: str) -> str:
    """JSON text without the escapes of printable ASCII that need none; it means the same.

    So is JSON text within a string of it, where the backslash of such an escape is doubled.
    """
    return ASCII.sub(_meant, text) if "\\u00" in text else text


def suspects(
    column: pa.Array | pa.ChunkedArray, kinds: Iterable[str] = NAMES
) -> dict[int, list[Pattern]]:
    """By place of a column of texts, in order, the patterns that stand there; the fast tier."""
    patterns = _patterns(kinds)
    if not patterns or not len(column):
        return {}
    places, texts = np.arange(len(column)), _searched(column)
    met = _true(pc.match_substring_regex(texts, "|".join(LOOSE[kind] for kind, _ in patterns)))
    places, texts = places[met], texts.filter(pa.array(met))
    found: dict[int, list[Pattern]] = {place: [] for place in places.tolist()}
    for pattern in patterns:
        for place in places[_true(pc.match_substring_regex(texts, LOOSE[pattern[0]]))].tolist():
            found[place].append(pattern)
    return found


def kinds_found(
    column: pa.Array | pa.ChunkedArray, kinds: Sequence[str] = NAMES
) -> dict[int, Counter[str]]:
    """How many values of each kind stand in each text of a column; places without any are absent.

    The texts are words as landing joins them, and may hold the JSON of tool calls.
    """
    places = suspects(column, kinds)
    texts = column.take(pa.array(places, pa.int64())).to_pylist()
    found = {}
    for (place, patterns), text in zip(places.items(), texts, strict=True):
        every = _find(unescaped(text), True, patterns)
        if counts := Counter(one.kind.name for one in every):
            found[place] = counts
    return found


def words_of(counts: Counter[str]) -> str:
    """What a text holds, as a reason says it: the first kind of `KINDS` that it has."""
    return next(WORDS[name] for name in NAMES if counts[name])


def _patterns(kinds: Iterable[str]) -> list[Pattern]:
    wanted = set(kinds)
    return [one for one in COMPILED if one[0].name in wanted]


def _searched(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The texts as they are and, behind one with escapes, the same without them."""
    slashed = pc.fill_null(pc.match_substring(column, "\\"), False)
    if not pc.any(slashed).as_py():
        return column
    some = column.filter(slashed)
    plain = pc.replace_substring_regex(some, ESCAPE_RE2, " ")
    joined = pc.binary_join_element_wise(some, plain, "\n")
    needless = pc.match_substring_regex(some, r"\\u00[2-7]")
    if pc.any(needless).as_py():
        meant = [_as_found(one) for one in some.filter(needless).to_pylist()]
        joined = pc.replace_with_mask(joined, needless, pa.array(meant, joined.type))
    return pc.replace_with_mask(column, slashed, joined)


def _as_found(text: str) -> str:
    """A text and all that `_find` may be given of it."""
    meant = unescaped(text)
    return "\n".join((text, ESCAPE.sub(" ", text), meant, ESCAPE.sub(" ", meant)))


def _find(text: str, escaped: bool, patterns: Sequence[Pattern]) -> list[Found]:
    masked = ESCAPE.sub(_mask, text) if escaped and "\\" in text else text
    every = [
        Found(kind, match.start(1), end, text[match.start(1) : end])
        for kind, pattern in patterns
        for match in pattern.finditer(masked)
        if (end := kind.check(masked, match.start(1), match.end(1))) is not None
    ]
    kept: list[Found] = []
    for one in sorted(every, key=lambda one: (one.start, -one.end)):
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
        elif one.end > kept[-1].end:
            first = kept.pop()
            kept.append(Found(first.kind, first.start, one.end, text[first.start : one.end]))
    return kept


def _mask(escape: re.Match[str]) -> str:
    sign = escape[0][1]
    if sign in "nrt":
        return "\n\n"
    return sign * 2 if sign in '"/' else "\0" * len(escape[0])


def _meant(escape: re.Match[str]) -> str:
    """The sign of an escape: a whole one, one of JSON in a string, or of JSON in that."""
    slashes, sign = len(escape[1]), chr(int(escape[2], 16))
    if sign in NEEDED or (slashes % 2 == 0 and slashes not in (2, 4)):
        return escape[0]
    return "\\" * (slashes - 1 if slashes % 2 else 0) + sign


def _redact_value(
    value: Any, placeholder: Placeholder, kinds: Iterable[str]
) -> tuple[Any, Counter[str]]:
    """The same of parsed JSON: strings, names of fields, and numbers as they are written."""
    counts: Counter[str] = Counter()

    def walk(part: Any) -> Any:
        if isinstance(part, dict):
            return {walk(name): walk(one) for name, one in part.items()}
        if isinstance(part, list):
            return [walk(one) for one in part]
        if isinstance(part, bool) or not isinstance(part, str | int):
            return part
        text, more = redact(str(part), placeholder, kinds=kinds)
        counts.update(more)
        return text if more else part

    return walk(value), counts


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except ValueError:
        return False
    return True


def _true(column: Any) -> npt.NDArray[Any]:
    """A column of booleans as an array; null is no."""
    filled = pc.fill_null(column, False)
    return np.asarray(filled.to_numpy(zero_copy_only=False), bool)
