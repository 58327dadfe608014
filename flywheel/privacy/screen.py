"""Look through every text of the warehouse, and mark those that hold personal data.

A mark only says what is the case: the marts leave out what it is on. A text that stands in the
lake under the policy `redact` or `refuse` all the same, because it landed before that policy, is
marked like any other; one that comes from allowed sources alone is counted and not marked.

A text is looked through when it comes; all are when another kind is looked for, or one is known by
other signs. `screened.parquet` keeps the kinds that were found, so that a nightly run looks through
what is new.
"""

import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.lake import DERIVED, write_table
from flywheel.layout import Layout
from flywheel.privacy.find import kinds_found, words_of
from flywheel.privacy.policy import Policy

STAMP = b"flywheel.screened"
RULES = ("find.py", "kinds.py")  # what decides whether a text holds something
SCREENED = pa.schema(
    [
        pa.field("print", pa.uint64()),  # by chance, two of ten million texts share one: 3 in 10^6
        pa.field("kinds", pa.list_(pa.string())),  # null where nothing was found
    ]
)
Counts = dict[str, dict[str, int]]  # source -> kind -> texts that hold it


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """What was looked through.

    Attributes:
        texts: Texts looked through.
        marked: Those that train nothing.
        by_source: Texts that hold a kind, by source and kind; one of two sources counts for both.
    """

    texts: int
    marked: int
    by_source: Counts


class Texts(Protocol):
    """Every training text (`flywheel.warehouse.TextsToScreen`)."""

    def all(self) -> pa.Table:
        """text_key, role, print and place of each."""

    def fetch(self, places: pa.Array) -> Iterator[pa.Table]:
        """place, sources and text of some."""


def screen_texts(
    texts: Texts,
    layout: Layout,
    policy: Policy,
    *,
    log: Callable[[str], object] = print,
) -> Screened:
    """Write `derived/personal_data`: one row per text, whatever was found.

    Args:
        texts: All there are.
        layout: Where the marks lie.
        policy: Whose texts are allowed, and which kinds are looked for.
        log: Told what was found.
    """
    rows = texts.all()
    found = _found(texts, rows, policy, layout.text_index / "screened.parquet")
    by_source: dict[str, Counter[str]] = defaultdict(Counter)
    words: list[str | None] = [None] * rows.num_rows
    for place, (held, sources) in found.items():
        for source in sources:
            by_source[source].update(held)
        if any(policy.of(source) != "allow" for source in sources):
            words[place] = words_of(Counter(held))
    keys = rows.select(["text_key", "role"])
    marks = keys.append_column("personal_data", pa.array(words, pa.string()))
    write_table(marks.cast(DERIVED["personal_data"]), layout.derived("personal_data"))
    marked = len(words) - words.count(None)
    log(
        f"looked through {len(words)} texts for personal data: {len(found)} hold some, "
        f"{marked} train nothing"
    )
    return Screened(
        texts=len(words),
        marked=marked,
        by_source={source: dict(by_source[source]) for source in sorted(by_source)},
    )


def _found(
    texts: Texts, rows: pa.Table, policy: Policy, path: Path
) -> dict[int, tuple[list[str], list[str]]]:
    """Kinds and sources of each text that holds something, by its number in `rows`."""
    prints, stamp = rows["print"].combine_chunks(), _stamp(policy)
    known = _load(path, stamp)
    known = known.filter(pc.is_in(known["print"], value_set=prints))
    new = rows.filter(pc.invert(pc.is_in(prints, value_set=known["print"].combine_chunks())))
    known = pa.concat_tables([known, *_looked_through(texts, new, policy)])
    write_table(known.replace_schema_metadata({STAMP: stamp}), path)
    some = known.filter(pc.is_valid(known["kinds"]))
    kinds = dict(zip(some["print"].to_pylist(), some["kinds"].to_pylist(), strict=True))
    held = pc.is_in(prints, value_set=some["print"].combine_chunks())
    numbers = pc.indices_nonzero(held).to_pylist()
    places = rows["place"].filter(held).combine_chunks()
    sources = {
        row["place"]: row["sources"]
        for part in texts.fetch(places)
        for row in part.select(["place", "sources"]).to_pylist()
    }
    return {
        number: (kinds[prints[number].as_py()], sources[place])
        for number, place in zip(numbers, places.to_pylist(), strict=True)
    }


def _looked_through(texts: Texts, new: pa.Table, policy: Policy) -> Iterator[pa.Table]:
    """Rows of `SCREENED` of texts that nobody looked through yet."""
    places = new["place"].combine_chunks()
    for part in texts.fetch(places):
        held: list[list[str] | None] = [None] * part.num_rows
        for number, counts in kinds_found(part["text"].combine_chunks(), policy.kinds).items():
            held[number] = list(counts)
        prints = new["print"].take(pc.index_in(part["place"], value_set=places))
        yield pa.table([prints, held], schema=SCREENED)


def _stamp(policy: Policy) -> bytes:
    """Of everything that decides what is found in a text."""
    rules = [Path(__file__).with_name(name).read_bytes() for name in RULES]
    by = [SCREENED.to_string(), sys.version, pa.__version__, sorted(policy.kinds)]
    said = b"".join([*rules, json.dumps(by).encode()])
    return hashlib.sha256(said).hexdigest().encode()


def _load(path: Path, stamp: bytes) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):  # none yet, or a torn one: everything is looked through
        return SCREENED.empty_table()
    is_current = (table.schema.metadata or {}).get(STAMP) == stamp
    return table.replace_schema_metadata() if is_current else SCREENED.empty_table()
