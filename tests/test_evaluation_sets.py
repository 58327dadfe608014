"""Evaluation sets: a version is a content, nothing changes silently, like is compared with like."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.resources import Home
from flywheel.errors import EvaluationError, ManifestError, PromotionError
from flywheel.evaluate.commands import evaluation_sets
from flywheel.evaluate.sets.leaks import decontamination
from flywheel.evaluate.sets.registry import (
    Registry,
    SetVersion,
    check_newest,
    enter_sets,
    folder_of,
    listed,
    read_registry,
    rows_of,
)
from flywheel.evaluate.sets.rows import asked_of, by_set
from flywheel.lake import DERIVED
from flywheel.layout import Layout
from flywheel.promotion import Entry, advance, approve, history
from flywheel.records.message import dump, prompt_of, response_of
from tests.models_for_tests import freeze
from tests.test_promotion import enter, holder

LONG = "what does the desk say of a sealed bike that came late and is still in its box"


def prompt(key: str, text: str = "say red", *, name: str = "desk", **more: Any) -> dict[str, Any]:
    return {
        "prompt_key": key,
        "prompt": dump(prompt_of(text)),
        "group_id": key,
        "evaluation_set": name,
        "grader": "exact",
        "reference": "red",
        "domain": None,
        "source": "test",
        "licence": "MIT",
        "record_uids": [f"uid-{key}"],
    } | more


def test_equal_content_is_one_version_whatever_its_order_and_groups(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    (first,) = enter_sets(layout, [prompt("a"), prompt("b")], "g0001")
    (again,) = enter_sets(layout, [prompt("b", group_id="a"), prompt("a")], "g0002")
    assert again == first and first.version == 1 and first.prompts == 2
    assert first.graders == {"exact": 2} and first.licences == {"MIT": 2}
    assert (layout.evaluation_sets / "desk" / "v1" / "manifest.json").exists()
    assert [row["prompt_key"] for row in rows_of(layout, first)] == ["a", "b"]


def test_a_change_of_content_is_a_new_version_that_says_what_changed(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    enter_sets(layout, [prompt("a"), prompt("b"), prompt("c")], "g0001")
    (second,) = enter_sets(
        layout, [prompt("b"), prompt("c", reference="blue"), prompt("d"), prompt("e")], "g0002"
    )
    assert second.version == 2
    assert (second.added, second.removed, second.changed) == (2, 1, 1)
    assert [one.version for one in read_registry(layout)] == [1, 2]
    assert len(rows_of(layout, read_registry(layout)[0])) == 3  # the first is what it was


def test_sets_have_versions_of_their_own(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    enter_sets(layout, [prompt("a"), prompt("b", name="sums")], "g0001")
    found = enter_sets(layout, [prompt("a"), prompt("c", name="sums")], "g0002")
    assert [(one.name, one.version) for one in found] == [("desk", 1), ("sums", 2)]


def test_an_old_generation_keeps_its_version_and_a_return_is_a_new_one(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    enter_sets(layout, [prompt("a")], "g0001")
    enter_sets(layout, [prompt("b")], "g0002")
    (old,) = enter_sets(layout, [prompt("a")], "g0001")
    assert old.version == 1
    (back,) = enter_sets(layout, [prompt("a")], "g0003")
    assert back.version == 3 and back.content_hash == old.content_hash


def test_the_code_of_a_grader_is_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    code = tmp_path / "code" / "checks_of_a_test.py"
    code.parent.mkdir()
    code.write_text("def passes(prompt, response): return 1.0\n")
    rows, layout = [prompt("a", grader="checks_of_a_test:passes")], Layout(tmp_path)
    (first,) = enter_sets(layout, rows, "g0001")
    assert list(first.grader_code) == ["checks_of_a_test:passes"]
    code.write_text("def passes(prompt, response): return 0.0\n")
    with pytest.raises(EvaluationError, match="the code of a grader has changed"):
        asked_of(rows, [first.identity])
    assert enter_sets(layout, rows, "g0002")[0].version == 2
    assert rows_of(layout, first)  # frozen with the hash of the code as it was
    sys.modules.pop("checks_of_a_test", None)


def test_an_evaluation_of_another_content_than_was_entered_is_refused(tmp_path: Path) -> None:
    rows = [prompt("a"), prompt("b", name="sums")]
    entered = [one.identity for one in enter_sets(Layout(tmp_path), rows, "g0001")]
    assert set(asked_of(rows, entered)) == {"desk", "sums"}
    with pytest.raises(EvaluationError, match="'sums' has content"):
        asked_of([prompt("a"), prompt("b", name="sums", reference="5")], entered)
    with pytest.raises(EvaluationError, match="'new' has content"):
        asked_of([*rows, prompt("c", name="new")], entered)


def test_nothing_is_decided_on_an_old_version(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    (first,) = enter_sets(layout, [prompt("a")], "g0001")
    check_newest(layout, [first.identity | {"win_rate": 0.6}])
    enter_sets(layout, [prompt("a"), prompt("b")], "g0002")
    with pytest.raises(EvaluationError, match=r"asked version 1 .* registry's last is version 2"):
        check_newest(layout, [first.identity])
    with pytest.raises(EvaluationError, match="registry's last is none"):
        check_newest(layout, [first.identity | {"name": "other"}])


def on_version_1(layout: Layout, **options: Any) -> Entry:
    """g0001 reigns; what was decided of g0002 rests on version 1 of a set."""
    (first,) = enter_sets(layout, [prompt("a")], "g0002")
    enter(layout, "g0001")
    evidence = {"evaluation_sets": [first.identity | {"win_rate": 0.6}]}
    return enter(layout, "g0002", evidence=evidence, **options)


def approved(layout: Layout, _: Entry) -> Entry:
    return approve(layout, "g0002", by="ada", reason="read 50 answers")


def advanced(layout: Layout, staged: Entry) -> Entry:
    return advance(layout, since=staged.number, stages=["shadow"], by="ada", reasons=["fine"])


WAYS = [(approved, {"human_approval": True}), (advanced, {"stages": ["shadow"]})]


@pytest.mark.parametrize(("act", "options"), WAYS)
def test_nobody_takes_the_title_on_an_old_version(
    tmp_path: Path, act: Callable[[Layout, Entry], Entry], options: dict[str, Any]
) -> None:
    layout = Layout(tmp_path)
    entry = on_version_1(layout, **options)
    enter_sets(layout, [prompt("a"), prompt("b")], "g0003")
    stale = r"g0002 can be .* not sent on: .* asked version 1 .* last is version 2 .* a new turn"
    with pytest.raises(PromotionError, match=stale):
        act(layout, entry)
    assert holder(layout) == "g0001" and len(history(layout)) == 2


@pytest.mark.parametrize(("act", "options"), WAYS)
def test_on_the_newest_version_of_what_was_decided_on_one_does(
    tmp_path: Path, act: Callable[[Layout, Entry], Entry], options: dict[str, Any]
) -> None:
    layout = Layout(tmp_path)
    entry = on_version_1(layout, **options)
    evidence = layout.root / entry.evidence
    written = evidence.read_text()
    evidence.write_text(json.dumps({"evaluation_sets": []}))
    with pytest.raises(PromotionError, match=r"is not the evaluation that entry 2 .* again"):
        act(layout, entry)
    evidence.write_text(written)
    act(layout, entry)
    assert holder(layout) == "g0002"


def test_an_edited_registry_and_one_cut_short_are_found_out(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for number in (1, 2, 3):
        enter_sets(layout, [prompt(str(number))], f"g000{number}")
    path = layout.registry / "evaluation_sets.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0].replace('"MIT"', '"GPL"') + "".join(lines[1:]))
    with pytest.raises(EvaluationError, match=r"line 1 of .* the registry was edited"):
        read_registry(layout)
    path.write_text(lines[0] + lines[2])
    with pytest.raises(EvaluationError, match="line 2 of"):
        read_registry(layout)
    for left in (1, 2):
        path.write_text("".join(lines[:left]))
        for act in (read_registry, lambda layout: enter_sets(layout, [prompt("x")], "g0004")):
            with pytest.raises(EvaluationError, match=rf"hold 3 .* holds {left}: .* restore both"):
                act(layout)
    path.write_text("".join(lines))
    assert [one.version for one in read_registry(layout)] == [1, 2, 3]


def of_before(layout: Layout) -> Path:
    """Make a registry one that was begun before registries had heads."""
    (layout.registry / "evaluation_sets.head.json").unlink()
    return layout.registry / "evaluation_sets.jsonl"


def test_a_registry_of_before_is_read_and_sealed_with_its_next_entry(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for number in (1, 2, 3):
        enter_sets(layout, [prompt(str(number))], f"g000{number}")
    path = of_before(layout)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0])
    with pytest.raises(EvaluationError, match="entries are gone"):
        read_registry(layout)
    path.write_text("".join(lines))
    assert [one.version for one in read_registry(layout)] == [1, 2, 3]
    enter_sets(layout, [prompt("4")], "g0004")
    assert json.loads((layout.registry / "evaluation_sets.head.json").read_text())["count"] == 4
    path.write_text("".join(lines))
    with pytest.raises(EvaluationError, match="should hold 4 entries"):
        read_registry(layout)


def test_what_an_entry_that_was_cut_off_froze_is_never_replaced(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    enter_sets(layout, [prompt("a")], "g0001")
    (second,) = enter_sets(layout, [prompt("b")], "g0002")
    path = of_before(layout)
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    with pytest.raises(EvaluationError, match=r"holds .*, which .* does not name, .* restore"):
        enter_sets(layout, [prompt("c")], "g0003")
    assert [one.version for one in read_registry(layout)] == [1]
    (again,) = enter_sets(layout, [prompt("b")], "g0003")  # the same content has the same number
    assert again.identity == second.identity


def test_registries_of_before_were_sealed_alike(tmp_path: Path) -> None:
    facts = dict(name="desk", version=1, content_hash="c" * 64, prompts=1, graders={"exact": 1})
    facts |= dict(grader_code={}, licences={"MIT": 1}, sources={"test": 1}, cluster_key="group_id")
    facts |= dict(added=1, removed=0, changed=0, generation="g0001", at="2026-01-01T00:00:00+00:00")
    seal = "b2f7dceb15f9aec3555da8d85257a70fba7b4ccc7e63331bdd4a1faa701c8cf8"
    path = tmp_path / "registry" / "evaluation_sets.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps(facts | {"before": "0" * 64, "hash": seal}) + "\n")
    assert read_registry(Layout(tmp_path))[0].identity["content_hash"] == "c" * 64


@pytest.mark.parametrize("torn", [b"", b'{"name": "desk", "vers'])
def test_a_kill_before_the_entry_leaves_nothing_to_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bytes
) -> None:
    layout = Layout(tmp_path)
    enter_sets(layout, [prompt("a")], "g0001")
    path = layout.registry / "evaluation_sets.jsonl"

    def die(*_: Any) -> None:
        path.write_bytes(path.read_bytes() + torn)
        raise KeyboardInterrupt

    with monkeypatch.context() as at_once, pytest.raises(KeyboardInterrupt):
        at_once.setattr(Registry, "_write", die)
        enter_sets(layout, [prompt("b")], "g0002")
    assert [one.version for one in read_registry(layout)] == [1]
    (second,) = enter_sets(layout, [prompt("c")], "g0002")
    assert second.version == 2
    assert [row["prompt_key"] for row in rows_of(layout, second)] == ["c"]


def test_a_kill_after_the_entry_leaves_nothing_to_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    enter_sets(layout, [prompt("a")], "g0001")
    write = Registry._write

    def write_and_die(self: Registry, entry: SetVersion) -> None:
        write(self, entry)
        raise KeyboardInterrupt

    with monkeypatch.context() as at_once, pytest.raises(KeyboardInterrupt):
        at_once.setattr(Registry, "_write", write_and_die)
        enter_sets(layout, [prompt("b")], "g0002")
    first, second = read_registry(layout)
    check_newest(layout, [second.identity])
    (third,) = enter_sets(layout, [prompt("c")], "g0003")
    assert third.version == 3 and third.removed == 1
    assert [rows_of(layout, one)[0]["prompt_key"] for one in (first, second, third)] == [*"abc"]


def test_a_frozen_set_that_somebody_changed_is_an_error(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    enter_sets(layout, [prompt("a")], "g0001")
    file = layout.evaluation_sets / "desk" / "v1" / "test.parquet"
    pq.write_table(pa.Table.from_pylist([prompt("a", reference="blue")]), file)
    with pytest.raises(ManifestError, match="frozen files never change"):
        enter_sets(layout, [prompt("a")], "g0001")


@pytest.mark.parametrize("name", ["..", ".", "a/../../b", "a\\b", "x" * 300, "gsm8k main"])
def test_a_name_is_one_folder_below_the_others(tmp_path: Path, name: str) -> None:
    found = tmp_path / folder_of(name) / "v1"
    found.mkdir(parents=True)
    assert found.resolve().parent.parent == tmp_path.resolve()
    assert folder_of(name) != folder_of(name + "x")


def test_decontamination_tells_what_was_left_out_and_what_was_trained_on(tmp_path: Path) -> None:
    rows = [prompt("a", LONG), prompt("b", LONG.replace("bike", "boat")), prompt("c", "say red")]
    marks = [
        {"evaluation_prompt_key": "b", "kind": "near", "text_key": "t", "role": "prompt"},
        {"evaluation_prompt_key": "b", "kind": "exact", "text_key": "b", "role": "prompt"},
    ]
    path = tmp_path / "contamination.parquet"
    pq.write_table(pa.Table.from_pylist(marks, DERIVED["contamination"]), path)
    held = [{"prompt": dump(prompt_of(f"x {LONG} y")), "response": dump(response_of("it is"))}]
    folder = Path(freeze(tmp_path / "demonstration", train=held, test=[]))
    (told,) = decontamination(rows, [folder, tmp_path / "none"], path).values()
    assert told["left_out"] == {"exact": 1} and told["trained_on"] == 1
    assert told["datasets"] == {"demonstration/g0001": "0" * 64}
    assert told["checked_at"] and told["marked_at"]
    clean = freeze(tmp_path / "clean", train=[], test=held)  # of the test split nothing is learnt
    assert decontamination(rows, [Path(clean)], path)["desk"]["trained_on"] == 0


def test_the_command_lists_versions_with_the_last_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(root=str(tmp_path))
    layout = home.layout
    enter_sets(layout, [prompt("a")], "g0001")
    enter_sets(layout, [prompt("a"), prompt("b")], "g0002")
    look = {"desk": {"trained_on": 0, "left_out": {"near": 2}, "checked_at": "now"}}
    folder = layout.run("evaluation_sets", "g0002")
    folder.mkdir(parents=True)
    (folder / "decontamination.json").write_text(json.dumps(look))
    found = evaluation_sets(lambda: home, Namespace(json=True))["evaluation_sets"]
    assert [one["version"] for one in found] == [2, 1]
    assert found[0]["decontamination"] == look["desk"] | {"generation": "g0002"}
    assert found[1]["decontamination"] is None
    assert listed(layout) == found
    assert not capsys.readouterr().out
    evaluation_sets(lambda: home, Namespace(json=False))
    assert "0 of them in what is trained on, 2 in landed text" in capsys.readouterr().out


def test_rows_without_a_set_belong_to_none() -> None:
    assert by_set([prompt("a"), prompt("b", name="")]).keys() == {"desk"}
