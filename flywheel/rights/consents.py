"""What people agreed to: the consent a record names, and statements that landed about it.

A record names its consent in its metadata: `"consent": "c-17"`, or with the terms beside it,
`"consent": {"id": "c-17", "uses": ["train_internal"], "expires_at": "2027-01-01"}`, or `true` and
`false`. A statement is a line in `inbox/consents/`: `{"consent_id": "c-17", "uses": [...],
"expires_at": "2027-01-01"}`, later `{"consent_id": "c-17", "withdrawn_at": "2026-12-01"}`; with
`annotator_id` in place of `consent_id` it is about all that somebody said; `"withdrawn": true` is
since ever. Nothing is taken back out of landing: what was withdrawn is left out of what is frozen
from then on.

A record that names no consent needs none, as far as is known: its licence alone tells. What was
said and cannot be read never widens: uses that are no list are none, and so are those of a
statement that says nothing of uses, an end or a withdrawal.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from flywheel.rights.algebra import ALL, NONE, UNKNOWN, Rights


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What was said of one consent; None is what was not said."""

    uses: Sequence[str] | None = None
    expires_at: str | None = None
    withdrawn_at: str | None = None


def rights_of_consent(
    named: Any, statements: Sequence[Statement], today: date, *, is_named: bool = True
) -> Rights:
    """What a consent allows on a day.

    Args:
        named: What the record says: an id, terms, true or false.
        statements: Those about this consent, in the order of their arrival. The last that lists
            uses counts, and the last that has an end; a withdrawal is never taken back.
        today: The day.
        is_named: Whether a record names it; one of an annotator is about records that do not, so
            that silence about uses takes nothing away.

    Returns:
        Expired, withdrawn or refused: none. Named and nothing known of it: unknown.
    """
    if named is True:
        return ALL
    if named is False:
        return NONE
    said = list(statements)
    if isinstance(named, dict):
        said.insert(0, _statement(named))
    if any(one.withdrawn_at and _is_over(one.withdrawn_at, today) for one in said):
        return NONE
    ends = [one.expires_at for one in said if one.expires_at]
    if ends and _is_over(ends[-1], today):
        return NONE
    listed = [one.uses for one in said if one.uses is not None]
    if not listed:
        return UNKNOWN if is_named else ALL
    return Rights(frozenset(listed[-1]) & ALL.uses)


def statement_of(said: dict[str, Any]) -> Statement:
    """What a line about a consent says; the staging model of statements reads it alike."""
    one = _statement(said)
    return Statement(uses=[]) if one == Statement() else one


def _statement(named: dict[str, Any]) -> Statement:
    uses = named.get("uses")
    return Statement(
        uses=None if uses is None else list(map(str, uses)) if isinstance(uses, list) else [],
        expires_at=_text(named.get("expires_at")),
        withdrawn_at=_text(named.get("withdrawn_at")) or _text(named.get("withdrawn")),
    )


def _text(value: Any) -> str | None:
    return None if value is None or value is False else str(value)


def _is_over(text: str, today: date) -> bool:
    """Whether a day has come; a day that cannot be read has, because nothing widens unread."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        return True
    with suppress(OverflowError):  # at either end of the calendar, where no hour matters
        at = at.astimezone(UTC) if at.tzinfo else at
    return at.date() <= today
