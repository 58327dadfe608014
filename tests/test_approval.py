"""A person's word on a challenger that waits: who may, on what, and what the asset graph shows."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from assets.champion import (
    CHAMPION,
    after_the_word,
    champion,
    judge_challenger,
    word_of_a_person,
)
from assets.evaluation import REPORT, evaluation_report
from assets.lineage import MODEL_CARD
from assets.promotion import GATE_DECISION
from assets.resources import Home
from flywheel.errors import PromotionError
from flywheel.layout import Layout
from flywheel.promotion import Ledger, approve, history, latest_decision, reject, rollback
from tests.test_promotion import HOLD, enter, hash_of, holder, lay

EVIDENCE = {
    "policy": {"win_rate": 0.7, "ci": [0.6, 0.8], "se": 0.05, "opponent": "base", "groups": 90},
    "policy_content_hash": hash_of("g0002"),
}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def waiting(layout: Layout) -> int:
    """g0001 reigns and g0002 waits for a person: number of the entry it waits on."""
    enter(layout, "g0001")
    return enter(layout, "g0002", evidence=EVIDENCE, human_approval=True).number


def test_a_word_needs_a_reason(layout: Layout) -> None:
    waiting(layout)
    for act in (approve, reject):
        with pytest.raises(PromotionError, match="needs a reason"):
            act(layout, "g0002", by="ada", reason=" ")
    with pytest.raises(PromotionError, match="needs a reason"):
        rollback(layout, by="ada", reason="")
    assert len(history(layout)) == 2


def test_only_approvers_may_where_there_are_any(layout: Layout) -> None:
    waiting(layout)
    for act in (approve, reject):
        with pytest.raises(PromotionError, match=r"eve may not decide: .* ada, bob"):
            act(layout, "g0002", by="eve", reason="read", approvers=["ada", "bob"])
    entry = approve(layout, "g0002", by="bob", reason="read 50", approvers=["ada", "bob"])
    assert (entry.by, entry.reasons) == ("bob", ["read 50"])


def test_a_second_yes_says_who_gave_the_first(layout: Layout) -> None:
    waiting(layout)
    approve(layout, "g0002", by="ada", reason="read")
    with pytest.raises(PromotionError, match=r"its last entry is APPROVE, by ada at 20"):
        approve(layout, "g0002", by="bob", reason="read too")


def test_a_yes_after_a_newer_decision_of_the_gate_is_refused(layout: Layout) -> None:
    number = waiting(layout)
    enter(layout, "g0002", evidence=EVIDENCE | {"again": 1}, human_approval=True)
    with pytest.raises(PromotionError, match=r"since entry 2 .* waits on entry 3"):
        approve(layout, "g0002", by="ada", reason="read", decision=number)
    enter(layout, "g0002", HOLD, evidence=EVIDENCE | {"again": 2})
    with pytest.raises(PromotionError, match="its last entry is HOLD"):
        approve(layout, "g0002", by="ada", reason="read")
    assert holder(layout) == "g0001"


@pytest.mark.parametrize("what", ["weights", "manifest", "report"])
def test_what_was_replaced_since_it_was_judged_is_not_approved(layout: Layout, what: str) -> None:
    waiting(layout)
    folder = layout.checkpoint("policy", "g0002")
    if what == "weights":  # the manifest still says what it said
        (folder / "weights").write_text("others")
    elif what == "manifest":  # it lists the new file, and keeps the hash that was judged
        hashed = (folder / "manifest.json").read_text().split('"content_hash": "')[1][:64]
        lay(layout, "g0002", "others")
        manifest = (folder / "manifest.json").read_text()
        new = manifest.split('"content_hash": "')[1][:64]
        (folder / "manifest.json").write_text(manifest.replace(new, hashed))
    else:
        (layout.evaluation("g0002") / "result.json").write_text("{}")
    with pytest.raises(PromotionError, match="materialize held_out_evaluation"):
        approve(layout, "g0002", by="ada", reason="read")
    assert holder(layout) == "g0001"


def test_two_challengers_that_are_judged_at_once_are_not_both_the_first(layout: Layout) -> None:
    enter(layout, "g0001")
    script = (
        "import sys, time; from pathlib import Path; from flywheel.layout import Layout;"
        "from flywheel.promotion import Decision, decide_and_record\n"
        "def decided(number):\n"
        "    time.sleep(1)\n"
        "    return Decision(decision='HOLD', reasons=[f'challenger {number}'])\n"
        "root, generation, champion = sys.argv[1:]\n"
        "decide_and_record(Layout(Path(root)), generation, decided, content_hash=generation,"
        " compared_with=champion, human_approval=False)"
    )
    reigning = history(layout)[0].content_hash
    for generation in ("g0002", "g0003"):
        folder = layout.evaluation(generation)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(generation)
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(layout.root), name, reigning])
        for name in ("g0002", "g0003")
    ]
    assert [one.wait() for one in running] == [0, 0]
    said = [one.reasons[0] for one in Ledger(layout).entries()[1:]]
    assert sorted(said) == ["challenger 1", "challenger 2"]


@pytest.fixture
def instance() -> dg.DagsterInstance:
    made = dg.DagsterInstance.ephemeral()
    made.add_dynamic_partitions("generation", ["g0001", "g0002"])
    return made


def crown(layout: Layout, instance: dg.DagsterInstance, generation: str) -> dict[str, object]:
    """Run `champion` as a turn does: what its check and its materialization say."""
    done = dg.materialize(
        [champion, dg.AssetSpec(GATE_DECISION), dg.AssetSpec(MODEL_CARD)],
        selection=[champion],
        partition_key=generation,
        instance=instance,
        resources={"home": Home(root=str(layout.root))},
    )
    (check,) = done.get_asset_check_evaluations()
    made = done.asset_materializations_for_node(champion.op.name)
    metadata = {name: one.value for name, one in made[0].metadata.items()} if made else None
    told = {name: one.value for name, one in check.metadata.items()}
    return {"passed": check.passed, "made": metadata, "told": told}


def test_a_run_ends_with_the_title_not_given_and_shows_what_there_is_to_read(
    layout: Layout, instance: dg.DagsterInstance
) -> None:
    number = waiting(layout)
    first = crown(layout, instance, "g0001")
    assert first["made"]["by"] == "gate"  # type: ignore[index]
    enter(layout, "g0003", HOLD)
    instance.add_dynamic_partitions("generation", ["g0003"])
    third = crown(layout, instance, "g0003")  # the check is of all: who waits is not covered up
    assert not third["passed"] and third["told"]["who_waits"] == "g0002"  # type: ignore[index]
    second = crown(layout, instance, "g0002")
    assert not second["passed"] and second["made"] is None
    told = second["told"]
    assert isinstance(told, dict)
    assert told["win_rate"] == 0.7 and told["entry"] == number and "better" in told["reasons"]
    assert told["report"].endswith("g0002/report.html") and "g0002.md" in told["model_card"]
    assert f"approve g0002 --decision {number}" in told["to_decide"]


def test_a_word_from_the_ui_is_seen_by_the_sensor_which_goes_on(
    layout: Layout, instance: dg.DagsterInstance
) -> None:
    waiting(layout)
    home = Home(root=str(layout.root))

    def tick(cursor: str | None) -> dg.SensorResult | dg.SkipReason:
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor, resources={"home": home}
        )
        return word_of_a_person(context)

    quiet = tick(None)
    assert isinstance(quiet, dg.SensorResult) and not quiet.run_requests
    config = {"generation": "g0002", "verdict": "approve", "by": "ada", "reason": "read 50"}
    done = judge_challenger.execute_in_process(
        run_config={"ops": {"carry_out_verdict": {"config": config}}}, resources={"home": home}
    )
    assert done.success and holder(layout) == "g0002"
    seen = tick(quiet.cursor)
    assert isinstance(seen, dg.SensorResult)
    (request,) = seen.run_requests or []
    assert request.partition_key == "g0002" and request.run_key == "entry-3"
    assert isinstance(tick(seen.cursor), dg.SkipReason)
    after = crown(layout, instance, "g0002")
    made = after["made"]
    assert after["passed"] and isinstance(made, dict)
    assert (made["by"], made["why"], made["decision"]) == ("ada", "read 50", "APPROVE")
    asked = after_the_word.selection.resolve([champion, evaluation_report])
    assert {CHAMPION, REPORT} <= asked


def test_who_is_declined_stays_without_the_title(
    layout: Layout, instance: dg.DagsterInstance
) -> None:
    waiting(layout)
    reject(layout, "g0002", by="ada", reason="rude")
    assert crown(layout, instance, "g0001")["passed"]
    said = latest_decision(layout, "g0002")
    assert said and said["decision"] == "DECLINE"
    shown = crown(layout, instance, "g0002")
    assert not shown["passed"] and shown["made"] is None
