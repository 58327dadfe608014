"""Label Studio tasks, with what the warehouse concludes as predictions, and their interface.

A task's data never hold a right answer or who judged before. Text that is shown stands under
`prompt`, `left`, `right` or `response`; where it is more than one turn, the messages themselves
stand beside it under `<name>_messages`, for the way back.
Source: HumanSignal/label-studio-sdk at 97fcff1; guide/task_format.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from flywheel.export.chat import as_text, is_plain, with_objects
from flywheel.export.line import Line, Row, Way, Writer
from flywheel.records.message import Conversation, load

VERSION = "label-studio-sdk 97fcff1 (2026-08-21)"
SHOW = '<Text name="{0}" value="${0}"/>'
INTERFACES = {
    "preference": '<Pairwise name="better" toName="left,right"/>'
    '<TextArea name="why" toName="prompt"/>'
    '<Choices name="even" toName="prompt"><Choice value="tie"/></Choices>',
    "rating": '<Number name="rating" toName="response" min="0" max="1" step="0.01"/>',
    "demonstration": '<TextArea name="corrected" toName="response" editable="true"/>',
    "evaluation": '<TextArea name="comment" toName="prompt"/>',
}


def interface(dataset: str) -> str:
    """The labelling interface that fits the tasks of a dataset."""
    texts = {"preference": ("prompt", "left", "right"), "evaluation": ("prompt",)}
    shown = "".join(SHOW.format(name) for name in texts.get(dataset, ("prompt", "response")))
    return f"<View>{shown}{INTERFACES[dataset]}</View>\n"


def preferences(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Pairs, the side that is likelier better as a prediction; none where it is even."""
    for row in rows:
        a, b, p = load(row["response_a"]), load(row["response_b"]), row["probability_a"]
        data = _texts(way, prompt=load(row["prompt"]), left=a, right=b)
        side = "left" if p > 0.5 else "right"
        value = {"selected": side}
        guess = [{"from_name": "better", "to_name": "better", "type": "pairwise", "value": value}]
        sure = max(p, round(1 - p, 6))
        way.lost["ties_without_prediction"] += p == 0.5
        predictions = [_prediction(way, sure, guess)] if p != 0.5 else []
        yield Line({"data": data, "predictions": predictions}, [row], {"p": sure})


def ratings(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Responses with their share of full marks as a prediction, on 0..1."""
    for row in rows:
        data = _texts(way, prompt=load(row["prompt"]), response=load(row["response"]))
        data |= {"criterion": row["criterion"], "rating_min": 0, "rating_max": 1}
        value = {"number": row["score_frac"]}
        guess = [{"from_name": "rating", "to_name": "response", "type": "number", "value": value}]
        yield Line({"data": data, "predictions": [_prediction(way, 1.0, guess)]}, [row])


def demonstrations(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Responses to be corrected."""
    for row in rows:
        data = _texts(way, prompt=load(row["prompt"]), response=load(row["response"]))
        yield Line({"data": data, "predictions": []}, [row])


def evaluation(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Prompts without their references."""
    for row in rows:
        way.lost["references_kept_back"] += row["reference"] is not None
        yield Line({"data": _texts(way, prompt=load(row["prompt"])), "predictions": []}, [row])


def _texts(way: Way, **turns: Conversation) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for name, given in turns.items():
        role = "user" if name == "prompt" else "assistant"
        data[name] = as_text(given, role)
        if not is_plain(given, role):
            way.lost["conversations_shown_as_text"] += 1
            data[f"{name}_messages"] = with_objects(given)
    return data


def _prediction(way: Way, score: float, result: list[dict[str, Any]]) -> dict[str, Any]:
    return {"model_version": f"flywheel {way.generation}", "score": score, "result": result}


WRITERS: dict[str, Writer] = {
    "demonstration": demonstrations,
    "preference": preferences,
    "rating": ratings,
    "evaluation": evaluation,
}
