"""Which training texts overlap an evaluation prompt, and what was found when they were scanned.

All texts are scanned, prompts, responses and trajectories with what their tools answered, for all
registered evaluation sets at once. A text is scanned when it comes; all are when an evaluation
prompt comes, goes or changes. `scanned.parquet` keeps what was found, so that a nightly run scans
what is new.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.dedup import overlap
from flywheel.dedup.overlap import EvaluationRuns, Scan
from flywheel.dedup.sets import HASH, TOKENISER
from flywheel.dedup.texts import Edge, Row, Texts
from flywheel.lake import write_table

ALGORITHM = "runs-in-one-piece/1"
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
    items = [row for row in texts.rows if row["is_evaluation"]]
    training = [row for row in texts.rows if not row["is_evaluation"]]
    stamp = _stamp(items)
    known = {(row["text_id"], row["print"]): row for row in _load(path, stamp)}
    new = [row for row in training if (row["text_id"], row["print"]) not in known]
    if new:
        runs = EvaluationRuns(texts.fetch([item["text_id"] for item in items]))
        found = runs.scan(texts.fetch([row["text_id"] for row in new]) if items else [])
        known |= {(row["text_id"], row["print"]): row for row in _rows(new, items, found)}
    kept = [known[row["text_id"], row["print"]] for row in training]
    table = pa.Table.from_pylist(kept, SCANNED).replace_schema_metadata({STAMP: stamp})
    write_table(table, path)
    by_id = {item["text_id"]: item for item in items}
    contained = [
        (text, by_id[item], span)
        for text, row in zip(training, kept, strict=True)
        for item, span in zip(row["item"], row["span"], strict=True)
    ]
    shown = [
        _shown(text, by_id, row["cover"])
        for text, row in zip(training, kept, strict=True)
        if row["cover"]
    ]
    return contained, shown


def _rows(new: Sequence[Row], items: Sequence[Row], found: Scan) -> list[Row]:
    rows: list[Row] = [
        {"text_id": row["text_id"], "print": row["print"], "item": [], "span": [], "cover": None}
        for row in new
    ]
    for one in found.contained:
        rows[one.text]["item"].append(items[one.item]["text_id"])
        rows[one.text]["span"].append(one.span)
    for cover in found.covered:
        rows[cover.text]["cover"] = {
            "item": items[cover.item]["text_id"],
            "covered_8_frac": cover.covered_8_frac,
            "covered_13_frac": cover.covered_13_frac,
            "span": cover.span,
        }
    return rows


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


def _load(path: Path, stamp: bytes) -> list[Row]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):  # none yet, or a torn one: everything is scanned
        return []
    is_current = (table.schema.metadata or {}).get(STAMP) == stamp
    rows: list[Row] = table.to_pylist() if is_current else []
    return rows


def contaminated(
    rows: Sequence[Row], prompt_edges: Sequence[Edge], contained: Sequence[tuple[Row, Row, str]]
) -> list[Row]:
    """Overlaps of training texts with evaluation prompts, the strongest kind of each.

    Args:
        rows: Rows of `int_texts`.
        prompt_edges: Similar pairs among the prompts of `rows`, as indices into them.
        contained: Training text, evaluation prompt that it holds in one piece, and that piece.
    """
    prompts = [row for row in rows if row["role"] == "prompt"]
    items = [row for row in prompts if row["is_evaluation"]]
    by_key = {row["text_key"]: row for row in items}
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

    for row in prompts:
        if not row["is_evaluation"] and row["text_key"] in by_key:
            note(row, by_key[row["text_key"]], "exact", 1.0, None)
    for first, second, jaccard in prompt_edges:
        one, other = prompts[first], prompts[second]
        if one["is_evaluation"] != other["is_evaluation"]:
            text, item = (other, one) if one["is_evaluation"] else (one, other)
            note(text, item, "near", jaccard, None)
    for text, item, span in contained:
        note(text, item, "contained", None, span)
    return sorted(found.values(), key=lambda leak: (leak["role"], leak["text_key"], leak["kind"]))
