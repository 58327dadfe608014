"""Outcomes that come apart from the attempts they are about, from the inbox to the warehouse."""

import json
from pathlib import Path

import duckdb

from flywheel.ingest import land
from flywheel.layout import Layout
from tests.format_samples import SWE_AGENT
from tests.small_lake import dbt, write_lake

REPORT = {
    "resolved_ids": ["org__repo-1"],
    "unresolved_ids": ["org__repo-2"],
    "empty_patch_ids": [],
    "error_ids": ["org__repo-3"],
    "submitted_ids": ["org__repo-1", "org__repo-2", "org__repo-3", "org__repo-4"],
}
LINES = [
    {"source": "run_7", "task_id": "org__repo-4", "outcome": "failed", "reward": 0.25},
    {"source": "run_8", "task_id": "org__repo-2", "outcome": "passed"},
    {"source": "run_7", "task_id": "org__repo-5", "outcome": "solved"},  # no outcome of ours
]


def built(root: Path) -> Layout:
    layout = write_lake(root, [])
    outcomes = layout.inbox / "trajectory_outcomes"
    run = layout.inbox / "run_7"
    for folder in (outcomes, run):
        folder.mkdir(parents=True)
    for number in range(1, 6):
        value = SWE_AGENT[0] | {"note": number}  # else one file under five names
        (run / f"org__repo-{number}.traj").write_text(json.dumps(value, indent=1))
    (outcomes / "run_7.json").write_text(json.dumps(REPORT, indent=1))
    (outcomes / "by_hand.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    batches = land([layout.inbox], layout, log=lambda _: None)
    assert [one.format for one in batches] == ["swe_agent"] * 5 + ["raw"] * 2
    dbt(layout, "build", "--select", "staging", "int_trajectories_unioned", "--quiet")
    return layout


def test_the_report_of_a_benchmark_scores_the_runs_of_its_folder(tmp_path: Path) -> None:
    layout = built(tmp_path)
    with duckdb.connect(str(layout.warehouse), read_only=True) as connection:
        found = connection.sql(
            "select task_id, outcome, reward from intermediate.int_trajectories_unioned order by 1"
        ).fetchall()
        told = connection.sql("select count(*) from staging.stg_outcomes__trajectories").fetchall()
    assert found == [
        ("org__repo-1", "passed", None),
        ("org__repo-2", "failed", None),  # run_8 is another run
        ("org__repo-3", "error", None),
        ("org__repo-4", "failed", 0.25),
        ("org__repo-5", "unscored", None),
    ]
    assert told == [(5,)]
