"""The code location: everything Dagster loads, assembled in one place."""

import warnings

import dagster as dg

from assets import (
    automation,
    champion,
    collection,
    datasets,
    documentation,
    evaluation,
    evaluation_sets,
    harness,
    labels,
    landing,
    lineage,
    people,
    promotion,
    quality,
    rights,
    serving,
    stores,
    training,
    transform,
)
from assets.resources import Devices, Home

assembled = dg.Definitions(
    assets=dg.load_assets_from_modules(
        [
            *(landing, stores, transform, quality, labels, documentation),
            *(datasets, training, evaluation_sets, people, evaluation),
            *(promotion, champion, rights, serving, lineage, collection),
        ]
    ),
    asset_checks=[documentation.source_freshness, rights.data_may_still_be_used],
    jobs=[
        automation.land_inbox,
        automation.rebuild_warehouse,
        automation.document_warehouse,
        automation.turn,
        automation.step_reward,
        stores.upload_lake,
        harness.harness,
        champion.after_the_word,
        champion.judge_challenger,
        champion.rollback_champion,
        serving.look_at_stage,
        rights.erase_records,
        rights.look_after_rights,
    ],
    sensors=[
        automation.new_files_in_the_inbox,
        automation.enough_new_feedback,
        automation.alert_on_failure,
        champion.word_of_a_person,
        serving.more_was_served,
        stores.changes_not_in_the_store,
    ],
    schedules=[automation.nightly_build, automation.weekly_turn, rights.nightly_rights],
    resources={
        "dbt": transform.Dbt(project_dir=str(transform.project.project_dir)),
        "devices": Devices(),
        "home": Home(),
    },
    executor=dg.in_process_executor,  # training has processes of its own; platform.md, 3.6
)
with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore", dg.PreviewWarning
    )  # pinned, and tests/test_definitions.py looks
    defs = assembled.map_asset_specs(func=automation.with_policy)
del assembled  # Dagster wants one Definitions object in this module
