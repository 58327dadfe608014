"""Answer where something came from, and what it went into.

`trace` takes a name of any of these, as it is or with what it is in front (`source:ukp`):

    generation, checkpoint (`policy/g0001` or the first letters of its content hash), dataset,
    answer (`g0001/<prompt_key>`, one that was evaluated, or
    the response_id of one that was served)                      back to records, people, money
    record (`record_uid` or the id it was delivered with), annotator, source, licence, guideline,
    batch, consent                                               on to datasets and checkpoints

Backwards a checkpoint answers for its parents too: what the SFT policy learnt is in the policy
that started from it. Forwards a checkpoint that only descends from one that saw the record is told
apart from one that saw it itself.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa

from flywheel.errors import LineageError
from flywheel.layout import Layout
from flywheel.lineage.behind import SHOWN, Reading, behind_checkpoint, behind_dataset, is_checkpoint
from flywheel.lineage.checkpoints import Known, ancestry, known_checkpoints, unknown_among
from flywheel.lineage.edges import RECORD_CHECKPOINTS, RECORD_DATASETS, refresh
from flywheel.lineage.records import ATTRIBUTES, KEY, open_records, quoted, statements_about
from flywheel.lineage.served import find_served, last_line, served_log
from flywheel.promotion import title_holder

FEW = 3  # records, of which each reads a row group of every checkpoint
GENERATION = re.compile(r"g\d{4,}")
FIELDS = {  # what records are chosen by, in the order in which a bare name is looked up
    "record": "record_uid",
    "annotator": "annotator_id",
    "source": "source",
    "licence": "licence",
    "guideline": "guideline_version",
    "batch": "batch_id",
    "consent": "consent_id",
}
BACK = ("generation", "checkpoint", "dataset", "answer", "served")


def trace(layout: Layout, name: str, reading: Reading | None = None) -> dict[str, Any]:
    """Trace whatever `name` names; see the module for what it may be.

    Raises:
        LineageError: Nothing is called that, or several kinds of things are.
    """
    try:
        return _traced(layout, name, reading or Reading())
    except duckdb.Error as error:
        raise LineageError(
            f"the lineage cannot be read: {error}; wait for a landing or a build that is under "
            f"way, or see `flywheel status` for torn files"
        ) from error


def _traced(layout: Layout, name: str, reading: Reading) -> dict[str, Any]:
    if not name.strip() or name in [f"{one}:" for one in (*BACK, *FIELDS)]:
        raise LineageError(f"{name!r} names nothing; name e.g. g0001, or see flywheel trace --help")
    refresh(layout)
    known = known_checkpoints(layout)
    kind, _, rest = name.partition(":")
    if kind not in (*BACK, *FIELDS) or not rest:
        kind, rest = _kind_of(layout, known, name), name
    if kind == "answer":
        return _answer(layout, known, rest, reading)
    if kind == "served":
        return _served(layout, known, rest, reading)
    if kind in BACK:
        return _back(layout, known, kind, rest, reading)
    return _forward(layout, known, kind, rest)


def _kind_of(layout: Layout, known: Known, name: str) -> str:
    start, _, rest = name.partition("/")
    if GENERATION.fullmatch(start):
        return "answer" if rest else "generation"
    found = []
    if any(is_checkpoint(name, one, facts) for one, facts in known.items()):
        found.append("checkpoint")
    if (layout.artifacts / "datasets" / name / "manifest.json").exists():
        found.append("dataset")
    if find_served(layout, name):
        found.append("served")
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
            f"{kinds}{'' if found else _torn(layout, name)}"
        )
    return found[0]


def _torn(layout: Layout, name: str) -> str:
    """What to add where nothing was found and lines of the log cannot be read."""
    *_, torn = last_line(served_log(layout), name)
    if not torn:
        return ""
    lines = (
        "1 line of the served log that may tell of it is"
        if torn == 1
        else (f"{torn} lines of the served log that may tell of it are")
    )
    return f"; {lines} torn"


def _chosen_by(kind: str) -> str:
    return f"{FIELDS[kind]} = $1" + (" or record_id = $1" if kind == "record" else "")


def _answer(layout: Layout, known: Known, name: str, reading: Reading) -> dict[str, Any]:
    """An answer of an evaluation, which says by their content which weights it judged."""
    generation, _, key = name.partition("/")
    path = layout.evaluation(generation) / "samples.parquet"
    if not path.exists():
        raise LineageError(f"{generation} was not evaluated, so that it gave no answer here")
    row = duckdb.execute(
        "select policy, prompt, response, score from read_parquet($1) "
        "where prompt_key = $2 and policy = 'policy' and not greedy",
        [str(path), key],
    ).fetchone()
    if not row:
        raise LineageError(f"{generation} was not asked a prompt with the key {key!r}")
    told = dict(zip(("policy", "prompt", "response", "score"), row, strict=True))
    try:
        judged = json.loads(path.with_name("result.json").read_text()).get("policy_content_hash")
    except (OSError, ValueError):
        judged = None  # cut off, or removed
    found = {"kind": "answer", "name": name, **told, "content_hash": judged}
    return found | _by_content(layout, known, f"policy/{generation}", judged or "", reading)


def _served(layout: Layout, known: Known, name: str, reading: Reading) -> dict[str, Any]:
    """An answer that somebody was given: its checkpoint is known by its content alone."""
    told = find_served(layout, name)
    if not told:
        raise LineageError(
            f"no answer {name!r} was served here, as far as the files of {layout.served} say"
            f"{_torn(layout, name)}"
        )
    said = f"{told['checkpoint_kind']}/{told['generation']}"
    content = str(told["content_hash"] or "")
    found = {"kind": "served", "name": name, **told}
    return found | _by_content(layout, known, said, content, reading)


def _by_content(
    layout: Layout, known: Known, said: str, content: str, reading: Reading
) -> dict[str, Any]:
    """The checkpoint that answered and what is behind it, or why that cannot be told."""
    if not content:
        return {
            "checkpoint": f"which weights answered is not written down here; {said} may hold others"
        }
    same = [one for one, facts in known.items() if facts["content_hash"] == content]
    if not same:
        gone = f"{said} ({content[:12]}) answered, and no checkpoint here has that content now"
        return {"checkpoint": f"{gone}: it was replaced or removed"}
    it = said if said in same else same[0]  # of equal ones, the one that was meant
    return {
        "checkpoint": it,
        "from": behind_checkpoint(layout, known, "checkpoint", it, reading),
    }


def _back(layout: Layout, known: Known, kind: str, name: str, reading: Reading) -> dict[str, Any]:
    if kind == "dataset":
        return behind_dataset(layout, name, reading)
    wanted = f"policy/{name}" if kind == "generation" else name
    return behind_checkpoint(layout, known, kind, wanted, reading)


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
        reached = _reached(connection, known)
        is_said = kind in ("consent", "annotator")
        said = statements_about(connection, layout, kind, name) if is_said else []
    saw = (*(one["checkpoint"] for one in reached["checkpoints"]), *reached["descendants"])
    touched = {known[one]["content_hash"] for one in saw if one in known}
    is_touched, unknown = _champion(layout, known, touched)
    return {
        "kind": kind,
        "name": name,
        "records": count,
        "examples": [dict(zip(ATTRIBUTES, row, strict=True)) for row in examples],
        **reached,
        "consent_statements": said,
        "champion_is_touched": is_touched,
        "ancestors_unknown": len(unknown),
        "unknown_ancestors": unknown,
    }


def reached_by(layout: Layout, uids: Sequence[str]) -> dict[str, Any]:
    """What records went into that may be landed no longer: `datasets`, `checkpoints` that had one
    in a step, and `descendants` of those.

    Raises:
        LineageError: A file of the lake cannot be read.
    """
    refresh(layout)
    with open_records(layout) as connection:
        connection.register("named", pa.table({"record_uid": pa.array(uids, pa.string())}))
        connection.execute("create temp table chosen as select distinct record_uid from named")
        return _reached(connection, known_checkpoints(layout))


def _reached(connection: duckdb.DuckDBPyConnection, known: Known) -> dict[str, Any]:
    """What the records in the table `chosen` went into."""
    among = _among(connection)
    datasets = connection.execute(
        f"select dataset_id, split, count(*) from {RECORD_DATASETS} "
        f"where {among} group by all order by all"
    ).fetchall()
    seen = connection.execute(
        f"select checkpoint_id, count(*), sum(times_seen) from {RECORD_CHECKPOINTS} "
        f"where {among} and times_seen > 0 group by 1 order by 1"
    ).fetchall()
    saw = {checkpoint for checkpoint, _, _ in seen}
    return {
        "datasets": [
            dict(zip(("dataset", "split", "records"), row, strict=True)) for row in datasets
        ],
        "checkpoints": [
            {"checkpoint": one, "records": records, "times_seen": int(times)}
            for one, records, times in seen
        ],
        "descendants": [one for one in known if one not in saw and saw & set(ancestry(known, one))],
    }


def _champion(layout: Layout, known: Known, touched: set[str]) -> tuple[bool | None, list[str]]:
    """Whether the champion is among what was touched, and which of its ancestors are not known;
    None where it is not among them, as far as is known."""
    holder = title_holder(layout)
    if not holder:
        return False, []
    names = [one for one, facts in known.items() if facts["content_hash"] == holder.content_hash]
    ids = ancestry(known, names[0]) if names else []
    unknown = unknown_among(layout, known, ids) if names else ["the champion"]
    if holder.content_hash in touched:
        return True, unknown
    return (None if unknown else False), unknown


def _among(connection: duckdb.DuckDBPyConnection) -> str:
    """Edges of the chosen records: of a few by their uid, which is where edges are sorted by."""
    found = connection.execute(f"select distinct record_uid from chosen limit {FEW + 1}").fetchall()
    if len(found) > FEW:
        return f"record_key in (select {KEY} from chosen)"
    return f"record_uid in ({', '.join(quoted(uid) for (uid,) in found)})"
