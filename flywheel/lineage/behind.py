"""Back from a checkpoint, a dataset or an answer: records, people, terms and money behind it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb

from flywheel.datasets.manifest import DatasetManifest, file_hash
from flywheel.errors import LineageError
from flywheel.layout import Layout
from flywheel.lineage.checkpoints import Known, ancestry, is_foreign, unknown_among
from flywheel.lineage.descent import descent
from flywheel.lineage.edges import RECORD_CHECKPOINTS, RECORD_DATASETS
from flywheel.lineage.records import open_records, quoted
from flywheel.lineage.terms import against_use, rights_of_records
from flywheel.promotion import history, title_holder
from flywheel.rights import ALL, UNKNOWN, USES, Rights, Terms, rights_of_licence, together

SHOWN = 20  # annotators, sources, ...: a trace is read by people
FIND_OUT = (
    "of a model or corpus from elsewhere, set [licences] base to its licence, and what a licence "
    "of your own allows under [licences.own]; of a checkpoint, restore its folder or train again"
)
EXAMPLES = (
    "record_id",
    "kind",
    "source",
    "annotator_id",
    "guideline_version",
    "licence",
    "cost_usd",
    "file",
    "line_no",
)
PARTS = {
    "annotator": "annotator_id",
    "source": "source",
    "licence": "licence",
    "guideline": "guideline_version",
}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a home's settings say that a trace tells by: the price of an hour of the machine (0
    where it is not known), the licence of the model that training starts from, licences of its
    own, and what checkpoints are wanted for ("": nobody asks)."""

    usd_per_hour: float = 0.0
    base: str | None = None
    licences: Mapping[str, Any] = field(default_factory=dict)
    use: str = ""


def reading_of(settings: Callable[[str], dict[str, Any]]) -> Reading:
    """What `[cost]` and `[licences]` of a home say."""
    said = settings("licences")
    return Reading(
        **settings("cost"),
        base=said.get("base"),
        licences=said.get("own", {}),
        use=said.get("use", ""),
    )


def behind_checkpoint(
    layout: Layout, known: Known, kind: str, wanted: str, reading: Reading
) -> dict[str, Any]:
    """What lies behind a checkpoint, named by its id or the first letters of its content hash.

    Raises:
        LineageError: No checkpoint is called that, or several are.
    """
    match = [one for one in known.items() if is_checkpoint(wanted, *one)]
    if not match:
        raise LineageError(f"no checkpoint is called {wanted!r}; e.g. policy/g0001")
    if len(match) > 1:
        raise LineageError(
            f"{wanted!r} begins the content hash of {', '.join(one for one, _ in match)}; say which"
        )
    name, facts = match[0]
    ids = ancestry(known, name)
    trained = descent(layout, known, ids, reading.usd_per_hour)
    priced = [one["usd"] for one in trained if one["usd"] is not None]
    unknown = unknown_among(layout, known, ids)
    return _told(layout, kind, name, known, ids, reading) | {
        "ancestry": ids,
        "ancestors_unknown": len(unknown),
        "unknown_ancestors": unknown,
        "datasets": facts.get("datasets", {}),
        "usd_per_hour": reading.usd_per_hour,
        "compute_hours": round(sum(one["hours"] or 0 for one in trained), 4),
        "compute_cost_usd": round(sum(priced), 2) if priced else None,
        "descent": trained,
    }


def behind_dataset(layout: Layout, name: str, reading: Reading) -> dict[str, Any]:
    """What lies behind a frozen dataset.

    Raises:
        LineageError: There is none.
    """
    if not (layout.artifacts / "datasets" / name / "manifest.json").exists():
        raise LineageError(f"no dataset {name!r} was frozen; e.g. preference/g0001")
    return _told(layout, "dataset", name, {}, [name], reading) | {
        "ancestry": [name],
        "ancestors_unknown": 0,
        "unknown_ancestors": [],
        "datasets": {},
    }


def is_checkpoint(name: str, checkpoint_id: str, facts: dict[str, Any]) -> bool:
    """Whether `name` means this checkpoint."""
    return name == checkpoint_id or (len(name) >= 8 and facts["content_hash"].startswith(name))


def _told(
    layout: Layout, kind: str, name: str, known: Known, ids: list[str], reading: Reading
) -> dict[str, Any]:
    facts = known.get(name, {})
    is_dataset = kind == "dataset"
    edges, column = (
        (RECORD_DATASETS, "dataset_id") if is_dataset else (RECORD_CHECKPOINTS, "checkpoint_id")
    )
    holder = title_holder(layout)
    with open_records(layout) as connection:
        connection.execute(
            f"""
            create temp table behind as
            select record_uid, {"1" if is_dataset else "sum(times_seen)"} as times
            from {edges} where {column} in (select unnest($1::varchar[])) group by record_uid
            """,
            [ids],
        )
        connection.execute(
            f"create temp table told as select times, behind.record_uid as uid, "
            f"records_once.record_uid, record_id, file, line_no, cost_usd, consent, erasure, "
            f"{', '.join(PARTS.values())} "
            f"from behind left join records_once on behind.record_uid = records_once.record_uid "
            f"left join erased on behind.record_uid = erased.record_uid"
        )
        count, times, unknown, cost = connection.execute(
            "select count(*), coalesce(sum(times), 0), count(*) filter (record_uid is null), "
            "round(coalesce(sum(cost_usd), 0), 2) from told"
        ).fetchone() or (0, 0, 0, 0.0)
        parts = {f"by_{part}": _parts(connection, column) for part, column in PARTS.items()}
        said = rights_of_records(connection, layout, reading.licences)
        terms = Terms(use=reading.use, own=reading.licences)
        against = against_use(connection, layout, terms)
        erasures = connection.sql(
            "select erasure, count(*), sum(times) from told where erasure is not null "
            "group by 1 order by 1"
        ).fetchall()
        examples = _examples(connection)
    others = _not_from_records(layout, known, ids, reading)
    if not (said or others or unknown):
        others = {"that no record is behind it, nor anything else that is known": UNKNOWN}
    against += _against(others, reading.use)
    said |= others
    if unknown:
        said["records that are landed no longer"] = UNKNOWN
    rights = together(*said.values())
    content = facts.get("content_hash")
    return {
        "kind": kind,
        "name": name,
        "content_hash": content,
        "is_champion": bool(holder and content == holder.content_hash),
        "records": count,
        "times_seen": int(times),
        "records_no_longer_landed": unknown,
        "label_cost_usd": cost,
        "allowed_uses": [one for one in USES if one in rights.uses],
        "duties": sorted(rights.duties),
        "limited_by": [name for name, one in said.items() if one.uses < ALL.uses],
        "against_use": against,
        "erased": [
            {"erasure": number, "records": count, "times_seen": int(seen)}
            for number, count, seen in erasures
        ],
        **parts,
        "examples": examples,
        "decisions": [
            {"number": one.number, "at": one.at, "action": one.action, "by": one.by}
            for one in history(layout)
            if one.content_hash == content
        ],
    }


def _not_from_records(
    layout: Layout, known: Known, ids: list[str], reading: Reading
) -> dict[str, Rights]:
    """Rights of what is behind something and was never landed as a record, or is not known."""
    if not known:
        it = DatasetManifest.load(layout.artifacts / "datasets" / ids[0])
        return {} if it.record_count else _of_licences(it.licences, reading.licences)
    base = rights_of_licence(reading.base, reading.licences)
    found = {f"base model {one}": base for one in ids if is_foreign(one)}
    for one in ids:
        if corpus := known.get(one, {}).get("datasets", {}).get("corpus"):
            found[f"corpus of {one}"] = ALL if corpus == _sample_corpus(layout) else base
    return found | {f"what {one} saw": UNKNOWN for one in unknown_among(layout, known, ids)}


def _against(others: Mapping[str, Rights], use: str) -> list[str]:
    """What of this does not allow a use; nothing where none is asked for."""
    refused = {name: one for name, one in others.items() if use and use not in one.uses}
    unknown = [name for name, one in refused.items() if one == UNKNOWN]
    known = [
        f"{name} allows {', '.join(sorted(one.uses)) or 'nothing'}"
        for name, one in refused.items()
        if one != UNKNOWN
    ]
    if not unknown:
        return known
    return [*known, f"not known, and so good to evaluate alone: {', '.join(unknown)}; {FIND_OUT}"]


def _of_licences(names: Iterable[str], own: Mapping[str, Any]) -> dict[str, Rights]:
    return {one: rights_of_licence(one, own) for one in names}


def _sample_corpus(layout: Layout) -> str | None:
    """Content of the corpus that this home's sample world was delivered with: it is made up."""
    path = layout.root / "sample" / "corpus.parquet"
    return file_hash(path) if path.exists() else None


def _parts(connection: duckdb.DuckDBPyConnection, column: str) -> list[dict[str, Any]]:
    """The most frequent, and all others as one row: sums of the rows are those of the whole."""
    rows = connection.execute(
        f"""
        with each as (
            select coalesce({column}, 'unknown') as name, count(*) as records,
                sum(times) as times_seen, coalesce(sum(cost_usd), 0) as cost_usd
            from told where record_uid is not null group by 1
        ),
        ranked as (
            select *, row_number() over (order by records desc, name) as rank from each
        )
        select if(min(rank) > {SHOWN}, 'and ' || count(*) || ' more', any_value(name)),
            sum(records), sum(times_seen), round(sum(cost_usd), 2)
        from ranked group by rank > {SHOWN}, if(rank > {SHOWN}, 0, rank) order by min(rank)
        """
    ).fetchall()
    names = ("name", "records", "times_seen", "cost_usd")
    return [dict(zip(names, (n, int(c), int(t), usd), strict=True)) for n, c, t, usd in rows]


def _examples(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The records that were seen most often, and where they lie."""
    most = connection.sql(
        f"select record_uid, times from told where record_uid is not null "
        f"order by times desc, record_uid limit {SHOWN}"
    ).fetchall()
    uids = ", ".join(quoted(uid) for uid, _ in most) or "null"
    rows = connection.sql(
        f"select record_uid, {', '.join(EXAMPLES)} from records_once where record_uid in ({uids})"
    ).fetchall()
    told = {uid: dict(zip(EXAMPLES, row, strict=True)) for uid, *row in rows}
    return [{"times_seen": int(times), **told[uid]} for uid, times in most]
