"""The durable copy of the lake in an object store: an asset, a job and a sensor that catches up.

What is set is `[storage]` in settings.toml. A store that fails stops nothing else: the check says
so, `flywheel status` too, and the sensor tries again until nothing waits.
"""

import time
from collections.abc import Callable
from typing import Any

import dagster as dg
from pydantic import Field

from assets.automation import RUNNING, in_flight
from assets.keys import DURABLE_COPY, LANDED, RAW
from assets.resources import Home
from flywheel.errors import StoreError, StoreUnreachable
from flywheel.stores import store_facts, upload

RETRY_SECONDS = 900.0  # between two tries of a store that failed
IN_STORE = dg.AssetCheckSpec(
    "everything_is_in_the_store",
    asset=DURABLE_COPY,
    description="Nothing waits to be copied to the object store that [storage] lake names.",
)


class CopyKnobs(dg.Config):
    """What is worth changing from the launchpad; `[storage]` in settings.toml holds the rest."""

    remove: bool = Field(
        default=False, description="Carry over even that most of what landed is gone here."
    )


@dg.asset(
    key=DURABLE_COPY,
    deps=[*LANDED.values(), RAW],
    check_specs=[IN_STORE],
    group_name="landing",
    kinds={"s3", "parquet"},
    description="The lake, datasets and decisions in an object store, written by commits, from "
    "which `flywheel restore` brings back a home. One commit per change.",
)
def durable_copy(
    context: dg.AssetExecutionContext, config: CopyKnobs, home: Home
) -> dg.MaterializeResult:
    """Put what is new into the store; what could not be put waits for the next time."""
    failed, severity = "", dg.AssetCheckSeverity.WARN
    try:
        done = keep(home, context.log.info, remove=config.remove)
    except StoreError as error:
        failed, done = str(error), {}
        if not isinstance(error, StoreUnreachable):
            severity = dg.AssetCheckSeverity.ERROR
    facts = {**done, **(store_facts(home.layout) or {})}
    return dg.MaterializeResult(
        metadata={"store": home.storage.lake or "none is set", **facts},
        check_results=[
            dg.AssetCheckResult(
                check_name=IN_STORE.name,
                passed=not failed,
                severity=severity,
                description=failed or None,
            )
        ],
    )


def keep(home: Home, log: Callable[[str], Any], *, remove: bool = False) -> dict[str, int]:
    """Upload what is new, where a store is set.

    Raises:
        StoreError: It could not be put.
    """
    if not home.storage.lake:
        return {}
    done = upload(home.layout, home.storage, log=log, remove=remove)
    return {
        "uploaded_files": done.uploaded,
        "uploaded_bytes": done.uploaded_bytes,
        "removed_files": done.removed,
    }


upload_lake = dg.define_asset_job(
    "upload_lake",
    selection=dg.AssetSelection.assets(DURABLE_COPY),
    description="Copy to the object store what is new in the lake, datasets and decisions.",
)


@dg.sensor(job=upload_lake, minimum_interval_seconds=300, default_status=RUNNING)
def changes_not_in_the_store(
    context: dg.SensorEvaluationContext, home: Home
) -> dg.RunRequest | dg.SkipReason:
    """Copy what a turn, a person or an upload that failed left waiting; asks no store itself."""
    if not home.storage.lake:
        return dg.SkipReason("no store is set ([storage] lake in settings.toml)")
    if in_flight(home, context.instance):
        return dg.SkipReason("a run is in flight")
    facts = store_facts(home.layout)
    if facts and facts["address"] == home.storage.lake:
        if not facts["waiting"]:
            return dg.SkipReason(f"all of it is in commit {facts['commit']}")
        if time.time() - facts["trouble_at"] < RETRY_SECONDS:
            return dg.SkipReason(f"{facts['waiting']} files wait: {facts['trouble']}")
    return dg.RunRequest()
