"""Evaluation sets: what a generation is tested on, frozen, numbered and looked for in training."""

from typing import Any

import dagster as dg

from assets.datasets import dataset_key
from assets.keys import CONTAMINATION
from assets.partitions import generations
from assets.resources import Home
from flywheel.datasets.manifest import read_split
from flywheel.evaluate.sets.leaks import decontamination
from flywheel.evaluate.sets.registry import enter_sets
from flywheel.process.launch import write_json

EVALUATION_SETS = dg.AssetKey(["evaluation", "evaluation_sets"])
TRAINED_ON = ("demonstration", "preference", "rating", "trajectory", "step_rating")

NOT_TRAINED_ON = dg.AssetCheckSpec(
    "no_prompt_is_trained_on",
    asset=EVALUATION_SETS,
    description="No prompt of an evaluation set stands in a frozen row that something is trained "
    "on. The gate rejects a challenger of such data whatever it scores.",
)


@dg.asset(
    key=EVALUATION_SETS,
    deps=[dataset_key("evaluation"), CONTAMINATION, *map(dataset_key, TRAINED_ON)],
    check_specs=[NOT_TRAINED_ON],
    partitions_def=generations,
    group_name="evaluation",
    kinds={"parquet"},
    description="Sets of evaluation prompts, each version frozen and entered in a registry with "
    "its hash, licence, graders and decontamination. One row per set.",
)
def evaluation_sets(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult:
    """Enter what is new, and look for every prompt in the data of this generation."""
    layout, generation = home.layout, context.partition_key
    rows = read_split(layout.dataset("evaluation", generation), "test").to_pylist()
    entered = enter_sets(layout, rows, generation)
    folder = layout.run("evaluation_sets", generation)
    write_json(folder / "sets.json", [one.identity for one in entered])
    datasets = [layout.dataset(name, generation) for name in TRAINED_ON]
    clean = decontamination(rows, datasets, layout.derived("contamination"))
    write_json(folder / "decontamination.json", clean)
    for one in entered:
        if one.generation == generation:
            context.log.info(
                f"{one.name}: version {one.version}, {one.added} prompts added, {one.removed} "
                f"removed, {one.changed} changed"
            )
    held = {name: told for name, told in clean.items() if told["trained_on"]}
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(entered),
            "sets": dg.MetadataValue.md(_table(entered, clean)),
            "decontamination": dg.MetadataValue.json(clean),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=NOT_TRAINED_ON.name, passed=not held, metadata={"held": held}
            )
        ],
    )


def _table(entered: list[Any], clean: dict[str, dict[str, Any]]) -> str:
    rows = "\n".join(
        f"| {one.name} | {one.version} | `{one.content_hash[:12]}` | {one.prompts} "
        f"| {', '.join(one.graders)} | {', '.join(one.licences)} | {', '.join(one.sources)} "
        f"| {sum(clean[one.name]['left_out'].values())} | {clean[one.name]['trained_on']} |"
        for one in entered
    )
    return (
        "| set | version | hash | prompts | graded by | licence | from | overlap left out "
        "| trained on |\n|--|--|--|--|--|--|--|--|--|\n" + rows
    )
