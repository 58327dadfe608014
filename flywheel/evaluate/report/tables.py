"""Tables of a page, and a number with what stands beside it."""

from collections.abc import Sequence
from html import escape
from typing import Any

Told = dict[str, Any]


def number(one: Told, name: str, prefix: str = "") -> tuple[str, str, str]:
    """A value, its interval and its standard error, in words."""
    low, high = one[f"{prefix}ci"]
    error = one[f"{prefix}se"]
    return f"{one[name]:.3f}", f"{low:.3f} to {high:.3f}", "" if error is None else f"{error:.3f}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under heads, which a narrow screen can scroll; empty without rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join(
        f"<tr>{''.join(f'<td class=n>{escape(one)}</td>' for one in row)}</tr>" for row in rows
    )
    return f"<div class=wide><table><tr>{head}</tr>{body}</table></div>"
