"""Quality: what repeats, leaks or tells of a person, and how far labels can be trusted."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import dagster as dg

from assets.keys import (
    ANNOTATOR_RELIABILITY,
    CONTAMINATION,
    INT_COMPARISONS,
    INT_RATINGS,
    INT_TEXTS,
    LABEL_AGREEMENT,
    NEAR_DUPLICATES,
    PAIR_POSTERIORS,
    PERSONAL_DATA,
    PROMPT_GROUPS,
)
from assets.resources import Home
from flywheel.dedup import mark, positive_control
from flywheel.ingest import read_batches
from flywheel.labels import weigh_labels
from flywheel.privacy import Policy, screen_texts
from flywheel.warehouse import open_texts_to_screen

CONTROL = dg.AssetCheckSpec(
    "positive_control_fires",
    asset=CONTAMINATION,
    blocking=True,
    description="Planted copies of evaluation prompts are caught, and no long prompt goes "
    "unsought: silence means cleanliness.",
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
    control = positive_control(layout.warehouse_copy)
    yield dg.MaterializeResult(
        asset_key=CONTAMINATION,
        metadata=report.contamination
        | {
            "evaluation_prompts_looked_for_whole": control.looked_for_whole,
            "evaluation_prompts_too_short_to_look_for": control.too_short,
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=CONTROL.name,
                passed=control.passed,
                description=control.problem,
                metadata={
                    "planted": control.planted,
                    "caught": control.caught,
                    "unprotected": len(control.unprotected),
                },
            )
        ],
    )


@dg.multi_asset(
    name="label_weights",
    specs=[
        dg.AssetSpec(
            PAIR_POSTERIORS,
            deps=[INT_COMPARISONS],
            kinds={"numpy", "parquet"},
            description="What the votes on a pair of responses come to, every annotator weighed by "
            "his errors (Dawid and Skene). One row per pair.",
        ),
        dg.AssetSpec(
            ANNOTATOR_RELIABILITY,
            deps=[INT_COMPARISONS],
            kinds={"numpy", "parquet"},
            description="How often annotators are right, on gold pairs and by all votes, and "
            "whether they lean to length. One row per annotator, overall and per domain.",
        ),
        dg.AssetSpec(
            LABEL_AGREEMENT,
            deps=[INT_COMPARISONS, INT_RATINGS],
            kinds={"numpy", "parquet"},
            description="How far annotators agree beyond chance (Krippendorff's alpha). One row "
            "per kind of label, domain and version of the guidelines.",
        ),
    ],
    group_name="quality",
    pool="warehouse",
)
def label_weights(context: dg.AssetExecutionContext, home: Home) -> Iterator[dg.MaterializeResult]:
    """Weigh all votes; marks only, the marts take them over."""
    layout = home.layout
    report = weigh_labels(
        layout.warehouse_copy, layout, log=context.log.info, **home.settings("labels")
    )
    for key, part in (
        (PAIR_POSTERIORS, report.pair_posteriors),
        (ANNOTATOR_RELIABILITY, report.annotator_reliability),
        (LABEL_AGREEMENT, report.label_agreement),
    ):
        yield dg.MaterializeResult(asset_key=key, metadata=part)


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
    with open_texts_to_screen(layout.warehouse_copy) as texts:
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
