"""What dbt says of the warehouse: its pages for people, and how long ago each source landed.

Both cost a start of dbt, so a turn takes neither; the nightly build does, and `flywheel docs`
writes the pages at any time.
"""

import json
import os
import shutil
from collections.abc import Iterator

import dagster as dg

from assets.keys import DBT_DOCS, DBT_KEYS, LANDED, PLURALS
from assets.pages import page_link
from assets.resources import Home
from assets.transform import Dbt, dbt_environment
from flywheel.ingest import only_committed
from flywheel.lake import ensure

LANDED_LATELY = [
    dg.AssetCheckSpec(
        "landed_lately",
        asset=key,
        description="Something of this kind landed within warn_after_days of dbt_project.yml; a "
        "kind of which nothing ever landed passes.",
    )
    for key in LANDED.values()
]


@dg.asset(
    key=DBT_DOCS,
    deps=[key for key in DBT_KEYS if key.path[0] == "marts"],
    group_name="marts",
    kinds={"dbt", "html"},
    pool="warehouse",
    description="dbt's own pages of every model, column, test and dataset, with their lineage. One "
    "file that needs no network.",
)
def dbt_docs(dbt: Dbt, home: Home) -> dg.MaterializeResult:
    """Write the pages for the warehouse as it is."""
    layout = home.layout
    ensure(layout)
    layout.warehouse.parent.mkdir(parents=True, exist_ok=True)
    with dbt_environment(layout):
        dbt.cli(["docs", "generate", "--static"], target_path=layout.dbt_target).wait()
    page = layout.dbt_docs
    page.parent.mkdir(parents=True, exist_ok=True)
    draft = page.with_suffix(".draft")
    shutil.copyfile(layout.dbt_target / "static_index.html", draft)
    os.replace(draft, page)
    return dg.MaterializeResult(metadata={"pages": page_link(layout, page)})


@dg.multi_asset_check(
    name="source_freshness",
    specs=LANDED_LATELY,
    pool="warehouse",
    description="`dbt source freshness` on what landed.",
)
def source_freshness(dbt: Dbt, home: Home) -> Iterator[dg.AssetCheckResult]:
    """Ask dbt when each source was loaded last; a stale one blocks nothing."""
    layout = home.layout
    ensure(layout)
    layout.warehouse.parent.mkdir(parents=True, exist_ok=True)
    with only_committed(layout), dbt_environment(layout):
        asked = dbt.cli(
            ["source", "freshness"], target_path=layout.dbt_target, raise_on_error=False
        )
        asked.wait()
    found = json.loads((layout.dbt_target / "sources.json").read_text())["results"]
    told = {one["unique_id"].rpartition(".")[2]: one for one in found}
    for kind, key in LANDED.items():
        one = told[PLURALS[kind]]
        is_stale = one["status"] == "error"
        yield dg.AssetCheckResult(
            check_name="landed_lately",
            asset_key=key,
            passed=one["status"] == "pass",
            severity=dg.AssetCheckSeverity.ERROR if is_stale else dg.AssetCheckSeverity.WARN,
            metadata={
                "landed_last": one["max_loaded_at"],
                "days_ago": round(one["max_loaded_at_time_ago_in_s"] / 86_400, 1),
            },
        )
