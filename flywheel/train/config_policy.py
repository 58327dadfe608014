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
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DpoSettings(RunSettings):
    """Direct preference optimisation against the policy it starts from; an element is a pair."""

    RATES: ClassVar[tuple[float, float]] = (5e-7, 5e-6)  # full: also arXiv:2411.15124

    model: str
    dataset: str
    batch: int = 64
    beta: float = 0.1  # arXiv:2305.18290
    nll_weight: float = 0.0  # of the chosen response, per token: keeps its likelihood up
    min_margin: float = 0.05  # pairs nearer to a coin toss than this teach nothing


RECIPES: dict[str, type[RunSettings]] = {
    "dpo": DpoSettings,
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
    except ImportError as error:
        raise SettingsError(f"no policy recipe {name!r} ({error}); {known}") from error
    settings = getattr(module, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, RunSettings)):
        raise SettingsError(f"{name} has no class Settings that is a RunSettings; {known}")
    if not callable(getattr(module, "run", None)):
        raise SettingsError(f"{name} has no function run(settings, run_dir); {known}")
    return name, settings
