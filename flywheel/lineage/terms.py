"""What the records behind something allow: licences, and what was agreed to by now.

As `flywheel.warehouse.terms` weighs the rows of a mart, but of what is landed: a withdrawal counts
from the moment that it lands, on what was trained long before. Of a record that was erased nothing
may be made any more, whatever its licence was.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from flywheel.layout import Layout
from flywheel.lineage.records import all_statements
from flywheel.rights import (
    UNKNOWN,
    Rights,
    Statement,
    Terms,
    rights_of_consent,
    rights_of_licence,
    statement_of,
    together,
)

NAMED = 5  # records, for each rule that they are against
SAYS = ("licence", "consent", "annotator_id")  # what the rights of a record depend on
RULES = pa.schema([(name, pa.string()) for name in (*SAYS, "rule")])
ERASED = "erased, so that nothing may be made of it"
GONE = "landed no longer, so that nobody knows its terms"


def rights_of_records(
    connection: duckdb.DuckDBPyConnection, layout: Layout, own: Mapping[str, Any]
) -> dict[str, Rights]:
    """Rights by what they come from, of the records in the table `told`.

    Licences stand by their names; of consents only how many records they leave what, because
    thousands may be behind a checkpoint.
    """
    found: dict[str, Rights] = {}
    bound: dict[Rights, int] = {}
    for says, count, licence, consents in _weighed(connection, layout, own):
        found.setdefault(says["licence"] or "unknown", licence)
        if consents:
            rights = together(*consents.values())
            bound[rights] = bound.get(rights, 0) + count
    for rights, count in bound.items():
        uses = ", ".join(sorted(rights.uses)) or "nothing"
        found[f"consents of {count} records (allow {uses})"] = rights
    return found


def against_use(connection: duckdb.DuckDBPyConnection, layout: Layout, terms: Terms) -> list[str]:
    """For each rule that records of the table `told` are against: it, how many, which, and whence.

    Where no use is asked for, only a consent that allows nothing is one, and an erasure.
    """
    rules = []
    for says, _, licence, consents in _weighed(connection, layout, terms.own):
        parts = {f"licence {says['licence'] or 'unknown'}": licence} if terms.use else {}
        broken = [
            f"{part} allows {_uses(rights)}"
            for part, rights in (parts | consents).items()
            if not (terms.use in rights.uses if terms.use else rights.uses)
        ]
        if broken:
            rules.append((*says.values(), "; ".join(broken)))
    columns = zip(*rules, strict=True) if rules else [()] * len(RULES)
    table = [pa.array(one, field.type) for one, field in zip(columns, RULES, strict=True)]
    connection.register("rules", pa.table(table, schema=RULES))
    same = " and ".join(f"told.{name} is not distinct from rules.{name}" for name in SAYS)
    of_nobody = "where told.record_uid is null"
    unknown = terms.use and terms.use not in UNKNOWN.uses
    found = connection.sql(
        f"""
        with against as (
            select told.*, rule from told join rules on {same} where told.record_uid is not null
            union all
            select told.*, '{ERASED}' from told where erasure is not null
            union all
            select told.*, '{GONE}' from told {of_nobody} and erasure is null and {bool(unknown)}
        )
        select rule, count(*), list(distinct source) filter (source is not null),
            list(coalesce(record_id, uid) || coalesce(' (' || file || ', line ' || line_no || ')',
                '') order by uid)[1:{NAMED}]
        from against group by rule order by rule
        """
    ).fetchall()
    return [
        f"{rule}: {count} records"
        + (f" of {', '.join(sorted(sources)[:NAMED])}" if sources else "")
        + f", e.g. {', '.join(names)}"
        for rule, count, sources, names in found
    ]


def _weighed(
    connection: duckdb.DuckDBPyConnection, layout: Layout, own: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], int, Rights, dict[str, Rights]]]:
    """Each licence, consent and speaker that occur together in `told`, how many records they are
    of, and what they allow: the licence, and each consent by its name."""
    today = datetime.now(UTC).date()
    by_consent, by_speaker = _statements(connection, layout)
    for licence, consent, speaker, count in connection.sql(
        "select licence, consent, annotator_id, count(*) from told "
        "where record_uid is not null group by all order by all nulls first"
    ).fetchall():
        says = dict(zip(SAYS, (licence, consent, speaker), strict=True))
        parts = {}
        if (named := json.loads(consent or "null")) is not None:
            name = named.get("id", "of no name") if isinstance(named, dict) else named
            name = str(name).strip()
            parts[f"consent {name}"] = rights_of_consent(named, by_consent.get(name, []), today)
        if speaker in by_speaker:
            said = by_speaker[speaker]
            parts[f"consent of annotator {speaker}"] = rights_of_consent(
                None, said, today, is_named=False
            )
        yield says, count, rights_of_licence(licence, own), parts


def _uses(rights: Rights) -> str:
    return ", ".join(sorted(rights.uses)) or "nothing"


def _statements(
    connection: duckdb.DuckDBPyConnection, layout: Layout
) -> tuple[dict[str, list[Statement]], dict[str, list[Statement]]]:
    """Statements by consent and by annotator, in the order of their arrival."""
    by_consent: dict[str, list[Statement]] = {}
    by_speaker: dict[str, list[Statement]] = {}
    for record in all_statements(connection, layout):
        for key, known in (("consent_id", by_consent), ("annotator_id", by_speaker)):
            if name := str(record.get(key) or "").strip():
                known.setdefault(name, []).append(statement_of(record))
                break  # of a consent, whoever gave it
    return by_consent, by_speaker
