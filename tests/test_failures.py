"""A step that failed says why in words: the file or the rule, what was found, what to do."""

import json
import os
from pathlib import Path

import dagster as dg
import pytest

from assets.failures import reason_of
from assets.landing import landing
from assets.resources import Home
from flywheel.errors import LakeError

RULE = dg.AssetCheckSpec(
    "enough_rows", asset="table", blocking=True, description="A table holds three rows or more."
)


@dg.asset(name="table", check_specs=[RULE])
def table_with_two_rows() -> dg.MaterializeResult:
    found = dg.AssetCheckResult(check_name=RULE.name, passed=False, metadata={"rows": 2})
    return dg.MaterializeResult(check_results=[found])


@dg.asset(name="table")
def table_on_a_full_disk() -> None:
    try:
        raise OSError(28, "No space left on device")
    except OSError as error:
        raise LakeError("cannot write table.parquet; free some space") from error


@dg.asset(name="table")
def table_that_divides() -> None:
    try:
        print(1 / 0)
    except ZeroDivisionError as error:
        raise RuntimeError("no table") from error


def reason(asset: dg.AssetsDefinition, home: Path) -> str:
    result = dg.materialize([asset], resources={"home": Home(root=str(home))}, raise_on_error=False)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    return reason_of(failure, result.all_events, dg.Definitions([asset]))


def test_a_blocked_file_is_named_with_the_reason_and_the_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "inbox" / "ours"
    folder.mkdir(parents=True)
    (folder / "bad.jsonl").write_text(json.dumps({"kind": "comparison"}) + "\n")
    (folder / "torn.parquet").write_text("PAR1 and no more")
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))  # long finished
    bad, torn = reason(landing, tmp_path).splitlines()
    assert bad == (
        "ours/bad.jsonl: 1 of 1 lines were quarantined, more than the limit; most often (1 of "
        "them): Object missing required field `prompt`; repair or remove it, "
        "or raise [landing] quarantine_limit in settings.toml"
    )
    assert torn.startswith("ours/torn.parquet: it could not be read: ")
    assert torn.endswith("; repair or remove it")


def test_a_check_is_named_with_its_rule_and_what_it_found(tmp_path: Path) -> None:
    assert reason(table_with_two_rows, tmp_path) == (
        "the check enough_rows of table does not hold: A table holds three rows or more. "
        "Found: rows 2"
    )


@pytest.mark.parametrize(
    ("asset", "told"),
    [
        (table_on_a_full_disk, "cannot write table.parquet; free some space"),
        (table_that_divides, "ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_of_ours_is_told_without_its_class_and_another_by_its_cause(
    asset: dg.AssetsDefinition, told: str, tmp_path: Path
) -> None:
    assert reason(asset, tmp_path) == told
