"""OpenAssistant trees: rankings of sibling replies, and the best replies as demonstrations.

`rank` 0 is the best. It merges the votes of several people, so such a ranking has no author; where
a message has the votes themselves (`events`), they are taken instead. A reply without a rank is
unranked, not worst. A reply is imitated where it and all before it are first among their ranked
siblings, or the only reply; deleted, machine-made and badly reviewed ones never. Labels are shares
of full marks that several people gave together. All of a tree is one group, for its paths begin
alike.
Source: LAION-AI/Open-Assistant at f1e6ed9, oasst-data/oasst_data/schemas.py.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from flywheel.ingest.formats.labels import Labels, account, rubric_weight
from flywheel.ingest.formats.messages import message, without_nulls
from flywheel.records import Demonstration, Ranking, Record, RubricScore
from flywheel.records.message import Conversation

Node = dict[str, Any]


def sniff(value: dict[str, Any]) -> float:
    """Sure of a tree, with or without the object around its first message."""
    node = value.get("prompt") if "message_tree_id" in value else value
    return float(isinstance(node, dict) and {"message_id", "text", "role"} <= node.keys())


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one tree."""
    value = without_nulls(value)
    root = value.get("prompt", value)
    group = f"oasst {value.get('message_tree_id') or root['message_id']}"
    found = list(_below(root, (), group, is_best=_is_good(root)))
    return Labels(found, {"unranked": 0 if found else 1})


def _below(node: Node, before: Conversation, group: str, is_best: bool) -> Iterator[Record]:
    """The records of all replies below a message."""
    path = (*before, message({"role": node["role"], "content": node["text"]}))
    replies = [one for one in node.get("replies", ()) if not one.get("deleted")]
    said = [one for one in replies if one["role"] == "assistant"]
    yield from _rankings(node, said, path, group)
    first = _first(said)
    for one in replies:
        leads = is_best and (one["role"] != "assistant" or one is first) and _is_good(one)
        if one["role"] == "assistant":
            yield from _reply(one, path, group, leads)
        yield from _below(one, path, group, leads)


def _is_good(node: Node) -> bool:
    is_machine_made = node["role"] == "assistant" and node.get("synthetic")
    return not (is_machine_made or node.get("review_result") is False)


def _first(replies: list[Node]) -> Node | None:
    if len(replies) == 1:
        return replies[0]
    ranked = [one for one in replies if "rank" in one]
    best = min((one["rank"] for one in ranked), default=None)
    firsts = [one for one in ranked if one["rank"] == best]
    return firsts[0] if len(firsts) == 1 else None


def _rankings(node: Node, replies: list[Node], path: Conversation, group: str) -> Iterator[Record]:
    by_id = {one["message_id"]: one for one in replies}
    for vote in node.get("events", {}).get("ranking", ()):
        order = [by_id[one] for one in vote.get("ranked_message_ids", ()) if one in by_id]
        if len(order) > 1 and not vote.get("not_rankable"):
            ranks = range(1, len(order) + 1)
            yield _ranking(path, order, ranks, group, account("oasst", vote.get("user_id")))
    ranked = [one for one in replies if "rank" in one]
    if len(ranked) > 1 and not node.get("events", {}).get("ranking"):
        lowest = min(one["rank"] for one in ranked)
        yield _ranking(path, ranked, [one["rank"] - lowest + 1 for one in ranked], group, None)


def _ranking(
    path: Conversation, replies: list[Node], ranks: Sequence[int], group: str, who: str | None
) -> Ranking:
    synthetic = [bool(one.get("synthetic")) for one in replies]
    return Ranking(
        prompt=path,
        responses=tuple(one["text"] for one in replies),
        ranks=tuple(ranks),
        group=group,
        annotator_id=who,
        annotator_kind="person" if who else "unknown",
        metadata={"synthetic": synthetic} if any(synthetic) else {},
    )


def _reply(node: Node, path: Conversation, group: str, leads: bool) -> Iterator[Record]:
    who, said = account("oasst", node.get("user_id")), node.get("created_date")
    if leads:
        yield Demonstration(
            prompt=path,
            response=node["text"],
            id=node["message_id"],
            annotator_id=who,
            annotator_kind="person" if who else "unknown",
            occurred_at=msgspec.convert(said, datetime) if said else None,
            group=group,
            metadata={"lang": node["lang"]} if "lang" in node else {},
        )
    for name, label in node.get("labels", {}).items():
        yield RubricScore(
            prompt=path,
            response=node["text"],
            criterion=name,
            score=label["value"],
            weight=rubric_weight(name),
            group=group,
            metadata={"votes": label.get("count")},
        )
