"""The last acts of a recipe: publish the checkpoint, and say what came of the run."""

import contextlib
import copy
import gzip
import hashlib
import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flywheel.datasets.manifest import MANIFEST, DatasetManifest
from flywheel.errors import ManifestError
from flywheel.models.lora import has_adapters, merged
from flywheel.models.publish import publish
from flywheel.process.content import code_hash
from flywheel.process.worker import rank, world
from flywheel.train.base import parent_of
from flywheel.train.config import RunSettings
from flywheel.train.engine import Engine, barrier

RECORDS_FILE = "record_uids.txt.gz"


def finish(
    settings: RunSettings,
    engine: Engine,
    *,
    kind: str,
    write: Callable[[Path], object],
    record_uids: Iterable[str] = (),
    result: dict[str, Any],
) -> dict[str, Any]:
    """Publish what was trained and return the run's result.

    The manifest names parents, datasets and records, so that an answer can be traced to the
    labels behind its checkpoint. The record ids lie beside it, one a line, each with the number of
    times that it was in a step: 0 where the run ended before, more than the epochs where several
    elements rest on it.
    """
    seen = engine.times_seen
    lines = [f"{uid}\t{seen[uid]}" for uid in sorted({*record_uids, *seen})]
    output = Path(settings.output)
    facts = {
        "id": output.name,
        **facts_of(settings, engine, kind=kind),
        "records": {"count": len(lines), "sha256": _hash_of(lines), "file": RECORDS_FILE},
        "result": result,
    }

    def write_all(folder: Path) -> None:
        write(folder)
        with (
            (folder / RECORDS_FILE).open("wb") as file,
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
        ):
            packed.write("".join(f"{line}\n" for line in lines).encode())

    content_hash = ""
    with engine.written():
        if rank() == 0:
            content_hash = publish(output, write_all, facts)["content_hash"]
    barrier()
    return {
        **result,
        "checkpoint": str(output),
        "content_hash": content_hash,
        "records": len(lines),
        "learning_rate": settings.learning_rate,
        "device": str(engine.device),
        "zero_stage": engine.stage,
        "zero_reason": engine.stage_reason,
        "precision": engine.settings.precision,
        "world": world(),
    }


def facts_of(settings: RunSettings, engine: Engine, *, kind: str) -> dict[str, Any]:
    """What a manifest says of how a checkpoint came about, whatever came of it."""
    return {
        "kind": kind,
        "parents": [
            parent_of(getattr(settings, name))
            for name in ("model", "reward_model")
            if getattr(settings, name, "")
        ],
        "datasets": _datasets(settings),
        "settings": asdict(settings),
        "world": world(),
        "zero_stage": engine.stage,
        "precision": engine.settings.precision,
        "device": str(engine.device),
        "platform": platform.platform(),
        "code": code_hash(),
    }


def policy_writer(model: Any, tokenizer: Any, *, goes_on: bool = False) -> Callable[[Path], None]:
    """What `finish` calls to write a policy: whole weights, adapters merged, and the tokenizer.

    Where the policy goes on learning, its adapters are merged into a copy.
    """

    def write(folder: Path) -> None:
        needs_copy = goes_on and has_adapters(model)
        merged(copy.deepcopy(model) if needs_copy else model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return write


def _datasets(settings: RunSettings) -> dict[str, str]:
    """Content of every dataset that the settings name, and of the corpus."""
    found = {}
    for name, value in asdict(settings).items():
        if name == "corpus" and value:
            with Path(value).open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        elif value and isinstance(value, str) and (Path(value) / MANIFEST).exists():
            with contextlib.suppress(ManifestError):  # a model's, where a dataset's is looked for
                manifest = DatasetManifest.load(Path(value))
                found[manifest.name] = manifest.content_hash
    return found


def _hash_of(lines: list[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
