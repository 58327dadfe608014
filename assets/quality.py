"""Quality: which texts repeat, belong together, overlap with evaluation, or tell of a person."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import dagster as dg

from assets.keys import (
    CONTAMINATION,
    INT_TEXTS,
    NEAR_DUPLICATES,
    PERSONAL_DATA,
    PROMPT_GROUPS,
)
from assets.resources import Home
from flywheel.dedup import mark, positive_control
from flywheel.ingest import read_batches
from flywheel.privacy import Policy, screen_texts
from flywheel.warehouse import texts_to_screen

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


@dg.asset(
    key=PERSONAL_DATA,
    deps=[INT_TEXTS],
    kinds={"parquet"},
    group_name="quality",
    pool="warehouse",
    description="Every training text, looked through for e-mail addresses, card and phone numbers, "
    "IBANs, IP addresses and secrets; marts leave out what holds one, but for sources whose policy "
    "allows it. One row per text and role.",
)
def personal_data(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult:
    """Mark texts that hold personal data, and count all that was found by source and kind."""
    layout = home.layout
    policy = Policy.of_settings(home.settings("personal_data"))
    texts = texts_to_screen(layout.warehouse_copy)
    found = screen_texts(texts, layout, policy, log=context.log.info)
    taken: dict[str, Counter[str]] = defaultdict(Counter)
    for batch in read_batches(layout):
        taken[batch.source] += Counter(batch.personal_data)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": found.texts,
            "texts_left_out": found.marked,
            "texts_by_source_and_kind": dg.MetadataValue.json(found.by_source),
            "taken_out_at_landing": dg.MetadataValue.json(
                {source: dict(counts) for source, counts in taken.items() if counts}
            ),
            "policy": dg.MetadataValue.json({"policy": policy.policy, **policy.sources}),
        }
    )
