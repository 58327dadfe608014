"""The first steps of each recipe lose what they lost when they were proven."""

import json
from pathlib import Path

import pytest

from tests.golden import FILE, STEPS, stamp, trajectories


def test_the_first_steps_lose_what_they_have_always_lost(tmp_path: Path) -> None:
    golden = json.loads(FILE.read_text())
    found = trajectories(tmp_path)
    assert found.keys() == golden["losses"].keys()
    for name, losses in found.items():
        known = golden["losses"][name]
        assert len(losses) == len(known) == STEPS
        assert losses == pytest.approx(known, rel=1e-3, abs=1e-4), name
        if stamp() == golden["stamp"]:  # the drift of many steps is one way, rounding is not
            residual = sum(a - b for a, b in zip(losses, known, strict=True)) / STEPS
            assert abs(residual) < 1e-5, name
