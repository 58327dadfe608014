"""Evaluation: the challenger, the champion and the reward model on what nothing was trained on."""

from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from assets.datasets import dataset_key
from assets.evaluation_sets import EVALUATION_SETS
from assets.keys import PEOPLE_JUDGEMENTS
from assets.labels import picture
from assets.pages import page_link
from assets.partitions import generations
from assets.resources import Devices, Home
from assets.retry import tried_twice
from assets.training import BASE_POLICY, POLICY, REWARD_MODEL, SFT_POLICY
from flywheel.evaluate.graders.rules import write_rules
from flywheel.evaluate.report.following import why_unknown
from flywheel.evaluate.report.page import write_report
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.statistics.ratings import rate_checkpoints, rating_plot, read_ratings
from flywheel.layout import Layout
from flywheel.process.launch import launch
from flywheel.process.settings import build
from flywheel.promotion import champion, latest_decision, title_holder
from flywheel.train import config as recipes
from flywheel.train.base import base_of
from flywheel.turn import evaluation_of, without_outcomes

HELD_OUT = dg.AssetKey(["evaluation", "held_out_evaluation"])
RATINGS = dg.AssetKey(["evaluation", "checkpoint_ratings"])

REPORT = dg.AssetKey(["promotion", "evaluation_report"])
FOLLOWED = ("turn", "best_of_n", "strayed", "run", "by_people", "put_aside")
RATED = ("name", "models", "rating", "low", "high", "comparison_count", "opponent_count")

BEATS_LENGTH = dg.AssetCheckSpec(
    "reward_model_beats_length",
    asset=HELD_OUT,
    description="On held-out pairs the reward model is ahead of the better of 'the longer wins' "
    "and 'the shorter wins': the interval of its lead lies above 0.",
)


NOT_PAST_THE_TURN = dg.AssetCheckSpec(
    "not_past_the_turn",
    asset=HELD_OUT,
    description="The challenger does not lie past the point from which gold falls as its reward "
    "model is followed on: its own run's curve says so, or the best of n where it imitates that; "
    "by the grader, or by people where enough is judged. It passes, too, where nothing is known of "
    "a turn; `known` says whether anything is.",
)


class EvaluationKnobs(dg.Config):
    """What is worth changing from the launchpad. Empty means: as settings.toml says."""

    prompt_limit: int | None = Field(default=None, description="Evaluation prompts at most.")
    budget_seconds: float | None = Field(
        default=None,
        description="Measure less, so that it takes about this long; 0 means no limit.",
    )
    seed: int | None = Field(default=None, description="Seed of sampling and of the bootstrap.")


@dg.asset(
    key=HELD_OUT,
    deps=[
        BASE_POLICY,
        SFT_POLICY,
        REWARD_MODEL,
        POLICY,
        EVALUATION_SETS,
        PEOPLE_JUDGEMENTS,
        dataset_key("evaluation"),
        dataset_key("preference"),
        dataset_key("demonstration"),
        dataset_key("rating"),
    ],
    check_specs=[BEATS_LENGTH, NOT_PAST_THE_TURN],
    partitions_def=generations,
    group_name="evaluation",
    kinds={"pytorch"},
    pool="accelerators",
    description="How good the reward model and the challenger are on held-out prompts, with "
    "intervals, baselines and a page of answers side by side. One result per generation.",
)
def held_out_evaluation(
    context: dg.AssetExecutionContext, config: EvaluationKnobs, home: Home, devices: Devices
) -> dg.MaterializeResult:
    """Sample, grade and compare; nothing is decided here."""
    layout, generation = home.layout, context.partition_key
    directory = layout.evaluation(generation)
    base = base_of(layout, generation)
    holder = title_holder(layout)
    other = champion(layout) if holder and holder.generation != generation else None
    chosen = {
        **(recipes.SAMPLE["evaluate"] if base.is_sample else {}),
        **home.settings("evaluate"),
        **config.model_dump(exclude_none=True),
    }
    rules = layout.run("rules", generation) / "rules.json"
    write_rules(home.settings("rules"), rules)
    settings = build(
        EvaluateSettings,
        chosen,
        generation=generation,
        base=base.model,
        sft=str(layout.checkpoint("sft_policy", generation)),
        policy=str(layout.checkpoint("policy", generation)),
        reward_model=str(layout.checkpoint("reward_model", generation)),
        champion=str(layout.root / other.checkpoint) if other else "",
        evaluation_sets=str(layout.run("evaluation_sets", generation) / "sets.json"),
        judgements=str(layout.run("people_judgements", generation) / "judgements.parquet"),
        along=str(layout.run("policy", generation) / "along"),
        people_along=bool(home.settings("people").get("along")),
        rules=str(rules),
        evaluation_dataset=str(layout.dataset("evaluation", generation)),
        preference_dataset=str(layout.dataset("preference", generation)),
        demonstration_dataset=str(layout.dataset("demonstration", generation)),
        rating_dataset=str(layout.dataset("rating", generation)),
    )
    start = partial(launch, "flywheel.evaluate.run", settings, directory, log=context.log.info)
    result = tried_twice(start, context.log.warning)
    return _described(layout, result, directory)


@dg.asset(
    key=RATINGS,
    deps=[HELD_OUT],
    group_name="evaluation",
    kinds={"numpy"},
    description="How strong every checkpoint of every generation is beside all others, on one "
    "scale with intervals: Bradley-Terry on the prompts that they share. One row per checkpoint.",
)
def checkpoint_ratings(home: Home) -> dg.MaterializeResult:
    """Rate all of them anew from all evaluations."""
    rows = rate_checkpoints(home.layout)
    rated = [row for row in rows if row["is_connected"]]
    table = [dg.TableRecord({name: row[name] for name in RATED}) for row in rows]
    return dg.MaterializeResult(
        metadata={
            "checkpoints": len(rows),
            "without_a_rating": len(rows) - len(rated),
            "ratings": dg.MetadataValue.table(table) if table else None,
            "plot_ratings": picture(rating_plot(rated)) if rated else None,
            "dagster/uri": str(home.layout.derived("checkpoint_ratings")),
        }
    )


@dg.asset(
    key=REPORT,
    deps=[HELD_OUT, RATINGS, dg.AssetKey(["promotion", "gate_decision"])],
    partitions_def=generations,
    group_name="promotion",
    kinds={"html"},
    description="What a generation came to, for who decides: verdict, numbers, pictures, answers "
    "side by side. One page per generation.",
)
def evaluation_report(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult:
    """Write the page with what the gate said and how checkpoints rate."""
    layout, generation = home.layout, context.partition_key
    result = evaluation_of(layout, generation)
    decision = latest_decision(layout, generation)
    page = write_report(layout.evaluation(generation), result, decision, read_ratings(layout))
    return dg.MaterializeResult(metadata={"report": page_link(layout, page)})


def _described(layout: Layout, result: dict[str, Any], directory: Path) -> dg.MaterializeResult:
    reward, policy = result["reward_model"], result["policy"]
    lead = reward["over_length"]
    return dg.MaterializeResult(
        metadata={
            "reward_model_accuracy": reward["accuracy"],
            "annotator_accuracy": reward["annotator_accuracy"],
            "reward_model_accuracy_in_their_place": reward.get("accuracy_in_their_place"),
            "longest_wins": reward["longest_wins"],
            "shortest_wins": reward["shortest_wins"],
            "chance": reward["chance"],
            "reward_model_ece": reward["calibration"]["ece"],
            "win_rate": policy["win_rate"],
            "win_rate_low": policy["ci"][0],
            "mean_response_tokens": policy["mean_response_tokens"],
            "reward_model": dg.MetadataValue.json(reward),
            "sets": dg.MetadataValue.md(_sets(result["evaluation_sets"])),
            "judge": dg.MetadataValue.json(without_outcomes(result["judge"]) or {}),
            "people": dg.MetadataValue.json(without_outcomes(result["people"])),
            "broken_invariants": dg.MetadataValue.json(result["broken_invariants"]),
            "policy": dg.MetadataValue.json(without_outcomes(policy)),
            "demonstrations": dg.MetadataValue.json(result["demonstrations"] or {}),
            "report": page_link(layout, directory / "report.html"),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=BEATS_LENGTH.name,
                passed=lead["ci"][0] > 0,
                severity=dg.AssetCheckSeverity.WARN,
                metadata=lead,
            ),
            turn_check(policy),
        ],
    )


def turn_check(policy: dict[str, Any]) -> dg.AssetCheckResult:
    """Whether the challenger lies past a turn, whether anything is known of one, and by what."""
    return dg.AssetCheckResult(
        check_name=NOT_PAST_THE_TURN.name,
        passed=policy["is_past"] is not True,
        description=None if policy["is_past"] is not None else f"Unknown: {why_unknown(policy)}.",
        metadata={
            "known": policy["is_past"] is not None,
            **{name: dg.MetadataValue.json(policy.get(name) or {}) for name in FOLLOWED},
        },
    )


def _sets(sets: list[dict[str, Any]]) -> str:
    """What was asked of each set, and how it went there."""
    rows = "\n".join(
        f"| {one['name']} | {one['version']} | {one['asked']} of {one['prompts']} "
        f"| {one['win_rate']:.3f} ({one['ci'][0]:.3f} to {one['ci'][1]:.3f}) |"
        for one in sets
    )
    return "| set | version | asked | win rate |\n|--|--|--|--|\n" + rows
