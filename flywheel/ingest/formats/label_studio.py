"""Label Studio's JSON export: tasks with annotations of people.

Only annotations that were submitted are labels. Cancelled ones, drafts, predictions and those
that were imported or propagated look just the same; they are counted and never taken. Of the
controls, Pairwise is a comparison, and so is a choice of a side or of a tie; Ranker is a ranking,
with the items of one bucket tied; Rating and Number are ratings; a plain yes or no is a rubric
score; text is the reason of a comparison, or else a critique, or a correction if its control is
named so; Chat is a conversation to imitate. Other answers go to the metadata of these. The time
that an annotation took is shared evenly among its records, so that it adds up to what was spent.

An export does not tell the scale of a rating: the task's data name `rating_min` and `rating_max`,
and a Rating without them has 0 to 5 stars, as the control has unless it was set otherwise.
Source: HumanSignal/label-studio-sdk at 97fcff1, label_interface/control_tags.py; guide/export.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import structs

from flywheel.errors import RecordError
from flywheel.ingest.formats.fields import Judged, judged
from flywheel.ingest.formats.labels import Labels, account, mark, rated, rubric_weight, scale
from flywheel.ingest.formats.messages import conversation, demonstrations, one_turn, without_nulls
from flywheel.records import (
    Comparison,
    Critique,
    Demonstration,
    Ranking,
    Rating,
    Record,
    RubricScore,
)
from flywheel.records.message import Conversation

STARS = (0, 5)
SUBMITTED = {None, "submitted", "updated", "accepted", "fixed_and_accepted"}
CORRECTIONS = ("correct", "edit", "rewrit", "revis", "improv")
UNSORTED = "_"  # bucket of what was not ranked
Said = tuple[type[Record], str, dict[str, Any]]  # kind, name of the control, own fields


def sniff(value: dict[str, Any]) -> float:
    """Sure of tasks with annotations; JSON_MIN is known, to be refused with its remedy."""
    if value.keys() >= {"annotation_id", "annotator", "lead_time"}:
        return 0.9
    given, data = value.get("annotations"), value.get("data")
    if given is None and isinstance(value.get("predictions"), list) and isinstance(data, dict):
        return 0.9  # tasks as they are given to the tool
    if not isinstance(given, list) or not isinstance(data, dict):
        return 0.0
    return float(all(isinstance(one, dict) and "result" in one for one in given))


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one task: the records of all its annotations."""
    if "annotation_id" in value or "data" not in value:
        raise RecordError("JSON_MIN does not say who labelled what; export as JSON")
    value = without_nulls(value)
    guesses = value.get("predictions") or []
    skipped = Counter(draft=len(value.get("drafts") or ()), prediction=len(guesses))
    found: list[Record] = []
    for one in value.get("annotations") or ():
        if why := _no_label(one):
            skipped[why] += 1
        else:
            found += _in_time(_annotation(value, one, guesses), one.get("lead_time"))
    return Labels(found, skipped)


def _no_label(annotation: dict[str, Any]) -> str:
    if annotation.get("was_cancelled"):
        return "cancelled"
    if annotation.get("last_action") not in SUBMITTED:
        return "not_submitted"
    return "" if annotation.get("result") else "empty"


def _annotation(task: dict[str, Any], one: dict[str, Any], guesses: list[Any]) -> Sequence[Record]:
    """The records of one annotation: by one author, at one time."""
    who, moment = one.get("completed_by"), one.get("updated_at") or one.get("created_at")
    if isinstance(who, dict):
        who = who.get("id", who.get("email"))
    ids = [
        part for part in (task.get("project"), task.get("id"), one.get("id")) if part is not None
    ]
    metadata = _origin(one, guesses) | ({"gold": True} if one.get("ground_truth") else {})
    common: dict[str, Any] = {
        "annotator_id": account("label_studio", who),
        "annotator_kind": "unknown" if who is None else "person",
        "occurred_at": msgspec.convert(moment, datetime) if moment else None,
    }
    regions = [region for region in one["result"] if "from_name" in region]
    if chat := [r["value"]["chatmessage"] for r in regions if r["type"] == "chatmessage"]:
        chat.sort(key=lambda turn: turn.get("createdAt", 0))
        turns = [{key: turn.get(key) for key in ("role", "content")} for turn in chat]
        return demonstrations(conversation(turns), metadata, **common)
    shown = judged(task["data"])
    said, answers = _said(regions, shown, task["data"])
    if answers:
        metadata["answers"] = answers
    if not said:
        raise RecordError(f"no kind of record can hold the answers {answers}")
    return [
        kind(
            prompt=shown.prompt,
            id="/".join(map(str, (*ids, control))) if "id" in one else None,
            metadata=metadata | (rated(control) if kind is Rating else {}),
            **own,
            **common,
        )
        for kind, control, own in said
    ]


def _in_time(found: Sequence[Record], seconds: float | None) -> Sequence[Record]:
    """The records of one annotation, each with its share of the time that they took together."""
    if seconds is None or not found:
        return found
    return [structs.replace(one, seconds=seconds / len(found)) for one in found]


def _origin(one: dict[str, Any], guesses: list[Any]) -> dict[str, Any]:
    """Metadata of an annotation that began as a guess of a model, unchanged or not."""
    if (parent := one.get("parent_prediction")) is None:
        return {}
    guess = next((g for g in guesses if isinstance(g, dict) and g.get("id") == parent), None)
    both = [[(r.get("from_name"), r.get("value")) for r in x["result"]] for x in (one, guess) if x]
    is_unchanged = both[0] == both[1] if len(both) == 2 else None
    return {"from_prediction": {"id": parent, "is_unchanged": is_unchanged}}


def _said(
    regions: list[dict[str, Any]], shown: Judged, data: dict[str, Any]
) -> tuple[list[Said], dict[str, Any]]:
    """What the controls of an annotation say together, and the answers that have no kind."""
    said: list[Said] = []
    answers: dict[str, Any] = {}
    picks: set[str] = set()
    texts: dict[bool, list[str]] = {False: [], True: []}  # comments, corrections
    about: Conversation | None = None  # which response the text is about
    for region in regions:
        control, value = region["from_name"], region["value"]
        if region["type"] == "textarea":
            is_correction = any(part in control.lower() for part in CORRECTIONS)
            texts[is_correction] += value["text"]
            about = shown.responses.get(str(region.get("to_name"))) or about
        elif pick := _pick(region["type"], value, shown):
            picks.add(pick)
        elif one := _judgement(region, shown, data):
            said.append(one)
        else:
            answers[control] = value
    comment, better = ("\n".join(texts[which]) for which in (False, True))
    if {"a", "b"} <= picks:
        raise RecordError("one annotation chooses both sides")
    if picks:
        choice = "tie" if "tie" in picks else picks.pop()
        sides = zip(("response_a", "response_b"), shown.responses.values(), strict=True)
        said.append(
            (Comparison, "choice", {**dict(sides), "choice": choice, "reason": comment or None})
        )
    if about is None and len(shown.responses) == 1:
        about = shown.one()
    if comment and not picks and about:
        corrected = {"corrected_response": one_turn(better, "assistant")} if better else {}
        own = {"response": about, "critique": comment, **corrected}
        said.append((Critique, "critique", own))
    elif better:
        own = {"response": one_turn(better, "assistant")}
        said.append((Demonstration, "correction", own))
    elif comment and not picks:
        answers["text"] = comment
    return said, answers


def _pick(control: str, value: dict[str, Any], shown: Judged) -> str | None:
    if control == "pairwise":
        if not shown.pair:
            raise RecordError("the two sides are not found in the data; call them left and right")
        return {"left": "a", "right": "b"}[value["selected"]]
    words = value["choices"] if control == "choices" else []
    return shown.choice(words[0]) if len(words) == 1 else None


def _judgement(region: dict[str, Any], shown: Judged, data: dict[str, Any]) -> Said | None:
    control, name, value = region["type"], region["from_name"], region["value"]
    if control == "ranker":
        return Ranking, name, _ranking(value["ranker"], data)
    if (response := shown.about(region.get("to_name"))) is None:
        return None  # it is about the prompt, or about the sides together
    if control in ("rating", "number"):
        given = scale(value[control], data, STARS if control == "rating" else None)
        return Rating, name, {"response": response, **given}
    if control == "choices" and len(value["choices"]) == 1:
        score = mark(value["choices"][0])
        if score is not None:
            own = {"criterion": name, "score": score, "weight": rubric_weight(name)}
            return RubricScore, name, {"response": response, **own}
    return None


def _ranking(ranker: dict[str, list[Any]], data: dict[str, Any]) -> dict[str, Any]:
    """Responses with their ranks: of one list by place, of several buckets by bucket."""
    items = {
        str(item["id"]): item
        for value in data.values()
        if isinstance(value, list)
        for item in value
        if isinstance(item, dict) and "id" in item
    }
    buckets = [ids for name, ids in ranker.items() if name != UNSORTED]
    if len(buckets) == 1 and len(ranker) == 1:
        buckets = [[one] for one in buckets[0]]
    placed = [(str(one), rank) for rank, ids in enumerate(filter(None, buckets), 1) for one in ids]
    if len({one for one, _ in placed}) < len(placed) or {one for one, _ in placed} - set(items):
        raise RecordError("a ranked item stands twice, or is none of the items of the task's data")
    texts = [items[one] for one, _ in placed]
    return {
        "responses": tuple(one.get("body") or one.get("text") or one["title"] for one in texts),
        "ranks": tuple(rank for _, rank in placed),
        "models": tuple(str(one["model"]) for one in texts if one.get("model")),
    }
