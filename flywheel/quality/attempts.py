"""What can be wrong with the steps of an attempt, whatever format it came in.

An answer that names a call which nobody made spoils the attempt. The rest is told and takes
nothing away: agents do call tools that are not there, and harnesses do stop in the middle. An id
of a call may come again: a call is paired with the next answer that names it. Answers that name
none are paired in the order of the calls.
"""

from typing import Any

import msgspec

from flywheel.records.message import Conversation, load

FINDINGS = (
    "foreign_answers",
    "unanswered_calls",
    "undeclared_tools",
    "silent_turns",
    "open_ends",
    "time_runs_back",
)


def findings(row: dict[str, Any]) -> dict[str, int]:
    """How often each of `FINDINGS` is found in a row of landing; all 0 where it has no steps."""
    found = dict.fromkeys(FINDINGS, 0)
    if not row.get("steps"):
        return found
    metadata = msgspec.json.decode(row.get("metadata") or "{}")
    steps = load(row["steps"])
    turns = (*load(row["prompt"]), *steps) if row.get("prompt") else steps
    found["time_runs_back"] = int(metadata.get("time_runs_back") is True)  # a reader saw the times
    open_calls, found["foreign_answers"] = _paired(turns)
    is_cut_off = row.get("outcome") in ("truncated", "error") or "stop_reason" in metadata
    if not is_cut_off:
        found["unanswered_calls"] = open_calls
        found["open_ends"] = int(steps[-1].role != "assistant" or bool(steps[-1].tool_calls))
    called = [call.name for turn in steps for call in turn.tool_calls]
    if declared := _names(metadata.get("tools")):
        found["undeclared_tools"] = sum(name not in declared for name in called)
    found["silent_turns"] = sum(
        turn.role != "tool" and not turn.content.strip() and not turn.tool_calls for turn in steps
    )
    return found


def _paired(turns: Conversation) -> tuple[int, int]:
    """Calls without an answer, and answers that name a call which is not open."""
    waiting: list[str | None] = []
    foreign = 0
    for turn in turns:
        waiting.extend(call.id for call in turn.tool_calls)
        if turn.role != "tool":
            continue
        if turn.tool_call_id in waiting:
            waiting.remove(turn.tool_call_id)
        elif waiting and (turn.tool_call_id is None or None in waiting):
            waiting.remove(None) if None in waiting else waiting.pop(0)
        elif turn.tool_call_id is not None:
            foreign += 1
    return len(waiting), foreign


def _names(tools: Any) -> set[str]:
    """Names of declared tools, in the shapes of OpenAI and others; empty where none is known."""
    found = set()
    for tool in tools if isinstance(tools, list) else ():
        inner = tool.get("function", tool) if isinstance(tool, dict) else {}
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            found.add(inner["name"])
    return found
