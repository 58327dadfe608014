"""Schedules, sensors and policies, with a moved clock and files of their own."""

import asyncio
import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness_evaluator import FRESHNESS_EVALUATORS_BY_POLICY_TYPE
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time

from assets import automation, keys
from assets.definitions import defs
from assets.drive import land_now
from assets.partitions import add, generations
from assets.resources import Home
from flywheel.datasets.manifest import DatasetManifest
from flywheel.errors import FlywheelError, SettingsError
from flywheel.ingest import land, latest_batch_number


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "inbox").mkdir()
    return Home(root=str(tmp_path))


COMPARISON = {"kind": "comparison", "response_a": "yes", "response_b": "no", "choice": "a"}
DEMONSTRATION = {"kind": "demonstration", "response": "yes"}
FOREIGN = {"arg1": "yes", "arg2": "no", "label": "a1"}
SUNDAY = datetime(2030, 1, 6, 4, tzinfo=UTC)


def deliver(
    home: Home, count: int, name: str = "a", said: dict[str, str] = COMPARISON, ago: float = 60
) -> None:
    lines = [
        json.dumps({**said, "id" if said is FOREIGN else "prompt": f"question {name} {number}"})
        for number in range(count)
    ]
    path = home.layout.inbox / f"{name}.jsonl"
    path.write_text("\n".join(lines) + "\n")
    delivered = time.time() // 1 - ago
    os.utime(path, (delivered, delivered))


def settle(home: Home, needed: int) -> None:
    (home.layout.root / "settings.toml").write_text(
        f"[automation]\nmin_new_judgements = {needed}\n"
    )


def ask_sensor(home: Home, instance: dg.DagsterInstance, cursor: str | None = None) -> object:
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"home": home}, definitions=defs
    ) as context:
        return automation.enough_new_feedback(context)


def test_the_inbox_sensor_asks_once_for_each_delivery(home: Home) -> None:
    instance = dg.DagsterInstance.ephemeral()
    context = dg.build_sensor_context(instance=instance, resources={"home": home})
    assert isinstance(automation.new_files_in_the_inbox(context), dg.SkipReason)
    deliver(home, 3)
    first = automation.new_files_in_the_inbox(context)
    again = automation.new_files_in_the_inbox(context)
    assert first.run_key == again.run_key  # the daemon starts one run a key
    os.utime(home.layout.inbox / "a.jsonl")  # its writer goes on
    assert isinstance(automation.new_files_in_the_inbox(context), dg.SkipReason)
    land([home.layout.inbox], home.layout, log=lambda line: None)
    assert isinstance(automation.new_files_in_the_inbox(context), dg.SkipReason)


def test_a_turn_starts_at_the_set_number_of_judgements_and_not_before(home: Home) -> None:
    instance = dg.DagsterInstance.ephemeral()
    settle(home, 10)
    deliver(home, 9, "few")
    land([home.layout.inbox], home.layout, log=lambda line: None)
    skipped = ask_sensor(home, instance)
    assert isinstance(skipped, dg.SkipReason) and "9 of 10" in skipped.skip_message

    deliver(home, 1, "more")
    land([home.layout.inbox], home.layout, log=lambda line: None)
    fired = ask_sensor(home, instance)
    assert isinstance(fired, dg.SensorResult)
    (request,) = fired.run_requests
    assert request.partition_key == "g0001"
    # asked for once: a run that failed is not started again at every tick
    assert isinstance(ask_sensor(home, instance, cursor=fired.cursor), dg.SkipReason)


def ask_weekly(home: Home, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    with dg.build_schedule_context(  # one left open is found, dead, by the tests after it
        instance=instance, scheduled_execution_time=SUNDAY, resources={"home": home}
    ) as context:
        return automation.weekly_turn(context)


def freeze_all(home: Home, generation: str) -> None:
    folder = home.layout.dataset("preference", generation)
    folder.mkdir(parents=True)
    DatasetManifest(
        name="preference",
        generation=generation,
        table="marts.fct_preferences",
        content_hash="0",
        rows_by_split={},
        files={},
        record_count=0,
        annotator_count=0,
        cost_usd=0.0,
        sources={},
        licences={},
        trained_through_batch=latest_batch_number(home.layout),
    ).save(folder)


def test_two_deliveries_of_one_size_and_time_are_two(home: Home) -> None:
    instance = dg.DagsterInstance.ephemeral()
    context = dg.build_sensor_context(instance=instance, resources={"home": home})
    deliver(home, 3, "a", ago=100)
    first = automation.new_files_in_the_inbox(context)
    (home.layout.inbox / "a.jsonl").rename(home.layout.inbox / "b.jsonl")
    assert automation.new_files_in_the_inbox(context).run_key != first.run_key


def test_a_landing_that_failed_is_tried_again(home: Home) -> None:
    @dg.op
    def breaks() -> None:
        raise RuntimeError("no disk")

    @dg.job(name=automation.land_inbox.name)
    def fails() -> None:
        breaks()

    instance = dg.DagsterInstance.ephemeral()
    context = dg.build_sensor_context(instance=instance, resources={"home": home})
    deliver(home, 3)
    first = automation.new_files_in_the_inbox(context)
    fails.execute_in_process(instance=instance, raise_on_error=False)
    assert automation.new_files_in_the_inbox(context).run_key != first.run_key


@pytest.mark.parametrize("said", [COMPARISON, DEMONSTRATION, FOREIGN])
def test_the_weekly_turn_is_taken_where_anything_landed(home: Home, said: dict[str, str]) -> None:
    instance = dg.DagsterInstance.local_temp(home.root)
    assert isinstance(ask_weekly(home, instance), dg.SkipReason)
    deliver(home, 9, "first", said)
    land([home.layout.inbox], home.layout, log=lambda line: None)
    first = ask_weekly(home, instance)
    assert first.partition_key == "g0001"
    assert instance.get_dynamic_partitions(generations.name) == ["g0001"]
    freeze_all(home, "g0001")
    assert isinstance(ask_weekly(home, instance), dg.SkipReason)
    deliver(home, 1, "second", said)
    land([home.layout.inbox], home.layout, log=lambda line: None)
    assert ask_weekly(home, instance).partition_key == "g0002"


def test_no_weekly_turn_starts_beside_another_turn(home: Home) -> None:
    answers = []

    @dg.op
    def asks(context: dg.OpExecutionContext) -> None:
        answers.append(ask_weekly(home, context.instance))

    @dg.job
    def other() -> None:
        asks()

    @dg.job(name=automation.turn.name)
    def at_work() -> None:
        asks()

    deliver(home, 9)
    land([home.layout.inbox], home.layout, log=lambda line: None)
    with dg.DagsterInstance.local_temp(home.root) as instance:
        at_work.execute_in_process(instance=instance)
        other.execute_in_process(instance=instance)
    assert [type(answer) for answer in answers] == [dg.SkipReason, dg.RunRequest]


def test_rows_of_a_raw_source_count_as_judgements(home: Home) -> None:
    settle(home, 10)
    deliver(home, 10, "votes", FOREIGN)
    land([home.layout.inbox], home.layout, log=lambda line: None)
    fired = ask_sensor(home, dg.DagsterInstance.ephemeral())
    assert isinstance(fired, dg.SensorResult)


def test_schedules_fire_at_their_hours(home: Home) -> None:
    assert automation.nightly_build.cron_schedule == "0 2 * * *"
    assert automation.weekly_turn.cron_schedule == "0 4 * * 0"
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2030, 1, 1, 2, tzinfo=UTC)
    )
    assert automation.nightly_build(context).run_key == "nightly-2030-01-01"


def test_freshness_policies_follow_the_groups() -> None:
    by_group: dict[str, set[bool]] = {}
    for spec in defs.resolve_all_asset_specs():
        is_due = spec.freshness_policy is not None
        if spec.key in automation.WHEN_IT_COMES:
            assert not is_due
        else:
            by_group.setdefault(spec.group_name or "", set()).add(is_due)
    assert all(by_group[group] == {True} for group in automation.FRESH)


def test_a_mart_goes_stale_as_the_clock_moves_on() -> None:
    mart = keys.FCT_PREFERENCES
    node = defs.resolve_asset_graph().get(mart)
    evaluator = FRESHNESS_EVALUATORS_BY_POLICY_TYPE[type(node.freshness_policy)]()
    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(mart))

        def state_after(hours: float) -> str:
            with freeze_time(datetime.now(UTC) + timedelta(hours=hours)):
                context = LoadingContextForTest(instance)
                return asyncio.run(evaluator.evaluate_freshness(context, node)).value

        assert [state_after(hours) for hours in (1, 37, 73)] == ["PASS", "WARN", "FAIL"]


def test_a_failed_run_is_told_in_the_alerts(home: Home) -> None:
    @dg.op
    def breaks() -> None:
        raise RuntimeError("no disk")

    @dg.job
    def fails() -> None:
        breaks()

    instance = dg.DagsterInstance.ephemeral()
    result = fails.execute_in_process(instance=instance, raise_on_error=False)
    context = dg.build_run_status_sensor_context(
        sensor_name="alert_on_failure",
        dagster_event=result.get_run_failure_event(),
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        resources={"home": home},
    ).for_run_failure()
    automation.alert_on_failure(context)
    (line,) = (home.layout.registry / "alerts.jsonl").read_text().splitlines()
    assert json.loads(line)["steps"] == ["breaks"]


def test_a_run_that_a_command_drives_is_told_in_the_alerts_too(home: Home) -> None:
    (home.layout.root / "settings.toml").write_text("[landing]\nquarantine_limit = 7\n")
    with pytest.raises(FlywheelError, match="share"):
        land_now(home, [])
    (line,) = (home.layout.registry / "alerts.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert (told["job"], told["steps"]) == ("land_inbox", ["landing"])
    assert "quarantine_limit is a share" in told["message"]


def test_a_generation_has_a_plain_name() -> None:
    with pytest.raises(SettingsError, match="g0001"):
        add(dg.DagsterInstance.ephemeral(), "latest")
