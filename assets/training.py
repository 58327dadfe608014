"""Checkpoints: one training run per model per generation, each in a process of its own.

A knob left empty takes its value from `settings.toml`, then, in the sample world, from the
settings measured for it, then from the settings class of the recipe in `flywheel.train.config`,
where each default carries its reason.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import dagster as dg
from pydantic import Field

from assets.datasets import dataset_key
from assets.partitions import generations
from assets.plots import curves
from assets.resources import Devices, Home
from assets.retry import tried_twice
from flywheel.process.launch import launch
from flywheel.process.settings import build
from flywheel.train import config as recipes
from flywheel.train.base import base_of, resolve_base

BASE_POLICY = dg.AssetKey(["training", "base_policy"])
SFT_POLICY = dg.AssetKey(["training", "sft_policy"])
REWARD_MODEL = dg.AssetKey(["training", "reward_model"])
POLICY = dg.AssetKey(["training", "policy"])

BEATS_CHANCE = dg.AssetCheckSpec(
    "beats_chance",
    asset=REWARD_MODEL,
    blocking=True,
    description="Ranks the preferred response higher in most validation pairs, where it has any.",
)
LEARNED = {
    key: dg.AssetCheckSpec(
        "loss_fell",
        asset=key,
        description="The training loss ended below where it started.",
    )
    for key in (SFT_POLICY, REWARD_MODEL, POLICY)
}


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
    batch: int | None = Field(default=None, description="Prompts per optimizer step.")
    lora_rank: int | None = Field(default=None, description="Rank of LoRA; 0 trains all weights.")
    budget_seconds: float | None = Field(
        default=None, description="Train, and measure, for about this long; 0 means no limit."
    )
    seed: int | None = Field(default=None, description="Seed of initialization and of order.")


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
    plots: tuple[str, ...],
    checks: Callable[[dict[str, Any]], list[dg.AssetCheckResult]] = lambda result: [],
    **inputs: str,
) -> dg.MaterializeResult:
    """Run one recipe for this generation and describe its checkpoint."""
    layout, generation = home.layout, context.partition_key
    run_dir = layout.run(name, generation)
    base = base_of(layout, generation)
    chosen = {
        **(recipes.SAMPLE[stage] if base.is_sample else {}),
        **home.settings("train"),
        **home.settings(stage),
        **knobs.model_dump(exclude_none=True),
    }
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
    plain = {key: value for key, value in result.items() if isinstance(value, int | float | str)}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(result["content_hash"]),
        metadata={
            **plain,
            "curves": curves(run_dir, plots),
            "run_dir": dg.MetadataValue.path(run_dir),
            "dagster/uri": result["checkpoint"],
        },
        check_results=checks(result),
    )


def _line(name: str, row: dict[str, Any]) -> str:
    numbers = (f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, int | float))
    return f"{name}: {', '.join(numbers)}"


def loss_fell(result: dict[str, Any]) -> dg.AssetCheckResult:
    """Whether a run learned anything at all; told, and no reason to stop."""
    return dg.AssetCheckResult(
        check_name="loss_fell",
        passed=result["loss"] < result["start_loss"],
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"start_loss": result["start_loss"], "loss": result["loss"]},
    )


def beats_chance(result: dict[str, Any]) -> dg.AssetCheckResult:
    """Whether validation pairs are ordered better than by a coin; a small dataset may have none."""
    accuracy = result["validation_accuracy_frac"]
    has_none = accuracy is None
    return dg.AssetCheckResult(
        check_name=BEATS_CHANCE.name,
        passed=has_none or accuracy > 0.5,
        severity=dg.AssetCheckSeverity.WARN if has_none else dg.AssetCheckSeverity.ERROR,
        description="no held-out pair in validation" if has_none else None,
        metadata={"validation_accuracy_frac": accuracy},
    )


@dg.asset(
    key=BASE_POLICY,
    deps=[dataset_key("demonstration")],
    partitions_def=generations,
    group_name="training",
    kinds={"pytorch", "deepspeed", "huggingface"},
    pool="accelerators",
    description="The causal language model that training starts from: a Hugging Face folder or "
    "hub name, or the sample world's own small Llama, pre-trained here. One per generation.",
)
def base_policy(
    context: dg.AssetExecutionContext, config: BaseKnobs, home: Home, devices: Devices
) -> dg.MaterializeResult:
    """Adopt a model as it is, or pre-train the small one of the sample world."""
    layout, generation = home.layout, context.partition_key
    choice = home.settings("base") | config.model_dump(exclude_none=True)
    base = resolve_base(layout, generation, choice.pop("base_model", None))
    if not base.is_sample:
        return dg.MaterializeResult(
            data_version=dg.DataVersion(base.content_hash),
            metadata={"model": base.model, "dagster/uri": base.model},
        )
    return train(
        context,
        home,
        devices,
        name="base_policy",
        stage="base",
        recipe="flywheel.train.pretrain",
        settings=recipes.PretrainSettings,
        knobs=BaseKnobs(seed=config.seed),
        plots=("loss", "grad_norm", "tokens_per_second"),
        corpus=base.corpus,
    )


@dg.asset(
    key=SFT_POLICY,
    deps=[BASE_POLICY, dataset_key("demonstration")],
    check_specs=[LEARNED[SFT_POLICY]],
    partitions_def=generations,
    group_name="training",
    kinds={"pytorch", "deepspeed"},
    pool="accelerators",
    description="The base policy fine-tuned to imitate demonstrations (loss on the response "
    "only). One checkpoint per generation.",
)
def sft_policy(
    context: dg.AssetExecutionContext, config: TrainingKnobs, home: Home, devices: Devices
) -> dg.MaterializeResult:
    """Supervised fine-tuning on the frozen demonstrations."""
    layout, generation = home.layout, context.partition_key
    return train(
        context,
        home,
        devices,
        name="sft_policy",
        stage="sft",
        recipe="flywheel.train.sft",
        settings=recipes.SftSettings,
        knobs=config,
        plots=("loss", "grad_norm", "tokens_per_second"),
        model=base_of(layout, generation).model,
        dataset=str(layout.dataset("demonstration", generation)),
        checks=lambda result: [loss_fell(result)],
    )


@dg.asset(
    key=REWARD_MODEL,
    deps=[SFT_POLICY, dataset_key("preference")],
    check_specs=[BEATS_CHANCE, LEARNED[REWARD_MODEL]],
    partitions_def=generations,
    group_name="training",
    kinds={"pytorch", "deepspeed"},
    pool="accelerators",
    description="Scalar reward fitted to preferences with a Bradley-Terry loss on soft labels, "
    "all pairs of a prompt in one element. One checkpoint per generation.",
)
def reward_model(
    context: dg.AssetExecutionContext, config: TrainingKnobs, home: Home, devices: Devices
) -> dg.MaterializeResult:
    """Reward model on the frozen preferences, started from the SFT policy."""
    layout, generation = home.layout, context.partition_key
    return train(
        context,
        home,
        devices,
        name="reward_model",
        stage="reward",
        recipe="flywheel.train.reward",
        settings=recipes.RewardSettings,
        knobs=config,
        plots=("loss", "accuracy_frac", "grad_norm"),
        model=str(layout.checkpoint("sft_policy", generation)),
        dataset=str(layout.dataset("preference", generation)),
        checks=lambda result: [loss_fell(result), beats_chance(result)],
    )


@dg.asset(
    key=POLICY,
    deps=[SFT_POLICY, dataset_key("preference")],
    check_specs=[LEARNED[POLICY]],
    partitions_def=generations,
    group_name="training",
    kinds={"pytorch", "deepspeed"},
    pool="accelerators",
    description="The challenger: the SFT policy after direct preference optimisation, held near "
    "it by the KL term of DPO. One checkpoint per generation.",
)
def policy(
    context: dg.AssetExecutionContext, config: TrainingKnobs, home: Home, devices: Devices
) -> dg.MaterializeResult:
    """DPO on the frozen preferences against the SFT policy."""
    layout, generation = home.layout, context.partition_key
    return train(
        context,
        home,
        devices,
        name="policy",
        stage="dpo",
        recipe="flywheel.train.dpo",
        settings=recipes.DpoSettings,
        knobs=config,
        plots=("loss", "accuracy_frac", "margin", "grad_norm"),
        model=str(layout.checkpoint("sft_policy", generation)),
        dataset=str(layout.dataset("preference", generation)),
        checks=lambda result: [loss_fell(result)],
    )
