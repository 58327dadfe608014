"""What is claimed of the gate is measured on runs that nothing was fitted to."""

import numpy as np
import pytest

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
