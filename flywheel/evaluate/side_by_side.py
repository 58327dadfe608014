"""Answers of two models to one prompt, for people to read: lost, won, and most unlike."""

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
    by_gain = sorted(both, key=lambda two: two[0]["score"] - two[1]["score"])
    unlike = sorted(both, key=lambda two: _shared(two[0]["response"], two[1]["response"]))
    lost = [two for two in by_gain[:SHOWN] if two[0]["score"] < two[1]["score"]]
    won = [two for two in by_gain[::-1][:SHOWN] if two[0]["score"] > two[1]["score"]]
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


def _shared(text: str, other: str) -> float:
    """Share of the words of both that both have."""
    one, two = set(text.split()), set(other.split())
    return len(one & two) / len(one | two) if one | two else 1.0


def _pair(mine: Told, other: Told, opponent: str) -> str:
    ahead = mine["score"] - other["score"]
    sides = "".join(
        f"<div{' class=better' if better else ''}><b>{escape(name)}</b> ({row['score']:.2f})\n"
        f"{escape(row['response'])}</div>"
        for name, row, better in (
            ("challenger", mine, ahead > 0),
            (opponent, other, ahead < 0),
        )
    )
    return f"<div class=pair><p>{escape(mine['prompt'])}</p><div class=sides>{sides}</div></div>"
