"""How an asset runs one recipe: settings gathered, a process started, its checkpoint described.

A knob left empty takes its value from `settings.toml`, then, in the sample world, from the
settings measured for it, then from the settings class of the recipe in `flywheel.train`, where
each default carries its reason.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import dagster as dg
from pydantic import Field

from assets.plots import curves
from assets.resources import Devices, Home
from assets.retry import tried_twice
from flywheel.errors import SettingsError
from flywheel.lineage import refresh
from flywheel.process.launch import launch
from flywheel.process.settings import build
from flywheel.train.base import base_of
from flywheel.train.config import SAMPLE


class BaseKnobs(dg.Config):
    """Where training starts."""

    base_model: str | None = Field(
        default=None,
        description="Folder or hub name of a causal language model in Hugging Face format, or "
        "'sample': the sample world's own small Llama, pre-trained here.",
    )
    seed: int | None = Field(default=None, description="Seed of initialization and of order.")


class TrainingKnobs(dg.Config):
    """What is worth changing from the launchpad. Empty means: as settings.toml says."""

    epochs: float | None = Field(default=None, description="Passes over the training split.")
    learning_rate: float | None = Field(
        default=None, description="Peak; 0 is the recipe's own, by lora_rank."
    )
    batch: int | None = Field(
        default=None,
        description="Elements per optimizer step: prompts of "
        "the reward model, pairs of DPO, responses of recipes that sample.",
    )
    lora_rank: int | None = Field(default=None, description="Rank of LoRA; 0 trains all weights.")
    budget_seconds: float | None = Field(
        default=None, description="Train, and measure, for about this long; 0 means no limit."
    )
    seed: int | None = Field(default=None, description="Seed of initialization and of order.")


class PolicyKnobs(TrainingKnobs):
    """What is worth changing of the challenger's training."""

    recipe: str | None = Field(
        default=None,
        description="Name of a recipe, or dotted name of a module of your own; empty: as "
        "settings.toml says, and dpo where it says nothing.",
    )


def train(
    context: dg.AssetExecutionContext,
    home: Home,
    devices: Devices,
    *,
    name: str,
    stage: str,
    recipe: str,
    settings: type[Any],
    knobs: dg.Config,
    checks: Callable[[dict[str, Any]], list[dg.AssetCheckResult]] = lambda result: [],
    inputs: dict[str, str],
) -> dg.MaterializeResult:
    """Run one recipe for this generation and describe its checkpoint."""
    layout, generation = home.layout, context.partition_key
    run_dir = layout.run(name, generation)
    base = base_of(layout, generation)
    chosen = {
        **(SAMPLE.get(stage, {}) if base.is_sample else {}),
        **home.settings("train"),
        **home.settings(stage),
        **knobs.model_dump(exclude_none=True),
    }
    inputs = {key: path for key, path in inputs.items() if not left_out(stage, key, chosen)}
    output = str(layout.checkpoint(name, generation))
    start = partial(
        launch,
        recipe,
        build(settings, chosen, output=output, **inputs),
        run_dir,
        devices=devices.count,
        log=context.log.info,
        on_metrics=lambda row: context.log.info(_line(name, row)),
    )
    result = tried_twice(start, context.log.warning)
    refresh(layout)  # what this was trained on is remembered, whatever becomes of its folder
    plain = {key: value for key, value in result.items() if isinstance(value, int | float | str)}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(result["content_hash"]),
        metadata={
            **plain,
            "curves": curves(run_dir),
            "run_dir": dg.MetadataValue.path(run_dir),
            "dagster/uri": result["checkpoint"],
        },
        check_results=checks(result),
    )


def left_out(stage: str, key: str, chosen: dict[str, Any]) -> bool:
    """Whether a team does without an input that the turn has for a recipe: `key = ""`.

    Raises:
        SettingsError: They name another instead, which would belong to no generation.
    """
    if key not in chosen:
        return False
    if chosen[key] != "":
        raise SettingsError(
            f"[{stage}] {key} is {chosen[key]!r}, but a turn trains on what its own generation "
            f'holds; take the line out, or write {key} = "" where the recipe can do without'
        )
    return True


def _line(name: str, row: dict[str, Any]) -> str:
    numbers = (f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, int | float))
    return f"{name}: {', '.join(numbers)}"
