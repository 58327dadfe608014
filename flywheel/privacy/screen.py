"""Look through every text of the warehouse, and mark those that hold personal data.

A mark only says what is the case: the marts leave out what it is on. A text that stands in the
lake under the policy `redact` or `refuse` all the same, because it landed before that policy, is
marked like any other; one that comes from allowed sources alone is counted and not marked.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pyarrow as pa

from flywheel.lake import DERIVED, write_table
from flywheel.layout import Layout
from flywheel.privacy.find import kinds_found, words_of
from flywheel.privacy.policy import Policy

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


def screen_texts(
    tables: Iterable[pa.Table],
    layout: Layout,
    policy: Policy,
    *,
    log: Callable[[str], object] = print,
) -> Screened:
    """Write `derived/personal_data`: one row per text looked through, whatever was found.

    Args:
        tables: text_key, role, text and sources of every training text (`texts_to_screen`).
        layout: Where the marks lie.
        policy: Whose texts are allowed, and which kinds are looked for.
        log: Told what was found.
    """
    marks = [DERIVED["personal_data"].empty_table()]
    by_source: dict[str, Counter[str]] = defaultdict(Counter)
    held = 0
    for table in tables:
        found = kinds_found(table["text"].combine_chunks(), policy.kinds)
        held += len(found)
        words: list[str | None] = [None] * table.num_rows
        sources = table["sources"].take(pa.array(found, pa.int64())).to_pylist()
        for (place, counts), origins in zip(found.items(), sources, strict=True):
            for source in origins:
                by_source[source].update(counts.keys())
            if any(policy.of(source) != "allow" for source in origins):
                words[place] = words_of(counts)
        keys = table.select(["text_key", "role"])
        marks.append(keys.append_column("personal_data", pa.array(words, pa.string())))
    whole = pa.concat_tables(marks)
    write_table(whole, layout.derived("personal_data"))
    marked = whole.num_rows - whole["personal_data"].null_count
    log(
        f"looked through {whole.num_rows} texts for personal data: {held} hold some, "
        f"{marked} train nothing"
    )
    return Screened(
        texts=whole.num_rows,
        marked=marked,
        by_source={source: dict(by_source[source]) for source in sorted(by_source)},
    )
