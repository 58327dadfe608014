"""The desk with tools: the request withholds price and days, so the agent must look the order up.

The environment is one order and a ledger of money moved; gold is the ledger after the episode plus
the reply. An episode can go wrong in the ways agents go wrong: it looks up the wrong order, ignores
the rule, pays the wrong amount, pays twice, or says something else than it did.
"""

import json
from dataclasses import replace
from random import Random
from typing import Any

from flywheel.records import Message, Record, StepRating, ToolCall, Trajectory
from flywheel.sample.annotators import ANNOTATORS
from flywheel.sample.desk import ASSISTANT, Desk
from flywheel.sample.gold import grade
from flywheel.sample.world import ITEMS, Request, draw_request, write_reply
from flywheel.sample.writers import slip_digit

MISTAKES = ("wrong_order", "wrong_decision", "wrong_amount", "pays_twice")
MISTAKE_SHARE = 0.35


class Environment:
    """One customer's order behind two tools, and the money that moved."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.ledger: list[int] = []

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """Carry out a tool call; the observation is JSON."""
        if name == "look_up_order":
            if arguments["item"] != self.request.item:
                return json.dumps({"error": "no such order"})
            return json.dumps(
                {
                    "price": self.request.price,
                    "days": self.request.days,
                    "state": "opened" if self.request.is_opened else "sealed",
                    "membership": self.request.membership,
                }
            )
        self.ledger.append(int(arguments["amount"]))
        return json.dumps({"paid": arguments["amount"]})

    def is_settled(self) -> bool:
        """Whether the ledger is what the house rule says: one exact payment, or none."""
        return self.ledger == ([self.request.amount] if self.request.is_refunded else [])


def trajectories(rng: Random, count: int) -> list[Record]:
    """Episodes of a simulated agent, two trials a task."""
    desk = Desk(rng, prefix="episode")
    found: list[Record] = []
    while len(found) < count:
        request = draw_request(rng)
        for trial in range(min(2, count - len(found))):
            mistake = rng.choice(MISTAKES) if rng.random() < MISTAKE_SHARE else None
            found.append(_episode(rng, desk, request, trial, mistake))
    return found


def step_ratings(rng: Random, count: int) -> list[Record]:
    """Steps of further episodes, rated good, bad or, where nobody looked closely, neutral."""
    desk, found = Desk(rng, prefix="step"), list[Record]()
    checkers = [one for one in ANNOTATORS if one.type in ("expert", "careful")]
    while len(found) < count:
        request = draw_request(rng)
        mistake = rng.choice(MISTAKES) if rng.random() < MISTAKE_SHARE else None
        episode, judge = _episode(rng, desk, request, 0, mistake), rng.choice(checkers)
        paid = 0
        for place, step in enumerate(episode.steps):
            if step.role != "assistant":
                continue
            is_payment = any(call.name == "refund" for call in step.tool_calls)
            is_good = _is_good(request, step, paid)
            paid += is_payment
            rating = 0.0 if rng.random() > judge.checks_exact else 1.0 if is_good else -1.0
            stamp = desk.stamp(request, judge, effort=0.2) | {"prompt": episode.prompt}
            found.append(
                StepRating(
                    steps=episode.steps[: place + 1],
                    rating=rating,
                    rating_min=-1.0,
                    rating_max=1.0,
                    model=ASSISTANT,
                    **stamp,
                )
            )
    return found[:count]


def _is_good(request: Request, step: Message, paid: int) -> bool:
    """Whether a step is what the house rule wants, after so many payments."""
    if not step.tool_calls:
        return grade(request, step.content).score == 1.0
    (call,) = step.tool_calls
    if call.name == "look_up_order":
        return bool(call.arguments["item"] == request.item)
    due = request.is_refunded and not paid
    return due and bool(call.arguments["amount"] == request.amount)


def _episode(
    rng: Random, desk: Desk, request: Request, trial: int, mistake: str | None
) -> Trajectory:
    environment = Environment(request)
    steps: list[Message] = []

    def use(name: str, /, **arguments: Any) -> str:
        call = ToolCall(name=name, arguments=arguments, id=f"call-{len(steps)}")
        steps.append(Message(role="assistant", tool_calls=(call,)))
        observation = environment.call(name, arguments)
        steps.append(Message(role="tool", content=observation, tool_call_id=call.id, name=name))
        return observation

    if mistake == "wrong_order":
        use("look_up_order", name=request.name, item=_other(rng, request.item))
        believed = replace(request, price=rng.randint(10, 99), days=rng.randrange(80))
    else:
        use("look_up_order", name=request.name, item=request.item)
        believed = request
    refunds = believed.is_refunded != (mistake == "wrong_decision")
    amount = believed.amount if mistake != "wrong_amount" else slip_digit(rng, believed.amount)
    for _ in range((2 if mistake == "pays_twice" else 1) if refunds else 0):
        use("refund", name=request.name, amount=amount)
    reply = write_reply(request, refunds=refunds, amount=amount)
    steps.append(Message(role="assistant", content=reply))
    passed = environment.is_settled() and grade(request, reply).score == 1.0
    stamp = desk.stamp(request, None)
    stamp["prompt"] = f"i am {request.name} . please refund my {request.item} ."
    return Trajectory(
        steps=tuple(steps),
        outcome="passed" if passed else "failed",
        reward=float(passed),
        task_id=f"task-{(desk.count - 1) // 2:04d}",
        trial=trial,
        model=ASSISTANT,
        **stamp,
    )


def _other(rng: Random, item: str) -> str:
    return rng.choice([one for one in ITEMS if one != item])
