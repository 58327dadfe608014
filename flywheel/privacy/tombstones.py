"""What was erased and may not come back: a hash of it that only this home can make.

`restricted/erased.txt` holds a line of hex for each erased event, row of a raw source and
quarantined line. A plain hash could be tried out text by text; these are keyed, like pseudonyms.
A landing holds what it reads against them, where there are any.
"""

from collections.abc import Iterable, Sequence

from flywheel.layout import Layout
from flywheel.privacy.originals import open_restricted, write_private
from flywheel.privacy.policy import Pseudonyms

FILE = "erased.txt"
DIGITS = 32  # of a hash that are kept: 128 bits


class Tombstones:
    """The erased things of one home, as they were when this was made."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        path = layout.restricted / FILE
        self._known = set(path.read_text().split()) if path.exists() else set()
        self._keyed = Pseudonyms(layout).keyed if self._known else None

    def __bool__(self) -> bool:
        return bool(self._known)

    def hold(self, names: Iterable[str]) -> list[bool]:
        """Which of these were erased; each is what `erased_name` says of it."""
        if not self._keyed:
            return [False for _ in names]
        return [self._keyed(one)[:DIGITS] in self._known for one in names]

    def add(self, names: Sequence[str]) -> None:
        """Note what is erased, on the disk before anything is taken away.

        Raises:
            OSError: It could not be written.
        """
        self._keyed = Pseudonyms(self._layout).keyed
        self._known |= {self._keyed(one)[:DIGITS] for one in names}
        text = "".join(f"{one}\n" for one in sorted(self._known))
        write_private(open_restricted(self._layout) / FILE, text.encode())


def erased_name(kind: str, said: str | bytes) -> str:
    """What an event (its content hash), a row of a raw source or a quarantined line is called."""
    text = said.decode("latin-1") if isinstance(said, bytes) else said
    return f"erased {kind}:{text}"
