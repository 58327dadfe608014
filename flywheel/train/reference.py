"""What the reference says of the rows of a run: computed once, kept on disk, shared by runs.

The reference is the policy before its first step (with LoRA: before its adapters do anything),
so no second model is held. A file is named by the hash of all that its numbers depend on: the
checkpoint's content, the tokens of every row and which of them carry loss, the precision, and
the time that there was for it. Tokenizer and chat template are in the tokens.

A torn file is computed again. One that is whole, but does not say what the model says, is
refused: a few of its rows are computed again whenever it is read.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from flywheel.datasets.render import Rendered
from flywheel.errors import TrainingError
from flywheel.models.logps import pad, row_sums
from flywheel.process.clock import pieces
from flywheel.process.content import model_hash
from flywheel.process.worker import rank, world
from flywheel.train.batches import micro_batches
from flywheel.train.engine import Engine
from flywheel.train.ranks import agreed, shared_clock, summed

SPOTS = 4  # rows computed again on every load: other weights move every row
OFF_NATS = {"fp32": 1e-3, "bf16": 0.1}  # per token: far above rounding, below other weights
Known = dict[int, tuple[float, ...]]  # place of a row: nats of each of its texts


class Referenced(Protocol):
    """The settings of a run that has a reference."""

    @property
    def model(self) -> str:
        """The checkpoint that is the reference."""

    @property
    def references(self) -> str:
        """Folder that runs share; empty for the run's own."""

    @property
    def micro_tokens(self) -> int:
        """Padded tokens per backward."""

    @property
    def seed(self) -> int:
        """Of the run."""

    def seconds_of(self, frac: float) -> float:
        """A share of the budget."""


def reference_of(
    engine: Engine,
    rows: Sequence[Sequence[Rendered]],
    settings: Referenced,
    run_dir: Path,
    frac: float,
) -> tuple[Known, float]:
    """Log-probabilities of the texts of each row, in nats, from a file or from the policy.

    Args:
        engine: Holds the policy before its first step.
        rows: What the reference should be known of; a row is known whole or not at all.
        settings: Of the run.
        run_dir: Of the run.
        frac: Share of the budget that this may take.

    Returns:
        As many of the rows as fitted into the time, in order, and the seconds that it took when
        it was computed: runs that share a file have the same time left, and so the same steps.

    Raises:
        TrainingError: The file does not say what the model says.
    """
    folder = Path(settings.references) if settings.references else run_dir / "references"
    seconds = settings.seconds_of(frac)
    path = folder / f"{_key(engine, rows, settings, seconds)}.parquet"
    found = agreed(_read(path) if rank() == 0 else None)
    if found is not None:
        _check(engine, rows, found[0], path, settings)
        return found
    started = shared_clock()
    known: Known = {}
    for piece in pieces(range(len(rows)), seconds, seed=settings.seed, clock=shared_clock):
        texts = [text for place in piece for text in rows[place]]
        nats = iter(response_nats(engine, texts, 4 * settings.micro_tokens))
        known |= {place: tuple(next(nats) for _ in rows[place]) for place in piece}
    known = dict(sorted(known.items()))
    took = shared_clock() - started
    if rank() == 0:
        _write(path, known, took)
    return known, took


@torch.no_grad()
def response_nats(engine: Engine, texts: Sequence[Rendered], budget: int) -> list[float]:
    """Log-probability of each response, in nats, the work divided among the processes.

    Every process runs the same number of forward passes of at most `budget` padded tokens: under
    ZeRO-3 one that ran fewer would leave the others waiting.
    """
    nats = [0.0] * len(texts)
    places = range(len(texts))
    cut = [
        micro_batches(places[r :: world()], lambda place: (1, len(texts[place].ids)), budget)
        for r in range(world())
    ]
    mine = cut[rank()]
    for number in range(max(map(len, cut))):
        batch = mine[number] if number < len(mine) else cut[0][0]
        chosen = [texts[place] for place in batch]
        sums = row_sums(engine(*pad(chosen, engine.device)), chosen)
        if number < len(mine):
            for place, value in zip(batch, sums.tolist(), strict=True):
                nats[place] = value
    return summed(nats) if texts else nats


def _key(
    engine: Engine, rows: Sequence[Sequence[Rendered]], settings: Referenced, seconds: float
) -> str:
    """Hash of all that the numbers depend on; a limited time takes a seeded choice of rows."""
    limit = None if math.isinf(seconds) else [seconds, settings.seed]
    digest = hashlib.sha256(
        json.dumps([model_hash(settings.model), _precision(engine), limit]).encode()
    )
    for row in rows:
        digest.update(json.dumps([[text.ids, text.start, text.observed] for text in row]).encode())
    return digest.hexdigest()[:32]


def _precision(engine: Engine) -> str:
    """In which numbers the policy is multiplied."""
    return "bf16" if engine.autocasts else engine.settings.precision


def _check(
    engine: Engine,
    rows: Sequence[Sequence[Rendered]],
    known: Known,
    path: Path,
    settings: Referenced,
) -> None:
    """Compute a few rows again, and refuse the file where they come out otherwise."""
    order = np.random.default_rng(settings.seed).permutation(list(known))[:SPOTS]
    texts = [text for place in order for text in rows[place]]
    said = [value for place in order for value in known[place]]
    now = response_nats(engine, texts, 4 * settings.micro_tokens)
    for text, then, value in zip(texts, said, now, strict=True):
        off = abs(then - value) / max(1, text.response_tokens)
        if not off <= OFF_NATS[_precision(engine)]:
            raise TrainingError(
                f"a reference is what {settings.model} says of a row, but in {path} a response "
                f"has {then:.4f} nats and the model now gives it {value:.4f}: other weights under "
                f"the same name, or another way of computing; delete the file, and it is computed "
                f"anew"
            )


def _write(path: Path, known: Known, seconds: float) -> None:
    """Put a reference in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"seconds": repr(seconds), "content_hash": _hash_of(known, repr(seconds))}
    table = pa.table(
        {
            "place": pa.array(list(known), pa.int64()),
            "nats": pa.array([list(nats) for nats in known.values()], pa.list_(pa.float64())),
        }
    ).replace_schema_metadata(facts)
    draft = path.with_name(f".{path.name}-{os.getpid()}.draft")
    pq.write_table(table, draft)
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(draft, path)


def _read(path: Path) -> tuple[Known, float] | None:
    """A reference and the seconds it took; None where there is none, or it is torn or changed."""
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
        facts = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
        places, nats = table["place"].to_pylist(), table["nats"].to_pylist()
        known = {place: tuple(values) for place, values in zip(places, nats, strict=True)}
        if facts["content_hash"] == _hash_of(known, facts["seconds"]):
            return known, float(facts["seconds"])
        finding = "it does not hold what it says it holds"
    except (OSError, pa.ArrowException, KeyError, AttributeError) as error:
        finding = str(error).splitlines()[0]
    print(f"the reference {path} is damaged and is computed again: {finding}")
    return None


def _hash_of(known: Known, seconds: str) -> str:
    """JSON gives a float back bit for bit."""
    return hashlib.sha256(json.dumps([list(known.items()), seconds]).encode()).hexdigest()
