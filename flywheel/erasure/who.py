"""What an erasure is about: one record, or all that a person said or asked."""

import re
from dataclasses import dataclass

from flywheel.errors import ErasureError
from flywheel.ingest.columns import pseudonyms
from flywheel.layout import Layout
from flywheel.privacy import Pseudonyms
from flywheel.serve.ids import Names

WHAT = ("record", "annotator", "user", "subject")
USER = re.compile(r"u-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """What an erasure is about, as the files of this home name it.

    Attributes:
        what: record (the id that it has here or was delivered with, or the response_id of a served
            answer), annotator, user (of the served champion) or subject (the `data_subject` of
            records, whoever said them).
        names: The name that was given, and the pseudonyms that stand for it here.
        hash: Keyed, of what and name: which the ledger keeps.
    """

    what: str
    names: frozenset[str]
    hash: str

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
        names = {name}
        if what == "annotator":
            names.add(pseudonyms(layout.root)(name))
        if what == "user" and not USER.fullmatch(name):
            names.add(Names(layout).user(name))
        told = Pseudonyms(layout).keyed(f"erasure of {what}:{sorted(names)[-1]}")
        return cls(what=what, names=frozenset(names), hash=told[:32])

    @property
    def column(self) -> str:
        """The column of landing that holds the name of a person."""
        return "data_subject" if self.what == "subject" else "annotator_id"

    def stands_in(self, line: bytes) -> bool:
        """Whether a line that nobody could read holds the name as a whole value."""
        return any(_whole(name).search(line) for name in self.names)


def _whole(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?:^|[\"',;\t])" + re.escape(name.encode()) + rb"(?:$|[\"',;\t\r\n])")
