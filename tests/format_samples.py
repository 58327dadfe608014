"""A few good lines of every format, made by hand: what mutations start from.

Those of one format are one file, in which each line comes to a record or to a part of one.
"""

import json
from typing import Any

Rows = list[dict[str, Any]]
ASKED = {"role": "user", "content": "2+3?"}
SAID = {"role": "assistant", "content": "5"}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":2,"b":3}'}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOOL = {"role": "tool", "tool_call_id": "c1", "content": "5"}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
CALLED_OWN = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"x": 1}}]}

OWN: Rows = [
    {"kind": "demonstration", "prompt": "p", "response": "r", "annotator_id": "ann@example.org"},
    {"kind": "comparison", "prompt": [ASKED], "response_a": "5", "response_b": "6", "choice": "a"},
    {"kind": "ranking", "prompt": "p", "responses": ["a", "b", "c"], "ranks": [1, 2, 2]},
    {"kind": "rating", "prompt": "p", "response": "r", "rating": 4}
    | {"rating_min": 1, "rating_max": 5, "seconds": 2.5, "occurred_at": "2026-05-01T10:00:00Z"},
    {"kind": "critique", "prompt": "p", "response": "r", "critique": "too short"},
    {"kind": "rubric_score", "prompt": "p", "response": "r", "criterion": "c", "score": 0.5},
    {"kind": "trajectory", "prompt": "p", "steps": [CALLED_OWN], "outcome": "passed"},
    {"kind": "step_rating", "prompt": "p", "steps": [SAID], "rating": 1}
    | {"rating_min": -1, "rating_max": 1},
    {"kind": "interaction", "prompt": "p", "response": "r", "thumbs": "up"},
    {"kind": "evaluation_prompt", "prompt": "p", "evaluation_set": "s-v1", "grader": "g"},
]


def _tau(reward: float, reward_info: Any, trial: int) -> dict[str, Any]:
    task = {"user_id": "u", "actions": [{"name": "refund", "kwargs": {"order": "SECRET"}}]}
    info = {"task": task, "source": "user", "user_cost": 0.1, "reward_info": reward_info}
    traj = [ASKED, CALLED, TOOL, CALLED, TOOL, SAID]  # the id of a call comes again
    return {"task_id": 7, "reward": reward, "info": info, "traj": traj, "trial": trial}


TAU: Rows = [_tau(1.0, {"reward": 1.0}, 0), _tau(0.0, {"reward": 0.0}, 1), _tau(0.0, None, 2)]

OPENAI: Rows = [
    {"messages": [{"role": "system", "content": "Be brief."}, ASKED, CALLED, TOOL, SAID]}
    | {"tools": TOOLS},
    {"messages": [ASKED, SAID | {"weight": 0}, ASKED, SAID | {"weight": 1}]},
    {"input": {"messages": [ASKED], "tools": []}, "preferred_output": [SAID]}
    | {"non_preferred_output": [{"role": "assistant", "content": "6"}]},
]
TRL: Rows = [
    {"prompt": "The sky is", "completion": " blue."},
    {"prompt": [ASKED], "chosen": [SAID], "rejected": [{"role": "assistant", "content": "6"}]},
    {"chosen": [ASKED, SAID], "rejected": [ASKED, {"role": "assistant", "content": "6"}]},
    {"prompt": "p", "completion": "c", "label": True},
]
QUESTION_ANSWER: Rows = [
    {"question": "2+3?", "answer": "It is <<2+3=5>>5.\n#### 5", "hint": None},
    {"question": "q", "answer": "a"},
]
ATIF: Rows = [
    {
        "schema_version": "ATIF-v1.7",
        "session_id": "s-1",
        "trajectory_id": "t-1",
        "agent": {"name": "bot", "version": "1", "model_name": "m", "tool_definitions": TOOLS},
        "steps": [
            {
                "step_id": 1,
                "source": "user",
                "message": "2+3?",
                "timestamp": "2026-05-01T10:00:00Z",
            },
            {
                "step_id": 2,
                "source": "agent",
                "message": [{"type": "text", "text": "I add."}],
                "reasoning_content": "hm",
                "tool_calls": [
                    {"tool_call_id": "c1", "function_name": "add", "arguments": {"a": 2, "b": 3}}
                ],
                "observation": {
                    "results": [
                        {
                            "source_call_id": "c1",
                            "content": "5",
                            "subagent_trajectory_ref": [{"trajectory_id": "t-2"}],
                        }
                    ]
                },
                "metrics": {"prompt_tokens": 12, "cost_usd": 0.0},
            },
            {"step_id": 3, "source": "agent", "message": "5"},
        ],
        "subagent_trajectories": [
            {
                "trajectory_id": "t-2",
                "agent": {"name": "adder"},
                "steps": [
                    {"step_id": 1, "source": "user", "message": "add"},
                    {"step_id": 2, "source": "agent", "message": "done"},
                ],
            }
        ],
    },
    {
        "schema_version": "ATIF-v1.2",
        "session_id": "s-2",
        "agent": {"name": "bot"},
        "steps": [
            {"step_id": 1, "source": "system", "message": "Be brief."},
            {"step_id": 2, "source": "user", "message": "2+3?", "is_copied_context": True},
            {"step_id": 3, "source": "agent", "message": "4", "is_copied_context": True},
            {"step_id": 4, "source": "agent", "message": "5"},
        ],
    },
]


def _swe(state: Any, **more: Any) -> dict[str, Any]:
    demo = {"role": "user", "content": "Here is a demonstration: ...", "is_demo": True}
    history = [
        {"role": "system", "content": "You fix issues."},
        demo,
        {"role": "user", "content": "Fix the colon.", "message_type": "observation"},
        {"role": "assistant", "content": "I look.", "message_type": "action", "tool_calls": [CALL]},
        {"role": "tool", "content": "12: if x", "tool_call_ids": ["c1"]},
        {"role": "assistant", "content": "submit", "message_type": "action"},
    ]
    step = {"action": "ls", "observation": "12: if x", "response": "I look.", "thought": "hm"}
    return {
        "environment": "main",
        "trajectory": [step | {"state": state}],
        "history": [turn | {"agent": "main"} for turn in history],
        "info": {"exit_status": "submitted", "submission": "diff", "model_stats": {"api_calls": 2}},
    } | more


SWE_AGENT: Rows = [
    _swe('{"open_file": "a.py"}'),
    _swe({"open_file": "a.py"}, replay_config='{"problem_statement": {"id": "org__repo-1"}}'),
]


def _art(answer: str, reward: float) -> dict[str, Any]:
    choice = {"finish_reason": "stop", "index": 0, "logprobs": None}
    said = choice | {"message": {"role": "assistant", "content": answer}}
    return {"messages_and_choices": [ASKED, said], "reward": reward, "metrics": {"n": 1}}


ART: Rows = [
    {"trajectories": [_art("5", 1.0), _art("6", 0.0)], "metadata": {}, "exceptions": []},
    _art("5", 0.5) | {"metadata": {"task_id": "sum"}, "tools": TOOLS, "logs": ["x"]},
]
NVIDIA: Rows = [
    {
        "timestamp": 1767225600,
        "workload_id": "sums",
        "client_id": "shop",
        "request": {"model": "m", "messages": [ASKED], "tools": TOOLS},
        "response": {
            "model": "m-1",
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": SAID},
                {"index": 1, "finish_reason": "stop", "message": CALLED},
            ],
        },
    }
]


def observation(id: str, at: int, asked: Any, said: Any, **more: Any) -> dict[str, Any]:
    """A row of Langfuse's observations: a call of a model."""
    return {
        "id": id,
        "trace_id": "tr",
        "type": "GENERATION",
        "start_time": f"2026-05-01 10:00:{at:02}.000",
        "input": asked if isinstance(asked, str) else json.dumps(asked),
        "output": said if isinstance(said, str) else json.dumps(said),
        "parent_observation_id": "",
        "level": "DEFAULT",
        "provided_model_name": "m",
        "latency": 1200,
        "tool_calls": [],
    } | more


def score(id: str, name: str, value: Any, data_type: str, **more: Any) -> dict[str, Any]:
    """A row of Langfuse's scores."""
    return {
        "id": id,
        "timestamp": "2026-05-02 10:00:00.000",
        "trace_id": "tr",
        "observation_id": "",
        "name": name,
        "value": value,
        "source": "ANNOTATION",
        "comment": "",
        "data_type": data_type,
        "string_value": "",
    } | more


LANGFUSE: Rows = [
    observation("g1", 1, [ASKED], CALLED),
    {"id": "t1", "trace_id": "tr", "type": "TOOL", "start_time": "2026-05-01 10:00:02.000"},
    observation("g2", 3, {"messages": [ASKED, CALLED, TOOL]}, SAID),
    score("s1", "right", 1, "BOOLEAN", author_user_id="ann"),
    score("s2", "tone", 2, "CATEGORICAL", string_value="polite", source="EVAL"),
    score("s3", "quality", 0.5, "NUMERIC", observation_id="g2", source="API", comment="so so"),
]


def attribute(key: str, value: Any) -> dict[str, Any]:
    """An attribute as OTLP writes it."""
    kinds = {str: "stringValue", float: "doubleValue", bool: "boolValue"}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"key": key, "value": {"intValue": str(value)}}
    if isinstance(value, list):
        inner = [attribute("", one)["value"] for one in value]
        return {"key": key, "value": {"arrayValue": {"values": inner}}}
    return {"key": key, "value": {kinds[type(value)]: value}}


def span(id: str, at: int, given: dict[str, Any], *events: Any, **more: Any) -> dict[str, Any]:
    """A span as OTLP writes it; `events` are pairs of a name and attributes."""
    return {
        "traceId": "ab12",
        "spanId": id,
        "startTimeUnixNano": str(1767225600_000000000 + at),
        "attributes": [attribute(key, value) for key, value in given.items()],
        "events": [
            {"name": name, "attributes": [attribute(k, v) for k, v in attributes.items()]}
            for name, attributes in events
        ],
    } | more


def otlp(*spans: Any) -> dict[str, Any]:
    """A request of the OTLP file exporter."""
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def text(role: str, content: str) -> dict[str, Any]:
    """A message of OpenTelemetry of one text."""
    return {"role": role, "parts": [{"type": "text", "content": content}]}


OTEL_CALL = {"type": "tool_call", "id": "c1", "name": "add", "arguments": {"a": 2, "b": 3}}
OTEL_TOOL = {"type": "tool_call_response", "id": "c1", "response": "5"}
OTEL_ASKED = [text("user", "2+3?")]
OTEL_CALLED = {"role": "assistant", "parts": [OTEL_CALL], "finish_reason": "tool_call"}
OTEL_MORE = [*OTEL_ASKED, OTEL_CALLED, {"role": "tool", "parts": [OTEL_TOOL]}]


def chat(asked: Any, said: Any, **more: Any) -> dict[str, Any]:
    """Attributes of a call of a model, messages as JSON text."""
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.input.messages": json.dumps(asked),
        "gen_ai.output.messages": json.dumps(said),
    } | more


EVALUATED = {"gen_ai.evaluation.name": "right", "gen_ai.evaluation.score.value": 1.0}
OTEL: Rows = [
    otlp(
        span("01", 1, chat(OTEL_ASKED, [OTEL_CALLED])),
        span("02", 2, {"gen_ai.operation.name": "execute_tool", "gen_ai.usage.input_tokens": 3}),
    ),
    otlp(
        span(
            "03",
            3,
            chat(OTEL_MORE, [text("assistant", "5") | {"finish_reason": "stop"}]),
            ("gen_ai.evaluation.result", EVALUATED),
        )
    ),
    {
        "trace_id": "cd34",
        "span_id": "04",
        "start_time": "2026-05-01T10:00:00Z",
        "attributes": {"gen_ai.system": "m", "gen_ai.operation.name": "chat"},
        "events": [
            {"name": "gen_ai.user.message", "attributes": {"content": "2+3?"}},
            {"name": "gen_ai.choice", "attributes": {"message": '{"content": "5"}', "index": 0}},
        ],
    },
]
UUID = "0196881c-5a0{0}-7000-8000-00000000000{0}"  # version 7: 2025-04-30T19:11:21Z


def _blocks(*blocks: dict[str, Any]) -> str:
    return json.dumps(list(blocks))


def inference(number: int, asked: Any, said: str, **more: Any) -> dict[str, Any]:
    """A row of TensorZero's ChatInference."""
    return {
        "id": UUID.format(number),
        "function_name": "sums",
        "variant_name": "v1",
        "episode_id": UUID.format(9),
        "input": json.dumps({"system": "Be brief.", "messages": asked}),
        "output": said,
        "tags": {"tier": "free"},
        "snapshot_hash": 2**200,
        "dynamic_tools": [json.dumps(TOOLS[0])],
    } | more


def feedback(number: int, **more: Any) -> dict[str, Any]:
    """A row of a table of TensorZero's feedback."""
    return {"id": UUID.format(number), "tags": {}, "snapshot_hash": None} | more


T0_CALL = {"type": "tool_call", "id": "c1", "name": "add", "arguments": '{"a":2,"b":3}'}
T0_ASKED = {"role": "user", "content": [{"type": "text", "text": "2+3?"}]}
T0_TOOL = {"type": "tool_result", "id": "c1", "name": "add", "result": "5"}
T0_SAID = {"type": "text", "text": "5"}
TENSORZERO: Rows = [
    inference(1, [T0_ASKED], _blocks(T0_CALL)),
    inference(
        2,
        [
            T0_ASKED,
            {"role": "assistant", "content": [T0_CALL]},
            {"role": "user", "content": [T0_TOOL]},
        ],
        _blocks(T0_SAID),
    ),
    feedback(3, target_id=UUID.format(2), metric_name="right", value=True),
    feedback(4, target_id=UUID.format(9), metric_name="score", value=0.5),
    feedback(5, target_id=UUID.format(2), target_type="inference", value="too short"),
    feedback(6, inference_id=UUID.format(2), value=_blocks({"type": "text", "text": "It is 5."})),
    {
        "dataset_name": "d",
        "function_name": "sums",
        "id": UUID.format(7),
        "input": json.dumps({"messages": [T0_ASKED]}),
        "output": json.dumps({"parsed": {"sum": 5}, "raw": '{"sum": 5}'}),
        "is_custom": True,
        "updated_at": "2026-05-01T10:00:00Z",
    },
]

OPENRLHF: Rows = [
    {"input": "2+3?", "output": "5", "datasource": "sums"},
    {"prompt": [ASKED], "chosen": [SAID], "rejected": [CALLED], "margin": 0.5},
]


def said(who: str, value: str) -> dict[str, Any]:
    """A turn of ShareGPT's."""
    return {"from": who, "value": value}


SHAREGPT: Rows = [
    {"conversations": [said("system", "Be brief."), said("human", "2+3?"), said("gpt", "5")]},
    {"conversations": [said("human", "q")], "chosen": said("gpt", "a")}
    | {"rejected": said("gpt", "b")},
    {
        "conversations": [
            said("human", "2+3?"),
            said("function_call", '{"name": "add", "arguments": {"a": 2, "b": 3}}'),
            said("observation", "5"),
            said("gpt", "5"),
        ],
        "tools": json.dumps(TOOLS),
    },
]


def _region(kind: str, value: dict[str, Any], name: str) -> dict[str, Any]:
    return {"id": name, "from_name": name, "to_name": "prompt", "type": kind, "value": value}


LABEL_STUDIO: Rows = [
    {
        "id": 1,
        "project": 83,
        "data": {"prompt": "q", "left": "answer one", "right": "answer two"},
        "annotations": [
            {
                "id": 1001,
                "completed_by": {"id": 7, "email": "ann@example.org"},
                "result": [
                    _region("pairwise", {"selected": "left"}, "cmp"),
                    _region("textarea", {"text": ["clearer"]}, "why"),
                ],
                "was_cancelled": False,
                "lead_time": 4.3,
                "created_at": "2026-05-01T10:00:00Z",
                "last_action": "submitted",
            }
        ],
        "drafts": [],
        "predictions": [{"model_version": "m1", "score": 0.9, "result": []}],
    }
]
ARGILLA: Rows = [
    {
        "id": "r1",
        "prompt": "q",
        "a": "x",
        "b": "y",
        "better.responses": ["a", "b"],
        "better.responses.users": ["u1", "u2"],
        "better.responses.status": ["submitted", "draft"],
        "better.suggestion": "a",
    }
]
MLFLOW: Rows = [
    {
        "assessment_id": "a1",
        "assessment_name": "helpful",
        "trace_id": "tr1",
        "source": {"source_type": "HUMAN", "source_id": "u"},
        "create_time": "2026-05-01T10:00:00Z",
        "request": "q",
        "response": "a",
        "rationale": "clear",
    }
    | value
    for value in ({"feedback": {"value": True}}, {"expectation": {"value": "better"}})
]


def _node(id: str, role: str, text: str, rank: int | None, replies: Rows) -> dict[str, Any]:
    node = {"message_id": id, "role": role, "text": text, "lang": "en", "replies": replies}
    return node | {"rank": rank, "deleted": False, "synthetic": False, "review_result": True}


OASST: Rows = [
    {
        "message_tree_id": "t",
        "tree_state": "ready_for_export",
        "prompt": _node(
            "t",
            "prompter",
            "q",
            None,
            [_node(f"a{n}", "assistant", f"answer {n}", n, []) for n in range(3)],
        ),
    }
]
HH_RLHF: Rows = [
    {
        "chosen": "\n\nHuman: q\n\nAssistant: yes\n\nHuman: sure?\n\nAssistant: yes",
        "rejected": "\n\nHuman: q\n\nAssistant: yes\n\nHuman: sure?\n\nAssistant: no",
    }
]

SAMPLES: dict[str, Rows] = {
    "flywheel": OWN,
    "tau_bench": TAU,
    "openai": OPENAI,
    "trl": TRL,
    "question_answer": QUESTION_ANSWER,
    "atif": ATIF,
    "art": ART,
    "nvidia": NVIDIA,
    "swe_agent": SWE_AGENT,
    "langfuse": LANGFUSE,
    "otel": OTEL,
    "tensorzero": TENSORZERO,
    "openrlhf": OPENRLHF,
    "sharegpt": SHAREGPT,
    "label_studio": LABEL_STUDIO,
    "argilla": ARGILLA,
    "mlflow": MLFLOW,
    "oasst": OASST,
    "hh_rlhf": HH_RLHF,
}
