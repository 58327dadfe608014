"""Quality: which texts repeat, which prompts belong together, what overlaps with evaluation."""

from collections.abc import Iterator

import dagster as dg

from assets.keys import CONTAMINATION, INT_TEXTS, NEAR_DUPLICATES, PROMPT_GROUPS
from assets.resources import Home
from flywheel.dedup import mark, positive_control

CONTROL = dg.AssetCheckSpec(
    "positive_control_fires",
    asset=CONTAMINATION,
    blocking=True,
    description="A planted copy of evaluation prompts is caught, so silence means cleanliness.",
)


@dg.multi_asset(
    name="duplicates",
    specs=[
        dg.AssetSpec(
            NEAR_DUPLICATES,
            deps=[INT_TEXTS],
            kinds={"numpy", "parquet"},
            description="Prompts, responses and trajectories that repeat another at Jaccard "
            "similarity of at least the threshold. One row per repeated text.",
        ),
        dg.AssetSpec(
            PROMPT_GROUPS,
            deps=[INT_TEXTS],
            kinds={"numpy", "parquet"},
            description="Prompts that must share a split: near duplicates and given groups. "
            "One row per prompt.",
        ),
        dg.AssetSpec(
            CONTAMINATION,
            deps=[INT_TEXTS],
            kinds={"numpy", "parquet"},
            description="Training texts that overlap an evaluation prompt; marts leave them out. "
            "One row per text and evaluation prompt.",
        ),
    ],
    check_specs=[CONTROL],
    group_name="quality",
    pool="warehouse",
)
def duplicates(context: dg.AssetExecutionContext, home: Home) -> Iterator[dg.MaterializeResult]:
    """Mark what repeats and what leaks; marks only, nothing is deleted here."""
    layout = home.layout
    report = mark(
        layout.warehouse_copy, layout, log=context.log.info, **home.settings("deduplication")
    )
    for key, part in (
        (NEAR_DUPLICATES, report.near_duplicates),
        (PROMPT_GROUPS, report.prompt_groups),
    ):
        yield dg.MaterializeResult(asset_key=key, metadata=part)
    caught, planted = positive_control(layout.warehouse_copy)
    yield dg.MaterializeResult(
        asset_key=CONTAMINATION,
        metadata=report.contamination,
        check_results=[
            dg.AssetCheckResult(
                check_name=CONTROL.name,
                passed=caught == planted,
                metadata={"planted": planted, "caught": caught},
            )
        ],
    )
