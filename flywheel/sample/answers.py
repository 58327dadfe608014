"""The simulated annotators answer an annotation queue, so that the wheel's next turn has new votes.

A queue is JSON lines {"prompt", "responses", "models"}; its answers go back into the inbox as
rankings. Whose turn it is and what he perceives depend on the line alone, so that answering a
queue twice writes the same bytes and lands nothing new.
"""

import json
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from flywheel.errors import SettingsError
from flywheel.layout import Layout
from flywheel.records.message import Conversation, prompt_of, response_of, text_of
from flywheel.sample.annotators import Annotator, draw_annotator
from flywheel.sample.deliver import FOLDER, publish
from flywheel.sample.desk import Desk
from flywheel.sample.feedback import ranking
from flywheel.sample.world import read_request

VOTES = 2  # annotators a queued prompt: what the wheel asks about is what it is unsure of


def answer_queue(layout: Layout, queue_file: Path) -> Path | None:
    """Rank every queued prompt of the refund desk and deliver the rankings to the inbox.

    Args:
        layout: Where everything lies.
        queue_file: JSON lines of prompts with at least two responses each.

    Returns:
        The delivered file; None where nothing in the queue is a request of the desk.

    Raises:
        SettingsError: There is no such queue, or a line is not of a queue's shape.
    """
    if not queue_file.exists():
        raise SettingsError(f"no annotation queue at {queue_file}; take a turn first")
    lines: list[bytes] = []
    for number, line in enumerate(queue_file.read_bytes().splitlines(), start=1):
        if line.strip():
            lines += _answers(line, f"{queue_file.stem}-{number:04d}", queue_file, number)
    if not lines:
        return None
    path = layout.inbox / FOLDER / f"answers_{queue_file.stem}.jsonl"
    publish(path, b"".join(line + b"\n" for line in lines))
    return path


def answer_queues(layout: Layout) -> list[Path]:
    """Answer every annotation queue of this home; the files delivered, oldest queue first."""
    queues = sorted(layout.annotation_queue.glob("*.jsonl"))
    return [path for queue in queues if (path := answer_queue(layout, queue)) is not None]


def _answers(line: bytes, prefix: str, queue_file: Path, number: int) -> list[bytes]:
    """VOTES rankings of one queued prompt, each in an order of its own."""
    try:
        item: dict[str, Any] = json.loads(line)
        prompt = text_of(prompt_of(_turns(item["prompt"])))
        replies = [text_of(response_of(_turns(one))) for one in item["responses"]]
    except (ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise SettingsError(
            f"{queue_file} line {number}: expected an object with `prompt` and `responses`, got "
            f"{line[:80]!r} ({error}); let the wheel write its queue again"
        ) from error
    models = item.get("models") or ["unknown"] * len(replies)
    authors = dict(zip(replies, models, strict=False))  # of equal replies one is enough
    request = read_request(prompt)
    if request is None or len(authors) < 2:
        return []
    rng = Random(f"answer:{sha256(line).hexdigest()}")
    desk = Desk(rng, prefix=f"answer-{prefix}")
    judges: list[Annotator] = []
    found: list[bytes] = []
    for _ in range(VOTES):
        judges.append(draw_annotator(rng, but=judges))
        shown = tuple(rng.sample(list(authors), len(authors)))
        named = tuple(authors[one] for one in shown)
        found.append(msgspec.json.encode(ranking(desk, request, shown, judges[-1], named)))
    return found


def _turns(value: Any) -> str | Conversation:
    """A queue holds conversations as strings or as lists of messages."""
    return value if isinstance(value, str) else msgspec.convert(value, Conversation)
