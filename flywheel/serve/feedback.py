"""What people, models and programs say of an answer: logged, then handed to landing as records.

A piece of feedback is one of `thumbs`, `rating` (with `rating_min` and `rating_max`), `comparison`
(with another response to the same prompt), `corrected_response` and `comment`, of one response,
by one author of a stated kind. What is said again under the same key is the same feedback.

It is a line of `var/served/feedback/<date>-<pid>.jsonl`: feedback_id, at, response_id, author,
author_kind, what, value, `is_own` (the author is whom the response answered), generation,
content_hash, stage and propensity of the response, `answered_at`, `record` for landing, and
`withheld`: why there is none.
From there it goes to `var/inbox/served/`, as records of our own format. Nothing goes straight to
training.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel.errors import ServeError
from flywheel.ingest.formats.own import read
from flywheel.lake import locked
from flywheel.layout import Layout
from flywheel.lineage.served import last_line
from flywheel.serve.asked import Refused
from flywheel.serve.ids import Names
from flywheel.serve.log import Row, ServedLog, whole_lines
from flywheel.serve.said import kind_of
from flywheel.serve.screening import Screen
from flywheel.serve.settings import ServeSettings

FOLDER = "feedback"  # below the served answers
NOT_KEPT = "the answer was not to be kept"


@dataclass(slots=True)
class Heard:
    """What was heard so far, by every process: read on from where it was read last."""

    folder: Path
    digests: dict[str, str] = field(default_factory=dict)  # feedback_id -> of what was said
    by_day: Counter[tuple[str, str]] = field(default_factory=Counter)  # author and day
    _offsets: dict[str, int] = field(default_factory=dict)

    def refresh(self) -> None:
        """Read what was written since."""
        for path in sorted(self.folder.glob("[0-9]*.jsonl")):
            data = whole_lines(path, self._offsets.get(path.name, 0))
            self._offsets[path.name] = self._offsets.get(path.name, 0) + len(data)
            for line in data.splitlines():
                try:
                    row = json.loads(line)
                    self.add(row)
                except (ValueError, KeyError, TypeError):
                    continue  # torn by a kill: it was never acknowledged

    def add(self, row: Row) -> None:
        """Count a line once."""
        if row["feedback_id"] not in self.digests:
            self.digests[row["feedback_id"]] = row["digest"]
            self.by_day[row["author"], row["at"][:10]] += 1


class Feedback:
    """The feedback of one home, as one process takes it; calls of `take` must not overlap."""

    def __init__(
        self, layout: Layout, settings: ServeSettings, names: Names, screen: Screen
    ) -> None:
        self._served = layout.served
        self._settings = settings
        self._names = names
        self._screen = screen
        self._heard = Heard(layout.served / FOLDER)
        self._log = ServedLog(layout.served / FOLDER)

    def take(self, body: dict[str, Any]) -> dict[str, Any]:
        """Write one piece of feedback down.

        Returns:
            {feedback_id, duplicate}.

        Raises:
            Refused: It cannot be read, is of a response that is not known, says something else
                under a key that was used, or its author has said too much today.
            ServeError: It could not be written.
        """
        what = kind_of(body)
        author = self._names.user(body["author"])
        answered = find(self._served, self._names, body["response_id"])
        said = {name: body[name] for name in sorted(body) if name not in ("key", "author")}
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        feedback_id = self._names.feedback_id(author, body.get("key") or digest)
        with self._alone():
            return self._write(what, body, answered, feedback_id, author, digest)

    def _write(
        self,
        what: str,
        body: dict[str, Any],
        answered: Row,
        feedback_id: str,
        author: str,
        digest: str,
    ) -> dict[str, Any]:
        """Write a line, unless it is written or its author has said too much."""
        self._heard.refresh()
        if feedback_id in self._heard.digests:
            if self._heard.digests[feedback_id] != digest:
                raise Refused(
                    "this key was used for other feedback of this author", status=409, param="key"
                )
            return {"feedback_id": feedback_id, "duplicate": True}
        at = datetime.now(UTC)
        today = (author, f"{at:%Y-%m-%d}")
        if self._heard.by_day[today] >= self._settings.feedback_per_day:
            raise Refused(
                f"this author has given {self._heard.by_day[today]} pieces of feedback today, and "
                f"more are not taken; come again tomorrow, or raise [serve] feedback_per_day",
                status=429,
                kind="rate_limit_error",
            )
        record, withheld = self._record(what, body, answered, feedback_id, author, at)
        row = {
            "feedback_id": feedback_id,
            "at": at.isoformat(timespec="milliseconds"),
            "response_id": body["response_id"],
            "author": author,
            "author_kind": body["author_kind"],
            "what": what,
            "value": body[what] if what in ("thumbs", "rating") else None,
            "scale": [body["rating_min"], body["rating_max"]] if what == "rating" else None,
            "is_own": author == answered["user"],
            "generation": answered["generation"],
            "content_hash": answered["content_hash"],
            "stage": answered["stage"],
            "propensity": answered["propensity"],
            "answered_at": answered["at"],
            "record": record,
            "withheld": withheld,
            "digest": digest,
        }
        self._log.append(row)
        return {"feedback_id": feedback_id, "duplicate": False}

    def close(self) -> None:
        """Let the file go."""
        self._log.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the feedback of this home: no other server writes between a look and a line."""
        with locked(self._served / FOLDER / ".feedback.lock"):
            yield

    def _record(
        self,
        what: str,
        body: dict[str, Any],
        answered: Row,
        feedback_id: str,
        author: str,
        at: datetime,
    ) -> tuple[dict[str, Any] | None, str]:
        """The record for landing, or why there is none."""
        if not answered["consent"]:
            return None, NOT_KEPT
        if answered["request"] is None or not answered.get("trains", True):
            return None, "the answer holds personal data"
        other = self._other(what, body, answered)
        if not answered["response"] or (other and not other["response"]):
            return None, "the answer is empty"
        fields = _fields(what, body, answered, other)
        screened = self._screen(fields)
        if screened.value is None or not screened.trains:
            return None, "the feedback holds personal data"
        record = {
            **screened.value,
            "prompt": answered["request"]["messages"],
            "id": feedback_id,
            "annotator_id": author,
            "annotator_kind": body["author_kind"],
            "occurred_at": at.isoformat(timespec="milliseconds"),
            "metadata": {
                "response_id": body["response_id"],
                "model": f"policy/{answered['generation']}",
                "content_hash": answered["content_hash"],
                "stage": answered["stage"],
                "propensity": answered["propensity"],
            },
        }
        try:
            landing_line(record)
        except (ValueError, RecursionError) as error:
            raise Refused(f"this cannot be landed: {error}", param=what) from error
        return record, ""

    def _other(self, what: str, body: dict[str, Any], answered: Row) -> Row | None:
        """The response that this one is compared with."""
        if what != "comparison":
            return None
        other = find(self._served, self._names, body["comparison"]["other"])
        if other["prompt_key"] is None or other["prompt_key"] != answered["prompt_key"]:
            raise Refused(
                "the two responses answer different prompts, or one of them was not kept",
                param="comparison",
            )
        return other


def landing_line(record: dict[str, Any]) -> str:
    """A record as a line of the inbox, which landing reads.

    Raises:
        ValueError: It cannot.
    """
    line = json.dumps(record, allow_nan=False) + "\n"
    read(msgspec.json.decode(line))
    return line


def find(served: Path, names: Names, response_id: str) -> Row:
    """The line of a response.

    Raises:
        Refused: It was never given out here.
    """
    try:
        paths = [served / f"{name}.jsonl" for name in names.files_of(response_id)]
    except ServeError as error:
        raise Refused(str(error), status=404, param="response_id", code="not_found") from error
    row, _, _ = last_line((path for path in paths if path.exists()), response_id)
    if row is None:
        raise Refused(f"response {response_id} is not in the log", status=404, param="response_id")
    return row


def _fields(what: str, body: dict[str, Any], answered: Row, other: Row | None) -> dict[str, Any]:
    """What of the record depends on the kind of feedback."""
    response, value = answered["response"], body[what]
    if what == "comparison" and other:
        return {
            "kind": "comparison",
            "response_a": response,
            "response_b": other["response"],
            "choice": {"this": "a", "other": "b", "tie": "tie"}[value["choice"]],
            "model_a": f"policy/{answered['generation']}",
            "model_b": f"policy/{other['generation']}",
        }
    if what == "rating":
        scale = {name: float(body[name]) for name in ("rating_min", "rating_max")}
        return {"kind": "rating", "response": response, "rating": float(value), **scale}
    if what == "comment":
        return {"kind": "critique", "response": response, "critique": value}
    name = "thumbs" if what == "thumbs" else "edited_response"
    model = f"policy/{answered['generation']}"
    return {"kind": "interaction", "response": response, "model": model, name: value}
