"""Which training texts overlap an evaluation prompt, and what was found when they were scanned.

All texts are scanned, prompts, responses and trajectories with what their tools answered, for all
registered evaluation sets at once. A text is scanned when it comes; all are when an evaluation
prompt comes, goes or changes. `scanned.parquet` keeps what was found, so that a nightly run scans
what is new.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.dedup import overlap
from flywheel.dedup.overlap import EvaluationRuns, Scan
from flywheel.dedup.sets import HASH, TOKENISER
from flywheel.dedup.texts import Edge, Row, Texts, evaluated
from flywheel.lake import write_table

ALGORITHM = "runs-in-one-piece/3"
STAMP = b"flywheel.scanned"
COVER = pa.struct(
    [
        pa.field("item", pa.string()),
        pa.field("covered_8_frac", pa.float64()),
        pa.field("covered_13_frac", pa.float64()),
        pa.field("span", pa.string()),
    ]
)
SCANNED = pa.schema(
    [
        pa.field("text_id", pa.string()),
        pa.field("print", pa.uint64()),
        pa.field("item", pa.list_(pa.string())),  # text_id of each prompt that it holds
        pa.field("span", pa.list_(pa.string())),
        pa.field("cover", COVER),  # null where no prompt is covered enough to be shown
    ]
)


def scanned(texts: Texts, path: Path) -> tuple[list[tuple[Row, Row, str]], list[Row]]:
    """Look for evaluation prompts in all training texts; those scanned before are not read again.

    Returns:
        Training text, evaluation prompt that it holds and the piece, in the order of `texts`; and
        of each text that covers half of a prompt or more, a row of `evaluation_overlaps`.
    """
    items = texts.items
    if not items:  # nothing to look for, and nothing to remember
        path.unlink(missing_ok=True)
        return [], []
    stamp = _stamp(items)
    training = texts.all()
    training = training.filter(pc.invert(training["is_evaluation"]))
    ids, prints = training["text_id"].combine_chunks(), training["print"]
    known = _load(path, stamp)
    place = pc.index_in(known["text_id"], value_set=ids)
    same = pc.equal(known["print"], pc.take(prints, place))
    known = known.filter(pc.fill_null(same, False))
    new = training.filter(pc.invert(pc.is_in(ids, value_set=known["text_id"].combine_chunks())))
    table = pa.concat_tables([known, _scan(new, items, texts)])
    write_table(table.replace_schema_metadata({STAMP: stamp}), path)
    return _found(table, training, ids, {item["text_id"]: item for item in items})


def _scan(new: pa.Table, items: Sequence[Row], texts: Texts) -> pa.Table:
    """What texts hold that were not looked through yet."""
    runs = EvaluationRuns([item["text"] for item in items])
    ids, came, found = new["text_id"].combine_chunks(), 0, Scan([], [])
    read: list[pa.Array] = [ids[:0]]
    for some, said in texts.fetch(ids) if len(ids) else ():
        part = runs.scan(said.to_pylist())
        found.contained.extend(replace(one, text=came + one.text) for one in part.contained)
        found.covered.extend(replace(one, text=came + one.text) for one in part.covered)
        read.append(some)
        came += len(some)
    return _rows(pa.concat_arrays(read), new, items, found)


def _rows(read: pa.Array, new: pa.Table, items: Sequence[Row], found: Scan) -> pa.Table:
    """Rows of `SCANNED`; most texts hold nothing, and have nulls."""
    held: list[list[str] | None] = [None] * len(read)
    spans: list[list[str] | None] = [None] * len(read)
    covers: list[Row | None] = [None] * len(read)
    for one in found.contained:
        held[one.text] = [*(held[one.text] or ()), items[one.item]["text_id"]]
        spans[one.text] = [*(spans[one.text] or ()), one.span]
    for cover in found.covered:
        covers[cover.text] = {
            "item": items[cover.item]["text_id"],
            "covered_8_frac": cover.covered_8_frac,
            "covered_13_frac": cover.covered_13_frac,
            "span": cover.span,
        }
    prints = new["print"].take(pc.index_in(read, value_set=new["text_id"].combine_chunks()))
    columns = {"text_id": read, "print": prints, "item": held, "span": spans, "cover": covers}
    return pa.table(columns, SCANNED)


def _found(
    table: pa.Table, training: pa.Table, ids: pa.Array, items: dict[str, Row]
) -> tuple[list[tuple[Row, Row, str]], list[Row]]:
    """The rows of `SCANNED` that found something, beside the texts that they are about."""
    some = table.filter(pc.or_(pc.is_valid(table["item"]), pc.is_valid(table["cover"])))
    place = pc.index_in(some["text_id"], value_set=ids).combine_chunks()
    order = pc.sort_indices(place)
    texts = training.take(place.take(order)).to_pylist()
    rows = some.take(order).to_pylist()
    contained = [
        (text, items[item], span)
        for text, row in zip(texts, rows, strict=True)
        for item, span in zip(row["item"] or (), row["span"] or (), strict=True)
    ]
    shown = [
        _shown(text, items, row["cover"])
        for text, row in zip(texts, rows, strict=True)
        if row["cover"]
    ]
    return contained, shown


def _shown(text: Row, items: dict[str, Row], cover: Row) -> Row:
    item = items[cover["item"]]
    return {
        "text_key": text["text_key"],
        "role": text["role"],
        "evaluation_set": item["evaluation_set"],
        "evaluation_prompt_key": item["text_key"],
        **{name: cover[name] for name in ("covered_8_frac", "covered_13_frac", "span")},
    }


def _stamp(items: Sequence[Row]) -> bytes:
    """Of everything that decides what a scan finds in a text, the evaluation prompts in order."""
    rules = {name: value for name, value in vars(overlap).items() if name.isupper()}
    prompts = [[item["text_id"], item["print"]] for item in items]
    said = [ALGORITHM, TOKENISER, HASH, sorted(rules.items()), prompts]
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest().encode()


def _load(path: Path, stamp: bytes) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):  # none yet, or a torn one: everything is scanned
        return SCANNED.empty_table()
    is_current = (table.schema.metadata or {}).get(STAMP) == stamp
    return table.replace_schema_metadata() if is_current else SCANNED.empty_table()


def contaminated(
    prompts: pa.Table,
    prompt_edges: Sequence[Edge],
    contained: Sequence[tuple[Row, Row, str]],
) -> list[Row]:
    """Overlaps of training texts with evaluation prompts, the strongest kind of each.

    Args:
        prompts: Rows of `int_texts` that are prompts.
        prompt_edges: Similar pairs among them, as places in `prompts`.
        contained: Training text, evaluation prompt that it holds in one piece, and that piece.
    """
    asked = evaluated(prompts)
    by_key = {row["text_key"]: row for row in prompts.filter(pa.array(asked)).to_pylist()}
    keys = pa.array(by_key, pa.string())
    is_asked = np.asarray(pc.is_in(prompts["text_key"], value_set=keys).to_numpy())
    edges = [edge for edge in prompt_edges if asked[edge[0]] != asked[edge[1]]]
    found: dict[tuple[str, str, str], Row] = {}

    def note(text: Row, item: Row, kind: str, jaccard: float | None, span: str | None) -> None:
        place = (text["role"], text["text_key"], item["text_key"])
        found.setdefault(
            place,
            {
                "text_key": text["text_key"],
                "role": text["role"],
                "evaluation_set": item["evaluation_set"],
                "evaluation_prompt_key": item["text_key"],
                "kind": kind,
                "jaccard": jaccard,
                "span": span,
            },
        )

    for row in prompts.filter(pa.array(is_asked & ~asked)).to_pylist():
        note(row, by_key[row["text_key"]], "exact", 1.0, None)
    for first, second, jaccard in edges:
        text, item = (second, first) if asked[first] else (first, second)
        (one, other) = prompts.take([text, item]).to_pylist()
        note(one, other, "near", jaccard, None)
    for text_row, item_row, span in contained:
        note(text_row, item_row, "contained", None, span)
    return sorted(found.values(), key=lambda leak: (leak["role"], leak["text_key"], leak["kind"]))
