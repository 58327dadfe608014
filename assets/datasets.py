"""Frozen datasets: one immutable, content-hashed snapshot of a mart per generation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq

from assets.columns import parquet_columns
from assets.keys import (
    FCT_DEMONSTRATIONS,
    FCT_EVALUATION_PROMPTS,
    FCT_PREFERENCES,
    FCT_RATINGS,
    FCT_STEP_RATINGS,
    FCT_TRAJECTORIES,
)
from assets.partitions import generations
from assets.resources import Home
from flywheel.datasets.manifest import DatasetManifest
from flywheel.erasure.frozen import erased_uids
from flywheel.erasure.plan import alone
from flywheel.errors import FlywheelError
from flywheel.evaluate.statistics.trials import reliability_of
from flywheel.lineage import refresh
from flywheel.rights import Terms
from flywheel.warehouse import freeze, groups_in_two_splits, newest_batch_number

DATASETS = {
    # name: (mart, key, what trains or tests on it)
    "demonstration": (
        FCT_DEMONSTRATIONS,
        "demonstration_id",
        "Responses to imitate; trains the SFT policy. One row per demonstration.",
    ),
    "preference": (
        FCT_PREFERENCES,
        "preference_id",
        "Pairs with the probability that one is better; trains reward models and DPO policies. "
        "One row per unordered pair of responses.",
    ),
    "rating": (
        FCT_RATINGS,
        "rating_id",
        "Single responses with a share of full marks: ratings, criteria of rubrics, thumbs; trains "
        "KTO policies. One row per judgement and criterion.",
    ),
    "trajectory": (
        FCT_TRAJECTORIES,
        "trajectory_id",
        "Attempts of agents with their outcome; trains process reward models. One row per "
        "trajectory.",
    ),
    "step_rating": (
        FCT_STEP_RATINGS,
        "step_rating_id",
        "Steps with how good annotators found them; trains process reward models. One row per "
        "step.",
    ),
    "evaluation": (
        FCT_EVALUATION_PROMPTS,
        "evaluation_prompt_id",
        "Prompts that are only tested on. One row per prompt and evaluation set.",
    ),
}


def dataset_key(name: str) -> dg.AssetKey:
    """Key of the frozen dataset `name`."""
    return dg.AssetKey(["datasets", f"{name}_dataset"])


def _checks(name: str) -> Sequence[dg.AssetCheckSpec]:
    key = dataset_key(name)
    intact = dg.AssetCheckSpec(
        "matches_its_manifest",
        asset=key,
        blocking=True,
        description="The files on disk hash to what their manifest says.",
    )
    if name == "evaluation":
        return [intact]
    return [
        intact,
        dg.AssetCheckSpec(
            "splits_share_no_group",
            asset=key,
            blocking=True,
            description="No group of related prompts is both trained on and tested on.",
        ),
    ]


def _dataset(name: str, mart: dg.AssetKey, row_key: str, description: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=dataset_key(name),
        deps=[mart],
        check_specs=_checks(name),
        partitions_def=generations,
        group_name="datasets",
        kinds={"duckdb", "parquet"},
        pool="warehouse",
        description=description + " Never changed once written: new feedback makes a new "
        "generation.",
    )
    def snapshot(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult:
        layout, generation = home.layout, context.partition_key
        directory = layout.dataset(name, generation)
        with alone(layout):  # no erasure begins or ends meanwhile
            manifest = freeze(
                layout.warehouse_copy,
                table=".".join(mart.path),
                key=row_key,
                directory=directory,
                name=name,
                generation=generation,
                trained_through_batch=newest_batch_number(layout.warehouse_copy),
                licences=home.settings("licences").get("permitted", ()),
                terms=_terms(name, home),
                erased=erased_uids(layout),
            )
        try:
            manifest.verify(directory)
            problem = ""
        except FlywheelError as error:
            problem = str(error)
        results = [
            dg.AssetCheckResult(
                check_name="matches_its_manifest", passed=not problem, description=problem or None
            )
        ]
        if name != "evaluation":
            leaked = groups_in_two_splits(directory)
            results.append(
                dg.AssetCheckResult(
                    check_name="splits_share_no_group",
                    passed=not leaked,
                    metadata={"leaked": len(leaked), "examples": leaked[:10]},
                )
            )
        refresh(layout)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(manifest.content_hash),
            metadata=_metadata(manifest, directory),
            check_results=results,
        )

    return snapshot


def _terms(name: str, home: Home) -> Terms:
    """What a dataset is for; what is only tested on asks for no more than that.

    Where no use is set, licences are not asked; what people refused or took back is left out all
    the same.
    """
    said = {
        key: value
        for key, value in home.settings("licences").items()
        if key not in ("permitted", "base")
    }
    if "use" not in said:
        return Terms(**({"refused": "exclude"} | said))
    return Terms(**(said | {"use": "evaluate"} if name == "evaluation" else said))


def _metadata(manifest: DatasetManifest, directory: Path) -> dict[str, Any]:
    some_split = directory / next(iter(manifest.files))  # they all have the same columns
    told = {"reliability": _reliability(directory)} if manifest.name == "trajectory" else {}
    return {
        **told,
        "dagster/row_count": manifest.rows,
        "dagster/column_schema": parquet_columns(pq.read_schema(some_split)),
        "dagster/uri": str(directory),
        "rows_by_split": dg.MetadataValue.json(manifest.rows_by_split),
        "records": manifest.record_count,
        "annotators": manifest.annotator_count,
        "cost_usd": manifest.cost_usd,
        "sources": dg.MetadataValue.json(manifest.sources),
        "licences": dg.MetadataValue.json(manifest.licences),
        "use": manifest.use or "not asked",
        "rows_refused": manifest.rows_refused,
        "duties": ", ".join(manifest.duties) or "none",
        "trained_through_batch": manifest.trained_through_batch,
    }


def _reliability(directory: Path) -> dg.MetadataValue:
    """pass@k and pass^k as a table."""
    lines = [
        f"| {one['k']} | {one['tasks']} | {one['pass_at']:.3f} | {one['pass_all']:.3f} |"
        for one in reliability_of(directory)
    ]
    return dg.MetadataValue.md(
        "| k | tasks | pass@k | pass^k |\n|--|--|--|--|\n" + "\n".join(lines)
    )


datasets = [_dataset(name, *facts) for name, facts in DATASETS.items()]
