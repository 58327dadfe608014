"""Settings of the annotation queue."""

from dataclasses import dataclass

from flywheel.errors import SettingsError


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
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.random_frac <= 1:
            raise SettingsError(f"random_frac must be in (0, 1], got {self.random_frac}")
        for name in ("prompts", "length"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.candidates < 2:
            raise SettingsError(f"candidates must be at least 2, got {self.candidates}")
