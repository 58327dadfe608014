"""Which rows of a mart may not be used for what they are wanted for, and by which rule.

A row rests on records, each with a licence and perhaps a consent: it may be used for what all of
them allow (`flywheel.rights`). What distinct licences, consents and people say is read once each,
however many records there are.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import pyarrow as pa

from flywheel.rights import (
    ALL,
    Rights,
    Statement,
    Terms,
    rights_of_consent,
    rights_of_licence,
    together,
)

RECORDS = "marts.dim_records"
CONSENTED = "intermediate.int_records_consented"
STATEMENTS = "staging.stg_consents__statements"
RESTS_ON = (RECORDS, CONSENTED, STATEMENTS)
NAMED_RECORDS = 5  # of those that are refused, for each rule
SAYS = ("licence", "consent", "speaker")  # what the rights of a record depend on
COMBINED = pa.schema([(name, pa.string()) for name in (*SAYS, "rule")])


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """What the rights of a mart's rows came to.

    Attributes:
        refused: Keys of rows that may not be used, and by which rule.
        told: For each rule that refuses, how many rows and which, e.g. with file and line.
        rights: Of all other rows together.
    """

    refused: Mapping[str, str]
    told: tuple[str, ...]
    rights: Rights


def weigh(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    key: str,
    terms: Terms,
    today: date | None = None,
) -> Weighed:
    """Hold every record behind the rows of a mart against what they are wanted for."""
    today = today or datetime.now(UTC).date()
    _gather(connection, table, key)
    by_consent, by_speaker = _statements(connection)
    found: dict[tuple[Any, ...], Rights] = {}
    rules = []
    for says in connection.sql(f"select distinct {', '.join(SAYS)} from behind").fetchall():
        licence, consent, speaker = says
        parts = {f"licence {licence or 'unknown'}": rights_of_licence(licence, terms.own)}
        named = None if consent is None else json.loads(consent)
        if named is not None:
            name = named.get("id", "of no name") if isinstance(named, dict) else named
            name = str(name).strip()
            said = by_consent.get(name, [])
            parts[f"consent {name}"] = rights_of_consent(named, said, today)
        if speaker is not None:
            parts[f"consent of annotator {speaker}"] = rights_of_consent(
                None, by_speaker[speaker], today, is_named=False
            )
        found[says] = together(*parts.values())
        if against := [f"{k} allows {_uses(r)}" for k, r in parts.items() if not _may(k, r, terms)]:
            rules.append((*says, "; ".join(against)))
    refused, told = _refused(connection, rules)
    against_any = {tuple(says) for *says, _ in rules}
    kept = [one for says, one in found.items() if says not in against_any]
    return Weighed(refused=refused, told=told, rights=together(*kept) if kept else ALL)


def _gather(connection: duckdb.DuckDBPyConnection, table: str, key: str) -> None:
    """A temporary table of the records behind each row: what their rights depend on, and place."""
    columns = connection.sql(f"select * from {table} limit 0").columns
    uids = (
        "unnest(if(len(record_uids) > 0, record_uids, [null]))"
        if "record_uids" in columns
        else "record_uid"
        if "record_uid" in columns
        else "null::varchar"
    )
    # of a record that is no feedback (a prompt that is tested on), the row knows the licence
    licence = "licence" if "licence" in columns else "null::varchar"
    connection.execute(
        f"""
        create or replace temp table behind as
        with used as (
            select "{key}"::varchar as row_key, {uids} as record_uid, {licence} as row_licence
            from {table}
        )
        select
            used.row_key,
            coalesce(records.record_id, used.record_uid, used.row_key) as record,
            concat_ws(', line ', records.file, records.line_no) as place,
            if(records.record_uid is null, used.row_licence, records.licence) as licence,
            consented.consent::varchar as consent,
            speakers.annotator_id as speaker
        from used
        left join {RECORDS} as records using (record_uid)
        left join {CONSENTED} as consented using (record_uid)
        left join (
            select distinct annotator_id from {STATEMENTS}
            where annotator_id is not null and consent_id is null
        ) as speakers using (annotator_id)
        """
    )


def _statements(
    connection: duckdb.DuckDBPyConnection,
) -> tuple[dict[str, list[Statement]], dict[str, list[Statement]]]:
    """Statements by consent and by annotator, in the order of their arrival."""
    by_consent: dict[str, list[Statement]] = {}
    by_speaker: dict[str, list[Statement]] = {}
    for consent, speaker, uses, end, back in connection.sql(
        "select consent_id, annotator_id, uses, expires_at, withdrawn_at "
        f"from {STATEMENTS} order by first_seen"
    ).fetchall():
        one = Statement(uses=uses, expires_at=end, withdrawn_at=back)
        if consent is not None:
            by_consent.setdefault(consent, []).append(one)
        else:
            by_speaker.setdefault(speaker, []).append(one)
    return by_consent, by_speaker


def _refused(
    connection: duckdb.DuckDBPyConnection, rules: list[tuple[Any, ...]]
) -> tuple[dict[str, str], tuple[str, ...]]:
    if not rules:
        return {}, ()
    columns = [
        pa.array(one, f.type) for one, f in zip(zip(*rules, strict=True), COMBINED, strict=True)
    ]
    connection.register("rules", pa.table(columns, schema=COMBINED))
    same = " and ".join(f"behind.{one} is not distinct from rules.{one}" for one in SAYS)
    connection.execute(
        f"create or replace temp table refused as "
        f"select behind.*, rule from behind join rules on {same}"
    )
    told = tuple(
        f"{rule}: {count} rows, e.g. {', '.join(examples)}"
        for rule, count, examples in connection.sql(
            f"""
            select rule, count(distinct row_key),
                list(record || if(place = '', '', ' (' || place || ')') order by row_key, record)
                    [1:{NAMED_RECORDS}]
            from refused group by rule order by rule
            """
        ).fetchall()
    )
    by_key = connection.sql(
        "select row_key, string_agg(distinct rule, '; ' order by rule) from refused group by 1"
    ).fetchall()
    return dict(by_key), told


def _may(part: str, rights: Rights, terms: Terms) -> bool:
    """Whether a licence or a consent allows the use; where none is asked for, whether a consent
    allows anything at all."""
    if terms.use:
        return terms.use in rights.uses
    return bool(rights.uses) or part.startswith("licence ")


def _uses(rights: Rights) -> str:
    return ", ".join(sorted(rights.uses)) or "nothing"
