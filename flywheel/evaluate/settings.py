"""Settings of an evaluation."""

import math
from dataclasses import dataclass

from flywheel.errors import SettingsError

# How an evaluation divides its budget. What is left is for scoring what was sampled.
SAMPLING_FRAC = 0.27  # at each of two temperatures, shared by the policies
BEST_OF_FRAC = 0.08  # pools of samples for the best of n
PAIRS_FRAC = 0.15  # scoring held-out pairs
TRAPS_FRAC = 0.03  # scoring responses that were tampered with
DEMONSTRATIONS_FRAC = 0.1  # losses of held-out demonstrations, shared by the policies


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSettings:
    """What is compared, on what, and how much of it."""

    generation: str
    base: str  # folders or hub names of the policies
    sft: str
    policy: str  # the challenger
    reward_model: str
    champion: str = ""  # empty where there is none yet
    evaluation_dataset: str
    preference_dataset: str
    demonstration_dataset: str
    rating_dataset: str = ""  # looked through for evaluation prompts, as the other two
    prompt_limit: int = 600  # a win rate of 0.54 is told from 0.5 with about this many
    pair_limit: int = 5000
    demonstration_limit: int = 500
    trap_limit: int = 300  # held-out responses that are tampered with, ten ways each
    best_of_prompts: int = 100  # on which the best of n is looked at; a tenth of the sampling
    best_of_samples: int = 16  # of each; below 2, it is not looked at
    temperature: float = 1.0  # what is trained; greedy answers are reported beside it
    max_new_tokens: int = 256
    max_tokens: int = 1024
    resamples: int = 2000  # of the bootstrap
    budget_seconds: float = 0.0  # of all work on data; less is measured where short; 0: no limit
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "prompt_limit",
            "pair_limit",
            "demonstration_limit",
            "max_new_tokens",
            "max_tokens",
            "resamples",
            "trap_limit",
            "best_of_prompts",
        ):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")

    def seconds_of(self, frac: float) -> float:
        """A share of the budget; infinite where there is none."""
        return frac * self.budget_seconds if self.budget_seconds else math.inf
