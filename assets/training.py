"""Checkpoints: one training run per model per generation, each in a process of its own."""

from dataclasses import fields
from typing import Any

import dagster as dg

from assets.datasets import dataset_key
from assets.keys import STEP_REWARD_MODEL
from assets.partitions import generations
from assets.recipe import BaseKnobs, PolicyKnobs, TrainingKnobs, train
from assets.resources import Devices, Home
from flywheel.train.base import base_of, resolve_base
from flywheel.train.config import PretrainSettings, SftSettings
from flywheel.train.config_policy import recipe_of
from flywheel.train.config_reward import RewardSettings, StepRewardSettings

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
    for key in (SFT_POLICY, REWARD_MODEL, STEP_REWARD_MODEL)
}
IMPROVED = dg.AssetCheckSpec(
    "improved",
    asset=POLICY,
    description="The training loss, or where the recipe samples the reward of held-out prompts, "
    "ended better than it started.",
)


DEFAULT_RECIPE = "dpo"


def loss_fell(result: dict[str, Any]) -> dg.AssetCheckResult:
    """Whether a run learned anything at all; told, and no reason to stop."""
    return dg.AssetCheckResult(
        check_name="loss_fell",
        passed=result["loss"] < result["start_loss"],
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"start_loss": result["start_loss"], "loss": result["loss"]},
    )


def improved(result: dict[str, Any]) -> dg.AssetCheckResult:
    """Whether a challenger is better at what its recipe is after than at its start.

    Where it learns from what it samples, a loss says nothing: the reward of held-out prompts does.
    """
    measured = result.get("held_out")
    facts: dict[str, Any] = {"start_loss": result["start_loss"], "loss": result["loss"]}
    passed, why = result["loss"] < result["start_loss"], None
    if not result["steps"]:
        passed, why = False, "no step was taken: the checkpoint is its start"
    elif measured is not None and len(measured) < 2:
        passed, why = False, "no prompt in validation to measure the reward on"
    elif measured is not None:
        first, last = (measured[place]["held_out_reward"] for place in (0, -1))
        passed, facts = last > first, {"start_reward": first, "reward": last}
    return dg.AssetCheckResult(
        check_name=IMPROVED.name,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=facts,
        description=why,
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
        metadata={
            "validation_accuracy_frac": accuracy,
            "validation_annotator_accuracy_frac": result.get("validation_annotator_accuracy_frac"),
        },
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
        settings=PretrainSettings,
        knobs=BaseKnobs(seed=config.seed),
        inputs={"corpus": base.corpus},
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
        settings=SftSettings,
        knobs=config,
        inputs={
            "model": base_of(layout, generation).model,
            "dataset": str(layout.dataset("demonstration", generation)),
        },
        checks=lambda result: [loss_fell(result)],
    )


@dg.asset(
    key=REWARD_MODEL,
    deps=[SFT_POLICY, dataset_key("preference"), dataset_key("demonstration")],
    check_specs=[BEATS_CHANCE, LEARNED[REWARD_MODEL]],
    partitions_def=generations,
    group_name="training",
    kinds={"pytorch", "deepspeed"},
    pool="accelerators",
    description="Scalar reward fitted to preferences, all pairs of a prompt in one element: "
    "Bradley-Terry on soft labels, or as [reward] says. Demonstrations average 0. One checkpoint "
    "per generation.",
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
        settings=RewardSettings,
        knobs=config,
        inputs={
            "model": str(layout.checkpoint("sft_policy", generation)),
            "dataset": str(layout.dataset("preference", generation)),
            "demonstrations": str(layout.dataset("demonstration", generation)),
        },
        checks=lambda result: [loss_fell(result), beats_chance(result)],
    )


@dg.asset(
    key=STEP_REWARD_MODEL,
    deps=[SFT_POLICY, dataset_key("step_rating"), dataset_key("trajectory")],
    check_specs=[LEARNED[STEP_REWARD_MODEL]],
    partitions_def=generations,
    group_name="training",
    kinds={"pytorch", "deepspeed"},
    pool="accelerators",
    description="How likely each step of a trajectory is good, from rated steps and from outcomes "
    "of attempts. No part of a turn: materialize it, or launch the job `step_reward`, where there "
    "are any. One checkpoint per generation.",
)
def step_reward_model(
    context: dg.AssetExecutionContext, config: TrainingKnobs, home: Home, devices: Devices
) -> dg.MaterializeResult:
    """Process reward model on what this generation froze, started from the SFT policy."""
    layout, generation = home.layout, context.partition_key
    return train(
        context,
        home,
        devices,
        name="step_reward_model",
        stage="step_reward",
        recipe="flywheel.train.step_reward",
        settings=StepRewardSettings,
        knobs=config,
        inputs={
            "model": str(layout.checkpoint("sft_policy", generation)),
            "dataset": str(layout.dataset("step_rating", generation)),
            "trajectories": str(layout.dataset("trajectory", generation)),
        },
        checks=lambda result: [loss_fell(result)],
    )


@dg.asset(
    key=POLICY,
    deps=[
        SFT_POLICY,
        REWARD_MODEL,
        *(dataset_key(name) for name in ("demonstration", "preference", "rating")),
    ],
    check_specs=[IMPROVED],
    partitions_def=generations,
    group_name="training",
    kinds={"pytorch", "deepspeed"},
    pool="accelerators",
    description="The challenger: the SFT policy after the recipe that `[policy] recipe` in "
    "settings.toml names, or the launchpad; direct preference optimisation where none is named. "
    "One checkpoint per generation.",
)
def policy(
    context: dg.AssetExecutionContext, config: PolicyKnobs, home: Home, devices: Devices
) -> dg.MaterializeResult:
    """Train a challenger on what this generation froze, by the recipe in use."""
    layout, generation = home.layout, context.partition_key
    chosen = home.settings("policy") | config.model_dump(exclude_none=True)
    name = chosen.pop("recipe", DEFAULT_RECIPE)
    module, settings = recipe_of(name)
    offered = {
        "model": layout.checkpoint("sft_policy", generation),
        "reward_model": layout.checkpoint("reward_model", generation),
        "dataset": layout.dataset("preference", generation),
        "demonstrations": layout.dataset("demonstration", generation),
        "ratings": layout.dataset("rating", generation),
        "references": layout.references,
    }
    known = {field.name for field in fields(settings)}
    return train(
        context,
        home,
        devices,
        name="policy",
        stage=name.rpartition(".")[2],
        recipe=module,
        settings=settings,
        knobs=TrainingKnobs(**chosen),
        checks=lambda result: [improved(result)],
        inputs={key: str(path) for key, path in offered.items() if key in known},
    )
