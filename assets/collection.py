"""Collection: what the challenger is least sure of goes back to annotators."""

from functools import partial

import dagster as dg
from pydantic import Field

from assets.datasets import dataset_key
from assets.partitions import generations
from assets.resources import Home
from assets.retry import tried_twice
from assets.training import POLICY, REWARD_MODEL, SFT_POLICY
from flywheel.collect.settings import QueueSettings
from flywheel.process.launch import launch
from flywheel.process.settings import build
from flywheel.train.base import base_of
from flywheel.train.config import SAMPLE

QUEUE = dg.AssetKey(["collection", "annotation_queue"])


class QueueKnobs(dg.Config):
    """What is worth changing from the launchpad. Empty means: as settings.toml says."""

    length: int | None = Field(default=None, description="Prompts to ask annotators about.")
    budget_seconds: float | None = Field(
        default=None, description="Consider fewer prompts, to take about this long; 0: no limit."
    )
    random_frac: float | None = Field(default=None, description="Share chosen at random.")


@dg.asset(
    key=QUEUE,
    deps=[SFT_POLICY, REWARD_MODEL, POLICY, dataset_key("preference")],
    partitions_def=generations,
    group_name="collection",
    kinds={"pytorch", "json"},
    pool="accelerators",
    description="What should be judged next: answers that the reward model can hardly tell apart, "
    "and an always-random share, of prompts not asked before. One line per prompt, with its "
    "candidates.",
)
def annotation_queue(
    context: dg.AssetExecutionContext, config: QueueKnobs, home: Home
) -> dg.MaterializeResult:
    """Sample candidates on training prompts and choose among them."""
    layout, generation = home.layout, context.partition_key
    chosen = {
        **(SAMPLE["collect"] if base_of(layout, generation).is_sample else {}),
        **home.settings("collect"),
        **config.model_dump(exclude_none=True),
    }
    settings = build(
        QueueSettings,
        chosen,
        generation=generation,
        policy=str(layout.checkpoint("policy", generation)),
        sft=str(layout.checkpoint("sft_policy", generation)),
        reward_model=str(layout.checkpoint("reward_model", generation)),
        preference_dataset=str(layout.dataset("preference", generation)),
        output=str(layout.annotation_queue / f"{generation}.jsonl"),
    )
    run_dir = layout.run("annotation_queue", generation)
    start = partial(launch, "flywheel.collect.run", settings, run_dir, log=context.log.info)
    result = tried_twice(start, context.log.warning)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": result["lines"],
            "random": result["random"],
            "prompts_considered": result["prompts_considered"],
            "prompts_without_time": result["prompts_without_time"],
            "asked_before": result["asked_before"],
            "dagster/uri": result["queue"],
        }
    )
