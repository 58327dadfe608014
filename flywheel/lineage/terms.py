"""What the records behind something allow: licences, and what was agreed to by now.

As `flywheel.warehouse.terms` weighs the rows of a mart, but of what is landed: a withdrawal counts
from the moment that it lands, on what was trained long before.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import duckdb

from flywheel.layout import Layout
from flywheel.lineage.records import all_statements
from flywheel.rights import (
    Rights,
    Statement,
    rights_of_consent,
    rights_of_licence,
    statement_of,
    together,
)


def rights_of_records(
    connection: duckdb.DuckDBPyConnection, layout: Layout, own: Mapping[str, Any]
) -> dict[str, Rights]:
    """Rights by what they come from, of the records in the table `told`.

    Licences stand by their names; of consents only how many records they leave what, because
    thousands may be behind a checkpoint.
    """
    today = datetime.now(UTC).date()
    by_consent, by_speaker = _statements(connection, layout)
    found: dict[str, Rights] = {}
    bound: dict[Rights, int] = {}
    for licence, consent, speaker, count in connection.sql(
        "select licence, consent, annotator_id, count(*) from told "
        "where record_uid is not null group by all order by licence nulls first"
    ).fetchall():
        found.setdefault(licence or "unknown", rights_of_licence(licence, own))
        parts = []
        if (named := json.loads(consent or "null")) is not None:
            name = named.get("id", "of no name") if isinstance(named, dict) else named
            said = by_consent.get(str(name).strip(), [])
            parts.append(rights_of_consent(named, said, today))
        if speaker in by_speaker:
            said = by_speaker[speaker]
            parts.append(rights_of_consent(None, said, today, is_named=False))
        if parts:
            rights = together(*parts)
            bound[rights] = bound.get(rights, 0) + count
    for rights, count in bound.items():
        uses = ", ".join(sorted(rights.uses)) or "nothing"
        found[f"consents of {count} records (allow {uses})"] = rights
    return found


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
