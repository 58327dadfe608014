"""The dbt project as Dagster assets: one asset per model, one check per dbt test.

Two steps with deduplication between them: `staging_models` conforms what landed (staging and
intermediate), `mart_models` concludes from it and from the marks of deduplication (everything
tagged `after_dedup`). A third, `evaluation_models`, takes in what evaluations measured (tagged
`after_evaluation`): by itself, because evaluations rest on the marts, so that in one step with them
it would wait for itself. Each step ends by publishing the read copy of the warehouse.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import dagster as dg
from dagster_dbt import (
    DagsterDbtCliRuntimeError,
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtCliResource,
    DbtProject,
    dbt_assets,
)
from packaging.version import Version

from assets.columns import column_schema
from assets.pages import address_of
from assets.resources import HOME, PROJECT, Home
from flywheel.ingest import only_committed
from flywheel.layout import Layout
from flywheel.lineage import refresh
from flywheel.warehouse import (
    column_types,
    publish_read_copy,
    row_counts,
    set_aside_if_damaged,
)

NOT_PARSED = ("target", "logs", ".user.yml", ".gitignore")  # below dbt_project; dbt writes there
DOCS = address_of(Layout(HOME), Layout(HOME).dbt_docs)  # once `flywheel docs` wrote it
AFTER_DEDUP = "tag:after_dedup"
AFTER_EVALUATION = "tag:after_evaluation"
UNIT_TESTS = "test_type:unit"  # of SQL, not of data: for `dbt build` by hand, and `make test`


@contextmanager
def dbt_environment(layout: Layout) -> Iterator[None]:
    """What dbt reads from its environment: this home's lake and warehouse, how strict to be."""
    facts = {
        "FLYWHEEL_LAKE": str(layout.lake),
        "FLYWHEEL_WAREHOUSE": str(layout.warehouse),
        "FLYWHEEL_UNSEEN_PROMPTS": "error",  # a warning in a warehouse of one's own
    }
    before = {name: os.environ.pop(name, None) for name in facts}
    os.environ |= facts
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def parse_where_changed(project: DbtProject) -> None:
    """Have dbt parse its files, a few seconds, unless the manifest is of exactly these files.

    Their hash lies beside the manifest: time stamps say nothing of a file that was removed, nor
    of one that came with an older time of its own.
    """
    digest = sha256()
    for path in sorted(project.project_dir.rglob("*")):
        inside = path.relative_to(project.project_dir)
        if inside.parts[0] not in NOT_PARSED and path.is_file():
            digest.update(f"{inside}\0{sha256(path.read_bytes()).hexdigest()}\0".encode())
    parsed = project.manifest_path.with_name("parsed.sha256")
    known = parsed.read_text() if parsed.exists() and project.manifest_path.exists() else ""
    if known != digest.hexdigest():
        project.preparer.prepare(project)
        parsed.write_text(digest.hexdigest())


project = DbtProject(project_dir=PROJECT / "dbt_project")
with dbt_environment(Layout(HOME)):  # what dbt parsed is of use to the same environment only
    parse_where_changed(project)


class Dbt(DbtCliResource):
    """The dbt command without what Dagster asks of dbt beside a build, 3 s a turn.

    That is `dbt --version` in a process of its own, which the package knows too, and an adapter in
    this process, for counts and columns that we take from the read copy.
    """

    @property
    def _cli_version(self) -> Version:
        return Version(version("dbt-core"))

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> Any:
        return None


class LayerTranslator(DagsterDbtTranslator):
    """Key and group by layer, so that the UI shows staging, intermediate and marts.

    Several files of one asset may each be a source.
    """

    def __init__(self) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True))

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        """The spec of one dbt node; sources keep the edge to the asset that lands them."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        node = self.get_resource_props(manifest, unique_id)
        if node["resource_type"] == "source":
            return spec
        layer = node["fqn"][1]
        group = layer
        if "after_dedup" in node["tags"]:  # so that groups read left to right
            is_late = layer == "marts" or "after_evaluation" in node["tags"]
            group = "marts" if is_late else "quality"
        return spec.replace_attributes(
            key=dg.AssetKey([layer, node["name"]]),
            group_name=group,
            description=node["description"] or None,
            kinds={"dbt", "duckdb", node["config"]["materialized"]},
        ).merge_attributes(
            metadata={"documentation": dg.MetadataValue.url(f"{DOCS}#!/model/{unique_id}")}
        )


def build(
    context: dg.AssetExecutionContext, dbt: Dbt, home: Home
) -> Iterator[dg.Output | dg.AssetMaterialization | dg.AssetCheckResult | Any]:
    """Run one `dbt build` on what is committed, publish the read copy, yield counted events.

    What was built before a failure is reported before the failure is raised.
    """
    layout = home.layout
    refresh(layout)  # the lineage that dbt reads; and every folder of the lake
    layout.warehouse.parent.mkdir(parents=True, exist_ok=True)
    events: list[Any] = []
    failure: DagsterDbtCliRuntimeError | None = None
    with only_committed(layout), dbt_environment(layout):
        invocation = dbt.cli(["build"], context=context, target_path=layout.dbt_target)
        try:
            events.extend(invocation.stream())
        except DagsterDbtCliRuntimeError as error:
            failure = error
    facts: dict[str, dict[str, Any]] = {}
    if layout.warehouse.exists() and not failure:
        publish_read_copy(layout.warehouse, layout.warehouse_copy)
        ids = [_node_of(event) for event in events if isinstance(event, dg.Output)]
        facts = _facts({one: invocation.manifest["nodes"][one] for one in ids}, layout)
    for event in events:
        if isinstance(event, dg.Output):
            event = event.with_metadata({**event.metadata, **facts.get(_node_of(event), {})})
        yield event
    if failure:
        raise failure


def _node_of(event: dg.Output) -> str:
    return str(event.metadata["unique_id"].value)


def _facts(nodes: dict[str, dict[str, Any]], layout: Layout) -> dict[str, dict[str, Any]]:
    """Rows and columns of what dbt built, tables and views alike, from the read copy."""
    names = {one: node["relation_name"] for one, node in nodes.items()}
    said = {
        one: {column["name"]: column["description"] for column in node["columns"].values()}
        for one, node in nodes.items()
    }
    counts = row_counts(layout.warehouse_copy, set(names.values()))
    types = column_types(layout.warehouse_copy)
    return {
        one: {
            "dagster/row_count": counts[name],
            "dagster/column_schema": column_schema(types[name], said[one]),
        }
        for one, name in names.items()
    }


@dbt_assets(
    manifest=project.manifest_path,
    project=project,
    exclude=f"{AFTER_DEDUP} {UNIT_TESTS}",
    name="staging_models",
    dagster_dbt_translator=LayerTranslator(),
    pool="warehouse",
)
def staging_models(context: dg.AssetExecutionContext, dbt: Dbt, home: Home) -> Iterator[Any]:
    """Conform what landed: staging and intermediate models, with their tests."""
    if aside := set_aside_if_damaged(home.layout.warehouse):
        context.log.warning(f"the warehouse was damaged; building it anew, the old one is {aside}")
    yield from build(context, dbt, home)


@dbt_assets(
    manifest=project.manifest_path,
    project=project,
    select=AFTER_DEDUP,
    exclude=f"{AFTER_EVALUATION} {UNIT_TESTS}",
    name="mart_models",
    dagster_dbt_translator=LayerTranslator(),
    pool="warehouse",
)
def mart_models(context: dg.AssetExecutionContext, dbt: Dbt, home: Home) -> Iterator[Any]:
    """Conclude: everything that needs the marks of deduplication, up to the marts."""
    yield from build(context, dbt, home)


@dbt_assets(
    manifest=project.manifest_path,
    project=project,
    select=AFTER_EVALUATION,
    exclude=UNIT_TESTS,
    name="evaluation_models",
    dagster_dbt_translator=LayerTranslator(),
    pool="warehouse",
)
def evaluation_models(context: dg.AssetExecutionContext, dbt: Dbt, home: Home) -> Iterator[Any]:
    """Take in what evaluations measured, and how checkpoints rate beside each other."""
    yield from build(context, dbt, home)
