"""ART's trajectories, alone or in groups of comparable attempts.

Only what was sampled is behaviour: entries that are a `Choice` of OpenAI's, or messages marked
`trainable`. Assistant turns before the first of them are part of the prompt, and those after it
are counted in the metadata. A reward is required there, so that 0.0 may mean "not scored": where
nothing in a group has another reward, none is taken. Attempts of a group whose rewards differ and
whose prompts do not are ranked as well. Rollouts that failed have no steps and are counted.
Source: OpenPipe/ART 779559f, src/art/trajectories.py.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from flywheel.errors import RecordError
from flywheel.ingest.formats.messages import message, without_nulls
from flywheel.ingest.formats.scores import number
from flywheel.records import Message, Ranking, Record, Trajectory


def sniff(value: dict[str, Any]) -> float:
    """Sure of a trajectory by `messages_and_choices`, of a group by its trajectories."""
    if "messages_and_choices" in value:
        return 1.0
    inner = value.get("trajectories")
    if not isinstance(inner, list) or not all(isinstance(one, dict) for one in inner):
        return 0.0
    return 0.9 if "exceptions" in value or any("reward" in one for one in inner) else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one trajectory, or one group of them."""
    value = without_nulls(value)
    if "trajectories" not in value:
        return [_attempt(value, {}, None, _is_scored([value]))]
    attempts, failed = value["trajectories"], value.get("exceptions") or []
    if not attempts:
        raise RecordError(f"a group without trajectories; {len(failed)} rollouts of it failed")
    about = dict(value.get("metadata") or {})
    if failed:
        about["failed_rollouts"] = len(failed)
    is_scored = _is_scored(attempts)
    found = [_attempt(one, about, n, is_scored) for n, one in enumerate(attempts)]
    rewards = [one.reward for one in found if one.reward is not None]
    prompts = {msgspec.json.encode(one.conversation) for one in found}
    if len(prompts) > 1 or len(set(rewards)) < 2:
        return found
    order = sorted(set(rewards), reverse=True)
    ranking = Ranking(
        prompt=found[0].prompt,
        responses=tuple(one.steps for one in found),
        ranks=tuple(order.index(reward) + 1 for reward in rewards),
        annotator_kind="program",
        metadata=without_nulls({"tools": found[0].metadata.get("tools"), "rewards": rewards}),
    )
    return [*found, ranking]


def _is_scored(attempts: Sequence[dict[str, Any]]) -> bool:
    return any(number(one.get("reward")) != 0 or one.get("metrics") for one in attempts)


def _attempt(
    value: dict[str, Any], about: dict[str, Any], trial: int | None, is_scored: bool
) -> Trajectory:
    entries = value.get("messages_and_choices", value.get("messages"))
    if not isinstance(entries, list) or not entries:
        raise RecordError("a trajectory needs messages_and_choices")
    turns = [_turn(entry) for entry in entries]
    first = next((n for n, (_, is_sampled) in enumerate(turns) if is_sampled), 0)
    if not first:
        raise RecordError("a trajectory needs a choice that was sampled, and a message before it")
    not_sampled = sum(turn.role == "assistant" and not mine for turn, mine in turns[first:])
    metadata = {
        "tools": value.get("tools") or None,
        **about,
        **(value.get("metadata") or {}),
        "metrics": value.get("metrics") or None,
        "steps_not_sampled": not_sampled or None,
    }
    task = metadata.get("task_id")
    fields = {
        "prompt": tuple(turn for turn, _ in turns[:first]),
        "steps": tuple(turn for turn, _ in turns[first:]),
        "outcome": "unscored",  # a reward has no mark to pass
        "reward": number(value.get("reward")) if is_scored else None,
        "trial": trial,
        "task_id": str(task) if task else None,
        "annotator_kind": "program",
        "metadata": without_nulls(metadata),
    }
    return msgspec.convert(fields, Trajectory)


def _turn(entry: Any) -> tuple[Message, bool]:
    """A message, and whether the policy sampled it."""
    if isinstance(entry.get("message"), dict):
        return message({"role": "assistant", **entry["message"]}), True
    turn = message(entry)
    return turn, turn.role == "assistant" and entry.get("trainable") is True
