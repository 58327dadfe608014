"""The command line: what it prints, on the screen and as JSON, when all is well and when not."""

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel import ingest, screen
from flywheel.cli import decider, main, parser
from flywheel.layout import Layout
from flywheel.promotion import latest_decision, rollback
from flywheel.turn import status_of
from tests.test_promotion import enter
from tests.turns import ROOT


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inbox with one file of which nothing can land, long finished."""
    folder = tmp_path_factory.mktemp("home")
    file = folder / "inbox" / "ours" / "run[red].jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"kind": "comparison"}) + "\n")
    os.utime(file, (1e9, 1e9))
    return folder


def land(home: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "flywheel.cli", "land", *options],
        cwd=ROOT,
        env=os.environ | {"FLYWHEEL_HOME": str(home)},
        capture_output=True,
        text=True,
    )


def test_a_landing_that_is_blocked_is_told_as_json_with_its_reason(home: Path) -> None:
    done = land(home, "--json")
    facts = json.loads(done.stdout)
    assert done.returncode == 1
    assert [one["file"] for one in facts["batches"]] == ["ours/run[red].jsonl"]
    (blocked,) = facts["blocked"]
    assert blocked["file"] == "ours/run[red].jsonl" and "1 of 1 lines" in blocked["reason"]
    assert "ours/run[red].jsonl: 1 of 1 lines" in facts["error"]
    assert "raise [landing] quarantine_limit" in facts["error"]
    assert facts["error"] in done.stderr


def test_a_file_that_stays_blocked_is_named_at_the_next_landing_too(home: Path) -> None:
    done = land(home)
    assert done.returncode == 1
    assert "blocked: ours/run[red].jsonl: 1 of 1 lines" in " ".join(done.stdout.split())


def test_a_refusal_is_json_where_json_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path))
    assert main(["rollback", "--reason", "tone", "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"error": "there is no champion to roll back"}
    assert printed.err == "flywheel: there is no champion to roll back\n"


def test_a_user_without_a_name_can_give_every_command_and_decides_by_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 3_123_456_789)  # as docker run -u does
    with pytest.raises((KeyError, OSError)):
        getpass.getuser()
    assert parser().parse_args(["rollback", "--reason", "tone"]).by is None
    assert decider(None) == "uid 3123456789"
    assert decider("ada") == "ada"


def folded(text: str) -> str:
    """What stands on a screen, whatever its width."""
    return "".join(text.replace("│", "").split())


def test_names_and_reasons_are_shown_letter_by_letter_at_any_width(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(tmp_path)
    file = layout.inbox / ("x" * 90) / "run[red]:cat:[b].jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("{}\n")
    os.utime(file, (1e9, 1e9))
    (batch,) = ingest.land([layout.inbox], layout)
    screen.show_landing([batch], [{"file": batch.file, "reason": "[/b]"}], [])
    shown = folded(capsys.readouterr().out)
    assert shown.count(batch.file) == 3 and shown.endswith(f"{batch.file}:[/b]")
    gate = {"decision": "REJECT", "reasons": ["[/b] was said"], "awaiting": False, "stage": ""}
    facts = status_of(layout) | {"generations": [{"generation": "g0001", "gate": gate}]}
    screen.show_status(facts)
    assert "REJECT: [/b] was said" in capsys.readouterr().out


def test_status_tells_a_rollback_and_who_returns_by_a_persons_yes_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(tmp_path)
    enter(layout, "g0001")
    enter(layout, "g0002")
    enter(layout, "g0003", stages=["shadow"])
    rollback(layout, by="ada", reason="complaints")
    gates = [
        {"generation": f"g000{n}", "gate": latest_decision(layout, f"g000{n}")} for n in (1, 2, 3)
    ]
    screen.show_status(status_of(layout) | {"generations": gates})
    shown = folded(capsys.readouterr().out)
    for told in (
        "PROMOTE, given the title back (by ada: complaints): better",
        "PROMOTE, rolled back (by ada: complaints), returns by a person's yes alone: better",
        "STOP, returns by a person's yes alone: complaints",
    ):
        assert folded(told) in shown
