"""What an evaluation measured, as rows that the warehouse reads: one number, one row.

*Measurements* are one row per model, set or slice of prompts, metric and whom it is against: value,
interval, standard error, counts. *Outcomes* are one row per model, prompt and temperature: the
score that a win rate of any two checkpoints can be made of, also of two that no evaluation set side
by side; and, where a judge or people compare, one per prompt and whom the challenger is against:
how far it is preferred. All name the version of the set and what the grader was, so that numbers of
two versions are never taken for one.

Both bear the content hash of the weights they are about, and the id of the evaluation: the hash of
what it found, of whose generation, and of the evaluation before it. A generation that is evaluated
again with other findings gets further files and keeps those it has, also where it was found like
that once before; one that is evaluated again alike gets none.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.evaluate.graders.graders import BY_JUDGE, BY_REWARD, PAIRWISE, Asked
from flywheel.evaluate.measured import measured, of_other_tools
from flywheel.evaluate.outside.results import results_beside
from flywheel.evaluate.sets.rows import code_hashes
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.versus import Answers
from flywheel.lake import EVALUATION, write_table

Row = dict[str, Any]


def write_measurements(
    folder: Path,
    result: dict[str, Any],
    settings: EvaluateSettings,
    asked: Sequence[Asked],
    answers: dict[float, dict[str, Answers]],
) -> list[Path]:
    """Write both tables of one evaluation, unless they are there.

    Args:
        folder: Of the generation's evaluation.
        result: Of the evaluation.
        settings: Of the evaluation.
        asked: The prompts; each model answered the first so many of them.
        answers: By temperature, of each model.

    Returns:
        The two files.
    """
    hashes = {name: value for name, value in result.items() if name.endswith("_content_hash")}
    hashes["judge_content_hash"] = (result["judge"] or {}).get("content_hash")
    by_others = results_beside(folder, hashes["policy_content_hash"])
    tables = {
        "measurements": [
            *measured(result, settings, asked, answers),
            *of_other_tools(by_others),
        ],
        "outcomes": [*scored(asked, answers), *compared(asked, answers, hashes)],
    }
    sets, graders = _versions(result), _identities(result, settings, asked)
    for row in (row for rows in tables.values() for row in rows):
        row |= sets.get(row.get("evaluation_set", ""), {})
        row["grader_identity"] = graders.get(row.get("grader", ""))
    found = [settings.generation, tables, hashes, result["look"]]
    evaluation_id = _id_after(_ids_in(folder / "measurements"), found)
    paths = []
    for name, rows in tables.items():
        path = folder / name / f"{evaluation_id}.parquet"
        paths.append(path)
        if path.exists():
            continue
        common = {
            "evaluation_id": evaluation_id,
            "generation": settings.generation,
            "seed": settings.seed,
            "look": result["look"],
            "evaluated_at": datetime.now(UTC).replace(tzinfo=None),
        }
        whole = [
            common | row | {"content_hash": hashes[f"{row['model']}_content_hash"]} for row in rows
        ]
        write_table(pa.Table.from_pylist(whole, EVALUATION[name]), path)
    return paths


def _ids_in(folder: Path) -> list[str]:
    """Ids of the evaluations of a generation that were made before, the newest last."""
    times = {
        path.stem: pc.max(pq.read_table(path, columns=["evaluated_at"])["evaluated_at"]).as_py()
        for path in folder.glob("[!._]*.parquet")
    }
    return sorted(times, key=lambda name: (times[name], name))


def _id_after(before: Sequence[str], found: list[Any]) -> str:
    """The id of an evaluation after others: the last one's, where that found the same."""
    text = json.dumps(found, sort_keys=True)
    again, new = (
        hashlib.sha256(f"{''.join(past[-1:])}\0{text}".encode()).hexdigest()[:16]
        for past in (before[:-1], before)
    )
    return again if again in before[-1:] else new


def _versions(result: dict[str, Any]) -> dict[str, Row]:
    """Version and hash of each set that was asked, by its name."""
    return {
        one["name"]: {
            "evaluation_set_version": one["version"],
            "evaluation_set_hash": one["content_hash"],
        }
        for one in result["evaluation_sets"]
    }


def _identities(
    result: dict[str, Any], settings: EvaluateSettings, asked: Sequence[Asked]
) -> dict[str, str]:
    """What each grader was, by its name; none of people, nor of programs that flywheel brings."""
    found = code_hashes([{"grader": one.grader} for one in asked])
    found[BY_REWARD] = result["reward_model_content_hash"]
    if result["judge"]:
        found[BY_JUDGE] = result["judge"]["content_hash"] or settings.judge
    return found


def scored(asked: Sequence[Asked], answers: dict[float, dict[str, Answers]]) -> Iterator[Row]:
    """What every answer is worth."""
    for temperature, found in answers.items():
        for model, given in found.items():
            for one, response, score in zip(asked, given.responses, given.scores, strict=False):
                yield _about(one, model, temperature) | {
                    "score": None if math.isnan(score) else score,
                    "token_count": response.token_count,
                    "ended": response.ended,
                }


def compared(
    asked: Sequence[Asked], answers: dict[float, dict[str, Answers]], hashes: dict[str, str]
) -> Iterator[Row]:
    """How far the challenger's answer is preferred over another's, by who compares two."""
    for temperature, found in answers.items():
        for other, given in found.items():
            for one, outcome in zip(asked, given.lost, strict=False):
                if one.grader in PAIRWISE and outcome is not None:
                    yield _about(one, "policy", temperature) | {
                        "against": other,
                        "against_content_hash": hashes[f"{other}_content_hash"],
                        "outcome": outcome,
                    }


def _about(one: Asked, model: str, temperature: float) -> Row:
    return {
        "model": model,
        "evaluation_set": one.evaluation_set,
        "prompt_key": one.key,
        "group_id": one.group,
        "domain": one.domain,
        "source": one.source,
        "grader": one.grader,
        "temperature": temperature,
    }
