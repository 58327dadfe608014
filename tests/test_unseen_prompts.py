"""Prompts that landed after the last deduplication: a warning by hand, an error in the wheel."""

import shutil
from pathlib import Path

import dagster as dg
import pytest

from assets.resources import Home
from assets.transform import Dbt, mart_models, project
from flywheel.dedup import mark
from flywheel.layout import Layout
from flywheel.warehouse import publish_read_copy, read_table
from tests.small_lake import dbt, row, write_lake

ASKED = "why did the lamp go dark ?"
SEEN = [
    row("demonstration", "d1", prompt="how ?", response="so"),
    row("evaluation_prompt", "e1", prompt=ASKED, evaluation_set="desk-v1", grader="g"),
]
UNSEEN = [
    row("demonstration", "d2", prompt="how come ?", response="because"),
    row("demonstration", "d3", prompt="when ?", response="soon"),
    row("demonstration", "d4", prompt=ASKED, response="no idea"),
    row("evaluation_prompt", "e2", prompt="how ?", evaluation_set="desk-v1", grader="g"),
]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A home whose lake and staging hold more prompts than its marks know."""
    layout = write_lake(tmp_path_factory.mktemp("home"), SEEN)
    dbt(layout, "run", "--exclude", "tag:after_dedup")
    publish_read_copy(layout.warehouse, layout.warehouse_copy)
    mark(layout.warehouse_copy, layout, log=lambda _: None)
    write_lake(layout.root, [*SEEN, *UNSEEN])
    dbt(layout, "run", "--exclude", "tag:after_dedup")
    return layout


def test_a_development_warehouse_builds_with_a_warning_that_counts_them(grown: Layout) -> None:
    said = dbt(grown, "build", "--exclude", "test_type:unit")
    assert "WARN 2 assert_every_prompt_has_a_group" in said
    table = read_table(grown.warehouse, "marts.fct_demonstrations").to_pylist()
    groups = {one["demonstration_id"]: one["group_id"] == one["prompt_key"] for one in table}
    assert groups == {"d2": True, "d3": True}, (
        "what an evaluation asks word for word is no training"
    )


def test_the_wheel_stops_before_they_reach_a_dataset(
    grown: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = shutil.copytree(grown.root, tmp_path / "home")
    for name in ("FLYWHEEL_LAKE", "FLYWHEEL_WAREHOUSE", "FLYWHEEL_UNSEEN_PROMPTS"):
        monkeypatch.setenv(name, "set anew by the step")  # and taken back after the test
    done = dg.materialize(
        [mart_models],
        resources={"dbt": Dbt(project_dir=project), "home": Home(root=str(home))},
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=False,
    )
    assert not done.success
    failed = {check.check_name for check in done.get_asset_check_evaluations() if not check.passed}
    assert failed == {"assert_every_prompt_has_a_group", "assert_every_text_is_screened"}
