"""Answer where something came from, and what it went into.

`trace` takes a name of any of these, as it is or with what it is in front (`source:ukp`):

    generation, checkpoint (`policy/g0001` or the first letters of its content hash), dataset,
    answer (`g0001/<prompt_key>`, one that was evaluated)        back to records, people, money
    record (`record_uid` or the id it was delivered with), annotator, source, licence, guideline,
    batch                                                        on to datasets and checkpoints

Backwards a checkpoint answers for its parents too: what the SFT policy learnt is in the policy
that started from it. Forwards a checkpoint that only descends from one that saw the record is told
apart from one that saw it itself.
"""

import re
from pathlib import Path
from typing import Any

import duckdb

from flywheel.errors import LineageError
from flywheel.layout import Layout
from flywheel.lineage.edges import (
    CHECKPOINT_RECORDS,
    DATASET_RECORDS,
    id_of,
    manifests,
    refresh,
)
from flywheel.lineage.records import ATTRIBUTES, open_records
from flywheel.promotion import history, title_holder

SHOWN = 20  # annotators, examples, ...: a trace is read by people
GENERATION = re.compile(r"g\d{4,}")
FIELDS = {  # what records are chosen by, in the order in which a bare name is looked up
    "record": "record_uid",
    "annotator": "annotator_id",
    "source": "source",
    "licence": "licence",
    "guideline": "guideline_version",
    "batch": "batch_id",
}
BACK = ("generation", "checkpoint", "dataset", "answer")
Known = dict[str, dict[str, Any]]  # published checkpoints: id to manifest


def trace(layout: Layout, name: str) -> dict[str, Any]:
    """Trace whatever `name` names; see the module for what it may be.

    Raises:
        LineageError: Nothing is called that, or several kinds of things are.
    """
    try:
        return _traced(layout, name)
    except duckdb.Error as error:
        raise LineageError(
            f"the lineage cannot be read: {error}; wait for a landing or a build that is under "
            f"way, or see `flywheel status` for torn files"
        ) from error


def _traced(layout: Layout, name: str) -> dict[str, Any]:
    refresh(layout)
    known: Known = {one: facts for one, _, facts in manifests(layout)}
    kind, _, rest = name.partition(":")
    if kind not in (*BACK, *FIELDS) or not rest:
        kind, rest = _kind_of(layout, known, name), name
    if kind == "answer":
        return _answer(layout, known, rest)
    if kind in BACK:
        return _back(layout, known, kind, rest)
    return _forward(layout, known, kind, rest)


def ancestry(known: Known, checkpoint_id: str) -> list[str]:
    """A checkpoint and those that it started from or was taught by, nearest first.

    A parent is known by its content: one whose folder was trained over since is named by hash.
    """
    by_content = {facts["content_hash"]: name for name, facts in known.items()}
    found: list[str] = []
    waiting = [checkpoint_id]
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        found.append(name)
        for parent in known.get(name, {}).get("parents", ()):
            content = parent.get("content_hash")
            said = id_of(Path(parent["model"]))  # of equal ones, the one that was meant
            is_there = content and known.get(said, {}).get("content_hash") == content
            waiting.append(said if is_there else by_content.get(content) or _unknown(parent))
    return found


def _unknown(parent: dict[str, Any]) -> str:
    return f"{Path(parent['model']).name} ({str(parent.get('content_hash', 'hub'))[:12]})"


def _kind_of(layout: Layout, known: Known, name: str) -> str:
    start, _, rest = name.partition("/")
    if GENERATION.fullmatch(start):
        return "answer" if rest else "generation"
    found = []
    if any(_is_checkpoint(name, one, facts) for one, facts in known.items()):
        found.append("checkpoint")
    if (layout.artifacts / "datasets" / name / "manifest.json").exists():
        found.append("dataset")
    with open_records(layout) as connection:
        for kind in FIELDS:
            query = f"select 1 from records where {_chosen_by(kind)} limit 1"
            if connection.execute(query, [name]).fetchone():
                found.append(kind)
    if len(found) != 1:
        kinds = ", ".join(f"{one}:{name}" for one in found or (*BACK, *FIELDS))
        raise LineageError(
            f"{name!r} names {'several things' if found else 'nothing that is known here'}; "
            f"{'say which' if found else 'look it up in flywheel status, or say what it is'}: "
            f"{kinds}"
        )
    return found[0]


def _chosen_by(kind: str) -> str:
    return f"{FIELDS[kind]} = $1" + (" or record_id = $1" if kind == "record" else "")


def _is_checkpoint(name: str, checkpoint_id: str, facts: dict[str, Any]) -> bool:
    return name == checkpoint_id or (len(name) >= 8 and facts["content_hash"].startswith(name))


def _answer(layout: Layout, known: Known, name: str) -> dict[str, Any]:
    generation, _, key = name.partition("/")
    path = layout.evaluation(generation) / "samples.parquet"
    if not path.exists():
        raise LineageError(f"{generation} was not evaluated, so that it gave no answer here")
    found = duckdb.execute(
        "select policy, prompt, response, score from read_parquet($1) "
        "where prompt_key = $2 and policy = 'policy' and not greedy",
        [str(path), key],
    ).fetchone()
    if not found:
        raise LineageError(f"{generation} was not asked a prompt with the key {key!r}")
    told = dict(zip(("policy", "prompt", "response", "score"), found, strict=True))
    back = _back(layout, known, "generation", generation)
    return {"kind": "answer", "name": name, **told, "from": back}


def _back(layout: Layout, known: Known, kind: str, name: str) -> dict[str, Any]:
    """What lies behind a checkpoint or a dataset."""
    if kind == "dataset":
        edges, column, ids = DATASET_RECORDS, "dataset_id", [name]
        facts: dict[str, Any] = {}
        if not (layout.artifacts / "datasets" / name / "manifest.json").exists():
            raise LineageError(f"no dataset {name!r} was frozen; e.g. preference/g0001")
    else:
        wanted = f"policy/{name}" if kind == "generation" else name
        match = [one for one in known.items() if _is_checkpoint(wanted, *one)]
        if not match:
            raise LineageError(f"no checkpoint is called {wanted!r}; e.g. policy/g0001")
        if len(match) > 1:
            raise LineageError(
                f"{wanted!r} begins the content hash of {', '.join(one for one, _ in match)}; "
                f"say which"
            )
        name, facts = match[0]
        edges, column, ids = CHECKPOINT_RECORDS, "checkpoint_id", ancestry(known, name)
    holder = title_holder(layout)
    with open_records(layout) as connection:
        connection.execute(
            f"""
            create temp table behind as
            select record_uid, {"sum(times_seen)" if edges == CHECKPOINT_RECORDS else "1"} as times
            from {edges} where {column} in (select unnest($1::varchar[])) group by record_uid
            """,
            [ids],
        )
        connection.execute(
            # a record of a raw source keeps its uid when it is delivered again
            "create temp table told as select distinct on (behind.record_uid) behind.times, "
            "records.* from behind left join records on behind.record_uid = records.record_uid "
            "order by behind.record_uid, batch_id"
        )
        count, times, unknown, cost = connection.execute(
            "select count(*), coalesce(sum(times), 0), count(*) filter (record_uid is null), "
            "round(coalesce(sum(cost_usd), 0), 2) from told"
        ).fetchone() or (0, 0, 0, 0.0)
        parts = {
            f"by_{part}": _parts(connection, column)
            for part, column in FIELDS.items()
            if part not in ("record", "batch")
        }
    return {
        "kind": kind,
        "name": name,
        "content_hash": facts.get("content_hash"),
        "is_champion": bool(holder and facts.get("content_hash") == holder.content_hash),
        "ancestry": ids,
        "datasets": facts.get("datasets", {}),
        "records": count,
        "times_seen": int(times),
        "records_no_longer_landed": unknown,
        "label_cost_usd": cost,
        **parts,
        "decisions": [
            {"number": one.number, "at": one.at, "action": one.action, "by": one.by}
            for one in history(layout)
            if one.content_hash == facts.get("content_hash")
        ],
    }


def _parts(connection: duckdb.DuckDBPyConnection, column: str) -> list[dict[str, Any]]:
    rows = connection.execute(
        f"""
        select coalesce({column}, 'unknown'), count(*), sum(times),
            round(coalesce(sum(cost_usd), 0), 2)
        from told where record_uid is not null group by 1 order by 2 desc, 1 limit {SHOWN}
        """
    ).fetchall()
    names = ("name", "records", "times_seen", "cost_usd")
    return [dict(zip(names, (n, c, int(t), usd), strict=True)) for n, c, t, usd in rows]


def _forward(layout: Layout, known: Known, kind: str, name: str) -> dict[str, Any]:
    """What records that somebody said, or that came from somewhere, went into."""
    with open_records(layout) as connection:
        query = f"create temp table chosen as select * from records where {_chosen_by(kind)}"
        connection.execute(query, [name])
        count = (connection.execute("select count(*) from chosen").fetchone() or (0,))[0]
        if not count:
            raise LineageError(f"no landed record has {kind} {name!r}")
        columns = ", ".join(ATTRIBUTES)
        examples = connection.execute(f"select {columns} from chosen limit {SHOWN}").fetchall()
        datasets = connection.execute(
            f"select dataset_id, split, count(*) from {DATASET_RECORDS} "
            f"where record_uid in (select record_uid from chosen) group by all order by all"
        ).fetchall()
        seen = connection.execute(
            f"select checkpoint_id, count(*), sum(times_seen) from {CHECKPOINT_RECORDS} "
            f"where record_uid in (select record_uid from chosen) and times_seen > 0 "
            f"group by 1 order by 1"
        ).fetchall()
    saw = {checkpoint for checkpoint, _, _ in seen}
    holder = title_holder(layout)
    heirs = [one for one in known if one not in saw and saw & set(ancestry(known, one))]
    touched = {known[one]["content_hash"] for one in (*saw, *heirs) if one in known}
    return {
        "kind": kind,
        "name": name,
        "records": count,
        "examples": [dict(zip(ATTRIBUTES, row, strict=True)) for row in examples],
        "datasets": [
            dict(zip(("dataset", "split", "records"), row, strict=True)) for row in datasets
        ],
        "checkpoints": [
            {"checkpoint": one, "records": records, "times_seen": int(times)}
            for one, records, times in seen
        ],
        "descendants": heirs,
        "champion_is_touched": bool(holder and holder.content_hash in touched),
    }
