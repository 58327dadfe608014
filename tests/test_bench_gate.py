"""What is claimed of the gate is measured on runs that nothing was fitted to."""

import json
from pathlib import Path

import numpy as np
import pytest

from flywheel.process.content import code_hash
from tests.benchmarks import bench_gate


def test_the_power_of_the_gate_falls_short_where_its_runs_are_worse_than_planned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its sample size is fixed before, on others: nobody is seen within it who is no better."""
    monkeypatch.setattr(bench_gate, "RUNS", 60)
    kept = bench_gate.drawn

    def unlucky(lead: float, count: int, seed: int) -> np.ndarray:
        return kept(0.3 if seed == 1 else lead, count, seed)

    monkeypatch.setattr(bench_gate, "drawn", unlucky)
    rows = bench_gate.power()
    assert {row.name for row in rows} == {"gate_power", "gate_power_at_fixed_size"}
    assert [row.value for row in rows] == [0.0] * 6


def test_verdicts_of_other_code_are_left_out_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "planted.json"
    assert bench_gate.planted(path) == [] and "is missing" in capsys.readouterr().err
    verdicts = [
        {"meant": meant, "decision": said, "passed": True, "kind": meant, "seed": 0}
        for meant, said in (("", "PROMOTE"), ("a", "REJECT"), ("b", "PROMOTE"))
    ]
    for old in (verdicts, {"code_hash": "old", "verdicts": verdicts}):
        path.write_text(json.dumps(old))
        assert bench_gate.planted(path) == [] and "other code" in capsys.readouterr().err
    path.write_text(json.dumps({"code_hash": code_hash(), "verdicts": verdicts}))
    (row,) = bench_gate.planted(path)
    assert (row.value, row.peer_value) == (1.0, 2.0)
