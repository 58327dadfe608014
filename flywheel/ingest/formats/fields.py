"""What was judged, where people name the fields: the prompt and the responses of a task.

Annotation tools hold a task's fields under names that its maker chose. The usual ones are known
here; under any other a row is refused with the names to give. A field `<name>_messages` beside
`<name>` holds it as chat messages.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from flywheel.errors import RecordError
from flywheel.ingest.formats.messages import one_turn
from flywheel.records.message import Conversation

PROMPTS = ("prompt", "question", "instruction", "query", "messages", "conversation", "input")
PAIRS = (
    ("left", "right"),
    *(
        (f"{name}{link}{one}", f"{name}{link}{other}")
        for name in ("response", "answer", "output", "completion", "model")
        for link in ("_", "", "-")
        for one, other in (("a", "b"), ("1", "2"))
    ),
    ("a", "b"),
)
SINGLES = ("response", "answer", "output", "completion", "reply")
EVEN = {"tie", "equal", "even", "same", "both", "neither", "both_good", "both_bad"}


class Judged(NamedTuple):
    """The fields of one task that are known by their names."""

    prompt: Conversation
    pair: tuple[str, str] | None  # names of the two sides, in the order shown
    responses: dict[str, Conversation]  # the two sides, or the only response

    def choice(self, said: str) -> str | None:
        """The side that a choice names: `a`, `b` or `tie`; None where it names none."""
        word = said.strip().lower().replace(" ", "_").replace("-", "_")
        if not self.pair:
            return None
        if word in EVEN:
            return "tie"
        sides = [name.lower().replace("-", "_") for name in self.pair]
        return "ab"[sides.index(word)] if word in sides else None

    def about(self, name: Any) -> Conversation | None:
        """The response of a name, or the only one unless the prompt is named; else None."""
        if name in self.responses:
            return self.responses[name]
        is_only = len(self.responses) == 1 and name not in PROMPTS
        return next(iter(self.responses.values())) if is_only else None

    def one(self) -> Conversation:
        """The only response.

        Raises:
            RecordError: There are none, or several.
        """
        if len(self.responses) != 1:
            found = ", ".join(self.responses) or "none"
            raise RecordError(f"the label is about one response, found {found}; call it `response`")
        return next(iter(self.responses.values()))


def judged(fields: Mapping[str, Any]) -> Judged:
    """Find the prompt and the responses of a task.

    Raises:
        RecordError: It has no prompt under a known name.
    """
    name = next((name for name in PROMPTS if fields.get(name)), None)
    if name is None:
        raise RecordError(f"no field holds the prompt; call it one of {', '.join(PROMPTS)}")
    prompt = _field(fields, name, "user")
    if name == "instruction" and isinstance(more := fields.get("input"), str) and more:
        prompt = (*prompt[:-1], *one_turn(f"{prompt[-1].content}\n\n{more}", "user"))
    has = {key for key, item in fields.items() if isinstance(item, str | list)}
    pair = next((pair for pair in PAIRS if has >= set(pair)), None)
    names = pair or tuple(one for one in SINGLES if one in has)[:1]
    return Judged(prompt, pair, {one: _field(fields, one, "assistant") for one in names})


def _field(fields: Mapping[str, Any], name: str, role: str) -> Conversation:
    return one_turn(fields.get(f"{name}_messages") or fields[name], role)
