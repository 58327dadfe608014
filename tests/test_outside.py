"""Results of other tools: logs of inspect_ai, tasks of the harness, and of which weights."""

import importlib.util
import json
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from assets.resources import Home
from flywheel.errors import EvaluationError, LaunchError, SettingsError
from flywheel.evaluate.commands import harness, read_inspect
from flywheel.evaluate.outside.inspect_log import read_inspect_log
from flywheel.evaluate.outside.results import Outside, measure, read_results, store_results
from flywheel.evaluate.settings import HarnessSettings
from flywheel.layout import Layout
from tests.models_for_tests import tiny

HAS_HARNESS = importlib.util.find_spec("lm_eval") is not None
HAS_INSPECT = importlib.util.find_spec("inspect_ai") is not None


def sample(name: str, epoch: int, value: Any, **more: Any) -> dict[str, Any]:
    scores = {} if value is None else {"match": {"value": value, "answer": "4"}}
    return {"id": name, "epoch": epoch, "input": "2+2?", "scores": scores, **more}


SAMPLES = [
    sample("one", 1, "C"),
    sample("one", 2, "I"),
    sample("two", 1, "C", limit={"type": "token", "limit": 10.0}),
    sample("two", 2, True),
    sample("bad", 1, None, error={"message": "broken tool", "traceback": ""}),
    sample("long", 1, None, limit={"type": "message", "limit": 5.0}),
    sample("void", 1, "C", invalidation={"author": "ann"}),
    sample("odd", 1, [1, 2]),
    sample("none", 1, None),
]
HEADER = {
    "version": 2,
    "status": "success",
    "eval": {"task": "sums", "task_version": 3, "packages": {"inspect_ai": "0.3.285"}},
}


def as_json(path: Path, samples: list[dict[str, Any]], **changes: Any) -> Path:
    path.write_text(json.dumps(HEADER | {"samples": samples} | changes))
    return path


def as_eval(path: Path, samples: list[dict[str, Any]], *, zstandard: bool) -> Path:
    """A ZIP as inspect_ai writes it; Zstandard's name is put in by hand, Python knows it not."""
    members = {f"samples/{one['id']}_epoch_{one['epoch']}.json": one for one in samples}
    packed = zipfile.ZIP_STORED if zstandard else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, content in {"header.json": HEADER, "summaries.json": [], **members}.items():
            data = json.dumps(content).encode()
            archive.writestr(name, pa.compress(data, "zstd", asbytes=True) if zstandard else data)
    if zstandard:
        data = bytearray(path.read_bytes())
        for mark, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
            place = data.find(mark)
            while place >= 0:
                data[place + at : place + at + 2] = (93).to_bytes(2, "little")
                place = data.find(mark, place + 4)
        path.write_bytes(data)
    return path


def test_a_log_is_read_by_sample_in_every_format(tmp_path: Path) -> None:
    paths = [
        as_json(tmp_path / "log.json", SAMPLES),
        as_eval(tmp_path / "deflated.eval", SAMPLES, zstandard=False),
        as_eval(tmp_path / "zstandard.eval", SAMPLES, zstandard=True),
    ]
    for path in paths:
        (row,) = read_inspect_log(path)
        assert row == Outside(
            by="inspect_ai 0.3.285",
            task="sums",
            task_version="3",
            metric="match",
            value=0.75,  # one: a half, two: 1
            stderr=0.25,  # of two samples, and not of four attempts
            samples=2,
            attempts=4,
            left_out={
                "error": 1,
                "limit: message": 1,
                "taken back": 1,
                "a score that is no number": 1,
                "no score": 1,
            },
            cut_off=1,
        ), path


def test_a_scorer_of_several_things_makes_several_rows(tmp_path: Path) -> None:
    two = [sample("one", 1, {"grace": 1.0, "wit": "P"}), sample("two", 1, {"grace": 0.0})]
    rows = {row["metric"]: row for row in read_inspect_log(as_json(tmp_path / "log.json", two))}
    assert rows["match/grace"]["value"] == 0.5 and rows["match/grace"]["samples"] == 2
    assert rows["match/wit"]["value"] == 0.5 and rows["match/wit"]["stderr"] is None
    assert rows["match/wit"]["left_out"] == {"no score": 1}


def test_where_nothing_was_scored_there_is_no_zero(tmp_path: Path) -> None:
    failed = [sample("one", 1, None, error={"message": "x"})] * 2
    (row,) = read_inspect_log(as_json(tmp_path / "log.json", failed))
    assert row["value"] is None and row["samples"] == 0 and row["left_out"] == {"error": 2}


def test_what_is_no_whole_log_is_refused(tmp_path: Path) -> None:
    torn = tmp_path / "torn.json"
    torn.write_text('{"version": 2, "status"')
    other = tmp_path / "other.json"
    other.write_text('{"rows": []}')
    with zipfile.ZipFile(tmp_path / "other.eval", "w") as archive:
        archive.writestr("a.txt", "x")
    for path in (torn, other, tmp_path / "other.eval", tmp_path / "missing.json"):
        with pytest.raises(EvaluationError, match="is no log of inspect_ai"):
            read_inspect_log(path)
    with pytest.raises(EvaluationError, match="ended with 'cancelled'"):
        read_inspect_log(as_json(tmp_path / "log.json", SAMPLES, status="cancelled"))
    with pytest.raises(EvaluationError, match="holds no sample"):
        read_inspect_log(as_json(tmp_path / "log.json", []))


@pytest.mark.skipif(not HAS_INSPECT, reason="inspect_ai is not installed: an extra of nobody here")
@pytest.mark.parametrize("kind", ["json", "eval"])
def test_a_log_that_inspect_ai_writes_says_what_it_says(tmp_path: Path, kind: str) -> None:
    from inspect_ai import Epochs, Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import match
    from inspect_ai.solver import solver

    @solver
    def says() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            if state.sample_id == "bad":
                raise ValueError("broken tool")
            right = state.sample_id == "one" or state.epoch == 1
            state.output = ModelOutput.from_content("mockllm/model", "4" if right else "5")
            return state

        return solve

    task = Task(
        dataset=[Sample(id=name, input="2+2?", target="4") for name in ("one", "two", "bad")],
        solver=says(),
        scorer=match(),
        epochs=Epochs(2, "mean"),
        fail_on_error=False,
        name="sums",
        version=3,
    )
    (log,) = eval(
        task, model="mockllm/model", log_dir=str(tmp_path), log_format=kind, display="none"
    )
    (path,) = tmp_path.glob(f"*.{kind}")
    (row,) = read_inspect_log(path)
    told = log.results.scores[0]
    assert row["value"] == told.metrics["accuracy"].value == 0.75
    assert row["stderr"] == pytest.approx(told.metrics["stderr"].value)
    assert row["samples"] == told.scored_samples == 2 and row["left_out"] == {"error": 2}


def policy_of(layout: Layout, generation: str = "g0002", seed: int = 0) -> Path:
    folder = layout.checkpoint("policy", generation)
    folder.mkdir(parents=True, exist_ok=True)
    tiny(folder, seed=seed)
    return folder


def test_results_are_of_the_weights_that_were_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(root=str(tmp_path))
    log = as_json(tmp_path / "log.json", SAMPLES)
    arguments = Namespace(generation="g0002", logs=[log], json=False, tasks="")
    with pytest.raises(EvaluationError, match="g0002 has no policy"):
        read_inspect(lambda: home, arguments)
    policy_of(home.layout)
    harness(lambda: home, arguments)
    assert "no other tool has measured g0002 yet" in capsys.readouterr().out
    read_inspect(lambda: home, arguments)
    said = capsys.readouterr().out
    assert "sums version 3, match: 0.750 (standard error 0.250) on 2 samples" in said
    assert "left out: 1 error" in said and "no longer" not in said
    read_inspect(lambda: home, arguments)  # again: replaced, not added
    assert len(read_results(home.layout, "g0002")) == 1
    policy_of(home.layout, seed=1)
    (row,) = read_results(home.layout, "g0002")
    assert not row["is_current"]
    capsys.readouterr()
    harness(lambda: home, arguments)
    assert "of weights that lie there no longer" in capsys.readouterr().out


def test_tools_and_tasks_have_a_file_each(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    policy_of(layout)
    (row,) = read_inspect_log(as_json(tmp_path / "log.json", SAMPLES))
    rows: list[Outside] = [row, {**row, "task": "a/b"}, {**row, "by": "lm_eval 1", "metric": "x"}]
    paths = store_results(layout, "g0002", rows)
    assert len(set(paths)) == 3 and {path.parent for path in paths} == {paths[0].parent}
    assert len(read_results(layout, "g0002")) == 3


@pytest.mark.parametrize("wrong", [{"tasks": " , "}, {"limit": -1}, {"few_shot": -2}, {"batch": 0}])
def test_a_harness_without_a_task_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="the harness needs a task"):
        HarnessSettings(**{"model": "m", "tasks": "t"} | wrong)


@pytest.mark.skipif(HAS_HARNESS, reason="lm_eval is installed")
def test_without_the_harness_it_is_said_how_to_come_by_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    policy_of(layout)
    with pytest.raises(LaunchError, match=r"not installed .* pip install \"flywheel\[lm_eval\]\""):
        measure(layout, "g0002", tasks="gsm8k", log=lambda line: None)
    assert read_results(layout, "g0002") == []


TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
doc_to_choice: ["red it is .", "no , it is not ."]
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 2.0
"""


@pytest.mark.skipif(not HAS_HARNESS, reason="lm_eval is not installed: the extra `lm_eval`")
def test_a_task_of_ones_own_is_measured_by_the_harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flywheel.records.message import prompt_of, response_of
    from flywheel.rollout import Policy, response_nll

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    layout = Layout(tmp_path / "home")
    folder = policy_of(layout)
    data = tmp_path / "data.jsonl"
    questions = ["say red", "say blue", "say green", "no", "dear"]
    answers = [0, 1, 1, 0, 1]
    lines = [{"question": q, "answer": a} for q, a in zip(questions, answers, strict=True)]
    data.write_text("".join(json.dumps(one) + "\n" for one in lines))
    (tmp_path / "tasks").mkdir()
    task = TASK.format(name="sums_of_a_test", data=data)
    (tmp_path / "tasks" / "sums.yaml").write_text(task)
    measure(
        layout,
        "g0002",
        tasks="sums_of_a_test",
        include=str(tmp_path / "tasks"),
        log=lambda line: None,
    )
    (row,) = read_results(layout, "g0002")
    assert row["by"].startswith("lm_eval 0.4") and row["task_version"] == "2.0"
    assert row["metric"] == "acc" and row["samples"] == 5 and row["is_current"]
    policy = Policy.load(str(folder))
    right = 0
    for question, answer in zip(questions, answers, strict=True):
        said = [
            response_nll(policy, [prompt_of(question)], [response_of(text)])[0]
            for text in ("red it is .", "no , it is not .")
        ]
        nats = [one[0] for one in said if one]
        right += int(nats.index(min(nats))) == answer
    assert row["value"] == pytest.approx(right / 5, abs=0.21)  # its turn ends are not scored there
    assert row["stderr"] is not None
    with pytest.raises(LaunchError, match="has no task nothing_of_a_test"):
        measure(layout, "g0002", tasks="nothing_of_a_test", log=lambda line: None)
