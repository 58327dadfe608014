"""ShareGPT conversations as LLaMA-Factory keeps them: demonstrations, comparisons, thumbs.

`conversations` hold {from, value}; the value of a `function_call` is JSON text of one call or of
several, `tools` is JSON text of a list, empty where there are none. With `chosen` and `rejected`
beside them it is a comparison, with a boolean `kto_tag` a thumb on the last turn; one that was
judged otherwise may be one not to imitate, and is refused. A `system` text
may stand beside the conversation or in it. Nobody is named as the author.
Source: hiyouga/LLaMA-Factory, data/README.md.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from flywheel.errors import RecordError
from flywheel.ingest.formats.labels import to_imitate
from flywheel.ingest.formats.messages import conversation, demonstrations, tools_of, without_nulls
from flywheel.records import Comparison, Interaction, Record
from flywheel.records.message import Conversation

READ = {"conversations", "chosen", "rejected", "kto_tag", "system", "tools"}


def sniff(value: dict[str, Any]) -> float:
    """Sure where every turn has `from` and `value`."""
    turns = value.get("conversations")
    if not isinstance(turns, list) or not turns:
        return 0.0
    return float(all(isinstance(turn, dict) and turn.keys() >= {"from", "value"} for turn in turns))


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one row."""
    value = without_nulls(value)
    metadata = {key: item for key, item in value.items() if key not in READ}
    metadata |= tools_of(value.get("tools"))
    given = value.get("conversations")
    if isinstance(given, list) and value.get("system"):
        given = [{"from": "system", "value": value["system"]}, *given]
    turns = _turns(given)
    if "chosen" in value:
        chosen, rejected = _turns([value["chosen"]]), _turns([value.get("rejected")])
        return (
            Comparison(
                prompt=turns,
                response_a=chosen,
                response_b=rejected,
                choice="a",
                metadata=metadata,
            ),
        )
    if "kto_tag" not in value:
        to_imitate(metadata)
        return demonstrations(turns, metadata)
    if not isinstance(value["kto_tag"], bool) or len(turns) < 2 or turns[-1].role != "assistant":
        raise RecordError("kto_tag must be true or false, about a last turn of the assistant")
    thumbs = "up" if value["kto_tag"] else "down"
    return (
        Interaction(prompt=turns[:-1], response=turns[-1:], thumbs=thumbs, metadata=metadata),  # type: ignore[arg-type]
    )


def _turns(given: Any) -> Conversation:
    if not isinstance(given, list):
        raise RecordError(f"expected a list of turns, found {type(given).__name__}")
    return conversation([_turn(one) for one in given])


def _turn(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict) or not isinstance(given.get("value"), str):
        raise RecordError("a turn needs `from`, and `value` that is text")
    if given.get("from") != "function_call":
        return {"role": given.get("from"), "content": given["value"]}
    try:
        calls = msgspec.json.decode(given["value"])
    except msgspec.DecodeError as error:
        raise RecordError(f"a function_call is not JSON: {error}") from error
    return {"role": "assistant", "tool_calls": calls if isinstance(calls, list) else [calls]}
