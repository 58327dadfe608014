"""Readers of runs of agents, and what is expected of their steps: each trap of their formats."""

import copy
import json
from collections import Counter, defaultdict
from math import comb
from pathlib import Path
from typing import Any

import pytest

from flywheel.errors import RecordError
from flywheel.ingest import BatchManifest, land, quarantine_reasons
from flywheel.ingest.formats import named, recognise
from flywheel.ingest.formats.swe_agent import gather
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.quality import judge
from flywheel.records import Interaction, Ranking, Trajectory
from flywheel.records.message import load
from tests.format_samples import ART, ASKED, ATIF, NVIDIA, SAID, SWE_AGENT, TAU

DATA = Path(__file__).parent.parent.parent / "shared" / "data"


def read(format: str, value: dict[str, Any]) -> list[Any]:
    assert recognise([value])[0] == format
    return list(named(format).read(copy.deepcopy(value)))


def words(conversation: Any) -> list[str]:
    return [message.content for message in conversation]


def atif(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    numbered = [{"step_id": n, **step} for n, step in enumerate(steps, start=1)]
    return {"schema_version": "ATIF-v1.7", "session_id": "s", "steps": numbered} | more


USER, AGENT = {"source": "user", "message": "q"}, {"source": "agent", "message": "a"}
CALLS = [{"tool_call_id": "c1", "function_name": "f", "arguments": {"x": 1}}]


def answer(call: str | None, **more: Any) -> dict[str, Any]:
    return {"observation": {"results": [{"source_call_id": call, "content": "r"} | more]}}


# ---- ATIF -------------------------------------------------------------------------------------


def test_an_atif_run_is_a_trajectory_and_so_is_each_embedded_one() -> None:
    run, inner = read("atif", ATIF[0])
    assert isinstance(run, Trajectory) and isinstance(inner, Trajectory)
    assert words(run.prompt) == ["2+3?"] and words(run.steps) == ["I add.", "5", "5"]
    assert [turn.role for turn in run.steps] == ["assistant", "tool", "assistant"]
    assert run.steps[0].tool_calls[0].arguments == {"a": 2, "b": 3}
    assert run.steps[1].tool_call_id == "c1" and run.outcome == "unscored" and run.id == "t-1"
    assert run.metadata["tools"] and run.metadata["message_keys_left_out"] == ["reasoning_content"]
    assert inner.id == "t-2" and inner.metadata == {"agent": "adder", "subagent_of": "t-1"}


def test_steps_copied_from_an_earlier_trajectory_are_nobodys_behaviour() -> None:
    (run,) = read("atif", ATIF[1])
    assert words(run.prompt) == ["Be brief."] and words(run.steps) == ["5"]
    assert run.metadata["copied_steps"] == 2
    copied = {"is_copied_context": True}
    (only,) = read("atif", atif(USER | copied, AGENT | copied, AGENT | {"message": "new"}))
    assert words(only.prompt) == ["q", "a"] and words(only.steps) == ["new"]


@pytest.mark.parametrize("version", [f"ATIF-v1.{minor}" for minor in range(9)])
def test_versions_of_atif_up_to_1_8_are_read_with_fields_nobody_knows(version: str) -> None:
    (run,) = read("atif", atif(USER, AGENT | {"mood": "x"}, schema_version=version, novelty=1))
    assert words(run.steps) == ["a"]


def test_a_sub_agent_is_found_by_the_key_of_its_version() -> None:
    def run(ref: dict[str, Any], version: str) -> Any:
        called = AGENT | {"tool_calls": CALLS} | answer("c1", subagent_trajectory_ref=[ref])
        return read("atif", atif(USER, called, AGENT, schema_version=version))[0]

    assert run({"session_id": "s"}, "ATIF-v1.6").metadata["subagents_elsewhere"] == ["s"]
    path = {"trajectory_path": "sub.json", "session_id": "s"}
    assert run(path, "ATIF-v1.7").metadata["subagents_elsewhere"] == ["sub.json"]
    with pytest.raises(RecordError, match="needs a trajectory_id or a trajectory_path"):
        run({"session_id": "s"}, "ATIF-v1.7")
    with pytest.raises(RecordError, match="'t-9' is embedded"):
        run({"trajectory_id": "t-9"}, "ATIF-v1.7")


def test_a_run_that_is_continued_elsewhere_says_so() -> None:
    (run,) = read("atif", atif(USER, AGENT, continued_trajectory_ref="s-2"))
    assert run.metadata["continued_by"] == "s-2"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (atif(USER, AGENT, schema_version="ATIF-v1.9"), "1.0 to 1.8"),
        (atif(USER, AGENT | {"step_id": 3}), "must run from 1 to 2"),
        (atif(USER | {"tool_calls": CALLS}, AGENT), "is not the agent's, but has tool_calls"),
        (atif(USER | {"metrics": {"a": 1}}, AGENT), "is not the agent's, but has metrics"),
        (atif(USER, AGENT | answer("c9")), "'c9' that nobody made"),
        (
            atif(USER, AGENT | {"tool_calls": [CALLS[0] | {"arguments": '{"x":1}'}]}),
            "must be an object",
        ),
        (
            atif(
                USER | {"message": [{"type": "text", "text": "t", "source": {"path": "p"}}]}, AGENT
            ),
            "pictures are not taken in",
        ),
        (atif(USER), "a step of the agent"),
        (atif(AGENT), "something before it"),
        (atif(USER, AGENT | {"timestamp": "yesterday"}), "not a time"),
        (
            atif(USER, AGENT, subagent_trajectories=[{"trajectory_id": "t"}] * 2),
            "one trajectory_id",
        ),
    ],
)
def test_a_run_that_breaks_the_rules_of_atif_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        read("atif", value)


# ---- SWE-agent --------------------------------------------------------------------------------


def test_messages_of_swe_agent_come_from_the_history_and_demonstrations_are_prompt() -> None:
    (run,) = read("swe_agent", SWE_AGENT[0])
    assert len(run.prompt) == 3 and run.prompt[-1].content == "Fix the colon."
    assert words(run.steps) == ["I look.", "12: if x", "submit"]
    assert run.steps[0].tool_calls[0].arguments == {"a": 2, "b": 3}  # a string in the file
    assert run.steps[1].tool_call_id == "c1" and run.metadata["demonstrations"] == 1


def test_a_demonstration_of_an_agent_among_the_prompts_is_not_behaviour() -> None:
    value = copy.deepcopy(SWE_AGENT[0])
    value["history"].insert(2, {"role": "assistant", "content": "demo", "is_demo": True})
    (run,) = read("swe_agent", value)
    assert "demo" in words(run.prompt) and "demo" not in words(run.steps)
    value["history"].append({"role": "assistant", "content": "demo", "is_demo": True})
    with pytest.raises(RecordError, match="what was asked and then what the agent did"):
        read("swe_agent", value)


def test_submitted_is_no_success_and_a_limit_is_no_failure() -> None:
    def outcome(stop: Any) -> str:
        return read("swe_agent", SWE_AGENT[0] | {"info": {"exit_status": stop}})[0].outcome

    assert outcome("submitted") == outcome(None) == outcome("submitted (exit_cost)") == "unscored"
    assert outcome("exit_cost") == outcome("exit_context") == "truncated"
    assert outcome("exit_error") == outcome("exit_format") == "error"


def test_the_state_of_a_step_may_be_text_or_an_object_and_a_history_may_stand_alone() -> None:
    text, other = (read("swe_agent", value)[0] for value in SWE_AGENT)
    assert text.steps == other.steps
    (alone,) = read("swe_agent", {"history": SWE_AGENT[0]["history"]})
    assert alone.steps == text.steps and alone.group != "task None"


def test_the_task_is_named_by_the_run_or_by_its_file() -> None:
    for value, name, task in (
        (SWE_AGENT[1], "run/x.traj", "org__repo-1"),
        (SWE_AGENT[0], "run/org__repo-2.traj", "org__repo-2"),
        (SWE_AGENT[0], "run/org__repo-2.traj.gz", "org__repo-2"),
        (SWE_AGENT[0], "run/all.jsonl", None),
    ):
        ((_, run, *_),) = gather({1: value}, name)
        assert isinstance(run, Trajectory) and run.task_id == task


# ---- tau-bench --------------------------------------------------------------------------------


def test_the_expected_actions_of_tau_bench_do_not_land_and_an_id_may_come_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "x.json").write_text(json.dumps(TAU))
    layout = Layout(tmp_path / "home")
    (batch,) = land([tmp_path / "x.json"], layout, judge=judge, log=lambda _: None)
    rows = read_folder(layout.landing("trajectory")).to_pylist()
    assert [row["outcome"] for row in rows] == ["passed", "failed", "truncated"]
    assert "SECRET" not in json.dumps(rows, default=str)
    told = {one.name: one.failed for one in batch.expectations}
    assert told["answers_name_a_call"] == told["calls_are_answered"] == 0


# ---- ART --------------------------------------------------------------------------------------


def test_a_group_of_art_is_a_trajectory_each_and_a_ranking() -> None:
    one, other, ranking = read("art", ART[0])
    assert (one.reward, other.reward, one.outcome, one.trial) == (1.0, 0.0, "unscored", 0)
    assert words(one.prompt) == ["2+3?"] and words(one.steps) == ["5"]
    assert isinstance(ranking, Ranking) and ranking.ranks == (1, 2)
    assert ranking.responses == (one.steps, other.steps) and ranking.annotator_kind == "program"


def test_only_what_was_sampled_is_behaviour() -> None:
    value = copy.deepcopy(ART[1])
    value["messages_and_choices"].insert(0, ASKED)
    value["messages_and_choices"].insert(1, {"role": "assistant", "content": "shown"})
    value["messages_and_choices"] += [ASKED, {"role": "assistant", "content": "forced"}]
    (run,) = read("art", value)
    assert "shown" in words(run.prompt) and words(run.steps) == ["5", "2+3?", "forced"]
    assert run.metadata["steps_not_sampled"] == 1 and run.task_id == "sum"
    with pytest.raises(RecordError, match="a choice that was sampled"):
        read("art", value | {"messages_and_choices": [ASKED, SAID]})
    trained = [ASKED, SAID | {"trainable": True}]
    assert words(read("art", value | {"messages_and_choices": trained})[0].steps) == ["5"]


def test_a_reward_of_nothing_may_mean_not_scored_and_failed_rollouts_are_counted() -> None:
    unscored = copy.deepcopy(ART[0])
    for one in unscored["trajectories"]:
        one |= {"reward": 0.0, "metrics": {}}
    found = read("art", unscored | {"exceptions": [{"type": "Timeout"}]})
    assert [one.reward for one in found] == [None, None]
    assert found[0].metadata["failed_rollouts"] == 1
    with pytest.raises(RecordError, match="2 rollouts of it failed"):
        read("art", {"trajectories": [], "exceptions": ["x", "y"]})
    with pytest.raises(RecordError, match="finite number"):
        read("art", ART[1] | {"reward": None})


# ---- NVIDIA logs ------------------------------------------------------------------------------


def test_what_was_served_is_an_interaction_and_every_choice_is_one(tmp_path: Path) -> None:
    one, other = read("nvidia", NVIDIA[0])
    assert isinstance(one, Interaction) and one.thumbs is None and one.model == "m-1"
    assert words(one.response) == ["5"] and other.response[0].tool_calls[0].name == "add"
    assert one.occurred_at is not None and one.occurred_at.year == 2026
    (tmp_path / "x.jsonl").write_text(
        "".join(json.dumps(NVIDIA[0] | {"timestamp": n}) + "\n" for n in (1767225600, 1767225601))
    )
    layout = Layout(tmp_path / "home")
    land([tmp_path / "x.jsonl"], layout, log=lambda _: None)
    table = read_folder(layout.landing("interaction"))
    assert len(set(table["prompt_key"].to_pylist())) == 1  # a repeated request is one prompt
    assert len(set(table["content_sha256"].to_pylist())) == 4


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"timestamp": 1767225600_000}, "milliseconds"),
        ({"response": {"choices": []}}, "no choice"),
        ({"response": "overloaded"}, "must be objects"),
    ],
)
def test_a_log_line_without_an_answer_is_refused(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        read("nvidia", NVIDIA[0] | more)


# ---- what is expected of steps ----------------------------------------------------------------


def judged(tmp_path: Path, *steps: Any, **more: Any) -> tuple[BatchManifest, dict[str, int]]:
    row = {"kind": "trajectory", "prompt": "p", "steps": list(steps), "outcome": "unscored"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row | {"task_id": "t"} | more) + "\n")
    layout = Layout(tmp_path / "home")
    options: Any = {"judge": judge, "quarantine_limit": 1.0, "log": lambda _: None}
    (batch,) = land([tmp_path / "x.jsonl"], layout, **options)
    assert batch.quarantined == sum(quarantine_reasons(layout).values())
    return batch, {one.name: one.failed for one in batch.expectations if one.failed}


def own(call: str | None, name: str = "add") -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"name": name, "arguments": {}, "id": call}]}


def result(call: str | None) -> dict[str, Any]:
    return {"role": "tool", "content": "5", "tool_call_id": call}


@pytest.mark.parametrize(
    ("steps", "more", "told"),
    [
        ([own("1"), result("1"), SAID], {}, set()),
        ([own("1"), result("1"), own("1"), result("1"), SAID], {}, set()),  # the id comes again
        ([own("1"), own("2"), result("2"), result("1"), SAID], {}, set()),
        ([own(None), result(None), SAID], {}, set()),
        ([own("1"), result(None), SAID], {}, set()),  # paired by order
        ([SAID, result(None), SAID], {}, set()),  # an agent whose actions are text
        ([own("1"), SAID], {}, {"calls_are_answered"}),
        ([own("1")], {}, {"calls_are_answered", "ends_in_an_answer"}),
        ([own("1")], {"outcome": "truncated"}, set()),
        ([own("1")], {"metadata": {"stop_reason": "submitted"}}, set()),
        ([SAID, ASKED], {}, {"ends_in_an_answer"}),
        ([SAID | {"content": " "}, SAID], {}, {"turns_say_something"}),
        ([own("1"), result("1") | {"content": ""}, SAID], {}, set()),  # a tool may say nothing
        (
            [own("1", "sub"), result("1"), SAID],
            {"metadata": {"tools": [{"type": "function", "function": {"name": "add"}}]}},
            {"tools_are_declared"},
        ),
        ([SAID], {"metadata": {"time_runs_back": True}}, {"time_does_not_run_back"}),
    ],
)
def test_what_is_odd_about_steps_is_told_and_takes_nothing_away(
    tmp_path: Path, steps: list[Any], more: dict[str, Any], told: set[str]
) -> None:
    batch, found = judged(tmp_path, *steps, **more)
    assert found.keys() == told and batch.rows == 1


@pytest.mark.parametrize(
    "steps",
    [
        [own("1"), result("2"), SAID],
        [own("1"), result("1"), result("1"), SAID],
        [result("1"), own("1"), SAID],
    ],
)
def test_an_answer_to_a_call_that_is_not_open_spoils_its_attempt(
    tmp_path: Path, steps: list[Any]
) -> None:
    batch, found = judged(tmp_path, *steps)
    assert found["answers_name_a_call"] == 1 and batch.quarantined == 1


def test_the_times_of_atif_that_run_back_are_told() -> None:
    def run(*times: str) -> Any:
        steps = [step | {"timestamp": at} for step, at in zip((USER, AGENT), times, strict=True)]
        return read("atif", atif(*steps))[0]

    assert run("2026-05-01T12:00:00+02:00", "2026-05-01T09:59:59Z").metadata["time_runs_back"]
    assert "time_runs_back" not in run("2026-05-01T12:00:00+02:00", "2026-05-01T10:00:00").metadata


# ---- real files -------------------------------------------------------------------------------


def landed(name: str, home: Path) -> tuple[list[BatchManifest], list[dict[str, Any]]]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there: the shared data lie beside a checkout of the project")
    layout = Layout(home)
    batches = land([path], layout, judge=judge, log=lambda _: None)
    assert all(one.quarantined == one.blanks == 0 for one in batches)
    return batches, read_folder(layout.landing("trajectory")).to_pylist()


def test_the_runs_of_tau_bench_pass_as_often_as_its_authors_count(tmp_path: Path) -> None:
    (batch,), rows = landed("tau_bench/gpt-4o-airline.json", tmp_path)
    outcomes = Counter(row["outcome"] for row in rows)
    assert outcomes == {"passed": 84, "failed": 111, "truncated": 5}
    passed: dict[str, int] = defaultdict(int)
    for row in rows:
        passed[row["task_id"]] += row["outcome"] == "passed"
    assert len(passed) == 50 and len({row["group_hint"] for row in rows}) == 50
    power = [sum(comb(n, k) / comb(4, k) for n in passed.values()) / 50 for k in (1, 2, 3, 4)]
    assert [round(one, 3) for one in power] == [0.42, 0.273, 0.22, 0.2]  # arXiv:2406.12045
    assert not any("actions" in row["metadata"] for row in rows)
    again = 0
    for row in rows:
        ids = [call.id for turn in load(row["steps"]) for call in turn.tool_calls]
        again += len(set(ids)) < len(ids)
    assert again == 49  # runs in which an id comes again; no answer is lost for it
    told = {one.name: one.failed for one in batch.expectations if one.failed}
    assert told == {"ends_in_an_answer": 195}  # all but those that were cut off


def test_the_demonstrations_of_swe_agent_land_unscored_whatever_their_version(
    tmp_path: Path,
) -> None:
    batches, rows = landed("swe_agent_demos", tmp_path)
    assert Counter(one.format for one in batches) == {"swe_agent": 20} and len(rows) == 20
    assert {row["outcome"] for row in rows} == {"unscored"}
    acted = [sum(turn.role == "assistant" for turn in load(row["steps"])) for row in rows]
    assert sum(acted) == 207  # 204 steps, and a history without steps; two runs lack a last turn
    assert sum("demonstrations" in row["metadata"] for row in rows) == 2
    assert Counter(row["task_id"] for row in rows)["marshmallow-code__marshmallow-1867"] == 4
    told = Counter(one.name for batch in batches for one in batch.expectations if one.failed)
    assert told == {"ends_in_an_answer": 1}  # the history alone, which does not say why it ended
