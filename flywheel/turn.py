"""What one turn came to, and what stands now, read from the files that the steps left behind.

`var/turn.json` is `summarize` written down. Its fields:

* `generation`, `simulated` (whether the annotators are those of the sample world);
* `landed`: records by kind; `quarantined`: {total, by_reason, by_kind}, a kind being
  `unknown` where the line was not read as a record; `excluded`: rows by reason;
* `datasets`: rows by split of each frozen dataset;
* `reward_model`: {accuracy, ci, pairs, groups, undecided, too_long, longest_wins, shortest_wins,
  over_length, annotator_accuracy, accuracy_in_their_place, over_annotators, annotator_ceiling,
  agreement_with_one_annotator, plurality_agreement, ...}: accuracy on held-out pairs
  whose label is decided, and what the two rules of length get on them; `over_length` is the
  model's paired lead on the better rule, {baseline, difference, ci}; an annotator's accuracy is
  how often he sides with the weighted vote of the others on a pair, beside it the model's in his
  place and its paired lead, null where no pair has votes enough; the ceiling is how often two
  annotators agree, evenly split pairs included, and beside it how often the model agrees with one
  of them on the same pairs; the plurality is the plain count of votes;
* `policy`: {opponent, win_rate, ci, prompts, groups, mean_response_tokens, versus, slices, ...};
* `broken_invariants`: what must hold of any challenger and does not: name to what broke it;
* `evaluation_sets`: {name, version, content_hash, win_rate, ci, compared, ...} of each set asked;
* `judge`: its agreement with people beside the annotators' ceiling, null where none was asked;
  `people`: by opponent how often people prefer the challenger, and how many they were;
* `demonstrations`: {base, sft, policy}: nats per token of held-out demonstrations, all losses
  over all tokens; {sft, policy}_minus_base; each with its `_ci`; rows, tokens, groups;
  null where there are none;
* `faults`: the faults planted in the sample world and how many of each were caught;
* `gate`: {decision, reasons}; `champion`: generation of the champion, null where there is none;
* `seconds`: {total, by_stage, training_and_sampling}; `orchestration_frac`: the share of the
  total in which no training or sampling process ran.

`ci` is a 95 % interval, resampled over groups of prompts that nearly repeat each other.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flywheel.datasets.manifest import DatasetManifest
from flywheel.erasure.plan import pending
from flywheel.errors import EvaluationError, LineageError, ManifestError
from flywheel.ingest import (
    landing_counts,
    quarantine_kinds,
    quarantine_reasons,
    read_batches,
    standing_batches,
    why_blocked,
)
from flywheel.layout import Layout
from flywheel.lineage import Reading, against_its_use
from flywheel.process.results import read_result
from flywheel.promotion import latest_decision, title_holder
from flywheel.stores import store_facts
from flywheel.warehouse import read_table

DATASETS = (
    "demonstration",
    "preference",
    "rating",
    "trajectory",
    "step_rating",
    "evaluation",
)
RUNS = ("base_policy", "sft_policy", "reward_model", "policy", "annotation_queue")


def evaluation_of(layout: Layout, generation: str) -> dict[str, Any]:
    """The result of a generation's evaluation, as long as it judged the policy that lies there.

    Raises:
        EvaluationError: The generation was not evaluated, its result is not what the evaluation
            wrote, its policy is another by now, or the result is of an older kind that tells no
            standard errors.
    """
    result, changed = read_result(layout.evaluation(generation) / "result.json")
    if not result:
        raise EvaluationError(f"{generation} has no evaluation; materialize held_out_evaluation")
    if changed:
        raise EvaluationError(
            f"{generation} is decided on by what its evaluation wrote, and {changed}; materialize "
            f"held_out_evaluation again"
        )
    folder = layout.checkpoint("policy", generation)
    judged = result.get("policy_content_hash")
    found = _read(folder / "manifest.json").get("content_hash")
    if not judged or judged != found:
        raise EvaluationError(
            f"the evaluation of {generation} judged the policy {str(judged)[:12]}, but {folder} "
            f"holds {str(found)[:12]}; materialize held_out_evaluation again"
        )
    if "se" not in result["policy"]:
        raise EvaluationError(
            f"the evaluation of {generation} is of an older kind, without the standard errors that "
            f"its page tells; materialize held_out_evaluation again"
        )
    return result


def summarize(
    layout: Layout,
    generation: str,
    *,
    started_at: float,
    total_seconds: float,
    seconds_by_stage: dict[str, float],
) -> dict[str, Any]:
    """Gather what one generation came to; see the module's docstring for the fields."""
    folder = layout.evaluation(generation)
    evaluation = _read(folder / "result.json")
    results = [layout.run(name, generation) / "result.json" for name in RUNS]
    working = sum(
        float(_read(path).get("process_seconds", 0.0))
        for path in (*results, folder / "result.json")
        if path.exists() and path.stat().st_mtime >= started_at  # read back otherwise, not run
    )
    holder = title_holder(layout)
    return {
        "generation": generation,
        "simulated": bool(evaluation.get("simulated", False)),
        "landed": landing_counts(layout),
        "quarantined": _quarantined(layout),
        "excluded": excluded_counts(layout),
        "datasets": _datasets(layout, generation),
        "reward_model": evaluation.get("reward_model"),
        "policy": without_outcomes(evaluation.get("policy")),
        "broken_invariants": evaluation.get("broken_invariants", {}),
        "evaluation_sets": evaluation.get("evaluation_sets", []),
        "judge": evaluation.get("judge"),
        "people": without_outcomes(evaluation.get("people", {})),
        "demonstrations": evaluation.get("demonstrations"),
        "gate": latest_decision(layout, generation),
        "champion": holder.generation if holder else None,
        "faults": _faults(layout),
        "seconds": {
            "total": round(total_seconds, 1),
            "by_stage": {name: round(value, 1) for name, value in seconds_by_stage.items()},
            "training_and_sampling": round(working, 1),
        },
        "orchestration_frac": round(1 - working / total_seconds, 3) if total_seconds else None,
    }


def without_outcomes(told: Any) -> Any:
    """What an evaluation tells, without the outcomes of each group, which only the gate reads."""
    if isinstance(told, dict):
        return {key: without_outcomes(one) for key, one in told.items() if key != "outcomes"}
    return [without_outcomes(one) for one in told] if isinstance(told, list) else told


def status_of(layout: Layout, reading: Reading | None = None) -> dict[str, Any]:
    """What landed, what is quarantined or blocked and why, generations, champion and copy."""
    folder = layout.artifacts / "datasets" / "preference"
    generations = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    holder = title_holder(layout)
    return {
        "home": str(layout.root),
        "landed": landing_counts(layout),
        "batches": len(read_batches(layout)),
        "quarantined": _quarantined(layout),
        "blocked": [
            {"file": one.file, "reason": why_blocked(one, layout)}
            for one in standing_batches(layout)
            if one.blocked
        ],
        "generations": [
            {
                "generation": name,
                "datasets": _datasets(layout, name),
                "gate": latest_decision(layout, name),
            }
            for name in generations
        ],
        "champion": holder.generation if holder else None,
        "may_not_be_used": _against_champion(layout, reading) if holder and reading else "",
        "erasure_cut_off": pending(layout),
        "store": store_facts(layout),
    }


def _against_champion(layout: Layout, reading: Reading) -> str:
    """Why the champion may not be used any more, by what its data allows today."""
    holder = title_holder(layout)
    try:
        return against_its_use(layout, f"policy/{holder.generation}", reading) if holder else ""
    except LineageError as error:
        return f"whether the champion's data may be used cannot be told: {error}"


def excluded_counts(layout: Layout) -> dict[str, int]:
    """Landed rows that no mart uses, by status."""
    rows = read_table(layout.warehouse_copy, "marts.fct_excluded", ["status"])
    counts = rows["status"].value_counts().to_pylist()
    return {one["values"]: one["counts"] for one in sorted(counts, key=lambda one: -one["counts"])}


def _faults(layout: Layout) -> list[dict[str, Any]]:
    """What became of the faults planted in the sample world; empty elsewhere."""
    if not (layout.root / "sample" / "planted.json").exists():
        return []
    from flywheel.sample.check import check_faults

    return [asdict(one) for one in check_faults(layout)]


def _quarantined(layout: Layout) -> dict[str, Any]:
    reasons = quarantine_reasons(layout)
    kinds = quarantine_kinds(layout)
    return {"total": sum(reasons.values()), "by_reason": reasons, "by_kind": kinds}


def _datasets(layout: Layout, generation: str) -> dict[str, dict[str, int]]:
    found = {}
    for name in DATASETS:
        try:
            found[name] = DatasetManifest.load(layout.dataset(name, generation)).rows_by_split
        except ManifestError:
            continue  # not frozen (yet) in this generation
    return found


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}
