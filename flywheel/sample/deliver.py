"""The inbox of the sample world: every kind of feedback, in several formats, faults included.

Own JSONL for every kind, one file in OpenAI preference format, one TRL file with gzip, and one
file delivered twice under another name. The same seed writes the same bytes; a file that already
has them is left alone, so that delivering again is free and lands nothing.
"""

import gzip
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.errors import SettingsError
from flywheel.layout import Layout
from flywheel.records import Comparison, Demonstration, Record
from flywheel.sample import feedback, tools
from flywheel.sample.corpus import pages
from flywheel.sample.desk import Desk
from flywheel.sample.faults import Planted, plant_records, spoil_lines

FOLDER = "refund_desk"
PAGES = 9_000  # about 340,000 tokens: what the small base learns to copy from, in 12 CPU seconds
KINDS: dict[str, tuple[int, Callable[[Random, int], list[Record]]]] = {
    "demonstrations": (2_800, feedback.demonstrations),
    "rankings": (2_500, feedback.rankings),
    "comparisons": (1_000, feedback.comparisons),
    "ratings": (300, feedback.ratings),
    "critiques": (200, feedback.critiques),
    "rubric_scores": (320, feedback.rubric_scores),
    "interactions": (200, feedback.interactions),
    "trajectories": (120, tools.trajectories),
    "evaluation_prompts": (600, feedback.evaluation_prompts),
    "step_ratings": (240, tools.step_ratings),
}
OPENAI_PAIRS, TRL_DEMONSTRATIONS = 120, 200
RESENT = "comparisons"  # delivered again, byte for byte, under another name


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What was put into the inbox.

    Attributes:
        folder: Where the files lie.
        lines: Lines of each file, as delivered.
        planted: Every planted fault.
        is_new: False where all of it lay there before.
    """

    folder: Path
    lines: dict[str, int]
    planted: tuple[Planted, ...]
    is_new: bool


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """`sample/planted.json`: which delivery this is and what was planted in it."""

    seed: int
    scale: float
    lines: dict[str, int]
    planted: tuple[Planted, ...]


def corpus_path(layout: Layout) -> Path:
    """Parquet of the pages to pre-train on, column `text`."""
    return layout.root / "sample" / "corpus.parquet"


def truth_path(layout: Layout) -> Path:
    """The ground truth of the planted faults; only `check_faults` reads it."""
    return layout.root / "sample" / "planted.json"


def read_truth(layout: Layout) -> Truth:
    """Read what was planted.

    Raises:
        SettingsError: The sample world was not delivered here.
    """
    path = truth_path(layout)
    if not path.exists():
        raise SettingsError(f"no sample world was delivered: {path} is missing; use `flywheel run`")
    return msgspec.json.decode(path.read_bytes(), type=Truth)


def deliver(layout: Layout, *, seed: int = 0, scale: float = 1.0) -> Delivery:
    """Write the delivery of one seed into the inbox, and the corpus beside it.

    Args:
        layout: Where everything lies.
        seed: Of everything in the delivery.
        scale: Factor on the number of pages and records (not of planted faults), for tests.

    Raises:
        SettingsError: Another delivery lies in this home already.
    """
    folder = layout.inbox / FOLDER
    if truth_path(layout).exists():
        truth = read_truth(layout)
        if (truth.seed, truth.scale) != (seed, scale):
            raise SettingsError(
                f"{layout.root} holds the sample world of seed {truth.seed} (scale {truth.scale}), "
                f"not of seed {seed} (scale {scale}); set FLYWHEEL_HOME to another folder, or "
                f"remove this one"
            )
        return Delivery(folder=folder, lines=truth.lines, planted=truth.planted, is_new=False)
    files, planted = compose(seed=seed, scale=scale)
    for name, content in files.items():
        publish(folder / name, content)
    publish(corpus_path(layout), corpus_table(max(200, round(PAGES * scale)), seed=seed))
    lines = {name: _line_count(name, content) for name, content in files.items()}
    truth = Truth(seed=seed, scale=scale, lines=lines, planted=tuple(planted))
    publish(truth_path(layout), msgspec.json.format(msgspec.json.encode(truth), indent=1))
    return Delivery(folder=folder, lines=lines, planted=tuple(planted), is_new=True)


def compose(*, seed: int, scale: float = 1.0) -> tuple[dict[str, bytes], list[Planted]]:
    """Make the bytes of every file, and the list of what was planted in them."""
    kinds = {
        kind: make(Random(f"{seed}:{kind}"), max(40, round(count * scale)))
        for kind, (count, make) in KINDS.items()
    }
    rng = Random(f"{seed}:faults")
    planted = plant_records(rng, kinds)
    files: dict[str, bytes] = {}
    for kind, records in kinds.items():
        lines = [msgspec.json.encode(record) for record in records]
        name = f"{kind}.jsonl"
        lines, planted = spoil_lines(rng, name, kind, lines, planted)
        files[name] = _joined(lines)
    copy = f"{RESENT}_resent.jsonl"
    files[copy] = files[f"{RESENT}.jsonl"]
    planted.append(Planted(fault="file delivered twice", file=copy, where="no batch"))
    files["openai_preferences.jsonl"] = _openai(seed, scale)
    files["trl_demonstrations.jsonl.gz"] = _trl(seed, scale)
    return files, planted


def _openai(seed: int, scale: float) -> bytes:
    """Decided comparisons in OpenAI's preference format, which knows no annotator."""
    count = max(20, round(OPENAI_PAIRS * scale))
    found = feedback.daily_comparisons(Desk(Random(f"{seed}:openai"), prefix="openai"), 2 * count)
    rows: dict[str, dict[str, object]] = {}
    for one in found:
        if isinstance(one, Comparison) and one.choice != "tie":
            sides = (one.response_a, one.response_b)
            better, worse = sides if one.choice == "a" else sides[::-1]
            prompt = [{"role": "user", "content": one.prompt}]
            rows[str(one.prompt)] = {  # one vote a prompt: nobody signs here
                "input": {"messages": prompt, "tools": [], "parallel_tool_calls": True},
                "preferred_output": [{"role": "assistant", "content": better}],
                "non_preferred_output": [{"role": "assistant", "content": worse}],
            }
    return _joined([json.dumps(row).encode() for row in list(rows.values())[:count]])


def _trl(seed: int, scale: float) -> bytes:
    """Demonstrations as TRL's conversational prompt-completion rows, gzipped."""
    count = max(20, round(TRL_DEMONSTRATIONS * scale))
    rows = [
        {
            "prompt": [{"role": "user", "content": one.prompt}],
            "completion": [{"role": "assistant", "content": one.response}],
        }
        for one in feedback.demonstrations(Random(f"{seed}:trl"), count)
        if isinstance(one, Demonstration)
    ]
    return gzip.compress(_joined([json.dumps(row).encode() for row in rows]), mtime=0)


def corpus_table(count: int, *, seed: int) -> bytes:
    """Parquet of the first pages of one seed's internet; more pages only add to fewer."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": pages(count, seed=seed)}), sink)
    return sink.getvalue()


def _joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _line_count(name: str, content: bytes) -> int:
    return (gzip.decompress(content) if name.endswith(".gz") else content).count(b"\n")


def publish(path: Path, content: bytes) -> None:
    """Write a file in one step, and only where it does not hold these bytes yet."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(content)
    os.replace(draft, path)
