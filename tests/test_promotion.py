"""The ledger and the champion: decisions entered, tampering, kills, two at once."""

import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from flywheel.errors import LedgerError, ManifestError, PromotionError
from flywheel.layout import TITLE_MARK, Layout
from flywheel.models.publish import content_hash, publish
from flywheel.process.results import seal
from flywheel.promotion import (
    Decision,
    Ledger,
    alert,
    approve,
    champion,
    decide_and_record,
    history,
    latest_decision,
    reject,
    rollback,
    title_holder,
)

PROMOTE = Decision(decision="PROMOTE", reasons=["better"])
HOLD = Decision(decision="HOLD", reasons=["undecided"])


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def lay(layout: Layout, generation: str, words: str) -> Path:
    """A checkpoint as far as the registry looks at it: one file, and the manifest that lists it."""
    folder = layout.checkpoint("policy", generation)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_text(words)
    files = files_of(words)
    (folder / "manifest.json").write_text(
        json.dumps({"content_hash": content_hash(files), "files": files})
    )
    return folder


def files_of(words: str) -> dict[str, str]:
    return {"weights": hashlib.sha256(words.encode()).hexdigest()}


def hash_of(words: str) -> str:
    return content_hash(files_of(words))


def enter(layout: Layout, generation: str, decision: Decision = PROMOTE, **options: Any) -> Any:
    folder = layout.evaluation(generation)
    folder.mkdir(parents=True, exist_ok=True)
    told = options.pop("evidence", generation)
    told = {"evaluation_sets": []} | (told if isinstance(told, dict) else {"of": told})
    (folder / "result.json").write_text(json.dumps(told))
    seal(folder / "result.json")
    now = title_holder(layout)
    chosen = {
        "content_hash": hash_of(generation),
        "compared_with": now.content_hash if now else "",
        "human_approval": False,
    } | options
    if "content_hash" not in options:  # else its weights lie there
        lay(layout, generation, generation)
    return decide_and_record(layout, generation, decision, **chosen)


def holder(layout: Layout) -> str | None:
    now = champion(layout)
    return now.generation if now else None


def test_a_promotion_changes_the_champion_and_a_hold_does_not(layout: Layout) -> None:
    assert holder(layout) is None
    enter(layout, "g0001")
    enter(layout, "g0002", HOLD)
    assert holder(layout) == "g0001"
    pointer = json.loads((layout.registry / "champion.json").read_text())
    assert pointer["content_hash"] == hash_of("g0001")


def test_the_same_decision_on_the_same_evidence_is_entered_once(layout: Layout) -> None:
    first = enter(layout, "g0001")
    assert enter(layout, "g0001") == first
    assert len(history(layout)) == 1
    enter(layout, "g0001", HOLD, evidence="measured again")
    assert [one.action for one in history(layout)] == ["PROMOTE", "HOLD"]


def test_other_settings_on_the_same_evidence_are_a_new_decision(layout: Layout) -> None:
    enter(layout, "g0001", HOLD)
    assert holder(layout) is None
    enter(layout, "g0001")
    assert holder(layout) == "g0001"


def test_a_step_that_runs_again_does_not_undo_a_rollback(layout: Layout) -> None:
    enter(layout, "g0001")
    enter(layout, "g0002")
    rollback(layout, by="ada", reason="complaints")
    enter(layout, "g0002")
    assert holder(layout) == "g0001"


def test_what_a_rollback_did_is_said_of_both_until_something_newer_is(layout: Layout) -> None:
    for generation in ("g0001", "g0002", "g0003"):
        enter(layout, generation, HOLD if generation == "g0003" else PROMOTE)
    rollback(layout, by="ada", reason="complaints")
    lost, again, other = (latest_decision(layout, f"g000{n}") or {} for n in (2, 1, 3))
    told = {"champion": "g0001", "reasons": ["complaints"], "by": "ada"}
    assert lost["decision"] == "PROMOTE" and lost["needs_yes"]
    assert {name: lost["rollback"][name] for name in told} == told
    assert not lost["rollback"]["is_given"] and again["rollback"]["is_given"]
    assert not again["needs_yes"] and not other["needs_yes"] and other["rollback"] is None
    enter(layout, "g0002", evidence="measured again")
    approve(layout, "g0002", by="ada", reason="mended")
    after = latest_decision(layout, "g0002") or {}
    assert after["decision"] == "APPROVE" and after["rollback"] is None and not after["needs_yes"]


def test_a_person_decides_where_one_is_asked(layout: Layout) -> None:
    enter(layout, "g0001")
    enter(layout, "g0002", human_approval=True)
    enter(layout, "g0003", human_approval=True)
    assert holder(layout) == "g0001"
    assert latest_decision(layout, "g0002")["awaiting"]  # type: ignore[index]
    approve(layout, "g0002", by="ada", reason="read 50 answers")
    assert holder(layout) == "g0002"
    reject(layout, "g0003", by="bob", reason="rude")
    assert holder(layout) == "g0002"
    with pytest.raises(PromotionError, match="its last entry is DECLINE"):
        approve(layout, "g0003", by="ada", reason="read")
    with pytest.raises(PromotionError, match="nothing was decided"):
        approve(layout, "g0009", by="ada", reason="read")


def test_who_waits_is_promoted_once_nobody_needs_be_asked_unless_a_person_has_spoken(
    layout: Layout,
) -> None:
    for generation in ("g0001", "g0002"):
        enter(layout, generation, human_approval=True)
    reject(layout, "g0002", by="ada", reason="rude")
    count = len(history(layout))
    for human_approval in (True, False):
        enter(layout, "g0002", human_approval=human_approval)
    assert len(history(layout)) == count and holder(layout) is None
    assert latest_decision(layout, "g0002")["decision"] == "DECLINE"  # type: ignore[index]
    enter(layout, "g0001", human_approval=False)
    assert holder(layout) == "g0001"
    enter(layout, "g0001", human_approval=True)  # took effect before: nobody is asked
    assert len(history(layout)) == count + 1


def test_a_late_yes_does_not_crown_who_was_never_compared_with_the_champion(
    layout: Layout,
) -> None:
    enter(layout, "g0001")
    enter(layout, "g0002", human_approval=True)
    enter(layout, "g0003", human_approval=True)
    approve(layout, "g0003", by="ada", reason="read")
    refused = r"g0002 was never compared with g0003, .* materialize held_out_evaluation"
    with pytest.raises(PromotionError, match=refused):
        approve(layout, "g0002", by="bob", reason="read late")
    assert holder(layout) == "g0003"
    enter(layout, "g0002", evidence="against g0003", human_approval=True)
    approve(layout, "g0002", by="bob", reason="judged again")
    assert holder(layout) == "g0002"


def test_a_yes_is_good_again_once_the_same_champion_is_back(layout: Layout) -> None:
    enter(layout, "g0001")
    enter(layout, "g0002", human_approval=True)
    enter(layout, "g0003")
    rollback(layout, by="ada", reason="g0003 is rude")
    approve(layout, "g0002", by="bob", reason="read")
    assert holder(layout) == "g0002"


def test_a_no_to_who_waits_needs_no_comparison(layout: Layout) -> None:
    enter(layout, "g0001", human_approval=True)
    enter(layout, "g0002")
    with pytest.raises(PromotionError, match="never compared with g0002"):
        approve(layout, "g0001", by="ada", reason="read")
    assert reject(layout, "g0001", by="ada", reason="read").action == "DECLINE"


def test_the_gate_does_not_decide_on_a_comparison_with_a_former_champion(layout: Layout) -> None:
    first = enter(layout, "g0001", HOLD)
    enter(layout, "g0002")
    assert enter(layout, "g0001", HOLD) == first  # the same step again enters nothing
    with pytest.raises(PromotionError, match="g0001 was never compared with g0002"):
        enter(layout, "g0001", compared_with="")  # other settings, the old evidence
    assert holder(layout) == "g0002"
    enter(layout, "g0002", evidence="measured again", compared_with="")  # its own title is at stake
    assert holder(layout) == "g0002"


def test_rollback_goes_to_the_champion_before_and_no_further(layout: Layout) -> None:
    with pytest.raises(PromotionError, match="no champion"):
        rollback(layout, by="ada", reason="r")
    for generation in ("g0001", "g0002", "g0003"):
        enter(layout, generation)
    rollback(layout, by="ada", reason="complaints")
    assert holder(layout) == "g0002"
    rollback(layout, by="ada", reason="more complaints")
    assert holder(layout) == "g0001"
    with pytest.raises(PromotionError, match="first champion"):
        rollback(layout, by="ada", reason="r")
    enter(layout, "g0004")
    assert holder(layout) == "g0004"


def test_rollback_never_returns_to_what_was_rolled_back(layout: Layout) -> None:
    enter(layout, "g0001")
    enter(layout, "g0002")
    rollback(layout, by="ada", reason="g0002 is rude")
    enter(layout, "g0003")
    rollback(layout, by="ada", reason="so is g0003")
    assert holder(layout) == "g0001"


def test_rollback_goes_by_who_reigned_before_and_not_by_name(layout: Layout) -> None:
    enter(layout, "g0001")
    enter(layout, "g0003")
    enter(layout, "g0002", human_approval=True)
    approve(layout, "g0002", by="ada", reason="read late")
    enter(layout, "g0002", evidence="measured again")  # confirmed: no second reign
    rollback(layout, by="ada", reason="complaints")
    assert holder(layout) == "g0003"


def test_a_champion_whose_weights_are_others_or_gone_is_not_handed_out(layout: Layout) -> None:
    enter(layout, "g0001")
    enter(layout, "g0002")
    folder = lay(layout, "g0002", "other")
    with pytest.raises(
        PromotionError, match=rf"judged with .*, but .* holds {hash_of('other')[:12]}; restore"
    ):
        champion(layout)
    shutil.rmtree(folder)
    with pytest.raises(PromotionError, match=r"g0002 .* holds no checkpoint; restore .* roll back"):
        champion(layout)
    assert title_holder(layout) is not None  # named all the same, for who does not use it
    rollback(layout, by="ada", reason="its weights are gone")
    assert holder(layout) == "g0001"


def test_nobody_takes_the_title_with_other_weights_than_were_judged(layout: Layout) -> None:
    enter(layout, "g0001")
    enter(layout, "g0002", human_approval=True)
    lay(layout, "g0002", "trained again")
    with pytest.raises(PromotionError, match=r"but .* holds .*; materialize held_out_evaluation"):
        approve(layout, "g0002", by="ada", reason="read")
    assert reject(layout, "g0002", by="ada", reason="read").action == "DECLINE"
    enter(layout, "g0003")
    lay(layout, "g0001", "trained again")
    with pytest.raises(PromotionError, match=r"g0001 .* restore that folder"):
        rollback(layout, by="ada", reason="complaints")
    assert holder(layout) == "g0003"


def corrupt(layout: Layout, generation: str) -> Path:
    """Change a byte of its weights; its manifest says what it said."""
    path = layout.checkpoint("policy", generation) / "weights"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 0x40]) + path.read_bytes()[1:])
    return path


@pytest.mark.parametrize("stages", [(), ("shadow",)])
def test_weights_corrupted_after_their_evaluation_are_not_sent_on(
    layout: Layout, stages: tuple[str, ...]
) -> None:
    enter(layout, "g0001")
    enter(layout, "g0002", HOLD)
    path = corrupt(layout, "g0002")
    again = Decision(decision="PROMOTE", reasons=["better"])
    said: dict[str, Any] = {"content_hash": hash_of("g0002"), "compared_with": hash_of("g0001")}
    said |= {"human_approval": False, "stages": stages}
    with pytest.raises(PromotionError, match=rf"{path} is not what .* remove it and materialize"):
        decide_and_record(layout, "g0002", again, **said)
    assert decide_and_record(layout, "g0002", HOLD, **said).action == "HOLD"
    assert holder(layout) == "g0001" and len(history(layout)) == 2


def test_the_title_is_not_given_back_to_corrupted_weights(layout: Layout) -> None:
    for generation in ("g0001", "g0002"):
        enter(layout, generation)
    path = corrupt(layout, "g0001")
    with pytest.raises(PromotionError, match=rf"{path} is not what .* put another generation"):
        rollback(layout, by="ada", reason="complaints")
    assert holder(layout) == "g0002" and len(history(layout)) == 2


def test_what_holds_or_held_the_title_is_never_replaced(layout: Layout) -> None:
    for generation in ("g0001", "g0002"):
        enter(layout, generation)
    enter(layout, "g0003", HOLD)
    rollback(layout, by="ada", reason="complaints")

    def train(generation: str) -> None:
        output = layout.checkpoint("policy", generation)
        publish(output, lambda draft: (draft / "weights").write_text("new"), {})

    train("g0003")
    for generation in ("g0001", "g0002"):
        with pytest.raises(ManifestError, match=r"title of champion .* train in a new generation"):
            train(generation)
        path = layout.checkpoint("policy", generation) / "manifest.json"
        assert json.loads(path.read_text())["content_hash"] == hash_of(generation)


def test_a_champion_of_a_home_without_marks_gets_its_mark(layout: Layout) -> None:
    enter(layout, "g0001")
    mark = layout.checkpoint("policy", "g0001") / TITLE_MARK
    mark.unlink()
    assert holder(layout) == "g0001" and mark.exists()


def test_a_person_has_a_name(layout: Layout) -> None:
    enter(layout, "g0001", human_approval=True)
    for act in (
        lambda: approve(layout, "g0001", by=" ", reason="r"),
        lambda: reject(layout, "g0001", by="", reason="r"),
        lambda: rollback(layout, by="", reason="r"),
    ):
        with pytest.raises(PromotionError, match="needs a name"):
            act()


def test_a_changed_or_missing_entry_is_found(layout: Layout) -> None:
    for generation in ("g0001", "g0002", "g0003"):
        enter(layout, generation)
    path = layout.registry / "ledger.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    for edited in (
        [lines[0], lines[1].replace("better", "best"), lines[2]],
        [lines[0], lines[2]],
        [lines[1], lines[0], lines[2]],
    ):
        path.write_text("".join(edited))
        with pytest.raises(LedgerError, match=r"line . of .*ledger"):
            champion(layout)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_entries_cut_off_the_end_are_missed(layout: Layout, left: int) -> None:
    for generation in ("g0001", "g0002", "g0003"):
        enter(layout, generation)
    path = layout.registry / "ledger.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:left]))
    for act in (champion, history, lambda layout: enter(layout, "g0004")):
        with pytest.raises(LedgerError, match=f"should hold 3 .* holds {left}: .* restore both"):
            act(layout)
    path.write_text("".join(lines))
    assert holder(layout) == "g0003"


def test_a_ledger_without_its_head_is_not_trusted_and_the_remedy_works(layout: Layout) -> None:
    enter(layout, "g0001")
    enter(layout, "g0002")
    head = layout.registry / "ledger.head.json"
    head.unlink()
    with pytest.raises(LedgerError, match="should hold 0 entries") as found:
        champion(layout)
    told = re.search(r"write (\{.*\}) into", str(found.value))
    assert told
    head.write_text("torn")
    with pytest.raises(LedgerError, match="is no head of a ledger"):
        champion(layout)
    head.write_text(told.group(1))
    assert holder(layout) == "g0002"


@pytest.mark.parametrize("entered", [0, 2])
@pytest.mark.parametrize(("write", "is_there"), [(1, False), (2, False), (3, True)])
def test_a_kill_before_any_write_of_an_entry_heals(
    layout: Layout, entered: int, write: int, is_there: bool
) -> None:
    for number in range(entered):
        enter(layout, f"g000{number}")
    script = (
        "import os, signal, sys; from pathlib import Path; from flywheel.layout import Layout;"
        "from flywheel.promotion import Decision, Ledger, decide_and_record; done = [];"
        "die = lambda: os.kill(os.getpid(), signal.SIGKILL);"
        "kept = {one: getattr(Ledger, one) for one in ('_write_head', '_write')};"
        "[setattr(Ledger, one, lambda *args, act=act, **more: (done.append(1),"
        " die() if len(done) == int(sys.argv[3]) else act(*args, **more)))"
        " for one, act in kept.items()];"
        "layout = Layout(Path(sys.argv[1])); f = layout.evaluation('g0009'); f.mkdir(parents=True);"
        "(f / 'result.json').write_text('9');"
        "decide_and_record(layout, 'g0009', Decision(decision='PROMOTE', reasons=[]),"
        " content_hash=sys.argv[-1], compared_with=sys.argv[2], human_approval=False)"
    )
    now = champion(layout)
    lay(layout, "g0009", "h")
    command = [sys.executable, "-c", script, str(layout.root), now.content_hash if now else ""]
    command += [str(write), hash_of("h")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert ("g0009" in [one.generation for one in history(layout)]) == is_there
    path = layout.registry / "ledger.head.json"
    head = json.loads(path.read_text()) if path.exists() else {"count": 0}
    assert head["count"] == entered + is_there and "next" not in head
    assert (holder(layout) == "g0009") == is_there
    enter(layout, "g0010")
    assert [one.number for one in history(layout)] == [*range(1, entered + is_there + 2)]


def test_a_torn_entry_that_its_head_names_is_none_and_one_forged_in_its_place_neither(
    layout: Layout,
) -> None:
    enter(layout, "g0001")
    path, head = layout.registry / "ledger.jsonl", layout.registry / "ledger.head.json"
    before, at_first = path.read_bytes(), head.read_text()
    second = enter(layout, "g0002")
    named = json.dumps(json.loads(at_first) | {"next": second.hash})
    line = path.read_bytes()[len(before) :]
    forged = replace(second, champion="g0001", by="ada")
    forged = replace(forged, hash=Ledger(layout).hash_of(forged))
    for said in (at_first, named):  # nobody was appending, or somebody was, something else
        path.write_bytes(before + json.dumps(asdict(forged)).encode() + b"\n")
        head.write_text(said)
        with pytest.raises(LedgerError, match=r"should hold 1 entries .* added by hand"):
            history(layout)
    path.write_bytes(before + line[:40])
    head.write_text(named)
    assert [one.generation for one in history(layout)] == ["g0001"]
    path.write_bytes(before + line)
    head.write_text(at_first)  # a whole entry that was never announced
    with pytest.raises(LedgerError, match="added by hand"):
        history(layout)
    head.write_text(named)
    assert history(layout)[-1] == second and "next" not in head.read_text()


def test_a_line_torn_by_a_kill_is_no_entry_and_heals(layout: Layout) -> None:
    enter(layout, "g0001")
    path = layout.registry / "ledger.jsonl"
    with path.open("a") as file:
        file.write('{"number": 2, "act')
    assert holder(layout) == "g0001"
    enter(layout, "g0002")
    assert [one.number for one in Ledger(layout).entries()] == [1, 2]


def test_a_kill_between_ledger_and_pointer_heals(layout: Layout) -> None:
    enter(layout, "g0001")
    script = (
        "import os, signal, sys; from pathlib import Path; from flywheel.layout import Layout;"
        "import flywheel.promotion.succession as c; from flywheel.promotion import Decision;"
        "c.settle = lambda *_: os.kill(os.getpid(), signal.SIGKILL);"
        "layout = Layout(Path(sys.argv[1])); f = layout.evaluation('g0002'); f.mkdir(parents=True);"
        "(f / 'result.json').write_text('2');"
        "c.decide_and_record(layout, 'g0002', Decision(decision='PROMOTE', reasons=[]),"
        " content_hash=sys.argv[-1], compared_with=sys.argv[2], human_approval=False)"
    )
    lay(layout, "g0002", "h")
    command = [sys.executable, "-c", script, str(layout.root), hash_of("g0001"), hash_of("h")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    pointer = layout.registry / "champion.json"
    assert json.loads(pointer.read_text())["generation"] == "g0001"
    assert holder(layout) == "g0002"
    assert json.loads(pointer.read_text())["generation"] == "g0002"


def test_readers_beside_a_writer_never_leave_an_old_pointer(layout: Layout) -> None:
    enter(layout, "g0000")
    script = (
        "import sys; from pathlib import Path; from flywheel.layout import Layout;"
        "from flywheel.promotion import champion\n"
        "layout = Layout(Path(sys.argv[1]))\n"
        "while not (layout.root / 'stop').exists(): champion(layout)\n"
    )
    readers = [subprocess.Popen([sys.executable, "-c", script, str(layout.root)]) for _ in range(2)]
    pointer = layout.registry / "champion.json"
    try:
        for number in range(1, 60):
            enter(layout, f"g{number:04d}")
            assert json.loads(pointer.read_text())["generation"] == f"g{number:04d}"
    finally:
        (layout.root / "stop").touch()
    assert [one.wait() for one in readers] == [0, 0]
    assert json.loads(pointer.read_text())["generation"] == "g0059"


def test_two_processes_append_without_losing_an_entry(layout: Layout) -> None:
    script = (
        "import sys; from pathlib import Path; from flywheel.layout import Layout;"
        "from flywheel.promotion import Decision, decide_and_record\n"
        "layout = Layout(Path(sys.argv[1]))\n"
        "for n in range(20):\n"
        "    g = f'g{sys.argv[2]}{n:03d}'; f = layout.evaluation(g); f.mkdir(parents=True)\n"
        "    (f / 'result.json').write_text(g)\n"
        "    decide_and_record(layout, g, Decision(decision='HOLD', reasons=[]),"
        " content_hash=g, compared_with='', human_approval=False)\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", script, str(layout.root), side]) for side in "12"
    ]
    assert [one.wait() for one in both] == [0, 0]
    assert len({one.generation for one in Ledger(layout).entries()}) == 40


def test_an_alert_is_written_and_posted_and_a_dead_webhook_raises_nothing(layout: Layout) -> None:
    heard: list[bytes] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            return

    server = http.server.HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    alert(layout, {"run": 1}, webhook=url)
    server.shutdown()
    server.server_close()
    alert(layout, {"run": 2}, webhook=url)
    lines = [json.loads(line) for line in (layout.registry / "alerts.jsonl").open()]
    assert json.loads(heard[0]) == {"run": 1}
    assert lines[0]["webhook"] == 204 and lines[1]["webhook"].startswith("failed")


def test_a_webhook_that_talks_nonsense_raises_nothing(layout: Layout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            caller, _ = server.accept()
            with caller:
                caller.recv(65536)
                caller.sendall(b"nonsense\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        alert(layout, {"run": 1}, webhook=f"http://127.0.0.1:{server.getsockname()[1]}/")
    alert(layout, {"run": 2}, webhook="no address")
    lines = [json.loads(line) for line in (layout.registry / "alerts.jsonl").open()]
    assert [line["webhook"][:6] for line in lines] == ["failed", "failed"]


def test_a_full_disk_leaves_the_ledger_whole(layout: Layout) -> None:
    enter(layout, "g0001")
    before = (layout.registry / "ledger.jsonl").read_bytes()
    script = (
        "import resource, signal, sys; from pathlib import Path;"
        "from flywheel.layout import Layout;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 10}, {len(before) + 10}));"
        "import flywheel.promotion as p; L = Layout(Path(sys.argv[1]));"
        "p.decide_and_record(L, 'g0001', p.Decision(decision='HOLD', reasons=['x' * 500]),"
        " content_hash='other', compared_with='', human_approval=False)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(layout.root)], check=False, capture_output=True
    )
    assert done.returncode == 1 and b"File too large" in done.stderr
    assert len(Ledger(layout).entries()) == 1
    enter(layout, "g0002")
    assert os.path.exists(layout.registry / "champion.json") and holder(layout) == "g0002"
