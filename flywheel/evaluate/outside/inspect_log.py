"""Logs of inspect_ai, as `.json` or `.eval`: what it scored, by sample and epoch, as our results.

Read as they lie, without inspect_ai: `.eval` is a ZIP of JSON files, in newer releases packed with
Zstandard, which Python's own reader of ZIP files does not know before 3.14. Epochs of one sample
are no further samples: a mean is over samples of what their epochs average, and so is its standard
error. What failed, was taken back or has no score that is a number is counted and in no mean; what
ran into a limit and was scored all the same is in it, and counted.
"""

import json
import math
import struct
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pyarrow as pa

from flywheel.errors import EvaluationError
from flywheel.evaluate.outside.results import Outside

ZSTANDARD = 93  # how a ZIP file names it
LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of name and extra, before the packed bytes
WORDS = {"c": 1.0, "p": 0.5, "i": 0.0, "n": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}


def read_inspect_log(path: Path) -> list[Outside]:
    """What a log tells, one row a scorer, and of a scorer that tells several things one each.

    Raises:
        EvaluationError: It is no log of inspect_ai, of one that did not end well, or holds no
            sample.
    """
    try:
        header, samples = _eval(path) if zipfile.is_zipfile(path) else _json(path)
        spec = header["eval"]
        status, task, made = header["status"], str(spec["task"]), spec.get("packages") or {}
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise EvaluationError(
            f"{path} is no log of inspect_ai ({type(error).__name__}: {error}); give an .eval or a "
            f".json that it wrote"
        ) from error
    if status != "success":
        raise EvaluationError(
            f"{path} is of an evaluation that ended with {status!r}: which samples it holds is "
            f"chance; run it again (`inspect eval-retry`)"
        )
    if not samples:
        raise EvaluationError(f"{path} holds no sample; write it with log_samples")
    by, version = (
        f"inspect_ai {made.get('inspect_ai', '')}".strip(),
        str(spec.get("task_version", "")),
    )
    return [
        _row(name, *found, samples, by, task, version) for name, found in _scores(samples).items()
    ]


def _scores(
    samples: list[dict[str, Any]],
) -> dict[str, tuple[dict[str, list[float]], Counter[str]]]:
    """By metric, scores by sample, and the attempts that have none by why."""
    names = {name for sample in samples for name, _ in _told(sample)}
    found: dict[str, tuple[dict[str, list[float]], Counter[str]]] = {
        name: (defaultdict(list), Counter()) for name in sorted(names) or ["score"]
    }
    for sample in samples:
        told = dict(_told(sample))
        for name, (scores, left_out) in found.items():
            if why := _fault(sample):
                left_out[why] += 1
            elif name not in told:
                left_out["no score"] += 1
            elif (value := _number(told[name])) is None:
                left_out["a score that is no number"] += 1
            else:
                scores[str(sample["id"])].append(value)
    return found


def _row(
    metric: str,
    scores: dict[str, list[float]],
    left_out: Counter[str],
    samples: list[dict[str, Any]],
    by: str,
    task: str,
    version: str,
) -> Outside:
    means = [mean(some) for some in scores.values()]
    return Outside(
        by=by,
        task=task,
        task_version=version,
        metric=metric,
        value=mean(means) if means else None,
        stderr=stdev(means) / math.sqrt(len(means)) if len(means) > 1 else None,
        samples=len(means),
        attempts=sum(map(len, scores.values())),
        left_out=dict(left_out),
        cut_off=sum(bool(one.get("limit")) and not _fault(one) for one in samples),
    )


def _told(sample: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each scorer's value by its name, and each part of one that has several."""
    for name, score in (sample.get("scores") or {}).items():
        if isinstance(score["value"], dict):
            yield from ((f"{name}/{part}", one) for part, one in score["value"].items())
        else:
            yield name, score["value"]


def _fault(sample: dict[str, Any]) -> str:
    """Why an attempt counts for nothing; empty where it counts."""
    if sample.get("error"):
        return "error"
    if sample.get("invalidation"):
        return "taken back"
    limit = sample.get("limit")
    return f"limit: {limit['type']}" if limit and not sample.get("scores") else ""


def _number(value: Any) -> float | None:
    """A score as inspect_ai reads it ("C" is right, "P" in part); None where it is no number."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in WORDS:
            return WORDS[word]
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _json(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    header = json.loads(path.read_bytes())
    return header, header.get("samples") or []


def _eval(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:

        def member(one: zipfile.ZipInfo) -> Any:
            if one.compress_type != ZSTANDARD:
                return json.loads(archive.read(one))
            file.seek(one.header_offset)
            file.seek(sum(LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))), 1)
            packed = pa.BufferReader(file.read(one.compress_size))
            with pa.CompressedInputStream(packed, "zstd") as stream:
                return json.loads(stream.read())

        members = {one.filename: one for one in archive.infolist()}
        header = member(members["header.json"])
        samples = [one for name, one in members.items() if name.startswith("samples/")]
        return header, [member(one) for one in samples]
