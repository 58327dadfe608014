"""Answers of two models to one prompt, for people to read: lost, won, and most unlike."""

import math
from html import escape
from typing import Any

Told = dict[str, Any]
SHOWN = 8  # pairs of answers of each kind


def side_by_side(samples: list[Told], opponent: str) -> str:
    """Where the challenger lost most, where it won most, and where both answered most unlike."""
    drawn = [row for row in samples if not row["greedy"]]
    mine, other = (
        {row["prompt_key"]: row for row in drawn if row["policy"] == name}
        for name in ("policy", opponent)
    )
    both = [(mine[key], other[key]) for key in mine if key in other]
    known = [two for two in both if math.isfinite(_lead(*two))]
    by_gain = sorted(known, key=lambda two: _lead(*two))
    unlike = sorted(both, key=lambda two: _shared(two[0]["response"], two[1]["response"]))
    lost = [two for two in by_gain[:SHOWN] if _lead(*two) < 0]
    won = [two for two in by_gain[::-1][:SHOWN] if _lead(*two) > 0]
    parts = (
        ("Worst for the challenger", lost),
        ("Best for it", won),
        ("Most different", unlike[:SHOWN]),
    )
    return "".join(
        f"<h3>{title}</h3>{''.join(_pair(*two, opponent) for two in found)}"
        for title, found in parts
        if found
    )


def _lead(mine: Told, other: Told) -> float:
    """How far the challenger is ahead: by scores, or by who compares; NaN where nobody has said."""
    ahead = float(mine["score"] - other["score"])
    if math.isnan(ahead) and other.get("lost") is not None:
        return float(other["lost"]) - 0.5
    return ahead


def _shared(text: str, other: str) -> float:
    """Share of the words of both that both have."""
    one, two = set(text.split()), set(other.split())
    return len(one & two) / len(one | two) if one | two else 1.0


def _pair(mine: Told, other: Told, opponent: str) -> str:
    ahead = _lead(mine, other)
    sides = "".join(
        f"<div{' class=better' if better else ''}><b>{escape(name)}</b>{_score(row)}\n"
        f"{escape(row['response'])}</div>"
        for name, row, better in (
            ("challenger", mine, ahead > 0),
            (opponent, other, ahead < 0),
        )
    )
    return f"<div class=pair><p>{escape(mine['prompt'])}</p><div class=sides>{sides}</div></div>"


def _score(row: Told) -> str:
    """Nothing where a single answer has none."""
    return "" if math.isnan(row["score"]) else f" ({row['score']:.2f})"
