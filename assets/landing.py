"""Landing: whatever lies in the inbox becomes typed records, quarantined lines or raw sources."""

from collections import Counter
from collections.abc import Iterator
from functools import partial

import dagster as dg
from pydantic import Field

from assets.columns import parquet_columns
from assets.keys import LANDED, QUARANTINE, RAW
from assets.pages import page_link
from assets.plots import failures
from assets.resources import Home
from flywheel import lake
from flywheel.errors import StoreUnreachable
from flywheel.ingest import (
    BatchManifest,
    landing_counts,
    left_alone,
    quarantine_reasons,
    read_batches,
    unaccounted,
    why_blocked,
)
from flywheel.layout import Layout
from flywheel.privacy import Policy
from flywheel.quality import Thresholds, build_data_docs, expectations, judge
from flywheel.stores import check_writer, land_all

DESCRIPTIONS = {
    "demonstration": "Responses written to be imitated. One row per demonstration.",
    "comparison": "Choices between two responses, in the order shown. One row per choice.",
    "ranking": "Orders of K responses to one prompt, ties allowed. One row per ranking.",
    "rating": "Numbers given to a response on a stated scale. One row per rating.",
    "critique": "What is wrong with a response, often with the correction. One row per critique.",
    "rubric_score": "Answers to one criterion of a rubric. One row per criterion and response.",
    "trajectory": "What agents did, step by step, and how it ended. One row per attempt.",
    "step_rating": "Numbers given to one step of an attempt. One row per rating.",
    "interaction": "Served turns with thumbs or edits. One row per turn.",
    "evaluation_prompt": "Prompts that are only ever tested on. One row per prompt and set.",
}

BALANCED = dg.AssetCheckSpec(
    "every_line_accounted_for",
    asset=QUARANTINE,
    blocking=True,
    description="Lines of every batch = rows landed + rows quarantined + blank lines, and the lake "
    "holds as many rows of it as its manifest says.",
)
WITHIN_LIMIT = dg.AssetCheckSpec(
    "quarantine_share_within_limit",
    asset=QUARANTINE,
    blocking=True,
    description="No batch lost more than the set share of its lines to quarantine.",
)
ANSWERED = dg.AssetCheckSpec(
    "inboxes_in_stores_answered",
    asset=QUARANTINE,
    description="Every object store that [storage] inbox names could be listed and read.",
)
EXPECTATIONS = [
    dg.AssetCheckSpec(one.name, asset=LANDED[kind], description=one.description)
    for kind in LANDED
    for one in expectations(kind)
]
MOST_LEFT = 100  # files left alone that the metadata names; `left.json` in the lake has all


class LandingKnobs(dg.Config):
    """What is worth changing from the launchpad; `[landing]` in settings.toml holds the rest."""

    paths: list[str] = Field(
        default=[],
        description="Files, folders or addresses (s3://bucket/folder, hf://datasets/owner/name); "
        "none means the inbox, here and in [storage].",
    )
    format: str = Field(default="auto", description="Format of all of them; auto looks inside.")
    source: str | None = Field(
        default=None, description="Name of the source; none takes the folder's name."
    )
    quarantine_limit: float | None = Field(
        default=None, description="Largest share of a batch's lines that may be quarantined."
    )
    quiet_seconds: float | None = Field(
        default=None, description="A file that changed less than this ago is left for later."
    )


@dg.multi_asset(
    name="landing",
    specs=[
        *(
            dg.AssetSpec(key, description=DESCRIPTIONS[kind], kinds={"parquet"})
            for kind, key in LANDED.items()
        ),
        dg.AssetSpec(
            QUARANTINE,
            description="What could not be taken in, with file, line, offset, reason and the "
            "bytes themselves. One row per line or row refused.",
            kinds={"parquet", "greatexpectations"},
        ),
        dg.AssetSpec(
            RAW,
            description="Tables in no known format, landed untouched; a staging model gives each "
            "its meaning. One row per row delivered.",
            kinds={"parquet"},
        ),
    ],
    check_specs=[BALANCED, WITHIN_LIMIT, ANSWERED, *EXPECTATIONS],
    group_name="landing",
)
def landing(
    context: dg.AssetExecutionContext, config: LandingKnobs, home: Home
) -> Iterator[dg.MaterializeResult]:
    """Read every new file of the inbox, judge its rows, and append what passes to the lake."""
    layout = home.layout
    settings = home.settings("landing") | config.model_dump(exclude_none=True, exclude={"paths"})
    _refuse_second_writer(home, context.log)
    personal = Policy.of_settings(home.settings("personal_data"))
    thresholds = Thresholds.of_settings(home.settings("quality"))
    landed = land_all(
        config.paths,
        layout,
        home.storage,
        judge=partial(judge, thresholds=thresholds),
        personal=personal,
        log=context.log.info,
        **settings,
    )
    batches = landed.batches
    docs = build_data_docs(layout)
    counts = landing_counts(layout)  # a file that grew lies there twice, and counts once
    every = read_batches(layout)
    rows = sum((Counter(one.rows_by_kind) for one in every), Counter[str]())
    for kind, key in LANDED.items():
        yield dg.MaterializeResult(
            asset_key=key,
            metadata={
                "dagster/row_count": rows.get(kind, 0),
                "records": counts.get(kind, 0),
                "new_rows": sum(batch.new_rows_by_kind.get(kind, 0) for batch in batches),
                "dagster/column_schema": parquet_columns(lake.SCHEMAS[kind]),
                "folder": dg.MetadataValue.path(layout.landing(kind)),
                "data_docs": page_link(layout, docs),
                "failures_over_time": failures(kind, every),
            },
            check_results=_outcomes(kind, key, _latest(kind, batches, every), thresholds),
        )
    yield dg.MaterializeResult(
        asset_key=QUARANTINE,
        metadata=_quarantine_metadata(quarantine_reasons(layout), batches)
        | {"left_alone": dg.MetadataValue.json(left_alone(layout)[:MOST_LEFT])},
        check_results=[*_batch_checks(layout, batches), _answered(landed.troubles)],
    )
    yield dg.MaterializeResult(
        asset_key=RAW,
        metadata={
            "dagster/row_count": counts.get("raw", 0),
            "dagster/column_schema": parquet_columns(lake.RAW),
            "folder": dg.MetadataValue.path(layout.lake / "raw"),
        },
    )


def _latest(
    kind: str, batches: list[BatchManifest], every: list[BatchManifest]
) -> list[BatchManifest]:
    """The batches of this run with rows of a kind, or else the newest that had any."""
    judged = {one.number for one in every if any(found.kind == kind for found in one.expectations)}
    new = [one for one in batches if one.number in judged]
    return new or [one for one in every if one.number == max(judged, default=0)]


def _outcomes(
    kind: str, key: dg.AssetKey, batches: list[BatchManifest], thresholds: Thresholds
) -> list[dg.AssetCheckResult]:
    """One result per expectation, summed over `batches`."""
    results = []
    for one in expectations(kind):
        seen = [
            found
            for batch in batches
            for found in batch.expectations
            if (found.kind, found.name) == (kind, one.name)
        ]
        checked, failed = (sum(getattr(f, n) for f in seen) for n in ("checked", "failed"))
        results.append(
            dg.AssetCheckResult(
                check_name=one.name,
                asset_key=key,
                passed=failed <= thresholds.share_of(one.name) * checked,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={
                    "checked": checked,
                    "failed": failed,
                    "failed_share": failed / checked if checked else 0.0,
                    "batches": len(seen),
                },
            )
        )
    return results


def _batch_checks(layout: Layout, batches: list[BatchManifest]) -> list[dg.AssetCheckResult]:
    blocked = [one for one in batches if one.blocked]
    why = "\n".join(_told_blocked(one, layout) for one in blocked)
    found = (
        (BALANCED, unaccounted(layout), None),
        (WITHIN_LIMIT, [one.file for one in blocked], why),
    )
    return [
        dg.AssetCheckResult(
            check_name=spec.name,
            asset_key=QUARANTINE,
            passed=not bad,
            description=told,
            metadata={
                "batches": len(batches),
                "bad_batches": dg.MetadataValue.json(bad),
            },
        )
        for spec, bad, told in found
    ]


def _answered(troubles: list[str]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=ANSWERED.name,
        asset_key=QUARANTINE,
        passed=not troubles,
        severity=dg.AssetCheckSeverity.WARN,  # they are asked again, and what is here lands
        description="\n".join(troubles) or None,
    )


def _refuse_second_writer(home: Home, log: dg.DagsterLogManager) -> None:
    """Land nothing into a lake that another home has gone on with; without an answer, go on."""
    if home.storage.lake:
        try:
            check_writer(home.layout, home.storage)
        except StoreUnreachable as error:
            log.warning(str(error))


def _told_blocked(batch: BatchManifest, layout: Layout) -> str:
    """A blocked file, why, and what to do; a higher limit does not help an unreadable one."""
    remedy = ", or raise [landing] quarantine_limit in settings.toml" if batch.sure else ""
    return f"{batch.file}: {why_blocked(batch, layout)}; repair or remove it{remedy}"


def _quarantine_metadata(
    reasons: dict[str, int], batches: list[BatchManifest]
) -> dict[str, dg.MetadataValue | dg.TableSchema | int]:
    rows = "\n".join(
        f"| {one.file} | {one.format} | {one.lines} | {one.rows} | {one.quarantined} "
        f"| {one.blanks} |"
        for one in batches
    )
    return {
        "dagster/row_count": sum(reasons.values()),
        "dagster/column_schema": parquet_columns(lake.QUARANTINE),
        "by_reason": dg.MetadataValue.json(reasons),
        "new_batches": dg.MetadataValue.md(
            "| file | format | lines | rows | quarantined | blank |\n|---|---|--:|--:|--:|--:|\n"
            + rows
        ),
    }
