"""What was said, by whom, about which response: typed, frozen records and their JSON form."""

from flywheel.records.kinds import (
    KINDS,
    Comparison,
    Critique,
    Demonstration,
    EvaluationPrompt,
    Interaction,
    Ranking,
    Rating,
    Record,
    RubricScore,
    StepRating,
    Trajectory,
)
from flywheel.records.message import Message, ToolCall

__all__ = [
    "KINDS",
    "Comparison",
    "Critique",
    "Demonstration",
    "EvaluationPrompt",
    "Interaction",
    "Message",
    "Ranking",
    "Rating",
    "Record",
    "RubricScore",
    "StepRating",
    "ToolCall",
    "Trajectory",
]
