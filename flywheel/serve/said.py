"""What may stand in a piece of feedback, and where a rating lies on its scale."""

import sys
from typing import Any

from flywheel.serve.asked import Refused

AUTHORS = ("person", "model", "program")
KINDS = ("thumbs", "rating", "comparison", "corrected_response", "comment")
FIELDS = {"response_id", "author", "author_kind", "key", "rating_min", "rating_max", *KINDS}


def kind_of(body: dict[str, Any]) -> str:
    """Which kind of feedback it is, its fields being there and of their types.

    Raises:
        Refused: They are not.
    """
    if unknown := sorted(body.keys() - FIELDS):
        raise Refused(f"feedback has no field {unknown[0]}", param=unknown[0])
    for name in ("response_id", "author", "author_kind"):
        if not isinstance(body.get(name), str) or not body[name].strip():
            raise Refused(f"{name} must be a text, and is needed", param=name)
    if body["author_kind"] not in AUTHORS:
        raise Refused(f"author_kind must be one of {', '.join(AUTHORS)}", param="author_kind")
    if not isinstance(body.get("key", ""), str):
        raise Refused("key must be a text", param="key")
    given = [name for name in KINDS if body.get(name) is not None]
    if len(given) != 1:
        raise Refused(f"feedback is exactly one of {', '.join(KINDS)}; got {given}")
    (what,) = given
    value = body[what]
    if what == "thumbs" and value not in ("up", "down"):
        raise Refused("thumbs must be up or down", param=what)
    scale = body.get("rating_min"), body.get("rating_max")
    if what == "rating" and share_of_scale(scale[0], value, scale[1]) is None:
        raise Refused(
            "rating needs rating_min and rating_max, all finite, and lies between", param=what
        )
    if what in ("corrected_response", "comment") and not (isinstance(value, str) and value.strip()):
        raise Refused(f"{what} must be a text", param=what)
    if what == "comparison" and not (
        isinstance(value, dict)
        and isinstance(value.get("other"), str)
        and value.get("choice") in ("this", "other", "tie")
        and value["other"] != body["response_id"]
    ):
        raise Refused(
            "comparison must be {other: another response_id, choice: this, other or tie}",
            param=what,
        )
    return what


def share_of_scale(low: Any, value: Any, high: Any) -> float | None:
    """Where a rating lies on its scale, from 0 to 1; None where these are no rating and no scale.

    The width of the scale must be a finite number, too: from -1e308 to 1e308 it is none.
    """
    most = sys.float_info.max
    if not all(type(one) in (int, float) and abs(one) <= most for one in (low, value, high)):
        return None
    low, value, high = float(low), float(value), float(high)
    if not low <= value <= high or not 0 < high - low <= most:
        return None
    return float((value - low) / (high - low))
