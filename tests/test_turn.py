"""What a turn came to: read back from files, and never from files of different weights."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.errors import EvaluationError
from flywheel.lake.schema import QUARANTINE
from flywheel.layout import Layout
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
    write(result, {"policy_content_hash": "a"})
    assert evaluation_of(layout, "g0001")["policy_content_hash"] == "a"
    again = "materialize held_out_evaluation again"
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
    rows = [("comparison", "invalid_record"), (None, "invalid_json"), (None, "invalid_json")]
    table = [{"kind": kind, "reason_kind": reason} for kind, reason in rows]
    pq.write_table(pa.Table.from_pylist(table, QUARANTINE), layout.quarantine / "b000001-x.parquet")
    assert status_of(layout)["quarantined"] == {
        "total": 3,
        "by_reason": {"invalid_json": 2, "invalid_record": 1},
        "by_kind": {"unknown": 2, "comparison": 1},
    }
