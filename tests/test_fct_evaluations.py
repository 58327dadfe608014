"""What evaluations measured, in the warehouse: rows of files, whole generations, nothing lost."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flywheel.evaluate.statistics.ratings import rate_checkpoints
from flywheel.lake import EVALUATION, write_table
from flywheel.layout import Layout
from flywheel.warehouse import publish_read_copy, read_table
from tests.small_lake import dbt, write_lake
from tests.test_ratings import duel

MODELS = ("--select", "tag:after_evaluation")


def measurement(evaluation: str, generation: str, value: float, day: int) -> dict[str, Any]:
    return {
        "evaluation_id": evaluation,
        "generation": generation,
        "model": "policy",
        "content_hash": "p",
        "evaluation_set": "desk",
        "axis": "all",
        "slice": "all",
        "metric": "win_rate",
        "against": "base",
        "temperature": 1.0,
        "value": value,
        "low": 0.5,
        "high": 0.9,
        "standard_error": 0.1,
        "observation_count": 10,
        "evaluated_at": datetime(2026, 1, day),
    }


def evaluate(layout: Layout, generation: str, evaluation: str, value: float, day: int) -> None:
    rows = {
        "measurements": [measurement(evaluation, generation, value, day)],
        "outcomes": [
            row | {"generation": generation, "evaluation_id": evaluation}
            for row in duel(wins=6, losses=4)
        ],
    }
    for name, found in rows.items():
        path = layout.evaluation(generation) / name / f"{evaluation}.parquet"
        write_table(pa.Table.from_pylist(found, EVALUATION[name]), path)


@pytest.fixture
def home(tmp_path: Path) -> Layout:
    return write_lake(tmp_path, [])


def built(layout: Layout, table: str) -> list[dict[str, Any]]:
    dbt(layout, "build", *MODELS)
    publish_read_copy(layout.warehouse, layout.warehouse_copy)
    return read_table(layout.warehouse_copy, f"marts.{table}").to_pylist()


def test_evaluations_are_rows_of_the_warehouse_and_a_second_one_changes_none_of_the_first(
    home: Layout,
) -> None:
    assert built(home, "fct_evaluations") == [], "a home without an evaluation is no error"
    evaluate(home, "g0001", "e1", 0.6, day=1)
    (first,) = built(home, "fct_evaluations")
    assert (first["value"], first["standard_error"], first["is_latest"]) == (0.6, 0.1, True)
    evaluate(home, "g0002", "e2", 0.7, day=2)
    evaluate(home, "g0001", "e3", 0.5, day=3)  # looked at again with more prompts
    rate_checkpoints(home)
    found = {row["evaluation_id"]: row for row in built(home, "fct_evaluations")}
    assert found["e1"] == first | {"is_latest": False}
    assert found["e3"]["is_latest"] and found["e2"]["is_latest"]
    outcomes = read_table(home.warehouse_copy, "marts.fct_evaluation_outcomes")
    assert outcomes.num_rows == 3 * 2 * 10
    ratings = read_table(home.warehouse_copy, "marts.fct_checkpoint_ratings").to_pylist()
    assert {row["name"]: row["rating"] for row in ratings}["g0001 base"] == 1000
