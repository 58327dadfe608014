"""Readers of logs, in which several rows of a file make one record: each trap of their formats."""

import copy
import json
from pathlib import Path
from typing import Any

from flywheel.ingest import BatchManifest, land
from flywheel.ingest.formats import named, recognise
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.quality import judge
from flywheel.records import Comparison, Critique, Demonstration, Interaction, Rating, Trajectory
from tests.format_samples import (
    ASKED,
    CALLED,
    EVALUATED,
    LANGFUSE,
    OTEL,
    OTEL_ASKED,
    OTEL_CALLED,
    OTEL_MORE,
    SAID,
    T0_ASKED,
    TENSORZERO,
    UUID,
    chat,
    feedback,
    inference,
    observation,
    otlp,
    score,
    span,
    text,
)

Rows = list[dict[str, Any]]


def gathered(format: str, rows: Rows) -> tuple[list[Any], dict[int, str]]:
    """The records that rows of one file come to, and why the others come to none."""
    assert recognise(rows)[0] == format
    gather = named(format).gather
    assert gather
    found = list(gather(dict(enumerate(copy.deepcopy(rows), start=1)), "x.jsonl"))
    records = [one.found for one in found if not isinstance(one.found, str)]
    return records, {one.lines[0]: one.found for one in found if isinstance(one.found, str)}


def only(kind: type, records: list[Any]) -> list[Any]:
    return [one for one in records if isinstance(one, kind)]


def words(conversation: Any) -> list[str]:
    return [message.content for message in conversation]


def landed(folder: Path, rows: Rows, format: str = "auto") -> tuple[BatchManifest, Layout, Rows]:
    layout = Layout(folder / "home")
    (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options: Any = {"judge": judge, "quarantine_limit": 1.0, "log": lambda _: None}
    (batch,) = land([folder / "x.jsonl"], layout, format=format, **options)
    assert batch.lines == batch.rows + batch.quarantined + batch.blanks
    return batch, layout, read_folder(layout.quarantine).to_pylist()


# ---- Langfuse ---------------------------------------------------------------------------------


def test_generations_that_go_on_are_a_trajectory_and_its_scores_are_about_it() -> None:
    records, refused = gathered("langfuse", LANGFUSE)
    (run,) = only(Trajectory, records)
    assert not refused and words(run.prompt) == ["2+3?"] and words(run.steps) == ["", "5", "5"]
    assert [turn.role for turn in run.steps] == ["assistant", "tool", "assistant"]
    assert run.metadata["trace_id"] == "tr" and run.outcome == "unscored" and run.seconds is None
    right, quality = only(Rating, records)
    assert (right.rating, right.rating_min, right.rating_max) == (1.0, 0.0, 1.0)
    assert (right.annotator_id, right.annotator_kind) == ("ann@langfuse", "person")
    assert right.response == run.steps and words(quality.response) == ["5"]
    assert quality.annotator_kind == "unknown" and quality.annotator_id is None
    assert quality.metadata["rationale"] == "so so" and quality.metadata["scale_assumed"]
    (tone,) = only(Critique, records)
    assert tone.critique == "polite" and tone.annotator_kind == "model"


def test_times_without_a_zone_are_utc_and_order_is_that_of_time() -> None:
    shuffled = [LANGFUSE[2], LANGFUSE[0], LANGFUSE[1]]
    (run,), _ = gathered("langfuse", shuffled)
    assert len(run.steps) == 3 and run.occurred_at.isoformat() == "2026-05-01T10:00:01"


def test_a_category_without_its_words_and_a_type_nobody_knows_are_refused() -> None:
    rows = [
        *LANGFUSE[:1],
        score("s1", "tone", 2, "CATEGORICAL"),
        score("s2", "tone", 0, "CORRECTION", string_value="better"),
        score("s3", "stars", 4, "NUMERIC"),
        score("s4", "stars", 1, "NUMERIC"),
        score("s5", "stars", 4, "NUMERIC", metadata='{"min": 1, "max": 5}'),
        score("s6", "q", 1, "BOOLEAN", observation_id="g9"),
        score("s7", "q", 1, "BOOLEAN", trace_id="", session_id="s"),
    ]
    records, refused = gathered("langfuse", rows)
    (stars,) = only(Rating, records)
    assert (stars.rating, stars.rating_min, stars.rating_max) == (4.0, 1.0, 5.0)
    reasons = ["string_value", "'CORRECTION'", "scale of 'stars'", "scale of 'stars'"]
    reasons += ["'g9' is no call", "trace None is no call"]
    assert refused.keys() == {2, 3, 4, 5, 7, 8}
    for told, reason in zip(refused.values(), reasons, strict=True):
        assert any(one in told for one in reasons), (told, reason)
    assert "scale" in refused[4] and "scale" in refused[5] and "'g9'" in refused[7]


def test_calls_that_do_not_go_on_are_told_apart() -> None:
    rows = [
        observation("g1", 1, "one", "first"),
        observation("g2", 2, "two", "second"),
        observation("g3", 3, [{"role": "user", "content": "one"}], None, level="ERROR", output=""),
    ]
    records, refused = gathered("langfuse", rows)
    assert [words(one.response) for one in only(Interaction, records)] == [["first"], ["second"]]
    assert refused == {3: "the call failed, and nothing was answered"}


def test_the_calls_of_a_generation_may_stand_in_their_own_column() -> None:
    call = json.dumps({"id": "c1", "name": "add", "arguments": '{"a":2}', "type": "function"})
    row = observation("g1", 1, [ASKED], {"role": "assistant", "content": ""}, tool_calls=[call])
    ((found,), _) = gathered("langfuse", [row])
    assert found.response[0].tool_calls[0].arguments == {"a": 2}


# ---- OpenTelemetry ----------------------------------------------------------------------------


def test_spans_of_several_lines_are_one_trajectory_with_its_evaluation() -> None:
    records, refused = gathered("otel", OTEL)
    (run,), (rating,), (served,) = (only(k, records) for k in (Trajectory, Rating, Interaction))
    assert not refused and words(run.steps) == ["", "5", "5"]
    assert run.steps[0].tool_calls[0].arguments == {"a": 2, "b": 3} and run.model == "m"
    assert (rating.rating, rating.annotator_id, rating.annotator_kind) == (1.0, None, "unknown")
    assert words(rating.prompt) == ["2+3?", "", "5"] and words(rating.response) == ["5"]
    assert words(served.prompt) == ["2+3?"] and words(served.response) == ["5"]  # old events


def test_messages_may_be_values_instead_of_text() -> None:
    plain = {
        "trace_id": "t",
        "span_id": "s",
        "attributes": chat(0, 0)
        | {"gen_ai.input.messages": OTEL_MORE, "gen_ai.output.messages": [text("assistant", "5")]}
        | {"gen_ai.system_instructions": [{"type": "text", "content": "Be brief."}]},
    }
    ((found,), _) = gathered("otel", [plain])
    assert words(found.prompt) == ["Be brief.", "2+3?", "", "5"]


def test_a_trace_without_text_holds_no_label_and_blocks_nothing(tmp_path: Path) -> None:
    silent = otlp(span("01", 1, {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}))
    batch, _, quarantine = landed(tmp_path, [silent] * 9)
    assert (batch.quarantined, batch.set_aside, batch.blocked) == (9, 9, False)
    assert "switch on the capture of content" in quarantine[0]["reason"]


def test_the_span_of_an_agent_is_read_only_where_its_calls_say_nothing() -> None:
    agent = {"gen_ai.operation.name": "invoke_agent"}
    whole = chat(OTEL_ASKED, [text("assistant", "5")], **agent)
    inner = span("02", 2, chat(OTEL_ASKED, [text("assistant", "5")]))
    for rows, count in (
        ([otlp(span("01", 1, whole), inner)], 1),
        ([otlp(span("01", 1, whole))], 1),
    ):
        records, refused = gathered("otel", rows)
        assert len(records) == count and not refused


def test_calls_of_one_conversation_go_on_over_its_traces() -> None:
    said = text("assistant", "5")
    turn = {"gen_ai.conversation.id": "c"}
    more = [*OTEL_ASKED, said, text("user", "sure?")]
    rows = [
        otlp(span("01", 1, chat(OTEL_ASKED, [said], **turn))),
        otlp(span("02", 2, chat(more, [text("assistant", "yes")], **turn), traceId="cd")),
    ]
    ((found,), _) = gathered("otel", rows)
    assert isinstance(found, Trajectory) and words(found.steps) == ["5", "sure?", "yes"]


def test_an_evaluation_may_come_in_a_log_and_one_that_failed_is_no_zero() -> None:
    ours = {"flywheel.feedback.author": "ann", "flywheel.feedback.author_kind": "human"}
    ours |= {"flywheel.feedback.rubric_version": "3", "gen_ai.response.id": "r1"}
    name = "gen_ai.evaluation.result"

    def log(given: dict[str, Any], span_id: str) -> dict[str, Any]:
        event = span("", 0, given) | {"eventName": name, "spanId": span_id, "timeUnixNano": "0"}
        return {"resourceLogs": [{"scopeLogs": [{"logRecords": [event]}]}]}

    rows = [
        otlp(span("01", 1, chat(OTEL_ASKED, [OTEL_CALLED]) | {"gen_ai.response.id": "r1"})),
        log(EVALUATED | ours, "77"),  # found by the response
        log({"gen_ai.evaluation.name": "right", "error.type": "timeout"}, "01"),
        log({"gen_ai.evaluation.name": "tone", "gen_ai.evaluation.score.label": "rude"}, "01"),
        log(EVALUATED, "99"),
    ]
    records, refused = gathered("otel", rows)
    (rating,), (tone,), (served,) = (only(k, records) for k in (Rating, Critique, Interaction))
    assert (rating.annotator_id, rating.annotator_kind) == ("ann@otel", "person")
    assert rating.guideline_version == "3" and tone.critique == "rude"
    assert served.metadata["evaluations_failed"] == 1
    assert refused.keys() == {3, 5} and "'99' is no call" in refused[5]


def test_calls_without_ids_are_paired_by_order_and_pictures_are_refused() -> None:
    called = copy.deepcopy(OTEL_MORE)
    for turn in called:
        for part in turn["parts"]:
            part.pop("id", None)
    ((found,), _) = gathered("otel", [otlp(span("01", 1, chat(called, [text("assistant", "5")])))])
    assert found.prompt[2].role == "tool" and found.prompt[2].tool_call_id is None
    picture = [{"role": "user", "parts": [{"type": "blob", "modality": "image", "data": "x"}]}]
    _, refused = gathered("otel", [otlp(span("01", 1, chat(picture, [text("assistant", "5")])))])
    assert "'blob' is not taken in" in refused[1]


def test_a_part_that_cannot_be_read_takes_neither_its_line_nor_its_trace(tmp_path: Path) -> None:
    picture = [{"role": "user", "parts": [{"type": "blob", "modality": "image", "data": "x"}]}]
    said = [text("assistant", "5")]
    stars = ("gen_ai.evaluation.result", EVALUATED | {"gen_ai.evaluation.score.value": 4})
    good = [span(f"{n}", n, chat([text("user", f"{n}?")], said)) for n in range(5)]
    bad = [
        span("a0", 6, chat(picture, said), ("gen_ai.evaluation.result", EVALUATED)),
        span("", 7, chat(OTEL_ASKED, said)),
        span("a1", 8, {"gen_ai.operation.name": "execute_tool"}, stars),
    ]
    batch, _, quarantine = landed(tmp_path, [otlp(*good, *bad)])
    assert (batch.rows, quarantine, batch.rows_by_kind) == (1, [], {"interaction": 5})
    assert batch.skipped == {"unreadable": 3, "unresolved": 1}

    (tmp_path / "cut").mkdir()  # the same spans say the same, however they were cut into lines
    lines = [otlp(*good, bad[2]), otlp(bad[0]), otlp(bad[1])]
    batch, _, quarantine = landed(tmp_path / "cut", lines)
    assert (batch.rows, batch.rows_by_kind) == (1, {"interaction": 5})
    assert [row["line_no"] for row in quarantine] == [2, 3]
    assert "'blob' is not taken in" in quarantine[0]["reason"]
    assert batch.skipped == {"unreadable": 1}


# ---- TensorZero -------------------------------------------------------------------------------


def test_an_episode_is_a_trajectory_and_feedback_finds_inference_or_episode() -> None:
    records, refused = gathered("tensorzero", TENSORZERO)
    (run,) = only(Trajectory, records)
    assert not refused and words(run.prompt) == ["Be brief.", "2+3?"]
    assert words(run.steps) == ["", "5", "5"] and run.model == "sums/v1"
    assert run.steps[0].tool_calls[0].arguments == {"a": 2, "b": 3}
    assert run.metadata["tools"][0]["function"]["name"] == "add"  # a list of texts of JSON
    right, episode = only(Rating, records)
    assert words(right.response) == ["5"] and episode.response == run.steps
    assert right.occurred_at.isoformat() == "2025-04-30T19:11:21.603000+00:00"  # from its id
    assert only(Critique, records)[0].critique == "too short"
    edited, better = only(Demonstration, records)
    (preferred,) = only(Comparison, records)
    assert words(better.response) == ["It is 5."] and words(edited.response) == ['{"sum": 5}']
    assert words(preferred.response_a) == ["It is 5."] and words(preferred.response_b) == ["5"]


def test_the_newest_value_of_a_metric_wins_and_the_others_are_kept() -> None:
    about = {"target_id": UUID.format(1), "metric_name": "right"}
    rows = [
        inference(1, [T0_ASKED], "5"),
        feedback(3, value=False, **about),
        feedback(2, value=True, **about),
        feedback(4, value=True, tags={"author": "ann"}, **about),
    ]
    records, _ = gathered("tensorzero", rows)
    newest, hers = only(Rating, records)
    assert newest.rating == 0.0 and newest.metadata["earlier"] == [True]
    assert hers.annotator_id == "ann@tensorzero" and hers.rating == 1.0


def test_the_newest_version_of_a_datapoint_counts_and_one_taken_back_does_not(
    tmp_path: Path,
) -> None:
    old = TENSORZERO[6] | {"updated_at": "2026-04-01T10:00:00Z", "is_custom": False}
    records, refused = gathered("tensorzero", [TENSORZERO[6], old])
    assert len(only(Demonstration, records)) == 1 and not refused
    back = TENSORZERO[6] | {"updated_at": "2026-06-01T10:00:00Z", "is_deleted": True}
    batch, _, quarantine = landed(tmp_path, [TENSORZERO[6], back])
    assert (batch.rows, batch.set_aside) == (0, 2)
    assert "is_deleted is set" in quarantine[0]["reason"]


def test_feedback_on_what_is_not_in_the_file_is_refused(tmp_path: Path) -> None:
    rows = [TENSORZERO[0], TENSORZERO[2], feedback(5, inference_id="x", value="y")]
    batch, _, quarantine = landed(tmp_path, rows)
    assert batch.rows == 1 and [row["line_no"] for row in quarantine] == [2, 3]
    assert {row["reason_kind"] for row in quarantine} == {"unresolved"}
    assert "neither an inference, an episode nor a datapoint" in quarantine[0]["reason"]


# ---- who judged ----------------------------------------------------------------------------------


def test_one_name_in_two_logs_is_two_people_and_is_not_stored(tmp_path: Path) -> None:
    who = "jolanthe"
    by_model = score("s2", "tone", 1, "BOOLEAN", source="EVAL", evaluator_id="judge-1")
    ours = {"flywheel.feedback.author": who, "flywheel.feedback.author_kind": "human"}
    evaluated = ("gen_ai.evaluation.result", EVALUATED | ours)
    tagged = feedback(4, target_id=UUID.format(1), metric_name="right", value=1)
    logs = {
        "langfuse": [*LANGFUSE[:1], score("s", "q", 1, "BOOLEAN", author_user_id=who), by_model],
        "otel": [otlp(span("01", 1, chat(OTEL_ASKED, [text("assistant", "5")]), evaluated))],
        "tensorzero": [inference(1, [T0_ASKED], "5"), tagged | {"tags": {"author": who}}],
    }
    for format, rows in logs.items():
        (tmp_path / format).mkdir()
        (tmp_path / format / "x.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows))
        land([tmp_path / format], Layout(tmp_path / "home"), log=lambda _: None)
    table = read_folder(Layout(tmp_path / "home").landing("rating"))
    names = table["annotator_id"].to_pylist()
    assert "judge-1" in names and len(set(names)) == len(names) == 4
    assert sum(name.startswith("p_") for name in names) == 3
    assert who not in json.dumps(table.to_pylist(), default=str)


# ---- records of several lines -----------------------------------------------------------------


def test_a_record_falls_with_any_of_its_lines_and_a_line_with_its_last_record(
    tmp_path: Path,
) -> None:
    broken = observation("g2", 3, {"messages": [ASKED, CALLED]}, "x") | {"start_time": "late"}
    beside = {"id": "t", "trace_id": "alone", "type": "SPAN", "start_time": "2026-05-01"}
    rows = [*LANGFUSE[:2], broken, beside, score("s", "q", 1, "BOOLEAN", observation_id="g2")]
    batch, layout, quarantine = landed(tmp_path, rows)
    why = {row["line_no"]: (row["reason_kind"], row["reason"]) for row in quarantine}
    assert batch.rows_by_kind == {"interaction": 1} and batch.rows == 2
    assert why[3] == ("invalid_record", "not a time: 'late'")
    assert why[4][0] == why[5][0] == "unresolved" and "no record came of it" in why[4][1]
    assert read_folder(layout.landing("interaction"))["line_no"].to_pylist() == [1]


def test_what_the_judge_refuses_takes_the_lines_that_serve_nothing_else(tmp_path: Path) -> None:
    rows = [
        observation("g1", 1, [{"role": "user", "content": " "}], {"content": "a"}),
        {"id": "t1", "trace_id": "tr", "type": "TOOL", "start_time": "2026-05-01 10:00:02.000"},
        score("s1", "q", 1, "BOOLEAN"),
        observation("g2", 1, [ASKED], SAID, trace_id="other"),
    ]
    batch, layout, quarantine = landed(tmp_path, rows)
    why = {row["line_no"]: row["reason_kind"] for row in quarantine}
    assert why == {1: "prompt_says_something", 2: "unresolved", 3: "prompt_says_something"}
    assert batch.rows == 1 and batch.rows_by_kind == {"interaction": 1}
    assert read_folder(layout.landing("rating")).num_rows == 0


def test_a_trace_of_many_calls_costs_no_more_than_its_messages() -> None:
    rows = [observation(f"g{n}", n % 60, f"question {n}", f"answer {n}") for n in range(3000)]
    records, refused = gathered("langfuse", rows)
    assert len(records) == 3000 and not refused
