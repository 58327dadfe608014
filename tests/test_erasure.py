"""Erasure: everything of a person or record goes, stays gone, and is accounted for."""

import json
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blake3 import blake3

from flywheel.datasets.manifest import DatasetManifest, read_split
from flywheel.erasure.plan import pending
from flywheel.erasure.retention import forget_served
from flywheel.erasure.run import erase, finish_pending, look_for
from flywheel.errors import ErasureError, LakeError, SettingsError
from flywheel.evaluate.kept import SCORES
from flywheel.ingest import land, landing_counts, read_batches, unaccounted
from flywheel.ingest.keys import prompt_key
from flywheel.lake import read_folder, write_table
from flywheel.layout import Layout
from flywheel.lineage import Erasures, refresh, trace, write_card
from flywheel.privacy import Policy
from flywheel.records.message import prompt_of
from flywheel.serve.delivery import deliver
from flywheel.serve.ids import Names
from flywheel.serve.log import Rows, ServedLog
from flywheel.serve.settings import ServeSettings
from tests.models_for_tests import freeze
from tests.older_home import make_older
from tests.test_lineage import checkpoint, uids_of

SECRET = "xyzzyplugh"  # in each text that is to go, and in no other
ROOT = Path(__file__).parent.parent
Row = dict[str, Any]


def said(number: int, who: str, **more: Any) -> Row:
    word = SECRET if who == "ada" else "plain"
    return {
        "kind": "demonstration",
        "id": f"demo-{number}",
        "prompt": f"what is {word} {number}",
        "response": f"it is {word} {number}",
        "annotator_id": who,
        **more,
    }


def put(layout: Layout, name: str, rows: list[Row], more: str = "") -> Path:
    path = layout.inbox / "desk" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + more)
    return path


def landed(layout: Layout, **options: Any) -> list[Any]:
    return land([layout.inbox], layout, log=lambda line: None, **options)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Six demonstrations by ada and bob, taught to a policy, and a faulty line of each."""
    layout = Layout(tmp_path / "home")
    rows = [said(n, "ada" if n % 2 else "bob") for n in range(6)]
    faulty = "".join(
        f'{{"kind": "demonstration", "annotator_id": "{who}", "note": "{word}"}}\n'
        for who, word in (("ada", SECRET), ("bob", "plain"))
    )
    put(layout, "a.jsonl", rows, faulty)
    landed(layout, quarantine_limit=0.5)
    uids = uids_of(layout)
    rows = [{"record_uids": [uids[f"demo-{n}"]], "said": said(n, _who(n))} for n in range(6)]
    freeze(layout.dataset("demonstration", "g0001"), train=rows[:4], test=rows[4:])
    sft = checkpoint(layout, "sft_policy", {uids["demo-1"]: 2, uids["demo-3"]: 1}, [])
    checkpoint(layout, "policy", {uids["demo-2"]: 3}, [sft])
    refresh(layout)
    return layout


def _who(number: int) -> str:
    return "ada" if number % 2 else "bob"


def ask(layout: Layout, what: str = "annotator", name: str = "ada", **options: Any) -> Any:
    told = {"by": "desk officer", "reason": "she asked", "log": lambda line: None}
    return erase(layout, what, name, **(told | options))


def held(layout: Layout) -> list[str]:
    """Files of a home that hold the secret, those of tables by what is in them."""
    found = []
    for path in sorted(layout.root.rglob("*")):
        if not path.is_file():
            continue
        told = path.read_bytes()
        if path.suffix == ".parquet":
            told = repr(pq.read_table(path).to_pylist()).encode()
        if SECRET.encode() in told:
            found.append(str(path.relative_to(layout.root)))
    return found


def test_all_that_a_person_said_goes_from_every_place_and_is_entered_without_it(
    layout: Layout,
) -> None:
    assert len(held(layout)) >= 4, "the inbox, landing, quarantine and a dataset"
    assert layout.seen_events("demonstration").exists()
    entry = ask(layout)
    assert held(layout) == [] and not layout.seen_events("demonstration").exists()
    assert entry.removed == {
        "records": 3,
        "quarantined_lines": 1,
        "batches": 1,
        "dataset_rows": 3,
        "inbox_lines": 4,
    }
    assert (entry.what, entry.by, entry.reason) == ("annotator", "desk officer", "she asked")
    assert "ada" not in json.dumps(entry.removed | {"s": entry.subject})
    (batch,) = read_batches(layout)
    assert (batch.lines, batch.rows, batch.quarantined, batch.erased) == (8, 3, 1, 4)
    assert batch.rows_by_kind == batch.new_rows_by_kind == {"demonstration": 3}
    assert batch.erased_at and unaccounted(layout) == []
    people = read_folder(layout.landing("demonstration"))["annotator_id"].to_pylist()
    assert people == ["bob"] * 3 and landing_counts(layout)["demonstration"] == 3
    manifest = DatasetManifest.load(layout.dataset("demonstration", "g0001"))
    manifest.verify(layout.dataset("demonstration", "g0001"))
    assert (manifest.rows_by_split["train"], manifest.rows_erased) == (2, 3)
    assert read_split(layout.dataset("demonstration", "g0001"), "train").num_rows == 2


def test_a_copy_that_lands_again_brings_nothing_back(layout: Layout) -> None:
    before = (layout.inbox / "desk" / "a.jsonl").read_bytes()
    ask(layout)
    assert landed(layout) == [], "the file whose lines were blanked is known"
    (layout.inbox / "desk" / "copy.jsonl").write_bytes(before)
    assert landed(layout) == [], "the same file"
    more = put(layout, "grown.jsonl", [*(said(n, _who(n)) for n in range(8))])
    more.write_bytes(before + more.read_bytes())
    (batch,) = landed(layout, quarantine_limit=0.9)
    assert (batch.lines, batch.erased, batch.quarantined) == (16, 7, 1)
    assert batch.rows == 8 and unaccounted(layout) == []
    ids = read_folder(layout.landing("demonstration"))["record_id"].to_pylist()
    assert sorted(set(ids)) == ["demo-0", "demo-2", "demo-4", "demo-6", "demo-7"]


def blanked(content: bytes) -> bytes:
    lines = content.split(b"\n")
    return b"\n".join(b" " * len(one) if SECRET.encode() in one else one for one in lines)


def test_what_an_older_release_landed_is_erased_from_its_file_and_its_copies(
    layout: Layout,
) -> None:
    path = layout.inbox / "desk" / "a.jsonl"
    before = path.read_bytes()
    make_older(layout, before)
    path.with_name("copy.jsonl").write_bytes(before)
    assert landed(layout) == []
    assert ask(layout).removed["inbox_lines"] == 8 and held(layout) == []
    (batch,) = read_batches(layout)
    assert batch.blanked_hash == blake3(blanked(before)).hexdigest()
    assert path.read_bytes() == blanked(before) and landed(layout) == []


def test_what_an_older_release_erased_from_is_known_and_erased_from_again(layout: Layout) -> None:
    path = layout.inbox / "desk" / "a.jsonl"
    before = path.read_bytes()
    ask(layout)
    make_older(layout, before, blanked(before))
    path.with_name("copy.jsonl").write_bytes(blanked(before))
    assert landed(layout) == []
    assert ask(layout, name="bob").removed["inbox_lines"] == 8
    assert not path.read_bytes().strip() and landed(layout) == []


def test_what_an_older_release_began_to_erase_is_finished(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flywheel.erasure.run as run

    before = (layout.inbox / "desk" / "a.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(run, "remove_from_lake", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ask(layout)
    make_older(layout, before, blanked(before))
    assert finish_pending(layout, log=lambda line: None)
    assert held(layout) == [] and landed(layout) == []


def test_what_a_person_says_later_lands(layout: Layout) -> None:
    ask(layout)
    put(layout, "b.jsonl", [said(9, "ada")])
    (batch,) = landed(layout)
    assert batch.rows == 1


def test_a_second_time_changes_nothing_and_says_when_it_was(layout: Layout) -> None:
    first = ask(layout)
    files = {path: path.read_bytes() for path in layout.root.rglob("*") if path.is_file()}
    assert ask(layout) == first
    assert {path: path.read_bytes() for path in layout.root.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("name", ["nobody", " "])
def test_a_name_that_is_nobodys_is_told(layout: Layout, name: str) -> None:
    with pytest.raises(ErasureError, match=r"nothing here is of annotator|that is named"):
        ask(layout, name=name)
    with pytest.raises(ErasureError, match="nothing here is of record"):
        ask(layout, "record", "demo-99")
    with pytest.raises(ErasureError, match="who asks for it and why"):
        ask(layout, by=" ")
    assert Erasures(layout).entries() == []


def test_one_record_goes_with_every_copy_of_it_and_leaves_others(layout: Layout) -> None:
    put(layout, "again.jsonl", [said(1, "ada"), said(7, "ada")])
    landed(layout)
    assert landing_counts(layout)["demonstration"] == 7
    entry = ask(layout, "record", "demo-1")
    assert entry.removed["records"] == 2 and entry.removed["batches"] == 2
    assert landing_counts(layout)["demonstration"] == 6 and unaccounted(layout) == []
    uid = uids_of(layout)["demo-3"]
    assert ask(layout, "record", uid).removed["records"] == 1
    assert ask(layout, "record", uid).number == 2, "by its own id, though it is gone"


def test_whose_data_a_record_holds_may_ask_for_it_too(layout: Layout) -> None:
    put(layout, "of.jsonl", [said(8, "bob", data_subject="kim")])
    landed(layout)
    assert ask(layout, "subject", "kim").removed["records"] == 1
    assert "demo-8" not in uids_of(layout)


def test_who_is_known_by_an_address_is_erased_by_it(layout: Layout) -> None:
    put(layout, "of.jsonl", [said(8, "Kim@Desk.org")])
    landed(layout)
    assert ask(layout, name="kim@desk.org").removed["records"] == 1


def test_checkpoints_that_saw_it_are_named_in_the_entry_a_trace_and_a_card(
    layout: Layout,
) -> None:
    entry = ask(layout)
    (saw,) = entry.checkpoints
    assert (saw["checkpoint"], saw["records"], saw["times_seen"]) == ("sft_policy/g0001", 2, 3)
    assert entry.descendants == ["policy/g0001"]
    found = trace(layout, "policy/g0001")
    assert found["erased"] == [{"erasure": 1, "records": 2, "times_seen": 3}]
    assert "erased, so that nothing may be made of it: 2 records" in found["against_use"][0]
    path, _ = write_card(layout, "g0001")
    assert "2 of its records were erased since (erasure 1)" in path.read_text()
    assert trace(layout, "demo-2")["checkpoints"], "what stays is traced as before"


KILLED = """
import os, sys
from pathlib import Path
from flywheel.erasure import lake, frozen, lines, run
from flywheel.erasure.run import erase
from flywheel.layout import Layout
calls = 0
def cut(function):
    def cutting(*given, **more):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), 9)
        return function(*given, **more)
    return cutting
for module, name in ((lake, "write_table"), (lake, "_originals"), (lines, "blank_lines"),
        (frozen, "write_table"), (frozen, "remove_prompts"), (frozen, "forget_warehouse")):
    setattr(module, name, cut(getattr(module, name)))
run.path_of = cut(run.path_of)
erase(Layout(Path(sys.argv[1])), "annotator", "ada", by="desk officer", reason="she asked")
"""


@pytest.mark.slow
def test_killed_anywhere_the_same_command_finishes_it(layout: Layout, tmp_path: Path) -> None:
    import shutil

    for call in range(1, 40):
        home = tmp_path / f"home{call}"
        shutil.copytree(layout.root, home)
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(home), str(call)], cwd=ROOT, check=False
        )
        entry = ask(Layout(home))
        assert held(Layout(home)) == [], call
        assert entry.removed["records"] == 3 and len(Erasures(Layout(home)).entries()) == 1, call
        assert unaccounted(Layout(home)) == [] and pending(Layout(home)) == "", call
        (batch,) = read_batches(Layout(home))
        assert (batch.rows, batch.erased) == (3, 4), call
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert call > 8, "killed at each write of it"


def test_one_that_was_cut_off_is_told_and_finished_by_the_nightly_job(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flywheel.erasure.run as run

    with monkeypatch.context() as patch:
        patch.setattr(run, "remove_from_lake", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ask(layout)
    assert "desk officer" in pending(layout) and "cut off" in pending(layout)
    finished = finish_pending(layout, log=lambda line: None)
    assert finished is not None and finished.number == 1
    assert held(layout) == [] and finish_pending(layout) is None


def test_a_torn_file_stops_it_before_anything_is_taken_out(layout: Layout) -> None:
    put(layout, "b.jsonl", [said(9, "bob")])
    (batch,) = landed(layout)
    torn = layout.landing("demonstration") / f"{batch.batch_id}.parquet"
    torn.write_bytes(torn.read_bytes()[:-8])
    before = held(layout.__class__(layout.root / "inbox"))
    with pytest.raises(LakeError, match=f"{batch.batch_id}.parquet is torn"):
        ask(layout)
    assert held(layout.__class__(layout.root / "inbox")) == before
    assert Erasures(layout).entries() == [] and pending(layout) == ""


def test_what_redaction_sealed_is_opened_and_sealed_again_without_it(
    layout: Layout, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("ab" * 32)
    policy = Policy(policy="redact", key_file=str(key))
    rows = [
        said(n, who, prompt=f"write to {who}@mail.desk.co") for n, who in ((20, "ada"), (21, "bob"))
    ]
    put(layout, "mails.jsonl", rows)
    (batch,) = landed(layout, personal=policy)
    sealed = layout.restricted / "originals" / f"{batch.batch_id}.sealed"
    assert sealed.exists()
    with pytest.raises(SettingsError, match="key_file"):
        ask(layout, "record", "demo-20")
    assert pending(layout) == "", "nothing was begun"
    ask(layout, "record", "demo-20", key_file=str(key))
    from flywheel.privacy import read_originals

    kept = read_originals(layout, batch.batch_id, str(key)).to_pylist()
    assert len(kept) == 1 and "bob@mail.desk.co" in kept[0]["fields"]


def answer(names: Names, user: str, at: datetime, **more: Any) -> Row:
    pseudonym = names.user(user)
    word = SECRET if user == "ada" else "plain"
    messages = [{"role": "user", "content": f"say {word}"}]
    return {
        "response_id": names.response_id(),
        "at": at.isoformat(timespec="milliseconds"),
        "user": pseudonym,
        "request": {"messages": messages},
        "response": word,
        "consent": True,
        **more,
    }


def judged(names: Names, row: Row, author: str) -> Row:
    return {
        "feedback_id": names.feedback_id(author, row["response_id"]),
        "at": row["at"],
        "author": names.user(author),
        "response_id": row["response_id"],
        "digest": "d",
        "withheld": "",
        "record": {
            "kind": "interaction",
            "prompt": row["request"]["messages"],
            "response": row["response"],
            "thumbs": "up",
            "id": names.feedback_id(author, row["response_id"]),
            "annotator_id": names.user(author),
            "metadata": {"response_id": row["response_id"]},
        },
    }


def test_a_user_s_answers_go_with_what_anybody_said_of_them(layout: Layout) -> None:
    (layout.inbox / "desk" / "a.jsonl").unlink()
    ask(layout)
    names, log = Names(layout), ServedLog(layout.served)
    said_of = ServedLog(layout.served / "feedback")
    now = datetime.now(UTC)
    rows = [answer(names, user, now) for user in ("ada", "bob", "ada")]
    log.append(*rows)
    said_of.append(judged(names, rows[0], "cid"), judged(names, rows[1], "ada"))
    assert deliver(layout) == 2
    landed(layout)
    said_of.append(judged(names, rows[2], "cid"))
    with pytest.raises(ErasureError, match="nothing here is of user"):
        ask(layout, "user", "eve")
    entry = ask(layout, "user", "ada")
    assert held(layout) == []
    assert entry.removed["served_lines"] == 2 and entry.removed["feedback_lines"] == 3
    assert [row["user"] for row in Rows(layout.served)] == [names.user("bob")]
    assert read_folder(layout.landing("interaction")).num_rows == 0
    log.append(answer(names, "bob", now))
    rest = Rows(layout.served)
    assert len(list(rest)) == 2 and rest.torn == 0, "the open file goes on"
    assert deliver(layout) == 0 and unaccounted(layout) == []


def test_a_server_that_logs_meanwhile_loses_no_line(layout: Layout) -> None:
    names, log = Names(layout), ServedLog(layout.served)
    now = datetime.now(UTC)
    log.append(*(answer(names, "ada", now) for _ in range(50)))
    ended, written = threading.Event(), 0

    def serve() -> None:
        nonlocal written
        while not ended.is_set():
            log.append(answer(names, "bob", now))
            written += 1

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        ask(layout, "user", "ada")
    finally:
        ended.set()
        thread.join()
    left = Rows(layout.served)
    assert len(list(left)) == written and left.torn == 0 and SECRET not in _served(layout)


def _served(layout: Layout) -> str:
    return "".join(path.read_text() for path in layout.served.glob("*.jsonl"))


def test_a_torn_line_that_names_the_user_goes_too(layout: Layout) -> None:
    names = Names(layout)
    whole = json.dumps(answer(names, "ada", datetime(2026, 1, 2, tzinfo=UTC)))
    layout.served.mkdir()
    (layout.served / "2026-01-02-7.jsonl").write_text(f"{whole}\n{whole[:-20]}")
    assert ask(layout, "user", "ada").removed["served_lines"] == 2
    assert SECRET not in _served(layout)


def test_prompts_that_nobody_else_asks_leave_queues_and_samples(layout: Layout) -> None:
    queue = layout.annotation_queue / "g0001.jsonl"
    queue.parent.mkdir()
    prompts = [said(n, _who(n))["prompt"] for n in (1, 2)]
    lines = [{"prompt": [{"role": "user", "content": one}], "responses": []} for one in prompts]
    queue.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    samples = layout.evaluation("g0001") / "samples.parquet"
    keys = [prompt_key(prompt_of(one)) for one in prompts]
    write_table(pa.table({"prompt_key": keys, "prompt": prompts}), samples)
    along = samples.with_name("way.parquet")
    twice = pa.table({"prompt_key": keys * 2, "place": [2, 2, 4, 4], "response": prompts * 2})
    write_table(twice, along)
    beside = [samples.parent / one for one in ("report.html", SCORES)]  # its text; its hashes
    for path in beside:
        path.write_text(prompts[0])
    entry = ask(layout)
    assert entry.removed["annotation_queue"] == entry.removed["samples"] == 1
    assert entry.removed["answers_along"] == 2 and not any(path.exists() for path in beside)
    assert held(layout) == [] and pq.read_table(samples).num_rows == 1
    assert pq.read_table(along).num_rows == 2
    assert len(queue.read_text().splitlines()) == 1


def test_what_an_erased_person_said_of_two_answers_leaves_what_evaluations_were_given(
    layout: Layout,
) -> None:
    uids = uids_of(layout)
    key = prompt_key(prompt_of(said(1, "ada")["prompt"]))
    rows = [
        {"record_uid": uids["demo-1"], "prompt_key": "other", "response_a": SECRET},  # she said it
        {"record_uid": uids["demo-2"], "prompt_key": key, "response_a": SECRET},  # of her prompt
        {"record_uid": uids["demo-4"], "prompt_key": "other", "response_a": "plain"},
    ]
    paths = [layout.run("people_judgements", one) / "judgements.parquet" for one in ("g1", "g2")]
    for path in paths:
        write_table(pa.Table.from_pylist(rows), path)
    assert ask(layout).removed["people_judgements"] == 4
    assert held(layout) == []
    for path in paths:
        assert pq.read_table(path)["record_uid"].to_pylist() == [uids["demo-4"]]


def test_policies_put_aside_along_a_run_that_saw_a_record_are_told(layout: Layout) -> None:
    (layout.run("policy", "g0001") / "along").mkdir(parents=True)  # of a descendant of what saw it
    (line,) = [one for one in ask(layout).left if "put aside" in one]
    assert "of policy/g0001, in artifacts/runs/policy/g0001/along; remove" in line


def test_what_cannot_be_reached_is_told(layout: Layout, tmp_path: Path) -> None:
    outside = tmp_path / "outside.jsonl"
    outside.write_text(json.dumps(said(30, "ada")) + "\n")
    land([outside], layout, log=lambda line: None)
    array = layout.inbox / "desk" / "array.json"
    array.write_text(json.dumps([said(31, "ada"), said(32, "bob")]))
    landed(layout)
    entry = ask(layout)
    told = "\n".join(entry.left)
    assert "outside.jsonl holds 1 of the lines; it lies outside the inbox: remove it there" in told
    assert "desk/array.json holds 1 of the lines; remove it" in told
    assert "until the next build" in told


def test_looking_changes_nothing(layout: Layout) -> None:
    files = {path: path.read_bytes() for path in layout.inbox.rglob("*") if path.is_file()}
    plan = look_for(layout, "annotator", "ada")
    assert plan.removed["records"] == 3 and pending(layout) == ""
    assert {path: path.read_bytes() for path in layout.inbox.rglob("*") if path.is_file()} == files
    assert landing_counts(layout)["demonstration"] == 6


# ---- served logs after their time -----------------------------------------------------------


def test_served_lines_go_when_their_time_is_over_and_what_landed_stays(layout: Layout) -> None:
    names = Names(layout)
    now = datetime.now(UTC)
    old = now - timedelta(days=40)
    rows = [
        answer(names, "bob", old),
        answer(names, "bob", now - timedelta(days=5)),
        answer(names, "bob", old, consent=False, request=None, response=None),
    ]
    for row in rows:
        _log(layout.served, row)
    _log(layout.served / "feedback", judged(names, rows[0], "cid"))
    ServedLog(layout.served).append(answer(names, "bob", now))
    assert forget_served(layout, ServeSettings()) is None, "kept, where no days are set"
    entry = forget_served(layout, ServeSettings(keep_days=30))
    assert entry is not None and entry.what == "retention" and entry.by == "[serve] keep_days"
    assert entry.removed == {"served_lines": 1, "feedback_lines": 1, "feedback_files": 1}
    assert len(list(Rows(layout.served))) == 3, "the line without consent has a time of its own"
    landed(layout)
    (kept,) = read_folder(layout.landing("interaction"))["response_text"].to_pylist()
    assert kept == "plain", "handed to landing before the log went"
    assert forget_served(layout, ServeSettings(keep_days=30)) is None
    both = forget_served(layout, ServeSettings(keep_days=30, keep_days_without_consent=7))
    assert both is not None and both.removed == {"served_lines": 1, "served_files": 1}
    assert len(Erasures(layout).entries()) == 2


def _log(folder: Path, row: Row) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{row['at'][:10]}-7.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def test_days_that_cannot_be_are_refused() -> None:
    for wrong in ({"keep_days": -1}, {"keep_days_without_consent": -2}, {"forbidden": "shrug"}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            ServeSettings(**wrong)
