"""Settings of the annotation queue."""

import math
from dataclasses import dataclass

from flywheel.errors import SettingsError

SAMPLING_FRAC = 0.4  # of the budget, for each of two policies; scoring has what is left


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """What is put before annotators next."""

    generation: str
    policy: str
    sft: str
    reward_model: str
    preference_dataset: str
    output: str  # the queue, a JSONL file
    prompts: int = 200  # prompts considered
    length: int = 100  # prompts asked about
    candidates: int = 4  # responses to each, half from either policy
    random_frac: float = 0.2  # chosen blindly, so that rates measured on the queue mean something
    temperature: float = 1.0
    max_new_tokens: int = 256
    budget_seconds: float = 0.0  # of sampling and scoring; fewer prompts where short; 0: no limit
    seed: int = 0

    def __post_init__(self) -> None:
        if self.budget_seconds < 0:
            raise SettingsError(
                f"budget_seconds must be 0 (no limit) or more, got {self.budget_seconds}"
            )
        if not 0 < self.random_frac <= 1:
            raise SettingsError(f"random_frac must be in (0, 1], got {self.random_frac}")
        for name in ("prompts", "length"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.candidates < 2:
            raise SettingsError(f"candidates must be at least 2, got {self.candidates}")

    def seconds_of(self, frac: float) -> float:
        """A share of the budget; infinite where there is none."""
        return frac * self.budget_seconds if self.budget_seconds else math.inf
