"""Lines as broken software writes them: one random defect, or a few, in a good line."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

ODD_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**63,
    2**64,
    10**30,
    10**400,
    -(2**63) - 1,
    1e308,
    0.1,
    "",
    " ",
    "\x00",
    "a\x00b",
    "\u2028",
    "\ufeff",
    "NaN",
    "9999-99-99",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "1e999",
    "[]",
    "{",
    '{"a":',
    "[" * 2000,
    [],
    {},
    [None],
    [[]],
    [{}],
    {"": None},
    {"role": "user"},
    [{"role": "assistant"}],
    [{"role": 1, "content": 2}],
    {"type": "text"},
    {"text": None},
    "x" * 3000,
]
ODD_TEXTS = [  # JSON that json.dumps does not write
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"01",
    b"1" * 400,
    b'"\\ud800"',
    b'"\\udc00x"',
    b'"\\u0000"',
    b"[" * 600 + b"]" * 600,
    b'{"a":' * 600 + b"1" + b"}" * 600,
    b"[" * 100_000,
    b'"\xff\xfe"',
    b'"\t"',
    b"'x'",
    b"undefined",
    b"",
]
MARK = "@@mark@@"
Place = tuple[Any, Any]  # a dict or a list, and a key or an index in it


def mutated(rng: random.Random, rows: list[dict[str, Any]]) -> bytes:
    """One line, without its end, of a row with one to three defects; a few are left good."""
    value = json.loads(json.dumps(rng.choice(rows)))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        rng.choice(IN_VALUE)(rng, value)
    line = _encoded(rng, value)
    if rng.random() < 0.4:
        line = rng.choice(IN_BYTES)(rng, line, rows)
    return line.replace(b"\n", b" ")


def _encoded(rng: random.Random, value: Any) -> bytes:
    line = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    while f'"{MARK}"'.encode() in line:
        line = line.replace(f'"{MARK}"'.encode(), rng.choice(ODD_TEXTS), 1)
    return line


def _places(value: Any) -> Iterator[Place]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _place(rng: random.Random, value: Any, kind: type = object) -> Place | None:
    found = [place for place in _places(value) if isinstance(place[0], kind)]
    return rng.choice(found) if found else None


def _odd_value(rng: random.Random, value: Any) -> None:
    if place := _place(rng, value):
        place[0][place[1]] = copy.deepcopy(rng.choice(ODD_VALUES))


def _odd_text(rng: random.Random, value: Any) -> None:
    if place := _place(rng, value):
        place[0][place[1]] = MARK


def _missing(rng: random.Random, value: Any) -> None:
    if place := _place(rng, value):
        del place[0][place[1]]


def _renamed(rng: random.Random, value: Any) -> None:
    if place := _place(rng, value, dict):
        holder, key = place
        holder[rng.choice((key.upper(), f"{key} ", f"{key}s", "", "kind", "\x00"))] = holder.pop(
            key
        )


def _other_type(rng: random.Random, value: Any) -> None:
    if place := _place(rng, value):
        holder, key = place
        inner = holder[key]
        holder[key] = rng.choice(
            ([inner], {"value": inner}, json.dumps(inner), str(inner), bool(inner), len(str(inner)))
        )


def _swapped(rng: random.Random, value: Any) -> None:
    one, other = _place(rng, value), _place(rng, value)
    if one and other:
        first, second = one[0][one[1]], other[0][other[1]]
        one[0][one[1]] = json.loads(json.dumps(second))
        other[0][other[1]] = json.loads(json.dumps(first))


def _repeated(rng: random.Random, value: Any) -> None:
    if place := _place(rng, value, list):
        place[0].extend(place[0][:] * rng.choice((1, 1, 7)))


IN_VALUE: list[Callable[[random.Random, Any], None]] = [
    _odd_value,
    _odd_value,
    _odd_text,
    _missing,
    _missing,
    _renamed,
    _other_type,
    _swapped,
    _repeated,
]


def _flipped(rng: random.Random, line: bytes, rows: Any) -> bytes:
    changed = bytearray(line or b" ")
    for _ in range(rng.choice((1, 1, 5))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(rng: random.Random, line: bytes, rows: Any) -> bytes:
    return line[: rng.randrange(len(line) + 1)]


def _beheaded(rng: random.Random, line: bytes, rows: Any) -> bytes:
    return line[rng.randrange(len(line) + 1) :]


def _joined(rng: random.Random, line: bytes, rows: Any) -> bytes:
    return line + rng.choice((b"", b" ", b",", b"\r", b"\x00")) + line


def _key_twice(rng: random.Random, line: bytes, rows: Any) -> bytes:
    place = line.find(b"{", rng.randrange(len(line) + 1))
    return line[: place + 1] + b'"a":1,"a":2,' + line[place + 1 :] if place >= 0 else line


def _with_odd_bytes(rng: random.Random, line: bytes, rows: Any) -> bytes:
    place = rng.randrange(len(line) + 1)
    odd = rng.choice((b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\\"))
    return line[:place] + odd + line[place:]


def _bom(rng: random.Random, line: bytes, rows: Any) -> bytes:
    return b"\xef\xbb\xbf" + line


def _ended(rng: random.Random, line: bytes, rows: Any) -> bytes:
    return line + b"\r"


def _blank(rng: random.Random, line: bytes, rows: Any) -> bytes:
    return rng.choice((b"", b" ", b"\t\r", b"\x0b", b"\xc2\xa0", b"\xef\xbb\xbf"))


def _no_object(rng: random.Random, line: bytes, rows: Any) -> bytes:
    return rng.choice((b"null", b"[]", b"1", b'"x"', b"[" + line + b"]", b"{}"))


IN_BYTES: list[Callable[[random.Random, bytes, Any], bytes]] = [
    _flipped,
    _flipped,
    _cut,
    _beheaded,
    _joined,
    _key_twice,
    _with_odd_bytes,
    _bom,
    _ended,
    _blank,
    _no_object,
]
