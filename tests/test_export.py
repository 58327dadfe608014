"""What is written for other tools comes back as it was, and what does not is said."""

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.resources import Home
from flywheel.cli import main
from flywheel.datasets.manifest import DatasetManifest, file_hash
from flywheel.errors import ManifestError, SettingsError
from flywheel.export import TARGETS, find_dataset, write_export
from flywheel.ingest.formats import named, recognise
from flywheel.ingest.keys import prompt_key, response_key
from flywheel.layout import Layout
from flywheel.records import (
    Comparison,
    Demonstration,
    EvaluationPrompt,
    Interaction,
    Message,
    Rating,
    Record,
    StepRating,
    ToolCall,
)
from flywheel.records.message import dump, load, prompt_of, response_of

Rows = Sequence[dict[str, Any]]
SPLITS = ("train", "validation", "test")
KEYS = {"evaluation": "evaluation_prompt_id"}
KEEP_TOOLS = ("trl", "openai")
S = (",", ":")


def frozen(home: Path, name: str, rows: Rows, generation: str = "g0001") -> Path:
    """Rows as a generation's frozen dataset."""
    key = KEYS.get(name, f"{name}_id")
    told = [
        {key: f"r{n:04}", "split": "train", "record_uids": [f"u{n}"]} | row
        for n, row in enumerate(rows)
    ]
    directory = Layout(home).dataset(name, generation)
    directory.mkdir(parents=True)
    schema = pa.Table.from_pylist(told).schema
    splits = ("test",) if name == "evaluation" else SPLITS
    files, counts = {}, {}
    for split in splits:
        part = [row for row in told if row["split"] == split or len(splits) == 1]
        pq.write_table(pa.Table.from_pylist(part, schema), directory / f"{split}.parquet")
        files[f"{split}.parquet"] = file_hash(directory / f"{split}.parquet")
        counts[split] = len(part)
    DatasetManifest(
        name=name,
        generation=generation,
        table="marts.mart",
        content_hash=hashlib.sha256(json.dumps(told).encode()).hexdigest(),
        rows_by_split=counts,
        files=files,
        record_count=len(rows),
        annotator_count=0,
        cost_usd=0.0,
        sources={},
        licences={"CC0": len(rows)},
        trained_through_batch=1,
    ).save(directory)
    return directory


def exported(target: str, name: str, rows: Rows, **more: Any) -> tuple[list[Any], dict[str, Any]]:
    """The lines of all splits, and the manifest."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        out = home / "out"
        write_export(frozen(home, name, rows), target, out, **more)
        manifest = json.loads((out / "manifest.json").read_bytes())
        lines: list[Any] = []
        for file, facts in manifest["files"].items():
            text = (out / file).read_bytes()
            assert hashlib.sha256(text).hexdigest() == facts["sha256"]
            found = json.loads(text) if file.endswith(".json") else text.splitlines()
            lines += [json.loads(one) if isinstance(one, bytes) else one for one in found]
        beside = [one for each in manifest["lines"].values() for one in each]
        assert len(beside) == len(lines)
        assert manifest["rows_written"] + manifest["rows_dropped"] == manifest["rows"] == len(rows)
        return lines, manifest


def read(target: str, lines: Sequence[Any]) -> list[Record]:
    return [record for line in lines for record in named(target).read(line)]


# ---- conversations ----------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12)
LEAF = st.booleans() | st.integers(-(2**53), 2**53) | TEXT  # a null is an argument not given
CALL = st.builds(
    ToolCall,
    name=TEXT,
    arguments=st.dictionaries(TEXT, LEAF | st.lists(LEAF, max_size=2), max_size=2),
    id=st.none() | TEXT,
)
USER = st.builds(Message, role=st.just("user"), content=TEXT)
SYSTEM = st.builds(Message, role=st.just("system"), content=TEXT)
SAID = st.builds(Message, role=st.just("assistant"), content=TEXT)
CALLED = st.builds(
    Message,
    role=st.just("assistant"),
    content=st.just("") | TEXT,
    tool_calls=st.lists(CALL, min_size=1, max_size=2).map(tuple),
)
OBSERVED = st.builds(
    Message, role=st.just("tool"), content=TEXT, tool_call_id=st.none() | TEXT, name=st.none()
)


def joined(*parts: Any) -> Any:
    return st.tuples(*parts).map(tuple)


PROMPT = joined(USER) | joined(SYSTEM, USER) | joined(USER, SAID, USER)
PROMPT |= joined(SYSTEM, USER, CALLED, OBSERVED)
ANSWER = joined(SAID) | joined(CALLED)
STEPS = ANSWER | joined(CALLED, OBSERVED, SAID) | joined(CALLED, OBSERVED, CALLED, OBSERVED, SAID)


def same_prompt(record: Record, row: dict[str, Any], target: str) -> None:
    given = row["tools"] if target in KEEP_TOOLS else None
    assert prompt_key(record.conversation, record.metadata.get("tools")) == prompt_key(
        load(row["prompt"]), given
    )
    assert [turn.content for turn in record.conversation] == [
        turn.content for turn in load(row["prompt"])
    ]


def same(found: Any, wanted: str) -> None:
    """One response says exactly what the other does, ids of calls aside."""
    turns, given = response_of(found), load(wanted)
    assert response_key(turns) == response_key(given)
    assert [turn.content for turn in turns] == [turn.content for turn in given]


FUNCTION = st.fixed_dictionaries({"name": TEXT, "parameters": st.dictionaries(TEXT, LEAF)})
TOOL = FUNCTION.map(lambda one: {"type": "function", "function": one})
TOOLS = st.none() | st.lists(TOOL, min_size=1, max_size=2).map(json.dumps)


def conversations(**parts: Any) -> Any:
    texts = {name: part.map(dump) for name, part in parts.items()}
    return st.fixed_dictionaries(texts | {"tools": TOOLS})


def check_tools(manifest: dict[str, Any], target: str, rows: Rows) -> None:
    """Only where the target has no place for them are tools dropped, and then they are counted."""
    armed = sum(bool(row["tools"]) for row in rows)
    assert manifest["lossy"].get("tools_dropped", 0) == (0 if target in KEEP_TOOLS else armed)


def some(one: Any) -> Any:
    return st.lists(one, min_size=1, max_size=5)


FEW = settings(max_examples=25, deadline=None)
PAIRS = st.builds(
    lambda row, p, weight: row | {"probability_a": p, "weight": weight},
    conversations(prompt=PROMPT, response_a=STEPS, response_b=STEPS),
    st.sampled_from([0.01, 0.3, 0.5, 0.500001, 0.83, 0.99]),
    st.sampled_from([1.0, 0.5]),
)


@pytest.mark.parametrize("target", ["trl", "openai", "openrlhf"])
@given(some(PAIRS))
@FEW
def test_a_preference_comes_back_as_the_choice_of_its_better_side(target: str, rows: Rows) -> None:
    lines, manifest = exported(target, "preference", rows)
    if lines:
        assert recognise(lines)[0] == target
    decided = [row for row in rows if row["probability_a"] != 0.5]
    assert manifest["rows_dropped"] == len(rows) - len(decided)
    assert manifest["lossy"].get("ties_dropped", 0) == len(rows) - len(decided)
    check_tools(manifest, target, decided)
    beside = manifest["lines"]["train"]
    for found, row, told in zip(read(target, lines), decided, beside, strict=True):
        assert isinstance(found, Comparison) and found.choice == "a"
        same_prompt(found, row, target)
        p, better, worse = row["probability_a"], "response_a", "response_b"
        if p < 0.5:
            p, better, worse = 1 - p, worse, better
        same(found.response_a, row[better])
        same(found.response_b, row[worse])
        assert told["p"] == pytest.approx(p) and told.get("weights", [1.0]) == [row["weight"]]
        assert told["ids"] == [f"r{rows.index(row):04}"] or rows.count(row) > 1
        if target == "openrlhf":
            margin = found.metadata["margin"]
            assert margin >= 0 and margin == pytest.approx(0.1 * math.log(p / (1 - p)), abs=1e-6)


@pytest.mark.parametrize(
    ("target", "response"), [("trl", STEPS), ("openrlhf", STEPS), ("openai", ANSWER)]
)
@given(st.data())
@FEW
def test_a_demonstration_comes_back_whole(target: str, response: Any, data: Any) -> None:
    rows = data.draw(some(conversations(prompt=PROMPT, response=response)))
    lines, manifest = exported(target, "demonstration", rows)
    assert recognise(lines)[0] == target and manifest["lossy"].keys() <= {"tools_dropped"}
    check_tools(manifest, target, rows)
    for found, row in zip(read(target, lines), rows, strict=True):
        assert isinstance(found, Demonstration)
        same_prompt(found, row, target)
        same(found.response, row["response"])


@given(some(conversations(prompt=PROMPT, steps=STEPS)))
@FEW
def test_every_turn_of_an_agent_that_passed_is_learnt_and_no_other(rows: Rows) -> None:
    ends = ("passed", "failed", "truncated")
    rows = [row | {"outcome": ends[n % 3]} for n, row in enumerate(rows)]
    passed = [row for row in rows if row["outcome"] == "passed"]
    wanted = [turn for row in passed for turn in load(row["steps"]) if turn.role == "assistant"]
    for target in ("openai", "trl"):
        lines, manifest = exported(target, "trajectory", rows)
        assert manifest["lossy"].get("trajectories_not_passed", 0) == len(rows) - len(passed)
        check_tools(manifest, target, passed)
        found = read(target, lines)
        if target == "trl":  # which has no mask: turns of the prompt are learnt as well
            before = sum(t.role == "assistant" for row in passed for t in load(row["prompt"]))
            assert len(found) == len(wanted) + before
            continue
        for one, turn in zip(found, wanted, strict=True):
            assert isinstance(one, Demonstration)
            tools = next(row["tools"] for row in passed if turn in load(row["steps"]))
            assert json.dumps(one.metadata.get("tools")) == (tools or "null") or len(passed) > 1
            assert response_key(response_of(one.response)) == response_key((turn,))


@given(some(conversations(prompt=PROMPT, response=STEPS)), st.sampled_from([0.5, 0.8]))
@FEW
def test_a_rating_is_a_thumb_from_the_cut_off_on(rows: Rows, cut_off: float) -> None:
    scores = (0.0, 0.5, 0.75, 0.8, 1.0)
    rows = [
        row | {"score_frac": scores[n % 5], "weight": float(n != 1), "criterion": "rating"}
        for n, row in enumerate(rows)
    ]
    lines, manifest = exported("trl", "rating", rows, cut_off=cut_off)
    kept = [row for row in rows if row["weight"]]
    assert manifest["settings"] == {"cut_off": cut_off}
    assert manifest["lossy"].get("rows_without_weight_dropped", 0) == len(rows) - len(kept)
    for found, row in zip(read("trl", lines), kept, strict=True):
        assert isinstance(found, Interaction)
        assert found.thumbs == ("up" if row["score_frac"] >= cut_off else "down")
        same_prompt(found, row, "trl")
        same(found.response, row["response"])


@given(TEXT, st.lists(TEXT, min_size=1, max_size=4), TEXT)
@FEW
def test_rated_steps_come_back_and_a_shared_opening_stands_in_each_attempt(
    prompt: str, texts: list[str], other: str
) -> None:
    steps = tuple(Message(role="assistant", content=text) for text in texts)
    fork = (*steps[:1], Message(role="assistant", content=f"{other} instead"))
    asked = {"prompt": dump(prompt_of(prompt)), "prompt_key": "p"}
    chains = [steps[: n + 1] for n in range(len(steps))]
    if len(steps) > 1 and fork[1] != steps[1]:
        chains.append(fork)
    rows = [
        asked | {"steps": dump(chain), "score_frac": float(n % 2 == 0)}
        for n, chain in enumerate(chains)
    ]
    lines, _ = exported("trl", "step_rating", rows)
    assert len(lines) == 1 + (fork in chains)
    told = {
        dump(one.steps): one.rating for one in read("trl", lines) if isinstance(one, StepRating)
    }
    assert told == {row["steps"]: row["score_frac"] for row in rows}


def test_steps_that_nobody_rated_are_joined_to_the_next_and_calls_are_written_out() -> None:
    def step(text: str) -> Message:
        return Message(role="assistant", content=text)

    asked = {"prompt": dump(prompt_of("q")), "prompt_key": "p", "score_frac": 1.0}
    call = Message(role="assistant", tool_calls=(ToolCall(name="f", arguments={"x": 1}),))
    seen = Message(role="tool", content="7")
    chat = (Message(role="system", content="s"), *prompt_of("q"))
    rows = [
        asked | {"steps": dump((step("1"), step("2"))), "tools": '[{"name":"f"}]'},
        asked | {"steps": dump((step("1"), step("2"), step("3"))), "score_frac": 0.25},
        asked | {"steps": dump((call,)), "prompt": dump(chat), "prompt_key": "r"},
        asked
        | {"steps": dump((call, seen, step("so 7"))), "prompt": dump(chat), "prompt_key": "r"},
    ]
    lines, manifest = exported("trl", "step_rating", rows)
    assert lines == [
        {"prompt": "q", "completions": ["1\n2", "3"], "labels": [True, False]},
        {
            "prompt": "system: s\n\nuser: q",
            "completions": ['f({"x":1})', "7\nso 7"],
            "labels": [True, True],
        },
    ]
    assert manifest["lossy"] == {
        "conversations_written_as_text": 1,
        "scores_cut": 1,
        "tools_dropped": 1,
    }
    assert manifest["lines"]["train"][0]["record_ids"] == ["u0", "u1"]


@pytest.mark.parametrize("target", ["trl", "openai", "openrlhf"])
@given(some(conversations(prompt=PROMPT)))
@FEW
def test_a_prompt_that_is_tested_on_comes_back_with_its_reference(target: str, rows: Rows) -> None:
    references = ("1,042", "blue", "a b")
    rows = [
        row | {"reference": references[n % 3], "grader": "exact", "evaluation_set": "sky-v1"}
        for n, row in enumerate(rows)
    ]
    lines, manifest = exported(target, "evaluation", rows)
    assert list(manifest["files"]) == ["test.jsonl"]
    check_tools(manifest, target, rows)
    for found, row in zip(read(target, lines), rows, strict=True):
        assert isinstance(found, EvaluationPrompt) and found.reference == row["reference"]
        same_prompt(found, row, target)


def test_calls_without_an_id_are_numbered_for_openai_and_answers_follow_them() -> None:
    calls = tuple(ToolCall(name=name, arguments={}) for name in "fg")
    prompt = (*prompt_of("q"), Message(role="assistant", tool_calls=calls))
    prompt += (Message(role="tool", content="1"), Message(role="tool", content="2"))
    row = {"prompt": dump(prompt), "response": dump(response_of("3"))}
    ((line,), _) = exported("openai", "demonstration", [row])
    _, called, first, second, _ = line["messages"]
    assert [one["id"] for one in called["tool_calls"]] == ["call_0", "call_1"]
    assert [one["tool_call_id"] for one in (first, second)] == ["call_0", "call_1"]
    assert called["content"] is None and called["weight"] == 0


def test_a_bare_function_is_written_as_is_wanted_and_tools_that_none_can_read_are_told() -> None:
    bare, whole = {"name": "f", "parameters": {}}, {"type": "function", "function": {"name": "g"}}
    told = [[bare], [{"type": "function", **bare}], [whole], "not JSON", {"name": "h"}, []]
    rows = [ROW | {"tools": one if isinstance(one, str) else json.dumps(one)} for one in told]
    wrapped = [{"type": "function", "function": bare}]
    for target, write in (("openai", list), ("trl", lambda one: json.dumps(one, separators=S))):
        lines, manifest = exported(target, "demonstration", rows)
        found = [line.get("tools") for line in lines]
        assert found == [*map(write, (wrapped, wrapped, [whole])), None, None, None]
        assert manifest["lossy"] == {"tools_rewritten": 2, "tools_dropped": 2}
    ((line,), _) = exported("openai", "preference", [PAIR | {"tools": rows[2]["tools"]}])
    assert line["input"]["tools"] == [whole]


# ---- Label Studio -----------------------------------------------------------------------------


@given(some(PAIRS))
@FEW
def test_predictions_never_come_back_as_labels_and_accepted_ones_come_back_whole(
    rows: Rows,
) -> None:
    tasks, manifest = exported("label_studio", "preference", rows)
    assert len(tasks) == len(rows) and manifest["rows_dropped"] == 0
    check_tools(manifest, "label_studio", rows)
    for untouched in (tasks, [task | {"annotations": []} for task in tasks]):
        assert recognise(untouched)[0] == "label_studio"
        assert read("label_studio", untouched) == []
    for number, (task, row) in enumerate(zip(tasks, rows, strict=True)):
        guesses = task["predictions"]
        assert [round(one["score"], 6) for one in guesses] == (
            []
            if row["probability_a"] == 0.5
            else [max(row["probability_a"], 1 - row["probability_a"])]
        )
        result = guesses[0]["result"] if guesses else _tie()
        annotation = {"id": number, "completed_by": 3, "result": result}
        (found,) = read("label_studio", [task | {"id": number, "annotations": [annotation]}])
        assert isinstance(found, Comparison)
        p = row["probability_a"]
        assert found.choice == ("tie" if p == 0.5 else "a" if p > 0.5 else "b")
        same_prompt(found, row, "label_studio")
        same(found.response_a, row["response_a"])
        same(found.response_b, row["response_b"])


def _tie() -> list[dict[str, Any]]:
    value = {"choices": ["tie"]}
    return [{"from_name": "even", "to_name": "prompt", "type": "choices", "value": value}]


def test_a_rating_for_label_studio_keeps_its_scale_and_no_answer_is_given_away() -> None:
    row = {"prompt": dump(prompt_of("2+3?")), "response": dump(response_of("5"))}
    rating = row | {"score_frac": 0.75, "weight": 1.0, "criterion": "rating"}
    ((task,), _) = exported("label_studio", "rating", [rating])
    done = {"id": 1, "result": task["predictions"][0]["result"], "completed_by": 1}
    (found,) = read("label_studio", [task | {"id": 1, "annotations": [done]}])
    assert isinstance(found, Rating)
    assert (found.rating, found.rating_min, found.rating_max) == (0.75, 0, 1)
    asked = {"prompt": row["prompt"], "reference": "SECRET", "grader": "exact"}
    lines, manifest = exported("label_studio", "evaluation", [asked | {"evaluation_set": "s"}])
    assert lines == [{"data": {"prompt": "2+3?"}, "predictions": []}]
    assert manifest["lossy"] == {"references_kept_back": 1}


# ---- files ------------------------------------------------------------------------------------

ROW = {"prompt": dump(prompt_of("q")), "response": dump(response_of("a"))}
PAIR = {
    "prompt": dump(prompt_of("q")),
    "response_a": dump(response_of("a")),
    "response_b": dump(response_of("b")),
    "probability_a": 0.9,
    "weight": 1.0,
}


@pytest.mark.parametrize("target", TARGETS)
def test_equal_datasets_give_equal_bytes_and_one_file_for_each_split(
    target: str, tmp_path: Path
) -> None:
    rows = [PAIR, PAIR | {"split": "test"}, PAIR | {"probability_a": 0.2}]
    both = []
    for name in ("one", "two"):
        out = tmp_path / name / "out"
        write_export(frozen(tmp_path / name, "preference", rows), target, out)
        both.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert both[0] == both[1]
    suffix = "json" if target == "label_studio" else "jsonl"
    assert {f"{split}.{suffix}" for split in ("train", "validation", "test")} <= both[0].keys()
    assert b"0.8" in both[0]["manifest.json"] and str(tmp_path).encode() not in b"".join(
        both[0].values()
    )


def test_an_export_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    directory, out = frozen(tmp_path, "preference", [PAIR]), tmp_path / "out"
    write_export(directory, "openai", out)
    write_export(directory, "label_studio", out)
    names = {"train.json", "validation.json", "test.json"}
    assert {path.name for path in out.iterdir()} == {
        *names,
        "manifest.json",
        "labeling_interface.xml",
    }
    write_export(directory, "trl", out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match=r"notes\.txt"):
        write_export(directory, "trl", out)
    assert (out / "notes.txt").read_text() == "mine" and (out / "train.jsonl").exists()
    with pytest.raises(SettingsError, match="more than an earlier export"):
        write_export(directory, "trl", directory)
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_exported_is_refused_with_what_can(tmp_path: Path) -> None:
    steps = frozen(tmp_path, "step_rating", [ROW | {"prompt_key": "p", "steps": ROW["response"]}])
    with pytest.raises(SettingsError, match="goes to trl"):
        write_export(steps, "openai", tmp_path / "out")
    with pytest.raises(SettingsError, match="there are trl, openai"):
        write_export(steps, "csv", tmp_path / "out")
    with pytest.raises(SettingsError, match="cut_off"):
        write_export(steps, "trl", tmp_path / "out", cut_off=0)
    assert not (tmp_path / "out").exists()
    path = steps / "train.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ManifestError, match="frozen files never change"):
        write_export(steps, "trl", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_the_newest_generation_is_exported_unless_another_is_named(tmp_path: Path) -> None:
    for generation in ("g0001", "g0002"):
        frozen(tmp_path, "preference", [PAIR], generation)
    layout = Layout(tmp_path)
    assert find_dataset(layout, "preference").name == "g0002"
    assert find_dataset(layout, "preference/g0001").name == "g0001"
    for wrong in ("preference/g0009", "preferences", "preference/.."):
        with pytest.raises(ManifestError, match=r"there are preference"):
            find_dataset(layout, wrong)


def test_the_command_writes_the_files_and_says_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen(tmp_path, "preference", [PAIR, PAIR | {"probability_a": 0.5}])
    monkeypatch.setattr("flywheel.cli.home", lambda: Home(root=str(tmp_path)))
    out = str(tmp_path / "out")
    assert main(["export", "preference", "--to", "trl", "--out", out]) == 0
    assert "1 written, 1 dropped" in capsys.readouterr().out
    assert main(["export", "preference", "--to", "trl", "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lossy"] == {"ties_dropped": 1}
    assert main(["export", "rating", "--to", "trl", "--out", out]) == 1
    assert "no frozen dataset 'rating'" in capsys.readouterr().err


# ---- the consumers' own code ------------------------------------------------------------------


def test_trl_takes_its_files_for_what_they_are(tmp_path: Path) -> None:
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl.data_utils")
    calls = [ToolCall(name="f", arguments={"x": 1}), ToolCall(name="g", arguments={"y": "z"})]
    turns = [(Message(role="assistant", content="", tool_calls=(one,)),) for one in calls]
    pair = PAIR | {"response_a": dump(turns[0]), "response_b": dump(turns[1])}
    home: Callable[[str], Path] = lambda name: tmp_path / name  # noqa: E731
    out = tmp_path / "out"

    def loaded(name: str, rows: Rows) -> Any:
        write_export(frozen(home(name), name, rows), "trl", out)
        found = datasets.load_dataset(
            "json", data_files=str(out / "train.jsonl"), split="train", cache_dir=str(home("cache"))
        )
        assert all(trl.is_conversational(one) for one in found)
        return found

    found = loaded("preference", [PAIR, pair])
    assert set(found.column_names) == {"prompt", "chosen", "rejected"}
    assert trl.maybe_extract_prompt(found[0]) == found[0]
    unpaired = trl.unpair_preference_dataset(found)
    assert unpaired["label"] == [True, True, False, False]
    for one, row in zip(found, [PAIR, pair], strict=True):  # with arguments that Arrow would merge
        (back,) = named("trl").read(one)
        assert isinstance(back, Comparison)
        same(back.response_a, row["response_a"])
        same(back.response_b, row["response_b"])
    whole = trl.extract_prompt(
        {side: found[0]["prompt"] + found[0][side] for side in ("chosen", "rejected")}
    )
    assert whole["prompt"] == found[0]["prompt"]
    assert loaded("demonstration", [ROW]).column_names == ["prompt", "completion"]
    rated = [ROW | {"score_frac": 1.0, "weight": 1.0, "criterion": "rating"}]
    assert loaded("rating", rated).column_names == ["prompt", "completion", "label"]


def test_our_cut_of_an_implicit_prompt_is_that_of_trl() -> None:
    trl = pytest.importorskip("trl.data_utils")
    user, good = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    bad = {"role": "assistant", "content": "b"}
    for chosen, rejected in (
        ([user, good], [user, bad]),
        ([user, good, user, good], [user, good, user, bad]),
    ):
        theirs = trl.extract_prompt({"chosen": chosen, "rejected": rejected})
        (ours,) = named("trl").read({"chosen": chosen, "rejected": rejected})
        assert isinstance(ours, Comparison)
        said = [ours.conversation, ours.response_a, ours.response_b]
        for turns, name in zip(said, ("prompt", "chosen", "rejected"), strict=True):
            assert list(msgspec.to_builtins(turns)) == theirs[name]
