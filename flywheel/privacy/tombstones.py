"""What was erased and may not come back: a hash of it that only this home can make.

`restricted/erased.txt` holds a line of hex for each erased event, row of a raw source and line. A
plain hash could be tried out text by text; these are keyed, like pseudonyms. A landing holds what
it reads against them, where there are any.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from flywheel.layout import Layout
from flywheel.privacy.originals import open_restricted, write_private
from flywheel.privacy.policy import Pseudonyms

FILE = "erased.txt"
DIGEST_BYTES = 16
BOM, BLANK = b"\xef\xbb\xbf", b" \t\r\n"  # around a line, which is the same without them


class Tombstones:
    """The erased things of one home, as they were when this was made."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        path = layout.restricted / FILE
        self._known = set(path.read_text().split()) if path.exists() else set()
        self._key = Pseudonyms(layout).key if self._known else b""

    def __bool__(self) -> bool:
        return bool(self._known)

    def hold(self, names: Iterable[bytes]) -> list[bool]:
        """Which of these were erased; each is what `erased_name` says of it."""
        return [bool(self._known) and self._hash(one) in self._known for one in names]

    def add(self, names: Sequence[bytes]) -> None:
        """Note what is erased, on the disk before anything is taken away.

        Raises:
            OSError: It could not be written.
        """
        self._key = Pseudonyms(self._layout).key
        self._known |= {self._hash(one) for one in names}
        text = "".join(f"{one}\n" for one in sorted(self._known))
        write_private(open_restricted(self._layout) / FILE, text.encode())

    def _hash(self, name: bytes) -> str:
        return blake2b(name, key=self._key, digest_size=DIGEST_BYTES).hexdigest()


def erased_name(kind: str, said: str | bytes) -> bytes:
    """What an event (its content hash), a row of a raw source or a line is called."""
    told = said if isinstance(said, bytes) else said.encode("utf-8", "replace")
    return f"erased {kind}:".encode() + told.removeprefix(BOM).strip(BLANK)
