"""What the gate reads of an evaluation's result: every key, and every number that it compares.

A *fault* of the file is a key that is missing or a number that is not finite: nothing is decided on
it. What an evaluation could not measure it tells as null, where a field here may be None, or by no
outcomes; then the gate holds, or asks no more of it.
"""

import json
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec

from flywheel.errors import EvaluationError, PromotionError
from flywheel.evaluate.sets.registry import check_newest
from flywheel.layout import Layout
from flywheel.promotion.ledger import Entry, file_sha256


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a result, whose numbers are finite."""

    may_be_infinite: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            for one in _numbers(getattr(self, name)):
                endless = math.isinf(one) and name in self.may_be_infinite
                if not math.isfinite(one) and not endless:
                    raise ValueError(f"`{name}` must be a number that is finite, got {one}")


class Outcomes(Part, frozen=True, kw_only=True):
    """One outcome a group of prompts; none where nothing is known."""

    outcomes: list[float]


class Contest(Outcomes, frozen=True, kw_only=True):
    """Outcomes, and how many prompts they are of."""

    prompts: int


class ByPeople(Contest, frozen=True, kw_only=True):
    """What people say who compared two answers."""

    annotators: int


class Grouped(Contest, frozen=True, kw_only=True):
    """A contest that tells how many its outcomes are."""

    groups: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.groups != len(self.outcomes):
            raise ValueError(f"`groups` is {self.groups}, and `outcomes` are {len(self.outcomes)}")


class Slice(Grouped, frozen=True, kw_only=True):
    """A contest on a part of the prompts."""

    axis: str
    name: str


class Estimate(Part, frozen=True, kw_only=True):
    """A win rate with its interval."""

    win_rate: float
    ci: tuple[float, float]


class Turn(Part, frozen=True, kw_only=True):
    """`overoptimisation.turn_of`; an end of the interval that is never reached is None."""

    may_be_infinite = ("peak_ci",)

    root_nats: float
    peak_ci: tuple[float | None, float | None]
    drop: float
    spread: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.peak_ci[0] is None and self.peak_ci[1] is not None:
            raise ValueError("`peak_ci` has an upper end and no lower one")


class Along(Part, frozen=True, kw_only=True):
    """The turn by people's word; None where they have not said enough."""

    turn: Turn | None


class Versus(Part, frozen=True, kw_only=True):
    """Contests with others than the opponent."""

    sft: Outcomes


class Policy(Grouped, frozen=True, kw_only=True):
    """The challenger's answers against its opponent's.

    Attributes:
        unread: None where a judge came to a verdict on every prompt, or none is asked.
        proxy: None where the reward model is the grader.
        turn: None where no gold was measured along the way, or too seldom.
    """

    opponent: str
    judged_by_model: bool
    mean_response_tokens: float
    opponent_response_tokens: float
    ended_frac: float
    distinct_frac: dict[str, float]
    length_controlled: Estimate
    versus: Versus
    slices: list[Slice]
    unread: Contest | None
    proxy: Outcomes | None
    turn: Turn | None
    by_people: list[Along]

    def __post_init__(self) -> None:
        super().__post_init__()
        if missing := {"policy", self.opponent} - self.distinct_frac.keys():
            raise ValueError(f"`distinct_frac` is missing {', '.join(sorted(missing))}")


class Lead(Part, frozen=True, kw_only=True):
    """How far a reward model is ahead of the better rule of length."""

    baseline: str
    difference: float
    ci: tuple[float, float]


class Reward(Part, frozen=True, kw_only=True):
    """The reward model on pairs that it never saw."""

    accuracy: float
    groups: int
    over_length: Lead


class AskedSet(Part, frozen=True, kw_only=True):
    """An evaluation set that was asked."""

    name: str
    version: int
    content_hash: str


class Sets(Part, frozen=True, kw_only=True):
    """The evaluation sets that were asked."""

    evaluation_sets: list[AskedSet]


class Evidence(Sets, frozen=True, kw_only=True):
    """The result of an evaluation, as far as a decision rests on it.

    Attributes:
        people: What they say, by opponent; those whom nobody compared are not among them.
        no_say: Who judges and has no say, and why.
        champion_content_hash: Empty where there was no champion.
    """

    policy: Policy
    reward_model: Reward
    people: dict[str, ByPeople]
    broken_invariants: dict[str, str]
    no_say: list[str]
    unknown_ancestors: list[str]
    look: str
    policy_content_hash: str
    champion_content_hash: str


def evidence_of(result: dict[str, Any]) -> Evidence:
    """Read what a decision rests on.

    Raises:
        PromotionError: A key is missing, or a number is not one or not finite.
    """
    try:
        return msgspec.convert(result, Evidence)
    except msgspec.ValidationError as error:
        raise PromotionError(
            f"the gate decides on a whole result, every number of which is finite; that of the "
            f"evaluation of {result.get('generation', 'this challenger')} is not: {error}; "
            f"materialize held_out_evaluation again"
        ) from error


def refuse_stale(layout: Layout, entry: Entry) -> None:
    """Refuse to send on by another evaluation than was decided on, or one on an older set.

    Args:
        layout: The home.
        entry: The decision.

    Raises:
        PromotionError: The evaluation was made anew or is gone, names no sets, or asked a set that
            has a newer version by now.
    """
    who, path = entry.generation, layout.root / entry.evidence
    again = f"materialize held_out_evaluation and gate_decision of {who} again"
    if not path.exists() or file_sha256(path) != entry.evidence_sha256:
        raise PromotionError(
            f"{path} is not the evaluation that entry {entry.number} of the ledger decided on: it "
            f"was made anew or is gone; {again}, and read that"
        )
    try:
        asked = msgspec.convert(json.loads(path.read_text()), Sets).evaluation_sets
    except ValueError as error:
        raise PromotionError(f"{path} tells of no evaluation sets: {error}; {again}") from error
    try:
        check_newest(layout, msgspec.to_builtins(asked))
    except EvaluationError as error:
        raise PromotionError(
            f"{who} can be declined or stopped, and not sent on: {error}"
        ) from error


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, list | tuple | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)
