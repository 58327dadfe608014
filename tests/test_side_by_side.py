"""Answers side by side: who lost and who won, by scores or by who compares, and never a NaN."""

from typing import Any

from flywheel.evaluate.report.side_by_side import side_by_side

NAN = float("nan")


def both(at: int, mine: float, other: float, lost: float | None = None) -> list[dict[str, Any]]:
    common = {"prompt_key": f"k{at}", "prompt": f"question {at}", "greedy": False}
    return [
        common | {"policy": "policy", "score": mine, "lost": None, "response": f"mine {at}"},
        common | {"policy": "base", "score": other, "lost": lost, "response": f"other {at}"},
    ]


def parts(page: str) -> dict[str, list[str]]:
    """Numbers of the prompts below each heading."""
    found = {}
    for part in page.split("<h3>")[1:]:
        title, _, rest = part.partition("</h3>")
        found[title] = [one.partition("<")[0] for one in rest.split("<p>question ")[1:]]
    return found


def test_pairs_without_a_score_are_told_by_who_compared_them() -> None:
    rows = [
        *both(0, NAN, NAN),
        *both(1, 1.0, 0.0),
        *both(2, NAN, NAN, 0.0),
        *both(3, 0.25, 0.5),
        *both(4, NAN, NAN),
        *both(5, NAN, NAN, 0.75),
        *both(6, NAN, NAN, 0.5),
    ]
    page = side_by_side(rows, "base")
    told = parts(page)
    assert told["Worst for the challenger"] == ["2", "3"]
    assert told["Best for it"] == ["1", "5"]
    assert sorted(told["Most different"]) == list("0123456")
    assert "nan" not in page and "(0.25)" in page
    assert "<div class=better><b>challenger</b>\nmine 5" in page


def test_samples_of_before_anybody_compared_are_told_by_their_scores() -> None:
    rows = [{key: one for key, one in row.items() if key != "lost"} for row in both(1, 1.0, 0.0)]
    assert parts(side_by_side(rows, "base"))["Best for it"] == ["1"]
