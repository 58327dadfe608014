"""Lineage from both sides, on a small home whose every edge is known."""

import gzip
import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.errors import LineageError
from flywheel.ingest import land
from flywheel.lake import ensure, read_folder
from flywheel.layout import Layout
from flywheel.lineage import Reading, refresh, trace, write_card, write_page
from flywheel.models.publish import publish
from flywheel.promotion import Decision, decide_and_record
from flywheel.rights import USES
from tests.models_for_tests import freeze
from tests.small_lake import PROJECT

PEOPLE = ("ada", "bob", "cid")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Six demonstrations by three people; ada and bob taught the SFT policy, cid the policy."""
    layout = Layout(tmp_path)
    folder = layout.inbox / "desk"
    folder.mkdir(parents=True)
    rows = [
        {
            "kind": "demonstration",
            "id": f"demo-{number}",
            "prompt": f"what is {number}",
            "response": f"it is {number}",
            "annotator_id": PEOPLE[number % 3],
            "licence": "MIT" if number < 4 else "CC0-1.0",
            "guideline_version": "v1",
            "cost_usd": 2.0,
        }
        for number in range(6)
    ]
    (folder / "demos.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    land([layout.inbox], layout, log=lambda line: None)
    ensure(layout)
    uids = uids_of(layout)
    by = {who: [uids[f"demo-{n}"] for n in range(6) if PEOPLE[n % 3] == who] for who in PEOPLE}
    rows = {who: [{"record_uids": [uid]} for uid in by[who]] for who in PEOPLE}
    folder = layout.dataset("demonstration", "g0001")
    freeze(folder, train=rows["ada"] + rows["bob"], test=rows["cid"][:1])
    sft = checkpoint(layout, "sft_policy", {uid: 2 for uid in (*by["ada"], *by["bob"])}, [])
    checkpoint(layout, "policy", {by["cid"][0]: 3, by["cid"][1]: 0}, [sft])
    return layout


def uids_of(layout: Layout) -> dict[str, str]:
    rows = read_folder(layout.landing("demonstration"), ["record_id", "record_uid"]).to_pylist()
    return {row["record_id"]: row["record_uid"] for row in rows}


def checkpoint(layout: Layout, kind: str, seen: dict[str, int], parents: list[Any]) -> dict:
    folder = layout.checkpoint(kind, "g0001")
    lines = "".join(f"{uid}\t{times}\n" for uid, times in seen.items())

    def write(draft: Path) -> None:
        (draft / "records.gz").write_bytes(gzip.compress(lines.encode()))
        (draft / "weights").write_text(kind)

    facts = {
        "records": {"file": "records.gz"},
        "parents": parents,
        "datasets": {"demonstration": "d" * 64},
        "settings": {"learning_rate": 0.001},
    }
    content = publish(folder, write, facts)["content_hash"]
    return {"model": str(folder), "content_hash": content}


def test_a_policy_answers_for_its_parents_records_people_and_money(layout: Layout) -> None:
    found = trace(layout, "g0001")
    assert (found["name"], found["ancestry"]) == (
        "policy/g0001",
        ["policy/g0001", "sft_policy/g0001"],
    )
    assert found["records"] == 6 and found["times_seen"] == 4 * 2 + 3
    assert found["label_cost_usd"] == 12.0 and found["records_no_longer_landed"] == 0
    people = {row["name"]: (row["records"], row["times_seen"]) for row in found["by_annotator"]}
    assert people == {"ada": (2, 4), "bob": (2, 4), "cid": (2, 3)}
    assert {row["name"]: row["records"] for row in found["by_licence"]} == {"MIT": 4, "CC0-1.0": 2}
    assert trace(layout, "checkpoint:sft_policy/g0001")["records"] == 4
    assert trace(layout, f"{found['content_hash'][:10]}")["name"] == "policy/g0001"


def test_a_person_is_followed_into_datasets_checkpoints_and_their_descendants(
    layout: Layout,
) -> None:
    ada = trace(layout, "annotator:ada")
    assert ada["records"] == 2 and ada["descendants"] == ["policy/g0001"]
    assert ada["checkpoints"] == [{"checkpoint": "sft_policy/g0001", "records": 2, "times_seen": 4}]
    assert ada["datasets"] == [{"dataset": "demonstration/g0001", "split": "train", "records": 2}]
    cid = trace(layout, "cid")
    assert cid["kind"] == "annotator" and cid["descendants"] == []
    assert cid["checkpoints"] == [{"checkpoint": "policy/g0001", "records": 1, "times_seen": 3}]
    unseen = trace(layout, "record:demo-5")  # in a step 0 times: the run ended before
    assert unseen["checkpoints"] == [] and unseen["examples"][0]["annotator_id"] == "cid"
    assert unseen["examples"][0]["line_no"] == 6


def test_both_directions_agree_on_every_record(layout: Layout) -> None:
    back: dict[str, set[str]] = {}  # by the manifests themselves
    for one in ("policy/g0001", "sft_policy/g0001"):
        path = layout.artifacts / "checkpoints" / one / "records.gz"
        for line in gzip.decompress(path.read_bytes()).decode().splitlines():
            uid, _, times = line.partition("\t")
            if int(times):
                back.setdefault(uid, set()).add(one)
    assert len(back) == 5
    for name, uid in uids_of(layout).items():
        forward = trace(layout, uid)
        assert forward["kind"] == "record" and forward["examples"][0]["record_id"] == name
        assert {one["checkpoint"] for one in forward["checkpoints"]} == back.get(uid, set())


def test_of_checkpoints_with_equal_content_the_parent_that_was_meant_is_named(
    layout: Layout,
) -> None:
    shutil.copytree(
        layout.checkpoint("sft_policy", "g0001"), layout.checkpoint("sft_policy", "g0002")
    )
    assert trace(layout, "g0001")["ancestry"] == ["policy/g0001", "sft_policy/g0001"]


def test_an_empty_home_and_a_foreign_manifest_are_no_crash(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with pytest.raises(LineageError, match="names nothing that is known here"):
        trace(layout, "x")
    folder = layout.checkpoint("policy", "g0001")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"a": 1}')
    with pytest.raises(LineageError, match="no checkpoint is called"):
        trace(layout, "g0001")


def test_a_licence_or_a_file_is_followed_too(layout: Layout) -> None:
    assert trace(layout, "licence:MIT")["records"] == 4
    assert trace(layout, "guideline:v1")["records"] == 6
    assert trace(layout, "desk")["kind"] == "source"
    batch = read_folder(layout.landing("demonstration"), ["batch_id"])["batch_id"][0].as_py()
    assert trace(layout, batch)["records"] == 6


def test_a_record_of_a_raw_source_is_told_with_its_terms_and_its_place(layout: Layout) -> None:
    batches = [land_table(layout, name) for name in ("first", "again")]
    layout.warehouse_copy.parent.mkdir(parents=True)
    with duckdb.connect(str(layout.warehouse_copy)) as connection:  # as staging reads that table
        connection.execute("create schema intermediate")
        connection.execute(
            """
            create table intermediate.int_labels_unioned as
            select 'u1' as record_uid, 'p1:1' as record_id, 'comparison' as kind,
                'crowd' as source, 'w1' as annotator_id, 'person' as annotator_kind,
                'v7' as guideline_version, 'CC BY 4.0' as licence, 0.5 as cost_usd,
                unnest($1::varchar[]) as batch_id, 'pairs.csv' as file, 3 as line_no
            """,
            [batches],
        )
    checkpoint(layout, "reward", {"u1": 2}, [])
    found = trace(layout, "CC BY 4.0")
    assert (found["kind"], found["records"]) == ("licence", 2), "one record, delivered twice"
    place = [(one["file"], one["line_no"], one["record_id"]) for one in found["examples"]]
    assert place == [("pairs.csv", 3, "p1:1")] * 2
    seen = [{"checkpoint": "reward/g0001", "records": 1, "times_seen": 2}]
    for name in ("guideline:v7", "record:p1:1", f"batch:{batches[0]}", "source:crowd"):
        assert trace(layout, name)["checkpoints"] == seen, name
    back = trace(layout, "checkpoint:reward/g0001")
    assert (back["records"], back["times_seen"], back["label_cost_usd"]) == (1, 2, 0.5)
    assert [one["name"] for one in back["by_licence"]] == ["CC BY 4.0"]


def land_table(layout: Layout, name: str) -> str:
    """Land a table in no known format; the id of its batch."""
    file = layout.inbox / "crowd" / f"{name}.jsonl"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"pair": name}) + "\n")
    (batch,) = land([file], layout, log=lambda _: None)
    assert batch.rows_by_kind == {"raw": 1}
    return batch.batch_id


def test_what_is_trained_again_leaves_no_edge_of_its_former_self(layout: Layout) -> None:
    uids = uids_of(layout)
    assert refresh(layout) == 3 and refresh(layout) == 0
    checkpoint(layout, "policy", {uids["demo-0"]: 1}, [])
    assert refresh(layout) == 1
    assert trace(layout, "cid")["checkpoints"] == []
    assert trace(layout, "g0001")["ancestry"] == ["policy/g0001"]


def crowned(layout: Layout) -> None:
    folder = layout.evaluation("g0001")
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    decide_and_record(
        layout,
        "g0001",
        Decision(decision="PROMOTE", reasons=["better"]),
        content_hash=trace(layout, "g0001")["content_hash"],
        compared_with="",
        human_approval=False,
    )


@pytest.mark.parametrize("becomes", ["trained over", "removed"])
def test_a_parent_that_is_gone_stays_behind_the_champion(layout: Layout, becomes: str) -> None:
    crowned(layout)
    before, ada = trace(layout, "g0001"), trace(layout, "annotator:ada")
    assert ada["champion_is_touched"] is True
    old = trace(layout, "sft_policy/g0001")["content_hash"]
    if becomes == "removed":
        shutil.rmtree(layout.checkpoint("sft_policy", "g0001"))
    else:
        checkpoint(layout, "sft_policy", {"x": 1, "y": 1}, [])
    name = f"sft_policy/g0001@{old[:12]}"
    for _ in range(2):
        after = trace(layout, "g0001")
        assert after["ancestry"] == ["policy/g0001", name] and after["ancestors_unknown"] == 0
        for told in ("records", "times_seen", "label_cost_usd", "by_annotator", "allowed_uses"):
            assert after[told] == before[told], told
        ada = trace(layout, "annotator:ada")
        assert [one["checkpoint"] for one in ada["checkpoints"]] == [name]
        assert ada["descendants"] == ["policy/g0001"] and ada["champion_is_touched"] is True
    facts = pq.read_table(layout.lineage("checkpoints")).to_pylist()
    assert name in {one["checkpoint_id"] for one in facts}
    shutil.rmtree(layout.checkpoint("policy", "g0001"))
    refresh(layout)  # nothing descends from it any more
    assert not list(layout.lineage("record_checkpoints").glob("*@*"))


def test_a_parent_of_which_nothing_was_remembered_is_told_as_unknown(
    layout: Layout, tmp_path: Path
) -> None:
    crowned(layout)
    old = trace(layout, "sft_policy/g0001")["content_hash"]
    shutil.rmtree(layout.lake / "derived" / "lineage")
    checkpoint(layout, "sft_policy", {"x": 1}, [])
    found, ada = trace(layout, "g0001"), trace(layout, "annotator:ada")
    assert found["unknown_ancestors"] == [f"sft_policy/g0001@{old[:12]}"]
    assert found["ancestors_unknown"] == ada["ancestors_unknown"] == 1
    assert ada["champion_is_touched"] is None
    write_page(tmp_path / "ada.html", ada)
    assert "Whether the champion rests on it is not known" in (tmp_path / "ada.html").read_text()
    assert trace(layout, "annotator:cid")["champion_is_touched"] is True


def test_what_is_unknown_or_ambiguous_is_an_error_with_a_remedy(layout: Layout) -> None:
    with pytest.raises(LineageError, match="names nothing that is known here"):
        trace(layout, "nobody")
    with pytest.raises(LineageError, match="no landed record has annotator 'nobody'"):
        trace(layout, "annotator:nobody")
    with pytest.raises(LineageError, match="was not evaluated"):
        trace(layout, "answer:g0001/abc")
    with pytest.raises(LineageError, match="no checkpoint is called 'policy/g0007'"):
        trace(layout, "g0007")
    (layout.inbox / "ada").mkdir()  # now a source and an annotator have the same name
    row = {"kind": "demonstration", "prompt": "who", "response": "me", "annotator_id": "dot"}
    (layout.inbox / "ada" / "one.jsonl").write_text(json.dumps(row) + "\n")
    land([layout.inbox], layout, log=lambda line: None)
    with pytest.raises(LineageError, match=r"several things; say which: annotator:ada, source:ada"):
        trace(layout, "ada")


def test_records_that_are_gone_are_counted_and_not_forgotten(layout: Layout) -> None:
    trace(layout, "g0001")
    for path in layout.landing("demonstration").glob("b*.parquet"):
        path.unlink()
    found = trace(layout, "g0001")
    assert found["records"] == found["records_no_longer_landed"] == 6


def test_a_checkpoint_whose_records_are_gone_is_told_as_unknown_and_stops_no_other(
    layout: Layout,
) -> None:
    (layout.checkpoint("policy", "g0001") / "records.gz").unlink()
    found = trace(layout, "g0001")
    assert found["unknown_ancestors"] == ["policy/g0001"], "not one without any records"
    assert found["records"] == 4, "of its parent"
    assert trace(layout, "checkpoint:sft_policy/g0001")["ancestors_unknown"] == 0
    told = pq.read_table(layout.lineage("checkpoints"))["checkpoint_id"].to_pylist()
    assert told == ["sft_policy/g0001"]


def test_an_evaluated_answer_leads_by_its_content_to_its_checkpoint(layout: Layout) -> None:
    folder = layout.evaluation("g0001")
    folder.mkdir(parents=True)
    row = {
        "prompt_key": "k1",
        "prompt": "what is 1",
        "policy": "policy",
        "greedy": False,
        "response": "it is 1",
        "score": 1.0,
    }
    pq.write_table(pa.Table.from_pylist([row]), folder / "samples.parquet")
    found = trace(layout, "g0001/k1")
    assert found["kind"] == "answer" and "from" not in found
    assert found["checkpoint"].startswith("which weights answered is not written down")
    judged = {"policy_content_hash": trace(layout, "g0001")["content_hash"]}
    (folder / "result.json").write_text(json.dumps(judged))
    found = trace(layout, "answer:g0001/k1")
    assert found["response"] == "it is 1" and found["from"]["name"] == "policy/g0001"
    with pytest.raises(LineageError, match="was not asked"):
        trace(layout, "answer:g0001/k2")


def test_an_evaluated_answer_is_never_of_weights_that_were_trained_since(
    layout: Layout, tmp_path: Path
) -> None:
    folder = layout.evaluation("g0001")
    folder.mkdir(parents=True)
    row = {"prompt_key": "k1", "prompt": "p", "policy": "policy", "greedy": False}
    row |= {"response": "it is 1", "score": 1.0}
    pq.write_table(pa.Table.from_pylist([row]), folder / "samples.parquet")
    (folder / "result.json").write_text('{"policy_content_hash": "' + "a" * 64 + '"}')
    found = trace(layout, "g0001/k1")
    assert "from" not in found and found["content_hash"] == "a" * 64
    assert found["checkpoint"].startswith("policy/g0001 (aaaaaaaaaaaa) answered, and no checkpoint")
    write_page(tmp_path / "page.html", found)
    assert "it was replaced or removed" in (tmp_path / "page.html").read_text()
    elsewhere = layout.checkpoint("policy", "g0002")
    shutil.copytree(layout.checkpoint("policy", "g0001"), elsewhere)
    manifest = json.loads((elsewhere / "manifest.json").read_text()) | {"content_hash": "a" * 64}
    (elsewhere / "manifest.json").write_text(json.dumps(manifest))
    assert trace(layout, "g0001/k1")["from"]["name"] == "policy/g0002"  # it was moved there


def test_the_card_says_what_it_rests_on_what_it_cost_and_what_is_not_known(layout: Layout) -> None:
    run = layout.run("policy", "g0001")
    run.mkdir(parents=True)
    (run / "result.json").write_text(json.dumps({"process_seconds": 7200}))
    reading = Reading(usd_per_hour=3.0)
    text = write_card(layout, "g0001", reading=reading)[0].read_text()
    assert "It was not evaluated." in text and "| gate | not judged yet |" in text
    assert "| labels | 12.00 |" in text and "| policy/g0001 | 6.00 | 2.000 h |" in text
    assert "| ada | 2 | 4 | 4.0 |" in text and "learning_rate" in text

    folder = layout.evaluation("g0001")
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    content = trace(layout, "g0001")["content_hash"]
    decide_and_record(
        layout,
        "g0001",
        Decision(decision="PROMOTE", reasons=["preferred over base .9"]),
        content_hash=content,
        compared_with="",
        human_approval=False,
    )
    text = write_card(layout, "g0001")[0].read_text()
    assert "| gate | PROMOTE, by gate at" in text and "- preferred over base .9" in text
    assert "| champion | yes |" in text and "no price is set" in text


def served(layout: Layout, lines: list[dict[str, Any]], torn: str = "") -> None:
    layout.served.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{json.dumps(one)}\n" for one in lines)
    (layout.served / "2026-11-26-17.jsonl").write_text(text + torn)


def test_a_served_answer_leads_by_its_content_to_the_checkpoint_and_all_behind_it(
    layout: Layout,
) -> None:
    content = trace(layout, "g0001")["content_hash"]
    about = {
        "at": "2026-11-26T12:00:00.000+00:00",
        "generation": "g0001",
        "checkpoint_kind": "policy",
        "content_hash": content,
        "stage": "champion",
    }
    asked = {"messages": [{"role": "user", "content": "what is 1"}]}
    first = {"response_id": "resp-1", **about, "request": asked, "response": "it is"}
    whole = first | {"response": "it is 1"}  # it was cut off, and written again
    private = {"response_id": "resp-2", **about, "request": None, "response": None}
    served(layout, [first, whole, private], torn='{"response_id": "resp-3", "at"')
    found = trace(layout, "resp-1")
    assert (found["kind"], found["prompt"], found["response"]) == ("served", "what is 1", "it is 1")
    assert found["checkpoint"] == "policy/g0001" and found["from"]["records"] == 6
    assert found["lines_torn"] == 0 and found["stage"] == "champion"
    withheld = trace(layout, "served:resp-2")
    assert withheld["response"] is None and withheld["from"]["label_cost_usd"] == 12.0
    with pytest.raises(
        LineageError,
        match=r"no answer 'resp-3' .*; 1 line of the served log that may tell of it is torn",
    ):
        trace(layout, "served:resp-3")
    with pytest.raises(LineageError, match="1 line of the served log that may tell of it is torn"):
        trace(layout, "resp-3")
    for nothing in ("", " ", "served:"):  # every line holds that
        with pytest.raises(LineageError, match="names nothing"):
            trace(layout, nothing)
    served(layout, [first], torn='{"response_id": "resp-1", "at"')
    assert trace(layout, "resp-1")["lines_torn"] == 1


def test_a_served_answer_whose_weights_are_gone_says_so(layout: Layout) -> None:
    about = {"generation": "g0001", "checkpoint_kind": "policy", "content_hash": "e" * 64}
    served(layout, [{"response_id": "resp-1", "at": "now", "stage": "champion", **about}])
    found = trace(layout, "resp-1")
    assert "from" not in found
    assert found["checkpoint"].startswith("policy/g0001 (eeeeeeeeeeee) answered, and no checkpoint")


def test_a_consent_that_was_withdrawn_leads_to_the_checkpoints_that_rest_on_it(
    layout: Layout,
) -> None:
    row = {
        "kind": "demonstration",
        "id": "given",
        "prompt": "who",
        "response": "me",
        "metadata": {"consent": {"id": "c-1", "uses": ["train_internal"]}},
    }
    (layout.inbox / "desk" / "more.jsonl").write_text(json.dumps(row) + "\n")
    folder = layout.inbox / "consents"
    folder.mkdir()
    said = [
        {"consent_id": "c-1", "withdrawn_at": "2026-11-25"},
        {"annotator_id": "ada", "withdrawn_at": "2026-11-26"},
    ]
    (folder / "back.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in said))
    land([layout.inbox], layout, log=lambda line: None)
    checkpoint(layout, "reward_model", {uids_of(layout)["given"]: 2}, [])
    found = trace(layout, "c-1")
    assert (found["kind"], found["records"]) == ("consent", 1)
    assert [one["checkpoint"] for one in found["checkpoints"]] == ["reward_model/g0001"]
    (statement,) = found["consent_statements"]
    assert (statement["withdrawn_at"], statement["line_no"]) == ("2026-11-25", 1)
    ada = trace(layout, "annotator:ada")
    assert [one["withdrawn_at"] for one in ada["consent_statements"]] == ["2026-11-26"]
    assert ada["descendants"] == ["policy/g0001"]


def test_a_page_tells_both_directions_and_escapes_what_people_wrote(
    layout: Layout, tmp_path: Path
) -> None:
    row = {"kind": "demonstration", "prompt": "who", "response": "me", "source": "<b>bold</b>"}
    (layout.inbox / "desk" / "more.jsonl").write_text(json.dumps(row) + "\n")
    land([layout.inbox], layout, log=lambda line: None)
    path = tmp_path / "pages" / "back.html"
    write_page(path, trace(layout, "g0001", Reading(usd_per_hour=2.0)))
    back = path.read_text()
    for told in ("policy/g0001", "sft_policy/g0001", "ada", "CC0-1.0", "v1", "12.00 USD", "demo-0"):
        assert told in back, told
    assert "desk/demos.jsonl" in back and "Duties: attribution." in back
    write_page(path, trace(layout, "source:<b>bold</b>"))
    forward = path.read_text()
    assert "<b>bold" not in forward and "&lt;b&gt;bold" in forward
    write_page(path, trace(layout, "annotator:ada"))
    assert "sft_policy/g0001" in path.read_text() and "demonstration/g0001" in path.read_text()
    content = trace(layout, "g0001")["content_hash"]
    about = {"generation": "g0001", "checkpoint_kind": "policy", "content_hash": content}
    served(layout, [{"response_id": "resp-1", "response": None, **about}])
    write_page(path, trace(layout, "resp-1"))
    assert "the user did not agree to that" in path.read_text() and "ada" in path.read_text()
    with pytest.raises(LineageError, match="cannot write"):
        write_page(path / "below a file.html", trace(layout, "g0001"))


def test_other_checkpoints_have_cards_with_the_metrics_of_their_own_weights(
    layout: Layout,
) -> None:
    about = trace(layout, "sft_policy/g0001")
    held = {"rows": 4, "base": 2.0, "base_ci": [1.9, 2.1], "sft": 1.5, "sft_ci": [1.4, 1.6]}
    folder = layout.evaluation("g0001")
    folder.mkdir(parents=True)
    result = {"demonstrations": held, "sft_content_hash": about["content_hash"]}
    (folder / "result.json").write_text(json.dumps(result))
    path, _ = write_card(layout, "g0001", "sft_policy")
    text = path.read_text()
    assert path.name == "sft_policy-g0001.md" and "| sft | 1.500 (1.400 to 1.600) |" in text
    assert "Duties: attribution." in text and "| labels | 8.00 |" in text
    checkpoint(layout, "sft_policy", {"x": 1}, [])
    again = write_card(layout, "g0001", "sft_policy")[0].read_text()
    assert "It was not evaluated." in again, "the evaluation is of the weights before"


def test_the_card_of_a_reward_model_tells_that_it_was_trained_on_its_test(layout: Layout) -> None:
    checkpoint(layout, "reward_model", {"x": 1}, [])
    share = {"accuracy": 0.9, "ci": [0.8, 1.0], "pairs": 9}
    rules = {"longest_wins": 0.5, "shortest_wins": 0.5}
    broken = {"reward model trained on its test": "3 of 9 records", "not finite": "1 of 2 answers"}
    result = {
        "reward_model": share | rules | {"by_domain": {}, "undecided": 0},
        "broken_invariants": broken,
        "reward_model_content_hash": trace(layout, "reward_model/g0001")["content_hash"],
    }
    folder = layout.evaluation("g0001")
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
    text = write_card(layout, "g0001", "reward_model")[0].read_text()
    assert "- reward model trained on its test: 3 of 9 records" in text
    assert "not finite" not in text, "that is of the policy"


def test_what_is_not_known_of_what_is_behind_a_checkpoint_allows_no_more_than_a_test(
    layout: Layout, tmp_path: Path
) -> None:
    assert trace(layout, "checkpoint:sft_policy/g0001")["allowed_uses"] == list(USES)
    hub = {"model": "some/model"}
    checkpoint(layout, "reward_model", {}, [hub])
    found = trace(layout, "checkpoint:reward_model/g0001")
    assert found["allowed_uses"] == ["evaluate"] and found["ancestors_unknown"] == 0
    assert found["limited_by"] == ["base model model (hub)"]
    licensed = Reading(base="Apache-2.0")
    known = trace(layout, "checkpoint:reward_model/g0001", licensed)
    assert (known["allowed_uses"], known["duties"]) == (list(USES), ["attribution"])
    checkpoint(layout, "alone", {}, [])
    alone = trace(layout, "checkpoint:alone/g0001")
    assert alone["allowed_uses"] == ["evaluate"]
    write_page(tmp_path / "alone.html", alone)
    page = (tmp_path / "alone.html").read_text()
    assert (
        "no record is behind it, nor anything else that is known" in page
        and "publish weights" not in page
    )
    for path in layout.landing("demonstration").glob("b*.parquet"):
        path.unlink()
    gone = trace(layout, "g0001")
    assert gone["allowed_uses"] == ["evaluate"]
    assert gone["limited_by"] == ["records that are landed no longer"]


def test_a_corpus_is_of_unknown_terms_unless_it_is_the_sample_world_s_own(layout: Layout) -> None:
    corpus = layout.root / "sample" / "corpus.parquet"
    corpus.parent.mkdir()
    corpus.write_bytes(b"made up")
    facts = {"parents": [], "datasets": {"corpus": hashlib.sha256(b"made up").hexdigest()}}
    publish(layout.checkpoint("base_policy", "g0001"), lambda draft: None, facts)
    assert trace(layout, "checkpoint:base_policy/g0001")["allowed_uses"] == list(USES)
    corpus.write_bytes(b"of somebody")
    found = trace(layout, "checkpoint:base_policy/g0001")
    assert found["limited_by"] == ["corpus of base_policy/g0001"]
    assert found["allowed_uses"] == ["evaluate"]


def test_consents_bind_a_checkpoint_and_a_later_withdrawal_does_so_at_once(layout: Layout) -> None:
    rows = [
        {"id": "agreed", "metadata": {"consent": {"id": "c-1", "uses": ["train_internal"]}}},
        {"id": "silent", "metadata": {"consent": None}},
    ]
    said = {"kind": "demonstration", "response": "me", "licence": "own"}
    lines = [json.dumps(said | one | {"prompt": one["id"]}) for one in rows]
    (layout.inbox / "desk" / "more.jsonl").write_text("\n".join(lines) + "\n")
    land([layout.inbox], layout, log=lambda line: None)
    uids = uids_of(layout)
    checkpoint(layout, "silent", {uids["silent"]: 1}, [])
    assert trace(layout, "checkpoint:silent/g0001")["limited_by"] == []
    checkpoint(layout, "bound", {uids["agreed"]: 1, uids["silent"]: 1}, [])
    found = trace(layout, "checkpoint:bound/g0001")
    assert found["allowed_uses"] == ["train_internal"]
    assert found["limited_by"] == ["consents of 1 records (allow train_internal)"]
    folder = layout.inbox / "consents"
    folder.mkdir()
    back = [{"consent_id": "c-1", "withdrawn": True}, {"annotator_id": "ada", "uses": "some"}]
    (folder / "back.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in back))
    land([layout.inbox], layout, log=lambda line: None)
    assert trace(layout, "checkpoint:bound/g0001")["allowed_uses"] == []
    text = write_card(layout, "g0001", "sft_policy")[0].read_text()
    assert "together: nothing." in text and "consents of 2 records (allow nothing)" in text


def test_more_annotators_than_are_shown_are_one_row_and_no_sum_is_lost(layout: Layout) -> None:
    said = {"kind": "demonstration", "response": "me", "cost_usd": 1.0}
    lines = [
        json.dumps(said | {"id": f"m-{n}", "prompt": f"p {n}", "annotator_id": f"w{n:02d}"})
        for n in range(25)
    ]
    (layout.inbox / "desk" / "more.jsonl").write_text("\n".join(lines) + "\n")
    land([layout.inbox], layout, log=lambda line: None)
    seen = {uid: 2 for name, uid in uids_of(layout).items() if name.startswith("m-")}
    checkpoint(layout, "wide", seen, [])
    rows = trace(layout, "checkpoint:wide/g0001")["by_annotator"]
    assert [one["name"] for one in rows] == [f"w{n:02d}" for n in range(20)] + ["and 5 more"]
    assert rows[-1] == {"name": "and 5 more", "records": 5, "times_seen": 10, "cost_usd": 5.0}


def test_both_directions_agree_on_a_thousand_records_with_descent(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    folder = layout.inbox / "desk"
    folder.mkdir(parents=True)
    rows = [
        {"kind": "demonstration", "id": f"d{n}", "prompt": f"what is {n}", "response": f"it is {n}"}
        for n in range(1000)
    ]
    (folder / "demos.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    land([layout.inbox], layout, log=lambda line: None)
    uids = list(uids_of(layout).values())
    rng = random.Random(7)
    made: list[dict[str, Any]] = []
    descent_of: dict[str, set[str]] = {}  # what each descends from, itself included, by hand
    for kind in ("base_policy", "sft_policy", "reward_model", "policy", "step_reward_model"):
        chosen = rng.sample(uids, 400)
        parents = rng.sample(made, min(len(made), 2))
        made.append(checkpoint(layout, kind, {uid: rng.randint(0, 3) for uid in chosen}, parents))
        above = [descent_of[Path(one["model"]).parent.name + "/g0001"] for one in parents]
        descent_of[f"{kind}/g0001"] = {f"{kind}/g0001"}.union(*above)
    names = [f"{Path(one['model']).parent.name}/g0001" for one in made]
    refresh(layout)
    back = {name: behind_of(layout, name, descent_of[name]) for name in names}
    mart = PROJECT / "models" / "marts" / "lineage" / "fct_record_checkpoints.sql"
    sql = mart.read_text()
    for name in ("record_checkpoints", "checkpoint_ancestors"):
        place = f"read_parquet('{layout.lineage(name)}/*.parquet')"
        sql = sql.replace(f"{{{{ ref('stg_lineage__{name}') }}}}", place)
    edges = duckdb.sql(f"select distinct record_uid, checkpoint_id from ({sql})").fetchall()
    assert set(edges) == {(uid, name) for name in names for uid in back[name]}, "in the warehouse"
    for uid in rng.sample(uids, 40):  # and by the command, 50 ms each
        found = trace(layout, f"record:{uid}")
        forward = {one["checkpoint"] for one in found["checkpoints"]} | set(found["descendants"])
        assert forward == {name for name in names if uid in back[name]}
    orphans = {uid for seen in back.values() for uid in seen} - set(uids)
    assert orphans == set()


def behind_of(layout: Layout, name: str, ancestors: set[str]) -> set[str]:
    """Records that a checkpoint answers for, by its trace: all were seen, counts agree."""
    found = trace(layout, f"checkpoint:{name}")
    assert set(found["ancestry"]) == ancestors
    assert found["records_no_longer_landed"] == 0
    paths = [layout.artifacts / "checkpoints" / one / "records.gz" for one in found["ancestry"]]
    seen: dict[str, int] = {}
    for path in paths:
        for line in gzip.decompress(path.read_bytes()).decode().splitlines():
            uid, _, times = line.partition("\t")
            seen[uid] = seen.get(uid, 0) + int(times)
    assert (found["records"], found["times_seen"]) == (len(seen), sum(seen.values()))
    return {uid for uid, times in seen.items() if times}
