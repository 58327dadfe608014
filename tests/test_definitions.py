"""The code location: loads without any environment, agrees with dbt, reads well in the UI."""

import dagster as dg

from assets import keys
from assets.definitions import defs

GROUPS = {
    "landing",
    "staging",
    "intermediate",
    "quality",
    "marts",
    "datasets",
    "training",
    "evaluation",
    "promotion",
    "collection",
}


def ours() -> list[dg.AssetSpec]:
    return [spec for spec in defs.resolve_all_asset_specs() if spec.group_name != "default"]


def test_definitions_load() -> None:
    dg.Definitions.validate_loadable(defs)


def test_every_dbt_key_that_python_names_is_a_dbt_model() -> None:
    in_dbt = {spec.key for spec in defs.resolve_all_asset_specs() if "dbt" in spec.kinds}
    missing = set(keys.DBT_KEYS) - in_dbt
    assert not missing, f"not in dbt_project: {sorted(map(str, missing))}"


def test_groups_are_the_stages_of_the_wheel() -> None:
    assert {spec.group_name for spec in ours()} == GROUPS


def test_every_asset_has_a_description_an_owner_and_kinds() -> None:
    bare = [
        spec.key.to_user_string()
        for spec in ours()
        if not (spec.description and spec.owners and spec.kinds)
    ]
    assert not bare


def test_every_check_of_ours_says_what_it_checks() -> None:
    silent = [
        f"{spec.asset_key.to_user_string()}:{spec.name}"
        for assets in defs.assets or ()
        if isinstance(assets, dg.AssetsDefinition)
        for spec in assets.check_specs
        if not spec.description
        and assets.op.name not in ("staging_models", "mart_models", "evaluation_models")
    ]
    # dbt's own tests are named after what they test; their SQL is one click away
    assert not silent


def test_the_lineage_is_one_piece_from_landing_to_the_queue() -> None:
    graph = defs.resolve_asset_graph()
    seen, todo = set(), [dg.AssetKey(["landing", "demonstrations"])]
    while todo:
        key = todo.pop()
        if key not in seen:
            seen.add(key)
            todo += [*graph.get(key).child_keys, *graph.get(key).parent_keys]
    islands = {spec.key for spec in ours()} - seen
    # what is quarantined leads to people, and to nothing that is trained; what was trained is told
    # by files, because marts that wait for a checkpoint that waits for them would be a circle
    told = {key.path[-1] for key in islands if "lineage" not in key.path[-1]}
    assert told == {
        "quarantine",
        "stg_landing__quarantine",
        "fct_quarantined",
        "dim_checkpoints",
        "dim_datasets",
        "fct_record_checkpoints",
        "fct_record_datasets",
    }


def test_a_turn_takes_every_asset_but_the_step_reward_model_the_stage_and_pages() -> None:
    selected = {
        name: set(defs.resolve_job_def(name).asset_layer.executable_asset_keys)
        for name in ("turn", "step_reward")
    }
    step_reward = {keys.STEP_REWARD_MODEL, keys.STEP_REWARD_CARD}
    assert selected["step_reward"] == step_reward
    every = defs.resolve_asset_graph().executable_asset_keys
    alone = step_reward | {keys.DBT_DOCS, keys.SERVING_STAGE, keys.SERVED_LOG}
    assert selected["turn"] == set(every) - alone


def test_schedules_and_sensors_run_with_the_daemon() -> None:
    names = {one.name for one in (*defs.sensors, *defs.schedules)}
    assert names == {
        "new_files_in_the_inbox",
        "enough_new_feedback",
        "alert_on_failure",
        "changes_not_in_the_store",
        "word_of_a_person",
        "more_was_served",
        "nightly_build",
        "nightly_rights",
        "weekly_turn",
    }
    assert all(one.default_status.value == "RUNNING" for one in (*defs.sensors, *defs.schedules))
