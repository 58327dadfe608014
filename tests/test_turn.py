"""What a turn came to: read back from files, and never from files of different weights."""

import json
from pathlib import Path

import pytest

from flywheel.errors import EvaluationError
from flywheel.ingest import land
from flywheel.layout import Layout
from flywheel.quality import judge
from flywheel.turn import evaluation_of, status_of
from tests.small_lake import write_lake


def write(path: Path, facts: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts))


def test_a_policy_is_not_decided_on_by_the_evaluation_of_another(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    manifest = layout.checkpoint("policy", "g0001") / "manifest.json"
    result = layout.evaluation("g0001") / "result.json"
    with pytest.raises(EvaluationError, match="has no evaluation"):
        evaluation_of(layout, "g0001")
    write(manifest, {"content_hash": "a"})
    told = {"policy": {"win_rate": 0.5, "se": 0.1}}
    write(result, told | {"policy_content_hash": "a"})
    assert evaluation_of(layout, "g0001")["policy_content_hash"] == "a"
    again = "materialize held_out_evaluation again"
    write(result, {"policy": {"win_rate": 0.5}, "policy_content_hash": "a"})
    with pytest.raises(EvaluationError, match=f"of an older kind, .*; {again}"):
        evaluation_of(layout, "g0001")
    write(result, told | {"policy_content_hash": "a"})
    write(manifest, {"content_hash": "b"})
    with pytest.raises(EvaluationError, match=f"judged the policy a, .* holds b; {again}"):
        evaluation_of(layout, "g0001")
    write(result, {"policy": "of a flywheel that did not write down whom it judged"})
    with pytest.raises(EvaluationError, match=again):
        evaluation_of(layout, "g0001")
    write(result, {"policy_content_hash": "b"})
    manifest.unlink()
    with pytest.raises(EvaluationError, match=again):
        evaluation_of(layout, "g0001")


def test_quarantined_lines_are_counted_by_reason_and_by_kind(tmp_path: Path) -> None:
    layout = write_lake(tmp_path, [])
    assert status_of(layout)["quarantined"] == {"total": 0, "by_reason": {}, "by_kind": {}}
    off_scale = {"kind": "rating", "prompt": "how ?", "response": "so .", "rating": 11}
    scale = {"rating_min": 1, "rating_max": 5}
    file = tmp_path / "ratings.jsonl"
    file.write_text("\n".join(["{", "no", json.dumps(off_scale | scale)]) + "\n")
    land([file], layout, judge=judge, quarantine_limit=1, log=lambda _: None)
    assert status_of(layout)["quarantined"] == {
        "total": 3,
        "by_reason": {"invalid_json": 2, "invalid_record": 1},
        "by_kind": {"unknown": 2, "rating": 1},
    }
