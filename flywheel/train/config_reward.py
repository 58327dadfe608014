"""Settings of the recipes that learn to judge; every default with its reason."""

from dataclasses import dataclass
from typing import ClassVar

from flywheel.train.config import RunSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSettings(RunSettings):
    """A scalar reward from preferences; an element is a prompt with all its pairs."""

    RATES: ClassVar[tuple[float, float]] = (9e-6, 9e-5)  # arXiv:2203.02155, appendix C.2

    model: str
    dataset: str
    epochs: float = 1.0  # more overfits (arXiv:2203.02155, appendix C.2)
    batch: int = 64  # ibid.
    max_responses: int = 9  # per element; a prompt with more is cut into several
