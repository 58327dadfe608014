"""Settings of the recipes that make a challenger of the SFT policy; every default with its reason.

`RECIPES` holds those that come with flywheel. `[policy] recipe` in settings.toml names one of
them, or a module of your own that Python finds: one file with a dataclass `Settings` and a
function `run(settings, run_dir) -> result`, which ends in `start(run, Settings)`.
"""

import importlib
from dataclasses import dataclass
from typing import ClassVar

from flywheel.errors import SettingsError
from flywheel.train.config import RunSettings
from flywheel.train.config_reinforce import (
    BestOfSettings,
    GrpoSettings,
    PpoSettings,
    RlooSettings,
    check_along,
)

# Each loss on pairs and the beta of its paper: none is good at another's.
BETAS = {
    "sigmoid": 0.1,  # arXiv:2305.18290
    "conservative": 0.1,
    "robust": 0.1,  # arXiv:2403.00409
    "ipo": 0.1,  # arXiv:2310.12036
    "hinge": 0.1,
    "length_normalised": 5.0,  # arXiv:2411.15124
    "simpo": 2.5,  # arXiv:2405.14734
    "orpo": 0.1,  # arXiv:2403.07691
}
WITHOUT_REFERENCE = {"simpo", "orpo"}
SMOOTHED = {"conservative", "robust"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DpoSettings(RunSettings):
    """Direct optimisation on pairs, against the policy it starts from; an element is a pair."""

    RATES: ClassVar[tuple[float, float]] = (5e-7, 5e-6)  # full: also arXiv:2411.15124

    model: str
    dataset: str
    references: str = ""  # folder of log-probabilities that runs share; empty: beside the run
    batch: int = 64
    loss: str = (
        "sigmoid"  # DPO; or conservative, robust, ipo, hinge, length_normalised, simpo, orpo
    )
    beta: float = 0.0  # 0 takes the loss's own, from its paper
    label_smoothing: float = 0.0  # labels turned round; 0 takes 0.1 where the loss has one
    gamma: float = 0.0  # by how much SimPO wants to win; 0 takes 1.375
    nll_weight: float = 0.0  # of the chosen response, per token: keeps its likelihood up
    min_margin: float = 0.05  # pairs nearer to a coin toss than this teach nothing
    along: int = 0  # policies put aside on the way, each as large as the last; 6 place a turn

    def __post_init__(self) -> None:
        RunSettings.__post_init__(self)  # super() finds no class in a dataclass with slots
        if self.loss not in BETAS:
            raise SettingsError(f"no loss {self.loss!r} on pairs; there are {', '.join(BETAS)}")
        check_along(self.along)
        if self.beta < 0 or not 0 <= self.label_smoothing < 0.5 or self.nll_weight < 0:
            raise SettingsError(
                f"beta and nll_weight must not be negative and label_smoothing lies below 0.5, got "
                f"{self.beta}, {self.nll_weight}, {self.label_smoothing}"
            )
        if self.label_smoothing and self.loss not in SMOOTHED:
            raise SettingsError(
                f"{self.loss} smooths no label; take conservative or robust, or no label_smoothing"
            )
        if self.gamma and self.loss != "simpo":
            raise SettingsError(f"{self.loss} has no gamma; only simpo has")
        own = {"beta": BETAS[self.loss]}
        own |= {"label_smoothing": 0.1} if self.loss in SMOOTHED else {}
        own |= {"gamma": 1.375} if self.loss == "simpo" else {}  # gamma / beta = 0.55, as in TRL
        own |= {"nll_weight": 1.0} if self.loss == "orpo" else {}  # its other half
        for name, value in own.items():
            object.__setattr__(self, name, getattr(self, name) or value)


@dataclass(frozen=True, slots=True, kw_only=True)
class KtoSettings(RunSettings):
    """Kahneman-Tversky optimisation: single responses judged good or bad; an element is one."""

    RATES: ClassVar[tuple[float, float]] = (5e-7, 5e-6)  # full: arXiv:2402.01306

    model: str
    ratings: str
    references: str = ""  # folder of log-probabilities that runs share; empty: beside the run
    batch: int = 32  # arXiv:2402.01306
    beta: float = 0.1  # arXiv:2402.01306
    along: int = 0  # policies put aside on the way, each as large as the last; 6 place a turn
    criterion: str = "thumbs"  # what was rated; `rating`, or a criterion of a rubric, will do
    threshold: float = 0.5  # of score_frac: above it is desirable, below undesirable, on it neither
    lambda_desirable: float = 0.0  # weights of the two; 0 is chosen from their counts, so that the
    lambda_undesirable: float = 0.0  # desirable outweigh by 1 to 4/3 (arXiv:2402.01306 eq. 8)

    def __post_init__(self) -> None:
        RunSettings.__post_init__(self)
        check_along(self.along)
        if not self.beta > 0:
            raise SettingsError(f"beta must be positive, got {self.beta}")
        if not 0 <= self.threshold <= 1:
            raise SettingsError(f"threshold is a share of full marks, 0 to 1, got {self.threshold}")
        if self.lambda_desirable < 0 or self.lambda_undesirable < 0:
            raise SettingsError(
                f"lambda_desirable and lambda_undesirable must be positive, or 0 to be chosen from "
                f"the counts, got {self.lambda_desirable} and {self.lambda_undesirable}"
            )


RECIPES: dict[str, type[RunSettings]] = {
    "dpo": DpoSettings,
    "kto": KtoSettings,
    "grpo": GrpoSettings,
    "rloo": RlooSettings,
    "ppo": PpoSettings,
    "best_of": BestOfSettings,
}


def recipe_of(name: str) -> tuple[str, type[RunSettings]]:
    """The module and the settings class of a policy recipe, by its name or by its module's.

    Raises:
        SettingsError: There is no such recipe, or the module has no `Settings` and `run`.
    """
    if name in RECIPES:
        return f"flywheel.train.{name}", RECIPES[name]
    known = f"recipes are {', '.join(RECIPES)}, or the dotted name of a module of your own"
    try:
        module = importlib.import_module(name)
    except (ImportError, ValueError, TypeError) as error:
        raise SettingsError(f"no policy recipe {name!r} ({error}); {known}") from error
    settings = getattr(module, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, RunSettings)):
        raise SettingsError(f"{name} has no class Settings that is a RunSettings; {known}")
    if not callable(getattr(module, "run", None)):
        raise SettingsError(f"{name} has no function run(settings, run_dir); {known}")
    return name, settings
