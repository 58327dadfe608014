"""Evaluate one generation in a process of its own: `python -m flywheel.evaluate.run RUN_DIR`.

Reads only the test split and the evaluation prompts. Decides nothing: the gate does. The result
names every model by its content hash, so that nothing is decided on other weights than these.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.datasets.manifest import read_split
from flywheel.errors import EvaluationError
from flywheel.evaluate.demonstrations import demonstration_loss
from flywheel.evaluate.graders.graders import BY_REWARD, Asked, score_all
from flywheel.evaluate.graders.others import compared_by_others
from flywheel.evaluate.graders.people import read_votes
from flywheel.evaluate.graders.taught import without_its_teacher
from flywheel.evaluate.invariants import (
    broken_invariants,
    unknown_ancestors,
    verify_weights,
)
from flywheel.evaluate.kept import Keep
from flywheel.evaluate.measurements import write_measurements
from flywheel.evaluate.policies import answer_all, let_go
from flywheel.evaluate.report.page import write_report
from flywheel.evaluate.reward.accuracy import measure_reward
from flywheel.evaluate.reward.following import followed
from flywheel.evaluate.reward.ways import write_ways
from flywheel.evaluate.sets.results import results_by_set, sets_of
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.statistics.stats import outcomes
from flywheel.evaluate.versus import Answers, compare, plainly
from flywheel.process.content import model_hash
from flywheel.process.worker import start, use_threads
from flywheel.records.message import load
from flywheel.rollout import RememberingRewardModel, RewardModel

SIMULATED = "sample"  # sources of the sample world begin so
MODELS = ("base", "sft", "policy", "reward_model", "champion")


def run(settings: EvaluateSettings, run_dir: Path) -> dict[str, Any]:
    """Measure reward model, policies and demonstrations; write samples and the report.

    Raises:
        EvaluationError: There is nothing to evaluate, or a model was replaced meanwhile.
        ManifestError: A checkpoint's files are not what its manifest says.
    """
    let_go()
    verify_weights(settings)
    hashes = model_hashes(settings)
    reward = RememberingRewardModel.load(settings.reward_model)
    use_threads(reward.module.backbone.num_parameters(), settings.threads)
    pairs = read_split(Path(settings.preference_dataset), "test")
    measure = partial(measure_reward, pairs, reward, settings)
    device = reward.module.head.weight.device.type
    keep = Keep(settings=settings, run_dir=run_dir, device=device, hashes=hashes)
    result: dict[str, Any] = {"reward_model": keep.measured_once(measure)}
    print(f"reward model: {result['reward_model']['accuracy']:.3f}", flush=True)

    reward.said.clear()  # of this, nothing is asked again
    keep.remind(reward)
    asked, sources = prompts_of(settings)
    asked, no_say = without_its_teacher(asked, settings)
    sets = sets_of(settings)
    if "source" in pairs.column_names:  # the annotators whose preferences are predicted
        for joined in pairs["source"].drop_null().unique().to_pylist():
            sources |= set(joined.split(", "))
    names = {"base": settings.base, "sft": settings.sft, "policy": settings.policy}
    if settings.champion:
        names["champion"] = settings.champion
    answers, used = answer_all(names, asked, reward, settings, settings.temperature)
    answers, compared = compared_by_others(answers, used, pairs, settings)
    compared["no_say"] += no_say
    greedy, greedy_used = answer_all(
        {name: names[name] for name in names if name != "champion"}, used, reward, settings, 0.0
    )
    policy = compare(answers, used, settings)
    policy["grader"] = asked[0].grader if len({one.grader for one in asked}) == 1 else "several"
    policy["greedy"] = compare(greedy, greedy_used, settings)
    policy["proxy"] = proxy_of(answers, used, reward, settings)
    way, ways = followed(used, answers, reward, read_votes(settings), settings)
    policy |= way
    result |= {
        "policy": policy,
        **compared,
        "evaluation_sets": results_by_set(sets, answers, used, settings),
        "broken_invariants": broken_invariants(settings, asked, answers["policy"]),
        "unknown_ancestors": unknown_ancestors(Path(settings.policy)),
        "demonstrations": demonstration_loss(settings, keep),
        "look": f"seed {settings.seed}, temperature {settings.temperature:g}, "
        f"{settings.max_new_tokens} tokens",
        "simulated": any(source.startswith(SIMULATED) for source in sources),
        "generation": settings.generation,
        **hashes,
    }
    if model_hashes(settings) != hashes:
        raise EvaluationError(
            "a model was replaced while it was evaluated; materialize held_out_evaluation again"
        )
    keep.remember(reward)
    samples = run_dir / "samples.parquet"
    _write_samples(samples, used, answers, greedy)
    report = write_report(run_dir, result)
    by_temperature = {0.0: greedy} | {settings.temperature: answers}
    tables = write_measurements(run_dir, result, settings, used, by_temperature)
    files = (samples, report, *write_ways(run_dir, ways), *tables)
    return result | {"files": [str(path) for path in files]}


def model_hashes(settings: EvaluateSettings) -> dict[str, str]:
    """`<model>_content_hash` of all that is compared; empty for a champion where there is none."""
    models = {name: getattr(settings, name) for name in MODELS}
    return {
        f"{name}_content_hash": model_hash(model) if model else "" for name, model in models.items()
    }


def prompts_of(settings: EvaluateSettings) -> tuple[list[Asked], set[str]]:
    """The prompts to test on, and the sources they come from.

    Those that were landed as evaluation prompts; where there are none, the test split's
    demonstrations, graded by the reward model, which is weaker and is said so in `grader`.

    Raises:
        EvaluationError: There is neither.
    """
    rows = read_split(Path(settings.evaluation_dataset), "test").to_pylist()
    grader = None
    if not rows:
        rows = read_split(Path(settings.demonstration_dataset), "test").to_pylist()
        rows = list({row["prompt_key"]: row for row in rows}.values())
        grader = BY_REWARD
    if not rows:
        raise EvaluationError(
            "there is no evaluation prompt and no demonstration in the test split; land "
            "evaluation prompts, or more demonstrations"
        )
    asked = [
        Asked(
            key=row["prompt_key"],
            group=row["group_id"],
            prompt=load(row["prompt"]),
            grader=grader or row["grader"],
            reference=row.get("reference"),
            domain=row.get("domain") or "",
            source=row.get("source") or "",
            record_uids=tuple(row.get("record_uids") or ()),
            stands_in=grader is not None,
            evaluation_set=row.get("evaluation_set") or "",
        )
        for row in sorted(rows, key=lambda row: row["prompt_key"])
    ]
    return asked[: settings.prompt_limit], {row["source"] or "" for row in rows}


def proxy_of(
    answers: dict[str, Answers],
    asked: Sequence[Asked],
    reward: RewardModel,
    settings: EvaluateSettings,
) -> dict[str, Any] | None:
    """How often the reward model itself prefers the challenger over the SFT policy.

    It goes on rising where what it stands for has begun to fall. None where the reward model is
    the grader, so that there is nothing to hold it against.
    """
    if all(one.grader == BY_REWARD for one in asked):
        return None
    by_reward = [replace(one, grader=BY_REWARD) for one in asked]
    said = [*answers["policy"].responses, *answers["sft"].responses]
    scores = score_all(by_reward * 2, said, reward, settings.max_tokens)
    mine, start = scores[: len(asked)], scores[len(asked) :]
    return plainly(outcomes(mine, start), [one.group for one in asked], settings) | {
        "mean_score": {"policy": sum(mine) / len(mine), "sft": sum(start) / len(start)}
    }


def _write_samples(
    path: Path, asked: list[Asked], sampled: dict[str, Answers], greedy: dict[str, Answers]
) -> None:
    rows = [
        {
            "prompt_key": one.key,
            "prompt": one.prompt[-1].content,
            "domain": one.domain,
            "policy": name,
            "greedy": is_greedy,
            "response": answers.responses[place].text,
            "score": answers.scores[place],
            "lost": answers.lost[place] if answers.lost else None,
            "tokens": answers.responses[place].token_count,
            "ended": answers.responses[place].ended,
        }
        for is_greedy, found in ((False, sampled), (True, greedy))
        for name, answers in found.items()
        for place, one in enumerate(asked[: len(answers.scores)])
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


if __name__ == "__main__":
    start(run, EvaluateSettings)
