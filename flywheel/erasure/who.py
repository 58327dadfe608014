"""What an erasure is about: one record, or all that a person said or asked."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flywheel.errors import ErasureError
from flywheel.ingest.columns import pseudonyms
from flywheel.layout import Layout
from flywheel.privacy import Pseudonyms, redact
from flywheel.serve.ids import Names

WHAT = ("record", "annotator", "user", "subject")
USER = re.compile(r"u-[0-9a-f]{16}")
PEOPLE = r"annotator|user|author|evaluator|worker|rater|reviewer|labell?er|(created|completed)_?by"
FIELDS = {  # of JSON in which a name may stand
    "record": re.compile(r"(record|response|feedback)?_?u?id", re.I),
    "annotator": re.compile(rf"(.*_)?(({PEOPLE}|email)_?)+(id|name|email)?", re.I),
    "subject": re.compile("data_subject", re.I),
}
ABOUT = re.compile(r"(response|feedback)_?u?id", re.I)  # of a record: ids of what it is about
BETWEEN = re.compile(r"[\"',;\t\r\n]")  # values in a line that is no JSON
TELLING = re.compile(r"@|^(p_|u-)[0-9a-f]|^<\w+>$")  # is nobody's word for anything else


class Fields(list[tuple[str, Any]]):
    """An object of JSON with every field, also one that stands twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """What an erasure is about, as the files of this home name it.

    Attributes:
        what: record (the id that it has here or was delivered with, or the response_id of a served
            answer), annotator, user (of the served champion) or subject (the `data_subject` of
            records, whoever said them).
        names: The name that was given, and what stands for it here; of a subject in small letters.
        hash: Keyed, of what and name: which the ledger keeps.
        pseudonym: What landing makes of an address.
        answers: Served answers that go; what is about them goes, too.
    """

    what: str
    names: frozenset[str]
    hash: str
    pseudonym: Callable[[str], str]
    answers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, layout: Layout, what: str, name: str) -> "Who":
        """What `name` stands for in this home.

        Raises:
            ErasureError: It is empty, or there is no such kind of thing.
        """
        name = name.strip()
        if what not in WHAT or not name:
            raise ErasureError(
                f"an erasure is of a {', '.join(WHAT[:-1])} or {WHAT[-1]} that is named, got "
                f"{what} {name!r}"
            )
        keyed, pseudonym = Pseudonyms(layout), pseudonyms(layout.root)
        here = name  # as it is called here, whichever of its names was given
        if what == "annotator":
            here = pseudonym(name)
        elif what == "user" and not USER.fullmatch(name):
            here = Names(layout).user(name)
        elif what == "subject":
            here = name.lower()
        names = {name, here} | {redact(one, keyed)[0] for one in (name, here)}
        if what == "subject":
            names = {one.lower() for one in names}
        told = keyed.keyed(f"erasure of {what}:{here}")
        return cls(what=what, names=frozenset(names), hash=told[:32], pseudonym=pseudonym)

    @property
    def telling(self) -> frozenset[str]:
        """Names of a person that are nothing but names: an address, or what stands for one here.
        Any other may be an answer, a model or a split, too."""
        none = self.what == "record"
        return frozenset() if none else frozenset(filter(TELLING.search, self.names))

    @property
    def column(self) -> str:
        """The column of landing that holds the name of a person."""
        return "data_subject" if self.what == "subject" else "annotator_id"

    def is_named(self, value: Any, system: str = "", names: frozenset[str] | None = None) -> bool:
        """Whether a value of JSON is the name, as landing would write it.

        Args:
            value: The value.
            system: Format of its file, in which an account may be a bare number.
            names: Those that count; all if not given.
        """
        if not isinstance(value, str | int) or isinstance(value, bool):
            return False
        names, text = self.names if names is None else names, str(value).strip()
        if self.what == "subject":
            return text.lower() in names
        if self.what == "record":
            return text in names
        of_system = self.pseudonym(f"{text}@{system}") if system and "@" not in text else text
        return not names.isdisjoint({text, self.pseudonym(text), of_system})

    def stands_in(
        self, line: str | bytes, *, system: str = "", elsewhere: frozenset[str] = frozenset()
    ) -> bool:
        """Whether a line holds the name, or is about an answer that goes: as a field that
        identifies, or as a whole value of what is no JSON.

        The id of a record stands at the top; those below are of its parts.

        Args:
            line: The line.
            system: As for `is_named`.
            elsewhere: Names that are looked for in whatever field, where a person stands in
                nobody's convention; of a record: in the ids of its parts.
        """
        told = _told(line)
        if not isinstance(told, list):
            text = line if isinstance(line, str) else line.decode("utf-8", "replace")
            return any(map(self.is_named, map(_plain, BETWEEN.split(text)))) or any(
                _whole(name).search(text) for name in self.names | self.answers
            )
        for value, above in _values(told):
            if ABOUT.fullmatch(above[-1]) and isinstance(value, str) and value in self.answers:
                return True
            is_his = any(map(self._identifies, above))
            if self.what == "record":
                goes = is_his and (len(above) == 1 or bool(elsewhere)) and self.is_named(value)
            else:
                goes = is_his and self.is_named(value, system)
                goes = goes or (bool(elsewhere) and self.is_named(value, names=elsewhere))
            if goes:
                return True
        return False

    def is_id_of(self, line: str) -> bool:
        """Whether a line of JSON has the name as its own id, at the top."""
        told = _told(line)
        own = told if isinstance(told, Fields) else []
        return any(
            self._identifies(key) and not ABOUT.fullmatch(key) and self.is_named(value)
            for key, value in own
        )

    def _identifies(self, key: str) -> bool:
        fields = FIELDS["annotator" if self.what == "user" else self.what]
        return fields.fullmatch(key) is not None


def _told(line: str | bytes) -> Any:
    """What a line of JSON says; None of what is none."""
    try:
        return json.loads(line, object_pairs_hook=Fields)
    except (ValueError, RecursionError):
        return None


def _values(told: list[Any]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Every value with the fields that it stands in, of which a list is one without a name."""
    rest: list[tuple[Any, tuple[str, ...]]] = [(told, ())]
    while rest:
        value, above = rest.pop()
        if isinstance(value, Fields):
            rest += [(one, (*above, key)) for key, one in value]
        elif isinstance(value, list):
            rest += [(one, (*above, "")) for one in value]
        else:
            yield value, above


def _plain(value: str) -> str:
    """A value without the escapes of JSON."""
    try:
        return str(json.loads(f'"{value}"')) if "\\" in value else value
    except ValueError:
        return value


def _whole(name: str) -> re.Pattern[str]:
    """A name that may hold what stands between values."""
    return re.compile(rf"(?:^|[\"',;\t]){re.escape(name)}(?:$|[\"',;\t\r\n])")
