"""ATIF, the Agent Trajectory Interchange Format, versions 1.0 to 1.8: one trajectory an object.

What stands before the agent's first step is the prompt. Steps that are copied from an earlier
trajectory are nobody's behaviour here: they are dropped, or are the prompt where nothing else
is. A trajectory that is embedded for a sub-agent is a record of its own; one in another file is
only named. The format has no outcome, so all are unscored: outcomes land as a table of their own.
What the agent thought, where it is told apart from what it said, is not taken in.
Source: harborframework.com/docs/trajectory-format (RFC 0001), fields up to 1.7.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from flywheel.errors import RecordError
from flywheel.ingest.formats.messages import message, without_nulls
from flywheel.ingest.formats.threads import in_seconds, moment
from flywheel.records import Message, Record, Trajectory
from flywheel.records.message import Conversation

VERSION = re.compile(r"ATIF-v1\.([0-8])")
ROLES = {"system": "system", "user": "user", "agent": "assistant"}
AGENT_ONLY = ("model_name", "reasoning_effort", "reasoning_content", "tool_calls", "metrics")
NEEDS_TRAJECTORY_ID = 7  # from this minor version on a session does not name a sub-agent


def sniff(value: dict[str, Any]) -> float:
    """Sure where the version says so."""
    return 1.0 if str(value.get("schema_version")).startswith("ATIF-v") else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one trajectory and those embedded in it."""
    return list(_trajectories(without_nulls(value), None))


def _trajectories(value: dict[str, Any], parent: str | None) -> Iterator[Trajectory]:
    version = VERSION.fullmatch(str(value.get("schema_version") or ""))
    if not version:
        raise RecordError(f"expected ATIF-v1.0 to 1.8, found {value.get('schema_version')!r}")
    inner = value.get("subagent_trajectories") or []
    ids = [one["trajectory_id"] for one in inner]
    if len(set(ids)) < len(ids):
        raise RecordError("two embedded trajectories have one trajectory_id")
    steps = value.get("steps") or []
    numbers = [step["step_id"] for step in steps]
    if numbers != list(range(1, len(steps) + 1)):
        raise RecordError(f"step ids must run from 1 to {len(steps)}, found {numbers[:20]}")
    elsewhere = _elsewhere(steps, set(ids), int(version[1]))
    open_calls: set[str] = set()
    turns = [(step, _turns(step, open_calls)) for step in steps]
    own = [(step, found) for step, found in turns if not step.get("is_copied_context")]
    first = next((n for n, (step, _) in enumerate(own) if step["source"] == "agent"), len(own))
    prompt = _joined(own[:first])
    if not prompt:
        prompt = _joined((s, found) for s, found in turns if s.get("is_copied_context"))
    if not prompt or first == len(own):
        raise RecordError("a trajectory needs a step of the agent and something before it")
    agent = value.get("agent") or {}
    name = value.get("trajectory_id") or (None if parent else value.get("session_id"))
    times = [at for step in steps if (at := moment(step.get("timestamp")))]
    metadata = {
        "tools": agent.get("tool_definitions") or None,
        "agent": agent.get("name"),
        "session_id": value.get("session_id"),
        "subagent_of": parent,
        "subagents_elsewhere": elsewhere or None,
        "continued_by": value.get("continued_trajectory_ref"),
        "copied_steps": len(steps) - len(own) or None,
        "time_runs_back": _runs_back(times) or None,
        "message_keys_left_out": _left_out(steps),
    }
    fields = {
        "prompt": prompt,
        "steps": _joined(own[first:]),
        "outcome": "unscored",
        "id": name,
        "model": agent.get("model_name"),
        "occurred_at": times[0] if times else None,
        "metadata": without_nulls(metadata),
    }
    yield msgspec.convert(fields, Trajectory)
    for one in inner:
        yield from _trajectories({"schema_version": value["schema_version"], **one}, name)


def _joined(turns: Any) -> Conversation:
    return tuple(turn for _, found in turns for turn in found)


def _turns(step: dict[str, Any], open_calls: set[str]) -> Conversation:
    """A step as messages: what was said, then what each tool answered."""
    if step.get("source") not in ROLES:
        raise RecordError(f"step {step['step_id']}: source must be system, user or agent")
    foreign = [key for key in AGENT_ONLY if key in step] if step["source"] != "agent" else []
    if foreign:
        raise RecordError(f"step {step['step_id']} is not the agent's, but has {foreign[0]}")
    calls = [
        {"id": one["tool_call_id"], "name": one["function_name"], "arguments": one["arguments"]}
        for one in step.get("tool_calls") or ()
    ]
    for call in calls:
        if not isinstance(call["arguments"], dict):
            raise RecordError(f"step {step['step_id']}: the arguments of a call must be an object")
    open_calls.update(call["id"] for call in calls)
    said = {"role": ROLES[step["source"]], "content": _content(step.get("message"))}
    turns = [message(said | {"tool_calls": calls})]
    for result in (step.get("observation") or {}).get("results") or ():
        call = result.get("source_call_id")
        if call is not None and call not in open_calls:
            raise RecordError(f"step {step['step_id']} answers a call {call!r} that nobody made")
        content = _content(result.get("content"))
        turns.append(Message(role="tool", content=content, tool_call_id=call))
    return tuple(turns)


def _content(value: Any) -> Any:
    """Text, or parts of which each is a text and nothing else."""
    if value is None:
        return ""
    if isinstance(value, list):
        for part in value:
            if set(part) - {"type", "text"} or not isinstance(part.get("text"), str):
                raise RecordError("a part of a message must be text; pictures are not taken in")
        return "".join(part["text"] for part in value)
    if not isinstance(value, str):
        raise RecordError(f"a message must be text or parts, found {type(value).__name__}")
    return value


def _elsewhere(steps: list[dict[str, Any]], embedded: set[str], minor: int) -> list[str]:
    """Sub-agents that are not embedded; a reference that leads nowhere is refused."""
    found = []
    for step in steps:
        for result in (step.get("observation") or {}).get("results") or ():
            for ref in result.get("subagent_trajectory_ref") or ():
                if "trajectory_path" in ref:
                    found.append(ref["trajectory_path"])
                elif "trajectory_id" in ref:
                    if ref["trajectory_id"] not in embedded:
                        raise RecordError(f"no trajectory {ref['trajectory_id']!r} is embedded")
                elif minor >= NEEDS_TRAJECTORY_ID or "session_id" not in ref:
                    raise RecordError("a sub-agent needs a trajectory_id or a trajectory_path")
                else:
                    found.append(ref["session_id"])
    return found


def _runs_back(times: list[datetime]) -> bool:
    return any(in_seconds(b) < in_seconds(a) for a, b in itertools.pairwise(times))


def _left_out(steps: list[dict[str, Any]]) -> list[str] | None:
    return ["reasoning_content"] if any("reasoning_content" in step for step in steps) else None
