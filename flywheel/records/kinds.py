"""Every kind of feedback flywheel takes in, exactly as its author gave it.

A *comparison* is one annotator's choice between two responses, in the order shown. A *ranking*
orders K >= 2 responses, ties allowed. A *preference* is neither: it is what the warehouse
concludes from all of them (`dbt_project/models/marts/fct_preferences.sql`).

The JSON form has one object a line with a key `kind`; unknown keys are refused, so that a
misspelt field is a quarantined line and not a silent loss. What has no field goes to `metadata`.

Source: arXiv:2203.02155 (InstructGPT), sections 3.2 to 3.5, for demonstrations and rankings.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from flywheel.errors import RecordError
from flywheel.records.message import Conversation, Message, prompt_of, response_of

AnnotatorKind = Literal["person", "model", "program", "unknown"]
Outcome = Literal["passed", "failed", "truncated", "error", "unscored"]
NotNegative = Annotated[float, Meta(ge=0)]
Text = Annotated[str, Meta(min_length=1)]
Turns = Text | Annotated[tuple[Message, ...], Meta(min_length=1)]


class Record(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    gc=False,  # records hold no cycles, and come by the million
):
    """What every record carries beside its own content."""

    prompt: Turns
    id: Text | None = None  # given, or else a hash of the content
    source: Text | None = None  # the system it came from; the file's folder when absent
    annotator_id: Text | None = None  # None is one anonymous author, never a made-up id
    annotator_kind: AnnotatorKind = "unknown"
    guideline_version: Text | None = None
    seconds: NotNegative | None = None  # time the annotator spent
    cost_usd: NotNegative | None = None  # what the record was paid
    licence: Text | None = None
    data_subject: Text | None = None  # whose personal data it holds, for erasure
    occurred_at: datetime | None = None
    domain: Text | None = None
    group: Text | None = None  # prompts of one group stay in one split; None: that open alike
    metadata: dict[str, Any] = {}  # its `tools`, where there are any, are part of the prompt

    @property
    def conversation(self) -> Conversation:
        """The prompt as messages."""
        return prompt_of(self.prompt)


def _check_scale(rating: float, lowest: float, highest: float) -> None:
    if not lowest <= rating <= highest:
        raise RecordError(f"rating {rating} lies outside its scale {lowest}..{highest}")


class Demonstration(Record, frozen=True, kw_only=True, tag="demonstration"):
    """A response written to be imitated."""

    response: Turns


class Comparison(Record, frozen=True, kw_only=True, tag="comparison"):
    """One annotator's choice between two responses, in the order shown."""

    response_a: Turns
    response_b: Turns
    choice: Literal["a", "b", "tie"]
    reason: str | None = None
    model_a: str | None = None  # checkpoint or person that wrote response a
    model_b: str | None = None


class Ranking(Record, frozen=True, kw_only=True, tag="ranking"):
    """One annotator's order of K >= 2 responses; rank 1 is best, equal ranks are ties."""

    responses: Annotated[tuple[Turns, ...], Meta(min_length=2)]
    ranks: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(min_length=2)]
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.ranks) != len(self.responses):
            raise RecordError(
                f"a ranking needs one rank per response, got {len(self.responses)} responses and "
                f"{len(self.ranks)} ranks; repair the export"
            )
        if self.models and len(self.models) != len(self.responses):
            raise RecordError(
                f"`models` must be empty or name one author per response, got {len(self.models)} "
                f"for {len(self.responses)} responses"
            )


class Rating(Record, frozen=True, kw_only=True, tag="rating"):
    """A number an annotator gives a response, on a scale that is kept beside it."""

    response: Turns
    rating: float
    rating_min: float
    rating_max: float

    def __post_init__(self) -> None:
        _check_scale(self.rating, self.rating_min, self.rating_max)


class Critique(Record, frozen=True, kw_only=True, tag="critique"):
    """Free text on what is wrong with a response, optionally with the corrected response."""

    response: Turns
    critique: Text
    corrected_response: Turns | None = None


class RubricScore(Record, frozen=True, kw_only=True, tag="rubric_score"):
    """The answer to one criterion of a rubric, as a share of full marks."""

    response: Turns
    criterion: Text
    score: Annotated[float, Meta(ge=0, le=1)]
    weight: NotNegative = 1.0  # of the criterion in its rubric


class Trajectory(Record, frozen=True, kw_only=True, tag="trajectory"):
    """What an agent did: messages, actions and observations after the prompt, with an outcome."""

    steps: Annotated[tuple[Message, ...], Meta(min_length=1)]
    outcome: Outcome
    task_id: Text | None = None
    trial: int | None = None
    reward: float | None = None
    model: str | None = None


class StepRating(Record, frozen=True, kw_only=True, tag="step_rating"):
    """A number an annotator gives one step, seen with all before it, on a scale kept beside it.

    The step is the last of `steps`, a turn of the assistant, so that a step which two attempts
    share is one step. Good, neutral and bad (arXiv:2305.20050) are 1, 0 and -1 on -1..1.
    """

    steps: Annotated[tuple[Message, ...], Meta(min_length=1)]
    rating: float
    rating_min: float
    rating_max: float
    model: str | None = None  # who acted

    def __post_init__(self) -> None:
        if self.steps[-1].role != "assistant":
            raise RecordError(
                f"the last of `steps` is the one that is rated and must be the assistant's, found "
                f"one of {self.steps[-1].role!r}; cut the steps after the one that is rated"
            )
        _check_scale(self.rating, self.rating_min, self.rating_max)


class Interaction(Record, frozen=True, kw_only=True, tag="interaction"):
    """A served turn: what the model answered, and what its user made of it."""

    response: Turns
    model: str | None = None  # checkpoint id that answered
    thumbs: Literal["up", "down"] | None = None
    edited_response: Turns | None = None


class EvaluationPrompt(Record, frozen=True, kw_only=True, tag="evaluation_prompt"):
    """A prompt that is only ever tested on. Training rows that overlap it are excluded."""

    evaluation_set: Text  # name and version, e.g. "refund-desk-v1"
    grader: Text  # who scores a response: "refund_desk", "numeric_answer", "reward_model"
    reference: str | None = None  # the right answer, for graders that need one


KINDS: dict[str, type[Record]] = {
    kind.__struct_config__.tag: kind  # type: ignore[misc]
    for kind in (
        Demonstration,
        Comparison,
        Ranking,
        Rating,
        Critique,
        RubricScore,
        Trajectory,
        StepRating,
        Interaction,
        EvaluationPrompt,
    )
}

AnyRecord = (
    Demonstration
    | Comparison
    | Ranking
    | Rating
    | Critique
    | RubricScore
    | Trajectory
    | StepRating
    | Interaction
    | EvaluationPrompt
)

__all__ = ["KINDS", "AnyRecord", "Record", "response_of"]
