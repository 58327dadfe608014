"""Settings of the recipes that learn to judge; every default with its reason."""

from dataclasses import dataclass
from typing import ClassVar

from flywheel.errors import SettingsError
from flywheel.train.config import RunSettings

LOSSES = ("bradley_terry", "plackett_luce")
TIES = ("soft", "dropped")


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSettings(RunSettings):
    """A scalar reward from preferences; an element is a prompt with all its pairs."""

    RATES: ClassVar[tuple[float, float]] = (9e-6, 9e-5)  # arXiv:2203.02155, appendix C.2

    model: str
    dataset: str
    demonstrations: str = ""  # their mean score becomes 0; empty: that of preferred responses
    epochs: float = 1.0  # more overfits (arXiv:2203.02155, appendix C.2)
    batch: int = 64  # ibid.
    max_responses: int = 9  # per element; a prompt with more is cut into several
    loss: str = "bradley_terry"  # keeps soft labels; plackett_luce takes only the order
    margin: float = 0.0  # asked of a certain pair, of others by certainty; Llama 3 dropped it
    centering: float = 0.0  # of (r_a + r_b)^2; 0.01 holds scores near 0 (arXiv:2312.09244)
    ties: str = "soft"  # pull to equal; dropped: as in arXiv:2203.02155
    unit_std: bool = False  # divide scores by the demonstrations' deviation (arXiv:2403.17031)

    def __post_init__(self) -> None:
        RunSettings.__post_init__(self)
        if self.loss not in LOSSES or self.ties not in TIES:
            raise SettingsError(
                f"loss is one of {', '.join(LOSSES)} and ties one of {', '.join(TIES)}; got "
                f"{self.loss!r} and {self.ties!r}"
            )
        if self.margin < 0 or self.centering < 0:
            raise SettingsError(
                f"margin and centering must be 0 (off) or more, got {self.margin} and "
                f"{self.centering}"
            )
        if self.margin and self.loss == "plackett_luce":
            raise SettingsError(
                "margin is of a pair, and plackett_luce knows none; set margin to 0 or loss to "
                "bradley_terry"
            )
        if self.unit_std and not self.demonstrations:
            raise SettingsError("unit_std needs demonstrations to take the deviation of")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRewardSettings(RunSettings):
    """A process reward model; an element is a trajectory with its rated steps."""

    RATES: ClassVar[tuple[float, float]] = RewardSettings.RATES

    model: str
    dataset: str = ""  # rated steps
    trajectories: str = ""  # attempts with outcomes; at least one of the two
    epochs: float = 1.0  # as a reward model: more overfits
    batch: int = 64  # trajectories
    max_tokens: int = 4096  # trajectories are long, and one that does not fit is left out
    outcome_weight: float = 1.0  # of a step that an outcome labels, beside a rating; 0: no outcomes

    def __post_init__(self) -> None:
        RunSettings.__post_init__(self)
        if not (self.dataset or self.trajectories):
            raise SettingsError("a step reward model needs dataset, trajectories, or both")
        if self.outcome_weight < 0:
            raise SettingsError(
                f"outcome_weight must be 0 (no outcomes) or more, got {self.outcome_weight}"
            )
