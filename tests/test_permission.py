"""What data allows today: at the gate, of who answers, in the UI and on the command line."""

import gzip
import hashlib
import json
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import openai
import pytest

from assets.champion import CHAMPION, judge_challenger
from assets.partitions import generations
from assets.promotion import GATE_DECISION, gate_decision
from assets.resources import Home
from assets.rights import data_may_still_be_used, erase_records, served_log
from assets.serving import serving_stage
from flywheel.cli import main
from flywheel.erasure.run import erase
from flywheel.errors import LineageError, PromotionError
from flywheel.ingest import land
from flywheel.layout import Layout
from flywheel.lineage import Reading, against_its_use, forbidden_by
from flywheel.models.publish import publish
from flywheel.process.results import seal
from flywheel.promotion import (
    Decision,
    approve,
    decide_and_record,
    history,
    rollback,
    standing,
    title_holder,
)
from flywheel.promotion.permission import told_of
from flywheel.serve.engine import Loaded
from flywheel.serve.feedback import FOLDER
from flywheel.serve.log import ServedLog
from flywheel.serve.permitted import Permitted
from flywheel.serve.settings import ServeSettings
from flywheel.serve.watch import AGAIN_SECONDS, Stand, Watch
from tests.benchmarks.canaries import said as thumbed
from tests.test_gate import result
from tests.test_lineage import checkpoint, uids_of
from tests.test_promotion import enter
from tests.test_serve import ASK, call, models, promote, serving, until

__all__ = ["models"]  # a fixture
SERVE = Reading(use="serve_commercial")


def deliver(layout: Layout, folder: str, name: str, *rows: dict[str, Any]) -> None:
    path = layout.inbox / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    land([layout.inbox], layout, log=lambda line: None)


def said(number: int, licence: str, **more: Any) -> dict[str, Any]:
    told = {"prompt": f"what is {number}", "response": f"it is {number}", "licence": licence}
    return {"kind": "demonstration", "id": f"demo-{number}", "annotator_id": "ada"} | told | more


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Three records: one under a consent, one of another person, one not for customers."""
    layout = Layout(tmp_path)
    consent = {"metadata": {"consent": "c-1"}}
    bob = {"annotator_id": "bob"}
    rows = (said(0, "own", **consent), said(1, "own", **bob), said(2, "CC-BY-NC-4.0", **bob))
    uses = ["evaluate", "train_internal", "serve_commercial"]
    deliver(layout, "consents", "said.jsonl", {"consent_id": "c-1", "uses": uses})
    deliver(layout, "desk", "a.jsonl", *rows)
    return layout


def withdraw(layout: Layout) -> None:
    back = {"consent_id": "c-1", "withdrawn_at": "2026-01-02"}
    deliver(layout, "consents", "back.jsonl", back)


def judged(layout: Layout, home: Home) -> tuple[str, str]:
    """What the gate says of g0001, which would win, and why."""
    evidence = layout.evaluation("g0001") / "result.json"
    evidence.parent.mkdir(parents=True, exist_ok=True)
    manifest = json.loads((layout.checkpoint("policy", "g0001") / "manifest.json").read_text())
    facts = result(se=0.02) | {"policy_content_hash": manifest["content_hash"]}
    evidence.write_text(json.dumps(facts))
    seal(evidence)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(str(generations.name), ["g0001"])
        dg.materialize(
            [gate_decision],
            partition_key="g0001",
            instance=instance,
            resources={"home": home},
            selection=[GATE_DECISION],
        )
    last = history(layout)[-1]
    return last.action, "; ".join(last.reasons)


def taught(layout: Layout, number: int) -> None:
    """A policy that saw bob's free record, and whose parent saw another."""
    uids = uids_of(layout)
    sft = checkpoint(layout, "sft_policy", {uids[f"demo-{number}"]: 2}, [])
    checkpoint(layout, "policy", {uids["demo-1"]: 1}, [sft])


def test_the_gate_turns_down_who_descends_from_a_record_whose_consent_was_taken_back(
    layout: Layout,
) -> None:
    home = Home(root=str(layout.root))
    taught(layout, 0)
    assert judged(layout, home)[0] == "PROMOTE", "as long as the consent stands"
    withdraw(layout)
    action, why = judged(layout, home)
    assert action == "REJECT" and why.startswith("rights of its data: policy/g0001 was trained")
    assert (
        "consent c-1 allows nothing: 1 records of desk, e.g. demo-0 (desk/a.jsonl, line 1)" in why
    )
    assert "Take a turn" in why and "roll back" in why, "the remedy"


def test_the_gate_turns_down_a_licence_that_does_not_allow_what_is_asked_for(
    layout: Layout,
) -> None:
    home = Home(root=str(layout.root))
    taught(layout, 2)
    assert judged(layout, home)[0] == "PROMOTE", "no use is asked for"
    (layout.root / "settings.toml").write_text('[licences]\nuse = "serve_commercial"\n')
    action, why = judged(layout, home)
    assert action == "REJECT" and "used to serve_commercial" in why
    assert "licence CC-BY-NC-4.0 allows evaluate, train_internal: 1 records of desk" in why
    own = '[licences.own]\n"CC-BY-NC-4.0" = {uses = ["serve_commercial"]}\n'
    (layout.root / "settings.toml").write_text(f'[licences]\nuse = "serve_commercial"\n{own}')
    assert judged(layout, home)[0] == "PROMOTE", "where the team reads it otherwise"


def test_what_is_landed_no_longer_and_a_base_that_forbids_it_count_where_a_use_is_asked_for(
    layout: Layout,
) -> None:
    base = {"model": "/elsewhere/llama", "content_hash": "f" * 64}
    checkpoint(layout, "policy", {"0" * 32: 1}, [base])
    assert against_its_use(layout, "policy/g0001", Reading()) == ""
    told = against_its_use(
        layout, "policy/g0001", Reading(use="serve_commercial", base="CC-BY-NC-4.0")
    )
    assert "landed no longer, so that nobody knows its terms: 1 records, e.g. 0000" in told
    assert "base model llama (ffffffffffff) allows evaluate, train_internal" in told
    with pytest.raises(LineageError, match="no checkpoint is called"):
        against_its_use(layout, "policy/g0009", SERVE)


def test_what_was_erased_may_not_be_used_whatever_its_licence_was(layout: Layout) -> None:
    taught(layout, 1)
    erase(layout, "annotator", "bob", by="dee", reason="asked", log=lambda line: None)
    told = against_its_use(layout, "policy/g0001", Reading())
    assert "erased, so that nothing may be made of it: 1 records" in told


def test_the_check_in_the_ui_and_the_status_tell_of_a_champion_that_may_not_be_used(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(root=str(layout.root))

    def check() -> dg.AssetCheckResult:
        return data_may_still_be_used(home=home)  # type: ignore[return-value]

    assert check().passed, "there is no champion yet"
    taught(layout, 0)
    content = json.loads((layout.checkpoint("policy", "g0001") / "manifest.json").read_text())
    enter(layout, "g0001", content_hash=content["content_hash"])
    assert check().passed
    withdraw(layout)
    assert not check().passed and "consent c-1 allows nothing" in str(check().description)
    monkeypatch.setattr("flywheel.cli.home", lambda: home)
    capsys.readouterr()
    assert main(["status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "consent c-1 allows nothing" in told["may_not_be_used"]
    assert main(["status"]) == 0 and "consent c-1" in capsys.readouterr().out


def test_a_served_champion_is_told_of_or_refused_once_a_consent_is_taken_back(
    layout: Layout, models: Path
) -> None:
    promote(layout, models, "g0001")
    folder = layout.checkpoint("policy", "g0001")
    manifest = json.loads((folder / "manifest.json").read_text())
    data = gzip.compress(f"{uids_of(layout)['demo-0']}\t2\n".encode())
    (folder / "records.gz").write_bytes(data)
    # what a checkpoint was trained on stands beside its weights, and is no part of their hash
    manifest["records"] = {"file": "records.gz", "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with serving(layout) as (port, api):
        assert call(port, "GET", "/health")[1]["may_not_be_used"] is None
        withdraw(layout)
        until(lambda: call(port, "GET", "/health")[1]["may_not_be_used"])
        status, health = call(port, "GET", "/health")
        assert status == 200 and "consent c-1" in health["may_not_be_used"]["g0001"]
        assert api.chat.completions.create(**ASK).model == "g0001", "told, and answered"
    with serving(layout, forbidden="refuse") as (port, api):
        assert call(port, "GET", "/health")[0] == 503
        with pytest.raises(openai.InternalServerError, match="consent c-1 allows nothing"):
            api.chat.completions.create(**ASK)
    alerts = (layout.registry / "alerts.jsonl").read_text()
    assert "consent c-1 allows nothing" in alerts


def test_erasing_from_the_command_line_and_from_dagster(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(root=str(layout.root))
    monkeypatch.setattr("flywheel.cli.home", lambda: home)
    taught(layout, 0)
    capsys.readouterr()
    assert main(["erase", "--annotator", "ada", "--dry-run", "--json"]) == 0
    would = json.loads(capsys.readouterr().out)
    assert would["removed"]["records"] == 1 and uids_of(layout).keys() >= {"demo-0"}
    assert main(["erase", "--annotator", "ada"]) == 1
    assert "give --by and --reason" in capsys.readouterr().err
    assert main(["erase", "--annotator", "ada", "--by", "dee", "--reason", "asked"]) == 0
    out = capsys.readouterr().out
    assert "erasure 1, by dee" in out and "sft_policy/g0001 saw 1 of them, 2 times" in out
    assert "descend from these: policy/g0001" in out and "demo-0" not in uids_of(layout)
    assert main(["erase", "--record", "demo-9", "--by", "dee", "--reason", "x"]) == 1
    assert "nothing here is of record 'demo-9'" in capsys.readouterr().err
    asked = {"what": "annotator", "name": "bob", "by": "dee", "reason": "asked"}
    done = erase_records.execute_in_process(
        run_config={"ops": {"take_out": {"config": asked}}}, resources={"home": home}
    )
    assert done.success and not uids_of(layout)


def test_the_nightly_asset_finishes_and_forgets(layout: Layout) -> None:
    (layout.root / "settings.toml").write_text("[serve]\nkeep_days = 30\n")
    layout.served.mkdir()
    old = {"response_id": "r", "at": "2025-01-01T00:00:00+00:00", "consent": True}
    (layout.served / "2025-01-01-7.jsonl").write_text(json.dumps(old) + "\n")
    done = dg.materialize(
        [served_log], resources={"home": Home(root=str(layout.root))}, selection=[served_log]
    )
    (made,) = done.asset_materializations_for_node("promotion__served_log")
    assert made.metadata["removed"].value == {"served_lines": 1, "served_files": 1}
    assert made.metadata["files"].value == 0


def test_what_is_not_known_counts_against_a_use_that_is_asked_for(layout: Layout) -> None:
    base = {"model": "some/base", "content_hash": ""}
    uids = uids_of(layout)
    sft = checkpoint(layout, "sft_policy", {uids["demo-0"]: 1}, [])
    checkpoint(layout, "policy", {uids["demo-1"]: 1}, [sft, base])
    for name in (None, "a-licence-in-no-table"):
        assert against_its_use(layout, "policy/g0001", Reading(base=name)) == "", "no use is asked"
        told = against_its_use(layout, "policy/g0001", Reading(use="serve_commercial", base=name))
        assert "not known, and so good to evaluate alone: base model base (hub); of a model" in told
        assert "set [licences] base to its licence" in told, "the remedy"
        assert against_its_use(layout, "policy/g0001", Reading(use="evaluate", base=name)) == ""
    free = Reading(use="serve_commercial", base="Apache-2.0")
    assert against_its_use(layout, "policy/g0001", free) == ""
    own = {"a-licence-in-no-table": {"uses": ["serve_commercial"]}}
    licensed = Reading(use="serve_commercial", base="a-licence-in-no-table", licences=own)
    assert against_its_use(layout, "policy/g0001", licensed) == ""
    shutil.rmtree(layout.checkpoint("sft_policy", "g0001"))
    for path in layout.lineage("record_checkpoints").glob("sft_policy.*"):
        path.unlink()  # nor do the edges say any more what it saw
    told = against_its_use(layout, "policy/g0001", free)
    assert "what sft_policy/g0001@" in told and "restore its folder or train again" in told
    assert against_its_use(layout, "policy/g0001", Reading()) == ""
    checkpoint(layout, "policy", {}, [])
    assert "no record is behind it" in against_its_use(layout, "policy/g0001", SERVE)


def decided(layout: Layout, generation: str, **options: Any) -> None:
    """A policy that saw ada's record, promoted by the gate while her consent stood."""
    folder = layout.checkpoint("policy", generation)
    lines = f"{uids_of(layout)['demo-0']}\t1\n".encode()

    def write(draft: Path) -> None:
        (draft / "records.gz").write_bytes(gzip.compress(lines))
        (draft / "weights").write_text(generation)

    facts = {"records": {"file": "records.gz"}, "parents": [], "datasets": {"demonstration": "d"}}
    content = publish(folder, write, facts)["content_hash"]
    evidence = layout.evaluation(generation) / "result.json"
    evidence.parent.mkdir(parents=True)
    evidence.write_text('{"evaluation_sets": []}')
    now = title_holder(layout)
    decide_and_record(
        layout,
        generation,
        Decision(decision="PROMOTE", reasons=["better"]),
        content_hash=content,
        compared_with=now.content_hash if now else "",
        **{"human_approval": False} | options,
    )


def test_a_yes_is_refused_once_a_consent_was_taken_back_and_a_no_is_not(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(root=str(layout.root))
    monkeypatch.setattr("flywheel.cli.home", lambda: home)
    decided(layout, "g0001", human_approval=True)
    forbidden = forbidden_by(layout, home.settings)
    assert forbidden("g0001") == ""
    withdraw(layout)
    yes = {"generation": "g0001", "verdict": "approve", "by": "dee", "reason": "read"}
    with pytest.raises(PromotionError, match=r"g0001 can be declined .* consent c-1"):
        judge_challenger.execute_in_process(
            run_config={"ops": {"carry_out_verdict": {"config": yes}}}, resources={"home": home}
        )
    assert main(["approve", "g0001", "--by", "dee", "--reason", "read"]) == 1
    err = capsys.readouterr().err
    assert "e.g. demo-0" in err and "Take a turn" in err, "names and the remedy"
    assert title_holder(layout) is None and len(history(layout)) == 1
    with pytest.raises(PromotionError, match="may be used cannot be told: no checkpoint"):
        approve(layout, "g0001", by="dee", reason="r", forbidden=lambda _: forbidden("g0009"))
    assert main(["reject", "g0001", "--by", "dee", "--reason", "read"]) == 0


def test_nobody_is_sent_on_from_a_stage_on_data_that_was_taken_back(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(root=str(layout.root))
    monkeypatch.setattr("flywheel.cli.home", lambda: home)
    (layout.root / "settings.toml").write_text(
        '[serve]\nstages = ["canary"]\ncanary_share = 0.5\nleast_users = 1\n'
    )
    decided(layout, "g0001")
    decided(layout, "g0002", stages=["canary"])
    _, staged = standing(layout)
    assert staged is not None
    withdraw(layout)
    assert main(["canary", "advance", "--by", "dee", "--reason", "fine"]) == 1
    assert "g0002 can be declined or stopped, and not sent on" in capsys.readouterr().err
    log, later = ServedLog(layout.served / FOLDER), datetime.now(UTC) + timedelta(minutes=1)
    holder = title_holder(layout)
    assert holder is not None
    for n in range(80):
        at = (later + timedelta(seconds=n)).isoformat()
        arm, value, weights = (
            ("canary", "up", staged.content_hash)
            if n % 2
            else ("champion", "down", holder.content_hash)
        )
        row = thumbed(f"u{n}", arm, value, n, at=at, answered_at=at)
        log.append(row | {"content_hash": weights})
    log.close()
    assert main(["canary", "decide"]) == 1
    assert "consent c-1 allows nothing" in capsys.readouterr().err
    with pytest.raises(PromotionError, match="consent c-1 allows nothing"):
        dg.materialize(
            [serving_stage, dg.AssetSpec(CHAMPION)],
            selection=[serving_stage],
            resources={"home": home},
        )
    assert standing(layout)[1] == staged, "it stands where it stood"
    assert main(["canary", "stop", "--by", "dee", "--reason", "withdrawn"]) == 0


def test_a_rollback_to_data_that_was_taken_back_is_told_and_done(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(root=str(layout.root))
    monkeypatch.setattr("flywheel.cli.home", lambda: home)
    for generation in ("g0001", "g0002", "g0003"):
        decided(layout, generation)
    assert main(["rollback", "--by", "dee", "--reason", "rude"]) == 0
    assert history(layout)[-1].reasons == ["rude"], "as long as the consent stands"
    withdraw(layout)
    capsys.readouterr()
    assert main(["rollback", "--by", "dee", "--reason", "rude too"]) == 0
    told = capsys.readouterr().out
    assert "champion is now g0001" in told and "consent c-1 allows nothing" in told
    reasons = history(layout)[-1].reasons
    assert reasons[0] == "rude too" and "policy/g0001 was trained" in reasons[1]

    def broken(generation: str) -> str:
        raise RuntimeError(generation)

    decided(layout, "g0004")
    (layout.root / "settings.toml").write_text("[colect]\n")
    at_fault = forbidden_by(layout, home.settings)  # asks later, and tells then
    assert "cannot be told" in told_of("g0004", at_fault)
    entry = rollback(layout, by="dee", reason="rude", forbidden=broken)
    assert entry.champion == "g0001" and "cannot be told: RuntimeError('g0001')" in entry.reasons[1]


@pytest.mark.parametrize("policy", ["tell", "refuse"])
def test_a_new_champion_is_not_looked_at_yet_and_does_not_answer_till_then_where_that_is_refused(
    layout: Layout, models: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    looked = threading.Event()

    def slow(layout: Layout, name: str, reading: Reading) -> str:
        assert name == "policy/g0001" or looked.wait(60)
        return against_its_use(layout, name, reading)

    monkeypatch.setattr("flywheel.serve.permitted.against_its_use", slow)
    promote(layout, models, "g0001")
    with serving(layout, forbidden=policy) as (port, api):
        try:
            assert call(port, "GET", "/health")[0] == 200
            promote(layout, models, "g0002")
            until(lambda: call(port, "GET", "/health")[1]["champion"] == "g0002")
            status, health = call(port, "GET", "/health")
            assert "not looked at yet; ask again" in health["may_not_be_used"]["g0002"]
            if policy == "tell":
                assert status == 200 and api.chat.completions.create(**ASK).model == "g0002"
            else:
                assert status == 503
                with pytest.raises(openai.InternalServerError, match="not looked at yet"):
                    api.chat.completions.create(**ASK)
        finally:
            looked.set()
        until(lambda: call(port, "GET", "/health")[1]["may_not_be_used"] is None)
        assert api.chat.completions.create(**ASK).model == "g0002"


def test_what_cannot_be_found_out_of_who_answers_is_told_and_asked_again(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = Loaded("g0009", "f" * 64, policy=None)  # type: ignore[arg-type]  # it is not asked
    watch = Watch(layout, ServeSettings())
    watch.stand = Stand(champion=champion)
    permitted = Permitted(layout, watch, Reading())
    permitted.look()
    assert "cannot be told: no checkpoint is called" in permitted.against(champion)
    monkeypatch.setattr("flywheel.serve.permitted.against_its_use", lambda *asked: "")
    permitted.look()
    assert permitted.against(champion), "not at once"
    later = time.monotonic() + AGAIN_SECONDS
    monkeypatch.setattr("time.monotonic", lambda: later)
    permitted.look()
    assert permitted.against(champion) == ""
