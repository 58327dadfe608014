"""tau-bench results: one run of an agent on a task, with its reward.

The prompt is what stands before the agent's first turn. A run whose `reward_info` is null was cut
off at the step limit: truncated, not failed. One without a reward whose `info` has no such key at
all could be either, and is refused. Trials of one task form one group.
Source: sierra-research/tau-bench, tau_bench/types.py.
"""

from collections.abc import Sequence
from typing import Any

from flywheel.errors import RecordError
from flywheel.ingest.formats.messages import beyond, conversation, without_nulls
from flywheel.records import Record, Trajectory

KEYS = {"task_id", "reward", "info", "traj"}


def sniff(value: dict[str, Any]) -> float:
    """Sure where all four keys are there."""
    return 1.0 if value.keys() >= KEYS else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one run."""
    turns = conversation(value["traj"])
    if value["task_id"] is None:
        raise RecordError("task_id must not be null")
    first = next((place for place, turn in enumerate(turns) if turn.role == "assistant"), 0)
    if not first:
        raise RecordError("traj must hold the user's turn and then one of the agent's")
    info = value["info"] if isinstance(value["info"], dict) else {}
    reward = value["reward"]
    if isinstance(reward, bool) or not isinstance(reward, int | float):
        raise RecordError(f"reward must be a number, found {reward!r}")
    if reward < 1 and "reward_info" not in info:
        raise RecordError("info has no reward_info, so a failure cannot be told from a cut-off run")
    cut_off = "reward_info" in info and info["reward_info"] is None
    outcome = "truncated" if cut_off else "passed" if reward >= 1 else "failed"
    return (
        Trajectory(
            prompt=turns[:first],
            steps=turns[first:],
            outcome=outcome,  # type: ignore[arg-type]
            task_id=str(value["task_id"]),
            trial=value.get("trial"),
            reward=float(reward),
            annotator_kind="program",
            group=f"task {value['task_id']}",
            metadata=without_nulls({"source": info.get("source"), **beyond(value["traj"])}),
        ),
    )
