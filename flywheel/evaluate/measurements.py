"""What an evaluation measured, as rows that the warehouse reads: one number, one row.

*Measurements* are one row per model, set or slice of prompts, metric and whom it is against: value,
interval, standard error, counts. *Outcomes* are one row per model, prompt and temperature: the
score that a win rate of any two checkpoints can be made of, also of two that no evaluation set side
by side. Both bear the content hash of the weights they are about, and the id of the evaluation: the
hash of what it found, of whose generation, and of the evaluation before it. A generation that is
evaluated again with other findings gets further files and keeps those it has, also where it was
found like that once before; one that is evaluated again alike gets none.
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

from flywheel.evaluate.graders import Asked
from flywheel.evaluate.measured import measured
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
    tables = {
        "measurements": [*measured(result, settings, asked, answers)],
        "outcomes": [*scored(asked, answers)],
    }
    hashes = {name: value for name, value in result.items() if name.endswith("_content_hash")}
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


def scored(asked: Sequence[Asked], answers: dict[float, dict[str, Answers]]) -> Iterator[Row]:
    """What every answer is worth."""
    for temperature, found in answers.items():
        for model, given in found.items():
            for one, response, score in zip(asked, given.responses, given.scores, strict=False):
                yield {
                    "model": model,
                    "evaluation_set": one.evaluation_set,
                    "prompt_key": one.key,
                    "group_id": one.group,
                    "domain": one.domain,
                    "source": one.source,
                    "grader": one.grader,
                    "temperature": temperature,
                    "score": None if math.isnan(score) else score,
                    "token_count": response.token_count,
                    "ended": response.ended,
                }
