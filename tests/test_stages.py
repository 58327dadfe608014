"""Stages before the title: who is on one, what ends it, and what served answers show."""

import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from assets.champion import CHAMPION
from assets.resources import Home
from assets.serving import more_was_served, serving_stage
from flywheel.cli import main
from flywheel.erasure.retention import forget_served
from flywheel.errors import PromotionError, SettingsError
from flywheel.layout import Layout
from flywheel.promotion import (
    Entry,
    advance,
    approve,
    history,
    latest_decision,
    rollback,
    standing,
    stop,
)
from flywheel.serve.feedback import FOLDER
from flywheel.serve.log import ServedLog
from flywheel.serve.online import (
    canary_outcomes,
    decide_stage,
    judge,
    look,
    shadow_outcomes,
)
from flywheel.serve.settings import ServeSettings
from tests.benchmarks.canaries import HALF, by_z, entry_of, fates, said
from tests.test_promotion import enter, hash_of, holder, lay

BOTH = ["shadow", "canary"]
SETTINGS = ServeSettings(stages=BOTH)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def staged(layout: Layout, stages: list[str] = BOTH) -> Entry:
    """g0001 reigns, and g0002 is on the first of these stages."""
    enter(layout, "g0001", stages=stages)
    enter(layout, "g0002", stages=stages)
    entry = standing(layout)[1]
    assert entry is not None
    return entry


def on_stage(layout: Layout) -> str | None:
    entry = standing(layout)[1]
    return f"{entry.generation} {entry.stage}" if entry else None


def told(layout: Layout, generation: str) -> tuple[str, str, list[str]]:
    """What was last said of a generation, on which stage it is, and why."""
    said = latest_decision(layout, generation)
    assert said is not None
    return said["decision"], said["stage"], said["reasons"]


def test_the_first_champion_goes_through_no_stage_and_the_next_through_all(
    layout: Layout,
) -> None:
    first = staged(layout)
    assert holder(layout) == "g0001" and first.stage == "shadow"
    assert told(layout, "g0002")[:2] == ("PROMOTE", "shadow")
    second = advance(layout, since=first.number, stages=BOTH, by="ada", reasons=["fine"])
    assert told(layout, "g0002")[:2] == ("ADVANCE", "canary")
    assert (holder(layout), on_stage(layout)) == ("g0001", "g0002 canary")
    advance(layout, since=second.number, stages=BOTH, by="ada", reasons=["fine"])
    assert (holder(layout), on_stage(layout)) == ("g0002", None)
    assert [one.champion for one in history(layout)] == ["g0001"] * 3 + ["g0002"]


def test_a_stage_that_was_looked_at_before_another_entry_came_is_not_acted_on(
    layout: Layout,
) -> None:
    entry = staged(layout)
    advance(layout, since=entry.number, stages=BOTH, by="ada", reasons=["fine"])
    for act in (
        lambda: advance(layout, since=entry.number, stages=BOTH, by="bob", reasons=["fine"]),
        lambda: stop(layout, since=entry.number, by="bob", reasons=["rude"]),
    ):
        with pytest.raises(PromotionError, match="is over: g0002 is on canary by now"):
            act()


def test_a_rollback_ends_a_stage_and_gives_the_title_back(layout: Layout) -> None:
    enter(layout, "g0001")
    enter(layout, "g0002")
    enter(layout, "g0003", stages=BOTH)
    rollback(layout, by="ada", reason="complaints")
    assert (holder(layout), on_stage(layout)) == ("g0001", None)
    assert told(layout, "g0003") == ("STOP", "", ["complaints"])
    assert [one.action for one in history(layout)[-2:]] == ["STOP", "ROLLBACK"]
    again = enter(layout, "g0003", evidence="measured again", stages=BOTH)
    assert again.awaiting  # who was rolled back comes back by a person's yes alone


def test_a_rollback_of_the_first_champion_ends_the_stage_alone(layout: Layout) -> None:
    staged(layout)
    assert rollback(layout, by="ada", reason="complaints").action == "STOP"
    assert (holder(layout), on_stage(layout)) == ("g0001", None)
    with pytest.raises(PromotionError, match="first champion"):
        rollback(layout, by="ada", reason="complaints")


def test_who_was_stopped_comes_back_by_a_persons_yes_and_begins_anew(layout: Layout) -> None:
    entry = staged(layout)
    stop(layout, since=entry.number, by="ada", reasons=["rude"])
    assert enter(layout, "g0002", stages=BOTH).number == entry.number  # the same step again
    assert on_stage(layout) is None
    assert enter(layout, "g0002", evidence="measured again", stages=BOTH).awaiting
    approve(layout, "g0002", by="ada", reason="read", stages=BOTH)
    assert (holder(layout), on_stage(layout)) == ("g0001", "g0002 shadow")


def test_a_new_challenger_or_champion_takes_the_place_of_who_is_on_a_stage(
    layout: Layout,
) -> None:
    staged(layout)
    enter(layout, "g0003", stages=BOTH)
    assert on_stage(layout) == "g0003 shadow"
    enter(layout, "g0004")
    assert (holder(layout), on_stage(layout)) == ("g0004", None)
    assert told(layout, "g0002") == ("STOP", "", ["g0003 takes its place"])
    assert told(layout, "g0003") == ("STOP", "", ["g0004 takes its place"])
    assert [one.action for one in history(layout)] == [
        *("PROMOTE", "PROMOTE", "STOP", "PROMOTE", "STOP", "PROMOTE")
    ]
    assert [one.champion for one in history(layout)] == ["g0001"] * 5 + ["g0004"]


def test_who_is_approved_takes_the_place_of_who_is_on_a_stage_and_the_ledger_says_so(
    layout: Layout,
) -> None:
    staged(layout)
    enter(layout, "g0003", human_approval=True, stages=BOTH)
    assert on_stage(layout) == "g0002 shadow"  # who waits for a person displaces nobody
    approve(layout, "g0003", by="ada", reason="read", stages=BOTH)
    assert on_stage(layout) == "g0003 shadow"
    assert told(layout, "g0002") == ("STOP", "", ["g0003 takes its place"])


def test_who_is_judged_again_on_a_stage_is_not_stopped_by_itself(layout: Layout) -> None:
    staged(layout)
    enter(layout, "g0002", evidence="measured again", stages=BOTH)
    assert on_stage(layout) == "g0002 shadow"
    assert [one.action for one in history(layout)] == ["PROMOTE"] * 3


def test_weights_that_were_replaced_on_a_stage_do_not_go_on(layout: Layout) -> None:
    entry = staged(layout)
    lay(layout, "g0002", "others")
    with pytest.raises(PromotionError, match="materialize held_out_evaluation"):
        advance(layout, since=entry.number, stages=BOTH, by="ada", reasons=["fine"])
    assert stop(layout, since=entry.number, by="ada", reasons=["others"]).action == "STOP"


def test_stages_are_set_by_name_and_in_order() -> None:
    for wrong in (["canary", "shadow"], ["beta"], ["shadow", "shadow"]):
        with pytest.raises(SettingsError, match=r"\[serve\] stages"):
            ServeSettings(stages=wrong)


def outcomes(rows: list[dict[str, Any]], settings: ServeSettings = HALF) -> list[float]:
    return canary_outcomes(rows, entry_of("canary"), "old", settings)[0]


def test_users_of_the_canary_are_set_against_users_of_the_champion() -> None:
    rows = [
        said("a", "canary", "up", 1),
        said("b", "champion", "down", 2),
        said("c", "canary", "up", 3),
        said("d", "champion", "up", 4),
        said("e", "canary", "down", 5),  # waits for another user of the champion
    ]
    assert outcomes(rows) == [1.0, 0.5]
    thirds = ServeSettings(stages=["canary"], canary_share=0.3)  # two of them for one
    assert outcomes(rows, thirds) == [0.75]


def test_ratings_count_from_0_to_1() -> None:
    rated = {"what": "rating", "value": 4, "scale": [1, 5]}
    rows = [said("a", "canary", "", 1, **rated), said("b", "champion", "down", 2)]
    assert outcomes(rows) == [0.875]


@pytest.mark.parametrize(
    ("value", "scale"),
    [
        (0, [-math.inf, math.inf]),
        (math.nan, [0, 1]),
        (1e308, [-1e308, 1e308]),
        (10**400, [0, 10**401]),
        (0, [0, 0]),
    ],
    ids=["infinite", "no number", "width of no number", "beyond floats", "of no width"],
)
def test_a_rating_on_no_scale_is_counted_and_changes_no_outcome(
    value: float, scale: list[float]
) -> None:
    rows = [said("a", "canary", "up", 1), said("b", "champion", "down", 2)]
    poison = said("x", "canary", "", 0, what="rating", value=value, scale=scale)
    found, arms, unusable = canary_outcomes([poison, *rows], entry_of("canary"), "old", HALF)
    assert (found, arms, unusable) == ([1.0], {"canary": 1, "champion": 1}, 1)
    assert judge(found, HALF)[0] == "WAIT"


@pytest.mark.parametrize(
    "changes",
    [
        {"is_own": False},
        {"author_kind": "model"},
        {"what": "comment"},
        {"propensity": 1.0},
        {"answered_at": "2025-12-31T00:00:00+00:00"},
        {"content_hash": "of another"},
        {"stage": "shadow"},
    ],
)
def test_what_is_no_users_word_on_an_answer_to_himself_on_this_stage_counts_for_nothing(
    changes: dict[str, Any],
) -> None:
    rows = [said("a", "canary", "up", 1), said("b", "champion", "down", 2)]
    assert outcomes(rows) == [1.0]
    assert outcomes([rows[0] | changes, rows[1]]) == []


def test_a_flood_of_one_author_counts_once() -> None:
    honest = [
        said(f"{arm} {n}", arm, "up", 2 * n + (arm == "canary"))
        for n in range(40)
        for arm in ("canary", "champion")
    ]
    flood = [said("ring", "canary", "down", 100 + n) for n in range(1000)]
    assert len(outcomes(honest + flood)) == 40
    assert outcomes(honest + flood) == outcomes(honest)  # his one outcome waits for a partner
    assert judge(outcomes(honest + flood), HALF)[0] == judge(outcomes(honest), HALF)[0]


def test_what_a_user_says_later_changes_no_outcome() -> None:
    rows = [said("a", "canary", "up", 1), said("b", "champion", "down", 2)]
    assert outcomes([*rows, said("a", "canary", "down", 3)]) == outcomes(rows)
    twice = ServeSettings(stages=["canary"], canary_share=0.5, per_user=2)
    assert outcomes(rows, twice) == []
    more = [*rows, said("a", "canary", "down", 3), said("b", "champion", "down", 4)]
    assert outcomes(more, twice) == [0.75]


def shadowed(user: str | None, mine: float | None, theirs: float, minute: int) -> dict[str, Any]:
    at = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(minutes=minute)
    scores = {"shadow": mine, "champion": theirs}
    row = {"stage": "shadow", "content_hash": "new", "at": at.isoformat(), "user": user}
    return row | {"scores": scores}


def test_the_command_tells_of_shadows_that_could_not_be_compared(
    in_home: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    staged(in_home)
    log = ServedLog(in_home.served)
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    log.append(shadowed("a", None, 1.0, 1) | {"content_hash": hash_of("g0002"), "at": later})
    log.close()
    assert main(["canary"]) == 0
    assert "1 lines could not be compared" in capsys.readouterr().out


def test_a_shadow_is_compared_by_the_scores_of_both_answers_one_outcome_a_user() -> None:
    rows = [
        shadowed("a", 2.0, 1.0, 1),
        shadowed("a", 0.0, 1.0, 2),
        shadowed("b", 1.0, 1.0, 3),
        shadowed("c", 0.0, 1.0, 4),
        shadowed("d", None, 1.0, 5),  # too long to score: no defeat
        shadowed(None, 2.0, 1.0, 6),
        {"stage": "champion", "content_hash": "old", "at": "2026-01-02", "user": "e"},
    ]
    assert shadow_outcomes(rows, entry_of("shadow"), SETTINGS) == ([1.0, 0.5, 0.0], 1)


def test_what_is_worse_is_stopped_and_what_is_as_good_goes_on_and_between_waits() -> None:
    assert judge([], SETTINGS)[0] == "WAIT"
    assert judge([0.0] * 10, SETTINGS)[0] == "STOP"  # harm needs no least number of users
    assert judge([1.0] * 29, SETTINGS)[0] == "WAIT"
    assert judge([1.0] * 30, SETTINGS)[0] == "ADVANCE"
    assert judge([1.0, 0.0] * 20, SETTINGS)[0] == "WAIT"
    assert judge([1.0, 0.0] * 2000, SETTINGS)[0] == "ADVANCE"  # no worse than by the margin


def test_looking_often_stops_no_equal_and_sends_no_worse_one_on_more_often_than_the_level() -> None:
    equal = fates(0.6, 0.6, runs=100, looks=10, users=300)
    assert equal["STOP"] <= 100 * 0.05 + 2 * np.sqrt(100 * 0.05 * 0.95)
    worse = fates(0.55, 0.65, runs=100, looks=10, users=300)  # by the margin: half of .1
    assert worse["ADVANCE"] <= 100 * 0.05 + 2 * np.sqrt(100 * 0.05 * 0.95)
    assert fates(0.2, 0.7, runs=20, looks=10, users=300)["STOP"] >= 18


def test_the_simulation_shows_what_looking_often_does_to_a_test_of_fixed_size() -> None:
    peeked = fates(0.6, 0.6, runs=100, looks=20, users=400, verdict=by_z)
    assert peeked["STOP"] > 100 * 0.05 + 2 * np.sqrt(100 * 0.05 * 0.95)


def give(layout: Layout, entry: Entry, thumbs: dict[str, str], users: int = 60) -> None:
    """Feedback of users of both arms, on the disk."""
    log = ServedLog(layout.served / FOLDER)
    later = datetime.now(UTC) + timedelta(minutes=1)
    for n in range(users):
        arm = ("canary", "champion")[n % 2]
        weights = "g0002" if arm == "canary" else "g0001"
        at = (later + timedelta(seconds=n)).isoformat()
        row = said(f"u{n}", arm, thumbs[arm], n, at=at, answered_at=at)
        log.append(row | {"content_hash": hash_of(weights)})
    log.close()


def test_harm_on_the_disk_stops_the_canary_and_the_ledger_says_why(layout: Layout) -> None:
    entry = staged(layout, ["canary"])
    give(layout, entry, {"canary": "down", "champion": "up"})
    seen, stopped = decide_stage(layout, HALF)
    assert seen and stopped and stopped.action == "STOP" and stopped.by == "online statistic"
    assert re.search(r"over 30 users: shown to be worse", stopped.reasons[0])
    assert (holder(layout), on_stage(layout)) == ("g0001", None)
    assert look(layout, HALF) is None and decide_stage(layout, HALF) == (None, None)


@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_what_a_running_stage_counts_is_kept_past_its_time_until_the_stage_ends(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    began = datetime.now(UTC) - timedelta(days=40)

    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return began

    with monkeypatch.context() as before:
        before.setattr("flywheel.lake.chain.datetime", Then)
        entry = staged(layout, [stage])
    folders = {"shadow": layout.served, "canary": layout.served / FOLDER}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
        for days in (-3, 1, 20):  # one before the stage began; all over their time
            at = (began + timedelta(days=days)).isoformat(timespec="milliseconds")
            row = said(f"u{days}", "canary", "up", at=at, answered_at=at)
            row |= {"content_hash": entry.content_hash, "user": f"u{days}", "consent": days > 1}
            row |= {"scores": {"shadow": 1.0, "champion": 0.0}, "withheld": "x"}
            (folder / f"{at[:10]}-7.jsonl").write_text(json.dumps(row) + "\n")
    settings = ServeSettings(
        stages=[stage], canary_share=0.5, keep_days=10, keep_days_without_consent=5
    )
    counted = look(layout, settings)
    assert counted and sum(counted.users_by_arm.values()) == 2
    gone = forget_served(layout, settings)
    assert gone and sum(gone.removed[f"{one}_lines"] for one in ("served", "feedback")) == 4
    (told,) = gone.left
    assert re.match(rf"\w+ lines since {re.escape(entry.at)} whose time is over: the {stage}", told)
    assert "of g0002 (entry 2 of the ledger) counts them, and they go once it is over" in told
    assert look(layout, settings) == counted, "nobody is counted anew, and nobody is lost"
    assert forget_served(layout, settings) is None, "it is told of once"
    stop(layout, since=entry.number, by="ada", reasons=["slow"])
    after = forget_served(layout, settings)
    assert after and not after.left and sum(after.removed.values()) == 4, "two lines in two files"
    assert not list(folders[stage].glob("[0-9]*"))


def test_a_job_looks_where_more_was_served_and_gives_the_title_to_who_is_no_worse(
    layout: Layout,
) -> None:
    entry = staged(layout, ["canary"])
    home = Home(root=str(layout.root))
    layout.root.joinpath("settings.toml").write_text(
        '[serve]\nstages = ["canary"]\ncanary_share = 0.5\n'
    )

    def tick(cursor: str | None) -> Any:
        context = dg.build_sensor_context(cursor=cursor, resources={"home": home})
        return more_was_served(context), context.cursor

    give(layout, entry, {"canary": "up", "champion": "down"}, users=70)
    asked, cursor = tick(None)
    assert isinstance(asked, dg.RunRequest)
    assert isinstance(tick(cursor)[0], dg.SkipReason)
    done = dg.materialize(
        [serving_stage, dg.AssetSpec(CHAMPION)],
        selection=[serving_stage],
        resources={"home": home},
    )
    (made,) = done.asset_materializations_for_node(serving_stage.op.name)
    assert made.metadata["verdict"].value == "ADVANCE"
    assert holder(layout) == "g0002"
    decision = latest_decision(layout, "g0002")
    assert decision and decision["by"] == "online statistic"
    assert isinstance(tick(cursor)[0], dg.SkipReason)  # nobody is on a stage any more


def test_who_may_not_approve_may_not_send_on_a_stage_either_but_may_stop(layout: Layout) -> None:
    entry = staged(layout)
    who: dict[str, Any] = {"since": entry.number, "by": "mallory", "reasons": ["mine"]}
    with pytest.raises(PromotionError, match=r"mallory may not decide: \[gate\] approvers"):
        advance(layout, stages=BOTH, approvers=["ada"], **who)
    assert on_stage(layout) == "g0002 shadow"
    assert stop(layout, **who).action == "STOP"


@pytest.fixture
def in_home(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    monkeypatch.setattr("flywheel.cli.home", lambda: Home(root=str(layout.root)))
    yield layout


def test_the_command_shows_a_stage_and_ends_it_with_a_name_and_a_reason(
    in_home: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    staged(in_home)
    assert main(["canary", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["stage"]["stage"] == "shadow" and told["stage"]["verdict"] == "WAIT"
    in_home.root.joinpath("settings.toml").write_text('[gate]\napprovers = ["grace"]\n')
    assert main(["canary", "advance", "--by", "ada", "--reason", "fine"]) == 1
    assert "approvers in settings.toml are grace" in capsys.readouterr().err
    assert main(["canary", "stop"]) == 1
    assert "needs a reason" in capsys.readouterr().err
    assert main(["canary", "stop", "--by", "ada", "--reason", "rude"]) == 0
    assert on_stage(in_home) is None
    assert (history(in_home)[-1].by, history(in_home)[-1].reasons) == ("ada", ["rude"])
