"""Files that hold what nobody expects: each is told apart, and none keeps the others out."""

import json
from pathlib import Path
from typing import Any

import pytest

from flywheel.ingest import BatchManifest, land, quarantine_reasons
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.quality import judge

GOOD = {"kind": "demonstration", "prompt": "p", "response": "r"}
SILENT = [{"role": "assistant", "content": ""}]


def landed(folder: Path, **options: Any) -> tuple[list[BatchManifest], Layout]:
    layout = Layout(folder / "home")
    paths = sorted(path for path in folder.iterdir() if path.is_file())  # named: no waiting
    return land(paths, layout, **{"log": lambda _: None, **options}), layout


def write(path: Path, *rows: Any) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# ---- nothing said -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "q", "answer": ""}, "response_says_something"),
        ({"prompt": "p", "completion": ""}, "response_says_something"),
        ({"prompt": "p", "completion": "", "label": True}, "response_says_something"),
        ({"prompt": "p", "chosen": "", "rejected": "b"}, "response_a_says_something"),
        ({"prompt": "p", "chosen": "a", "rejected": ""}, "response_b_says_something"),
        ({**GOOD, "response": ""}, "invalid_record"),
        ({**GOOD, "response": SILENT}, "response_says_something"),
        (
            {**GOOD, "kind": "critique", "critique": "c", "corrected_response": SILENT},
            "corrected_response_says_something",
        ),
        (
            {**GOOD, "kind": "interaction", "edited_response": SILENT},
            "edited_response_says_something",
        ),
        (
            {"kind": "ranking", "prompt": "p", "responses": ["a", SILENT], "ranks": [1, 2]},
            "responses_say_something",
        ),
    ],
)
def test_an_empty_response_of_any_kind_is_quarantined_and_never_a_null(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    write(tmp_path / "x.jsonl", row)
    (batch,), layout = landed(tmp_path, judge=judge, quarantine_limit=1)
    assert (batch.rows, batch.quarantined) == (0, 1)
    assert quarantine_reasons(layout) == {reason: 1}
    for kind in ("demonstration", "comparison", "ranking", "critique", "interaction"):
        assert read_folder(layout.landing(kind)).num_rows == 0
