"""One line, element or row of a file, and how strictly its JSON is read."""

import json
import re
from dataclasses import dataclass
from typing import Any

import msgspec

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"
KEY = re.compile(rb'"\s*:')


class TextRow(dict[str, Any]):
    """A row of CSV: every value is text or null, numbers too, for want of types."""


@dataclass(slots=True)
class Unit:
    """One line, element or row of a file.

    Attributes:
        number: Place in the file, from 1; for text the number of its (first) line.
        offset: Where its bytes begin in the (decompressed) file; -1 for a row of Parquet.
        value: The parsed object; None for a blank or a fault.
        fault: (kind, reason) where it cannot be used.
        raw: Its bytes; JSON text for a row of Parquet.
        length: Its length in the file, in bytes.
    """

    number: int
    offset: int
    raw: bytes
    length: int
    value: Any = None
    fault: tuple[str, str] | None = None

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing in it."""
        return self.value is None and self.fault is None

    @property
    def json(self) -> str:
        """The row as it was delivered; a row of a table as an object of its fields."""
        text = self.raw.removeprefix(BOM).strip(BLANK)
        if self.offset >= 0 and text[:1] == b"{":
            try:
                msgspec.json.decode(text, type=msgspec.Raw)
                return text.decode()
            except ValueError:
                pass  # a row of CSV that begins with a brace
        return msgspec.json.encode(self.value, enc_hook=str).decode()


def json_unit(number: int, offset: int, raw: bytes) -> Unit:
    """Parse one JSON text strictly: no NaN, no key twice, nothing after its end."""
    text = raw.removeprefix(BOM) if number == 1 else raw
    unit = Unit(number, offset, raw, len(raw))
    if not text.strip(BLANK):
        return unit
    try:
        value = msgspec.json.decode(text)
        if not isinstance(value, dict):
            unit.fault = ("not_an_object", f"expected an object, found {type(value).__name__}")
        elif (twice := key_twice(text, value)) is not None:
            unit.fault = ("duplicate_key", f"the key {twice!r} stands twice in one object")
        else:
            unit.value = value
    except UnicodeDecodeError as error:
        unit.fault = ("invalid_utf8", str(error))
    except (ValueError, RecursionError) as error:
        unit.fault = ("invalid_json", str(error))
    return unit


def key_twice(text: bytes, value: Any) -> str | None:
    """A key that stands twice in one object; parsers keep one of the two and say nothing.

    Most texts are cleared by a count. Only one that holds more colons after a quote than its
    objects hold keys, in a string or because of such a key, is parsed again in full.
    """
    if len(KEY.findall(text)) == count_keys(value):
        return None
    found: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        if len(made := dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            found.extend(name for name in made if names.count(name) > 1)

    json.loads(text, object_pairs_hook=note)
    return found[0] if found else None


def count_keys(value: Any) -> int:
    """Keys of all objects in a value."""
    if isinstance(value, dict):
        return len(value) + sum(map(count_keys, value.values()))
    if isinstance(value, list):
        return sum(map(count_keys, value))
    return 0
