"""What a turn came to: read back from files, and never from files of different weights."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from flywheel.errors import EvaluationError
from flywheel.ingest import land
from flywheel.layout import Layout
from flywheel.process.launch import launch
from flywheel.process.results import read_result, seal
from flywheel.quality import judge
from flywheel.turn import evaluation_of, status_of
from tests.small_lake import write_lake


def write(path: Path, facts: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts))
    seal(path)


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


def test_an_evaluation_that_was_edited_or_has_no_seal_is_to_be_made_again(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    write(layout.checkpoint("policy", "g0001") / "manifest.json", {"content_hash": "a"})
    result = layout.evaluation("g0001") / "result.json"
    told = {"policy": {"win_rate": 0.31, "se": 0.1}, "policy_content_hash": "a"}
    write(result, told)
    assert evaluation_of(layout, "g0001") == told
    result.write_text(result.read_text().replace("0.31", "0.61"))
    again = "materialize held_out_evaluation again"
    with pytest.raises(EvaluationError, match=rf"result.json was changed .* sealed as .*; {again}"):
        evaluation_of(layout, "g0001")
    result.with_suffix(".sha256").unlink()
    with pytest.raises(EvaluationError, match=rf"no seal .* before results were sealed.*; {again}"):
        evaluation_of(layout, "g0001")


@dataclass(frozen=True)
class Nothing:
    """A recipe's settings that name nothing."""


def test_a_result_that_was_edited_is_not_read_back_but_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_recipe.py").write_text(
        "import pathlib, sys\n(pathlib.Path(sys.argv[1]) / 'result.json').write_text('{\"a\": 1}')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    lines: list[str] = []

    def run() -> bool:
        lines.clear()
        assert launch("a_recipe", Nothing(), tmp_path / "run", log=lines.append)["a"] == 1
        assert read_result(result)[1] == ""
        return not any("is read back" in one for one in lines)

    result = tmp_path / "run" / "result.json"
    assert run() and not run()
    result.write_text(result.read_text().replace("1", "2"))
    assert run() and not run()
    result.with_suffix(".sha256").unlink()  # as before results were sealed
    assert run()


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
