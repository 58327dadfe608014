"""Erasure where something is easily missed: copies, blocked files, raw sources, stale marts."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import flywheel.erasure.run as run
from flywheel.datasets.manifest import DatasetManifest
from flywheel.erasure.frozen import erased_uids
from flywheel.erasure.plan import pending
from flywheel.erasure.retention import forget_served
from flywheel.erasure.run import finish_pending, look_for
from flywheel.errors import ErasureError
from flywheel.evaluate.sets.registry import enter_sets
from flywheel.ingest import read_batches, unaccounted
from flywheel.ingest.columns import pseudonyms
from flywheel.lake import read_folder, write_table
from flywheel.layout import Layout
from flywheel.lineage import Erasures, refresh
from flywheel.lineage.records import ATTRIBUTES
from flywheel.privacy import Policy, Tombstones, erased_name
from flywheel.serve.ids import Names
from flywheel.serve.log import Rows, ServedLog
from flywheel.serve.settings import ServeSettings
from flywheel.warehouse import freeze as freeze_mart
from tests.format_samples import ARGILLA, LANGFUSE
from tests.models_for_tests import freeze
from tests.test_erasure import SECRET, _log, answer, ask, held, landed, put, said
from tests.test_lineage import uids_of

TOLD = ("record_uid", "annotator_id", "line_no", "batch_id")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "home")


def told(entry: Any) -> str:
    return "\n".join(entry.left)


def cut_off(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin to erase ada, and end once the plan is written down."""
    with monkeypatch.context() as patch:
        patch.setattr(run, "remove_from_lake", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ask(layout)


# ---- datasets frozen from a read copy that is older than the erasure ------------------------


def mart(layout: Layout) -> dict[str, Any]:
    """A read copy with a mart of what landed, and what it is frozen by."""
    uids = uids_of(layout)
    layout.warehouse_copy.parent.mkdir(parents=True)
    with duckdb.connect(str(layout.warehouse_copy)) as connection:
        connection.execute("create schema marts")
        connection.execute(
            "create table marts.fct_demonstrations as select * from (values "
            f"('d1', ['{uids['demo-1']}'], 'train', '{SECRET}'), "
            f"('d2', ['{uids['demo-2']}'], 'train', 'plain')) "
            "t(demonstration_id, record_uids, split, response)"
        )
    return {
        "table": "marts.fct_demonstrations",
        "key": "demonstration_id",
        "directory": layout.dataset("demonstration", "g0002"),
        "name": "demonstration",
        "generation": "g0002",
        "trained_through_batch": 1,
    }


def test_what_was_erased_is_not_frozen_from_an_older_read_copy(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(layout, "a.jsonl", [said(1, "ada"), said(2, "bob")])
    landed(layout)
    of, uid = mart(layout), uids_of(layout)["demo-1"]
    assert erased_uids(layout) == set()
    cut_off(layout, monkeypatch)
    assert erased_uids(layout) == {uid}, "of one that was cut off, too"
    ask(layout)
    manifest = freeze_mart(layout.warehouse_copy, **of, erased=erased_uids(layout))
    assert (manifest.rows, manifest.rows_refused) == (1, 1)
    assert (
        "d1\tit rests on a record that was erased" in (of["directory"] / "refused.tsv").read_text()
    )
    rows = pq.read_table(of["directory"] / "train.parquet").to_pylist()
    assert [row["response"] for row in rows] == ["plain"]


def test_who_asks_again_has_it_taken_out_of_what_was_frozen_since(layout: Layout) -> None:
    put(layout, "a.jsonl", [said(1, "ada"), said(2, "bob")])
    landed(layout)
    of = mart(layout)
    first = ask(layout)
    freeze_mart(layout.warehouse_copy, **of)
    layout.warehouse_copy.unlink()
    refresh(layout)
    assert held(layout) == ["artifacts/datasets/demonstration/g0002/train.parquet"]
    again = ask(layout)
    assert (again.number, again.removed) == (2, {"dataset_rows": 1}) and held(layout) == []
    assert DatasetManifest.load(of["directory"]).rows_erased == 1
    assert ask(layout) == again != first


# ---- files of the inbox ---------------------------------------------------------------------


def test_a_file_that_was_replaced_while_an_erasure_was_cut_off_keeps_its_lines(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(layout, "a.jsonl", [said(n, "ada" if n % 2 else "bob") for n in range(4)])
    landed(layout)
    cut_off(layout, monkeypatch)
    for count in (1, 9):  # shorter, longer
        path.write_text("".join(f"{json.dumps(said(40 + n, 'bob'))}\n" for n in range(count)))
        before = path.read_bytes()
        entry = finish_pending(layout, log=lambda line: None)
        assert path.read_bytes() == before
        if entry:
            assert "inbox/desk/a.jsonl has changed meanwhile; land it and erase again" in told(
                entry
            )


def test_copies_and_renamed_files_are_blanked_and_missing_ones_told(layout: Layout) -> None:
    first = put(layout, "a.jsonl", [said(1, "ada"), said(2, "bob")])
    second = put(layout, "b.jsonl", [said(3, "ada"), said(4, "bob")])
    third = put(layout, "c.jsonl", [said(5, "ada"), said(6, "bob")])
    landed(layout)
    (copy := first.with_name("copy.jsonl")).write_bytes(first.read_bytes())
    second.rename(second.with_name("renamed.jsonl"))
    third.unlink()
    assert landed(layout) == []
    entry = ask(layout)
    assert held(layout) == [] and entry.removed["inbox_lines"] == 3
    assert b"plain" in copy.read_bytes()
    assert "desk/c.jsonl held 1 of the lines and is not in the inbox any more" in told(entry)
    assert "a.jsonl" not in told(entry) and "b.jsonl" not in told(entry)
    assert landed(layout) == [], "all are known as they are now"


def test_a_blocked_file_is_named(layout: Layout) -> None:
    put(layout, "a.jsonl", [said(1, "ada")])
    blocked = put(layout, "b.jsonl", [said(3, "eve")], "x\n" * 3)
    landed(layout)
    assert "desk/b.jsonl is blocked, and was not looked through" in told(ask(layout))
    with pytest.raises(
        ErasureError, match=r"nothing here is of annotator 'eve'.*b\.jsonl is block"
    ):
        ask(layout, name="eve")
    blocked.unlink()
    with pytest.raises(ErasureError, match=r"waits in the inbox first$"):
        ask(layout, name="eve")


def test_a_blocked_batch_that_was_judged_anew_meanwhile_stays_gone(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(layout, "a.jsonl", [said(1, "ada")])
    faulty = f'{{"kind": "demonstration", "annotator_id": "ada", "note": "{SECRET}"}}\n'
    put(layout, "b.jsonl", [said(2, "bob")], faulty * 2)
    landed(layout)
    cut_off(layout, monkeypatch)
    landed(layout, quarantine_limit=0.9)
    finish_pending(layout, log=lambda line: None)
    batches = {one.file: one for one in read_batches(layout)}
    assert len(batches) == len(read_batches(layout)) == 2 and unaccounted(layout) == []
    assert not batches["desk/b.jsonl"].blocked and batches["desk/b.jsonl"].erased == 2


def test_a_file_of_which_several_lines_make_a_record_is_to_be_removed(layout: Layout) -> None:
    path = layout.inbox / "lf" / "x.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in LANGFUSE))
    landed(layout, quarantine_limit=0.9)
    (uid,) = read_folder(layout.landing("trajectory"))["record_uid"].to_pylist()
    entry = ask(layout, "record", uid)
    assert "inbox/lf/x.jsonl holds records that are made of several lines each" in told(entry)
    assert "remove it: it has landed" in told(entry)


# ---- what comes again -----------------------------------------------------------------------


class TooShort:
    check, passed, checked, rows, critical = "too_short", False, 1, [0], True


def test_an_erased_line_stays_out_whatever_a_judge_or_a_policy_makes_of_it(layout: Layout) -> None:
    row = said(1, "ada", prompt=f"mail {SECRET} at a.miller@mail.desk.co")
    path = put(layout, "a.jsonl", [row, said(2, "bob")])
    raw = path.read_bytes()
    landed(layout)
    ask(layout)
    path.with_name("b.jsonl").write_bytes(raw + b"\n")
    (batch,) = landed(layout, judge=lambda kind, table: [TooShort()], quarantine_limit=0.9)
    assert (batch.lines, batch.rows, batch.quarantined, batch.blanks, batch.erased) == (
        3,
        0,
        1,
        1,
        1,
    )
    path.with_name("c.jsonl").write_bytes(b"\xef\xbb\xbf" + raw.replace(b"\n", b" \r\n"))
    (batch,) = landed(layout, personal=Policy(policy="redact"))
    assert (batch.lines, batch.rows, batch.erased) == (2, 1, 1) and unaccounted(layout) == []
    assert [one for one in held(layout) if not one.startswith("inbox/")] == []


# ---- raw sources and quarantine -------------------------------------------------------------


def raw_source(layout: Layout, name: str, *rows: dict[str, Any]) -> None:
    path = layout.inbox / name / "x.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_rows_of_raw_sources_that_no_model_reads_go_and_consents_stay_told(layout: Layout) -> None:
    put(layout, "a.jsonl", [said(1, "Ada@Desk.org")])
    raw_source(
        layout,
        "odd",
        {"who": "ada@desk.org", "note": SECRET},
        {"who": pseudonyms(layout.root)("ada@desk.org"), "note": SECRET},
        {"who": "bob", "note": "of ada@desk.org"},
    )
    raw_source(layout, "consents", {"annotator_id": "ada@desk.org", "uses": ["train"]})
    landed(layout)
    entry = ask(layout, name="ADA@desk.org")
    assert entry.removed["raw_rows"] == 2 and held(layout) == []
    assert "1 statements about consents, here and in the inbox, kept on purpose" in told(entry)
    assert read_folder(layout.raw("consents")).num_rows == read_folder(layout.raw("odd")).num_rows


def test_a_name_that_may_be_an_answer_must_stand_in_a_field_of_a_person(layout: Layout) -> None:
    raw_source(layout, "odd", {"worker_id": 5, "mark": 1}, {"worker_id": 6, "mark": 5})
    landed(layout)
    assert ask(layout, name="5").removed["raw_rows"] == 1
    (left,) = read_folder(layout.raw("odd"))["record"].to_pylist()
    assert json.loads(left)["worker_id"] == 6


def test_a_value_that_is_called_as_somebody_is_stays_and_is_told(layout: Layout) -> None:
    raw_source(layout, "odd", {"split": "train", "user": "train"}, {"split": "train"}, {"n": 1})
    landed(layout)
    entry = ask(layout, name="train")
    assert entry.removed["raw_rows"] == 1
    assert "1 rows of the source odd in odd/x.jsonl hold the name in a field that need" in told(
        entry
    )
    assert read_folder(layout.raw("odd")).num_rows == 2


def test_an_id_is_a_records_own_and_of_one_record(layout: Layout) -> None:
    put(layout, "a.jsonl", [said(1, "ada")])
    raw_source(layout, "odd", {"id": "r1", "options": [{"id": "r2"}]}, {"id": "demo-1"})
    landed(layout)
    with pytest.raises(ErasureError, match=r"1 rows of raw sources have this id, and 1 records"):
        look_for(layout, "record", "demo-1")
    with pytest.raises(ErasureError, match="nothing here is of record 'r2'"):
        ask(layout, "record", "r2")
    assert "1 rows of the source odd" in "\n".join(look_for(layout, "record", "r2").left)
    assert ask(layout, "record", "r1").removed["raw_rows"] == 1


def test_a_row_of_an_id_that_came_twice_is_named_by_its_line(layout: Layout) -> None:
    raw_source(layout, "odd", {"id": "r1", "text": "a"}, {"id": "r1", "text": "b"})
    (batch,) = landed(layout)
    with pytest.raises(ErasureError, match=rf"by its batch and line: {batch.batch_id}:1"):
        look_for(layout, "record", "r1")
    assert ask(layout, "record", f"{batch.batch_id}:2").removed["raw_rows"] == 1
    (left,) = read_folder(layout.raw("odd"))["record"].to_pylist()
    assert json.loads(left)["text"] == "a"


@pytest.mark.parametrize("what", ["record", "user"])
def test_all_that_is_about_an_answer_goes_with_it_however_much_that_is(
    layout: Layout, what: str
) -> None:
    row = answer(Names(layout), "ada", datetime.now(UTC))
    _log(layout.served, row)
    about = {"response_id": row["response_id"]}
    raw_source(layout, "odd", *({**about, "note": one} for one in ("good", "bad")), {"of": about})
    refused = {"kind": "critique", "id": "c1", "metadata": about}
    put(layout, "a.jsonl", [said(number, "bob") for number in range(1, 60)] + [refused])
    landed(layout)
    removed = ask(layout, what, row["response_id"] if what == "record" else "ada").removed
    assert removed["raw_rows"] == 3 and removed["quarantined_lines"] == 1


def test_what_shares_an_id_with_a_part_of_another_stays_and_is_told(layout: Layout) -> None:
    parts = [{"id": f"n{n}", "responses": [{"response_id": "1"}]} for n in range(4)]
    raw_source(layout, "odd", {"id": "1"}, *parts, {"response_id": "1"}, {"id": ["1", "2"]})
    landed(layout)
    entry = ask(layout, "record", "1")
    assert entry.removed["raw_rows"] == 1 and "6 rows of the source odd" in told(entry)


def test_a_user_s_pseudonym_stands_in_any_field_whatever_name_was_given(layout: Layout) -> None:
    user = Names(layout).user("bobby")
    raw_source(layout, "odd", {"speaker": user, "text": "x"}, {"speaker": "bobby", "text": "y"})
    landed(layout)
    entry = ask(layout, "user", "bobby")
    assert entry.removed["raw_rows"] == 1 and "1 rows of the source odd" in told(entry)


def test_a_line_of_two_people_is_no_blank_that_was_erased(layout: Layout) -> None:
    two = ARGILLA[0] | {"better.responses.status": ["submitted", "submitted"]}
    path = put(layout, "a.jsonl", [two])
    (batch,) = landed(layout, format="argilla")
    assert batch.rows_by_kind["comparison"] == 2
    for name in read_folder(layout.landing("comparison"))["annotator_id"].to_pylist():
        ask(layout, name=name)
    assert not path.read_bytes().strip()
    assert Tombstones(layout).hold([erased_name("line", b"")]) == [False]
    put(layout, "b.jsonl", [said(2, "bob")], "{torn\n" * 2 + "\n" * 12)
    (batch,) = [one for one in landed(layout) if "b.jsonl" in one.file]
    assert batch.blocked and (batch.erased, batch.blanks) == (0, 12)


def test_a_raw_row_that_is_delivered_again_may_be_frozen(layout: Layout) -> None:
    raw_source(layout, "odd", {"worker_id": "ada", "other": "ben"})
    landed(layout)
    labels(layout, [("of-ada", "ada", 1), ("of-ben", "ben", 1)])
    entry = ask(layout)
    assert entry.removed["records"] == entry.removed["records_of_others_on_the_same_lines"] == 1
    assert erased_uids(layout) == {"of-ada", "of-ben"}, "the read copy is that of before"
    raw_source(layout, "odd", {"other": "ben"})
    landed(layout)
    labels(layout, [("of-ben", "ben", 1)])
    assert erased_uids(layout) == {"of-ada"}


def test_rows_of_raw_sources_are_not_frozen_while_their_erasure_is_cut_off(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw_source(layout, "odd", {"worker_id": "ada"})
    landed(layout)
    labels(layout, [("of-ada", "ada", 1)])
    cut_off(layout, monkeypatch)
    assert erased_uids(layout) == {"of-ada"}, "its line is still there"
    finish_pending(layout, log=lambda line: None)
    assert erased_uids(layout) == {"of-ada"}


def labels(layout: Layout, rows: list[tuple[str, str, int]]) -> None:
    """A read copy that gives lines of the newest batch a meaning."""
    batch = read_batches(layout)[-1].batch_id
    layout.warehouse_copy.unlink(missing_ok=True)
    layout.warehouse_copy.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(layout.warehouse_copy)) as connection:
        connection.execute("create schema intermediate")
        rest = ", ".join(f"null::varchar as {one}" for one in ATTRIBUTES if one not in TOLD)
        connection.execute(
            f"create table intermediate.int_labels_unioned as select *, '{batch}' as batch_id, "
            f"{rest.replace('null::varchar as cost_usd', 'null::double as cost_usd')} "
            f"from (values {', '.join(map(str, rows))}) t(record_uid, annotator_id, line_no)"
        )


def test_votes_that_an_older_read_copy_brings_back_can_be_erased_again(layout: Layout) -> None:
    put(layout, "a.jsonl", [said(1, "ada"), said(2, "bob")])
    landed(layout)
    uid = uids_of(layout)["demo-1"]
    ask(layout)
    path = layout.run("people_judgements", "g1") / "judgements.parquet"
    write_table(pa.table({"record_uid": [uid], "prompt_key": ["p"], "response_a": [SECRET]}), path)
    assert ask(layout).removed == {"people_judgements": 1} and held(layout) == []


@pytest.mark.parametrize(
    ("name", "line", "goes"),
    [
        ("a", {"annotator_id": "bob", "choice": "a"}, False),
        ("a", {"annotator_id": "a", "choice": "b"}, True),
        ("ada@x.org", {"annotator_id": "Ada@X.org"}, True),
        ("Zoë", {"annotator": {"name": "Zoë"}}, True),
        ("ada", {"metadata": {"author": "ada"}}, True),
        ("ada", {"annotator_id": "bob", "prompt": "ada"}, False),
        ("ada", '{"annotator_id": "ada", "prompt": "torn', True),
        ("Zoë", '{"annotator_id": "Zo\\u00eb", "prompt": "torn', True),
        ("ada@x.org", '{"annotator_id": "Ada@X.org", "prompt": "torn', True),
    ],
)
def test_refused_lines_are_somebody_s_by_the_fields_that_say_so(
    layout: Layout, name: str, line: Any, goes: bool
) -> None:
    more = line if isinstance(line, str) else json.dumps({"kind": "comparison"} | line)
    put(layout, "a.jsonl", [said(1, name), said(2, "bob")], more + "\n")
    landed(layout, quarantine_limit=0.9)
    entry = ask(layout, name=name)
    assert entry.removed["records"] == 1
    assert entry.removed.get("quarantined_lines", 0) == goes


def test_a_subject_is_found_as_landing_writes_it(layout: Layout) -> None:
    put(layout, "a.jsonl", [said(1, "ada", data_subject="Kim@Desk.org"), said(2, "ada")])
    landed(layout)
    path = put(layout, "b.jsonl", [said(3, "ada", data_subject="Kim@Desk.org")])
    landed(layout, personal=Policy(policy="redact"))
    subjects = read_folder(layout.landing("demonstration"))["data_subject"].to_pylist()
    assert any(one and one.startswith("<EMAIL_") for one in subjects)
    assert ask(layout, "subject", "kim@desk.org").removed["records"] == 2
    assert not path.read_bytes().strip()


# ---- names ----------------------------------------------------------------------------------


def test_an_address_and_its_pseudonym_are_one_erasure(layout: Layout) -> None:
    put(layout, "a.jsonl", [said(1, "zoe@x.org"), said(2, "bob")])
    landed(layout)
    entry = ask(layout, name="zoe@x.org")
    assert ask(layout, name=pseudonyms(layout.root)("Zoe@x.org")) == entry


def test_an_id_of_several_records_is_refused_with_their_uids(layout: Layout) -> None:
    put(layout, "a.jsonl", [said(1, "ada")])
    raw_source(layout, "other", said(2, "bob") | {"id": "demo-1"})
    landed(layout)
    uids = read_folder(layout.landing("demonstration"))["record_uid"].to_pylist()
    with pytest.raises(ErasureError, match="2 records were delivered with this id") as error:
        look_for(layout, "record", "demo-1")
    assert all(uid in str(error.value) for uid in uids)
    assert ask(layout, "record", uids[0]).removed["records"] == 1


# ---- copies that are told, and logs ---------------------------------------------------------


def test_versions_of_evaluation_sets_and_a_warehouse_built_by_hand_are_told(layout: Layout) -> None:
    asked = {"kind": "evaluation_prompt", "id": "q1", "prompt": SECRET, "evaluation_set": "s"}
    put(layout, "e.jsonl", [asked | {"grader": "exact", "reference": "x"}, said(2, "bob")])
    landed(layout)
    (row,) = read_folder(layout.landing("evaluation_prompt")).to_pylist()
    names = ("prompt_key", "prompt", "grader", "reference", "domain", "source", "licence")
    rows = [{name: row[name] for name in (*names, "evaluation_set")}]
    rows = [rows[0] | {"group_id": row["prompt_key"], "record_uids": [row["record_uid"]]}]
    freeze(layout.dataset("evaluation", "g0001"), test=rows)
    enter_sets(layout, rows, "g0001")
    (by_hand := layout.root / "dev" / "warehouse.duckdb").parent.mkdir()
    by_hand.touch()
    entry = ask(layout, "record", "q1")
    assert held(layout) == ["artifacts/evaluation_sets/s/v1/test.parquet"]
    assert "artifacts/evaluation_sets/s/v1 holds 1 of the prompts" in told(entry)
    assert "dev/warehouse.duckdb, built by hand" in told(entry)


def test_with_an_answer_goes_what_was_answered_in_its_shadow(layout: Layout) -> None:
    names, now = Names(layout), datetime.now(UTC)
    row = answer(names, "ada", now)
    shadow = answer(names, "ada", now, shadow_of=row["response_id"], stage="shadow")
    ServedLog(layout.served).append(row, shadow, answer(names, "bob", now))
    assert ask(layout, "record", row["response_id"]).removed == {"served_lines": 2}
    assert len(list(Rows(layout.served))) == 1 and held(layout) == []


def test_logs_whose_time_is_over_wait_for_an_erasure_that_was_cut_off(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(layout, "a.jsonl", [said(1, "ada"), said(2, "bob")])
    landed(layout)
    old = datetime.now(UTC) - timedelta(days=40)
    _log(layout.served, answer(Names(layout), "bob", old))
    cut_off(layout, monkeypatch)
    with pytest.raises(ErasureError, match=r"was cut off; give the same command again"):
        forget_served(layout, ServeSettings(keep_days=30))
    assert len(list(Rows(layout.served))) == 1
    with Erasures(layout).appending() as (_, append):  # as a version did that did not look
        append(what="retention", subject="", by="x", reason="x", removed={})
    entry = finish_pending(layout, log=lambda line: None)
    assert entry is not None and (entry.number, entry.what) == (2, "annotator")
    assert held(layout) == [] and pending(layout) == ""
    assert set(read_folder(layout.erased)["erasure"].to_pylist()) == {2}
