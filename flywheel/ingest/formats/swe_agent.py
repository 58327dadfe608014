"""SWE-agent's .traj files, of every version: one run of an agent on an issue a file.

Messages are read from `history` alone; `trajectory` says the same by actions. Demonstrations in
the history were shown to the agent and are part of the prompt. No file says whether the issue was
solved, and "submitted" is no success: such runs are unscored, and their outcomes land as a table
of their own. A run that a limit ended is truncated, one that broke an error.
The task is the id in `replay_config`, or else the name of the file, as SWE-agent names it.
Source: SWE-agent/SWE-agent 3ea751c, sweagent/types.py, docs/usage/trajectories.md.
"""

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import msgspec

from flywheel.errors import RecordError
from flywheel.ingest.formats.gathered import Gathered, Rows, alone, attempt
from flywheel.ingest.formats.messages import message, without_nulls
from flywheel.ingest.formats.threads import decoded
from flywheel.ingest.keys import opening_key
from flywheel.records import Message, Record, Trajectory

LIMITS = ("exit_cost", "exit_context", "exit_total_execution_time")


def sniff(value: dict[str, Any]) -> float:
    """Sure with trajectory and info beside the history; a history alone shows its message types."""
    history = value.get("history")
    if not isinstance(history, list):
        return 0.0
    if value.keys() >= {"trajectory", "info"}:
        return 1.0
    return 0.9 if all(isinstance(one, dict) and "agent" in one for one in history) else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one run, of which no file name is known."""
    return alone(gather, value)


def gather(rows: Rows, name: str) -> Iterator[Gathered]:
    """Read the runs of one file; its name is the task where the runs do not say it."""
    task, ending, _ = PurePath(name).name.rpartition(".traj")
    for line, row in rows.items():
        yield from attempt((line,), _run, row, task if ending and len(rows) == 1 else "")


def _run(value: dict[str, Any], file_task: str) -> Record:
    history = value.get("history")
    if not isinstance(history, list) or not history:
        raise RecordError("a run needs a history of messages")
    turns = [_turn(one) for one in history]
    shown = [bool(one.get("is_demo")) for one in history]
    first = next(
        (n for n, turn in enumerate(turns) if turn.role == "assistant" and not shown[n]), len(turns)
    )
    own = tuple(turn for turn, demo in zip(turns[:first], shown, strict=False) if not demo)
    if first == len(turns) or not own or any(shown[first:]):
        raise RecordError("history must hold what was asked and then what the agent did")
    info = value.get("info") or {}
    replay = decoded(value.get("replay_config")) or {}
    problem = replay.get("problem_statement") or {}
    task = problem.get("id") or file_task or None
    stop = info.get("exit_status")
    if not isinstance(stop, str | None):
        raise RecordError(f"exit_status must be a text, found {stop!r}")
    metadata = {
        "stop_reason": stop,
        "demonstrations": sum(shown) or None,
        "environment": value.get("environment"),
        "swe_agent_version": info.get("swe_agent_version"),
    }
    fields = {
        "prompt": tuple(turns[:first]),
        "steps": tuple(turns[first:]),
        "outcome": _outcome(stop),
        "task_id": task,
        # attempts at one issue stay together, whatever the agent was shown and told before it
        "group": f"task {task}" if task else f"opening {opening_key(own)}",
        "metadata": without_nulls(metadata),
    }
    return msgspec.convert(fields, Trajectory)


def _turn(given: Any) -> Message:
    """A message; the answer of a tool names the one call that it answers."""
    ids = given.get("tool_call_ids") or [None]
    if len(ids) > 1:
        raise RecordError("a message that answers several calls of tools at once is not taken in")
    return message({**given, "tool_call_id": ids[0]})


def _outcome(stop: str | None) -> str:
    if stop in LIMITS:
        return "truncated"
    return "error" if stop and stop.startswith("exit_") else "unscored"
