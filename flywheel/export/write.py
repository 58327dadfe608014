"""Write a frozen dataset for another tool: one file per split, and a manifest of every line.

Equal datasets give equal bytes: no time, no path and no order but the dataset's goes into them.
The manifest says which rows and records stand behind each line, and everything the target cannot
hold: rows = rows behind lines + rows dropped, always. A folder is replaced as a whole, and only
where it is empty or holds an earlier export.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from flywheel.datasets.manifest import MANIFEST, DatasetManifest, read_split
from flywheel.errors import ManifestError, SettingsError
from flywheel.export import label_studio, openai, openrlhf, trl
from flywheel.export.line import Line, Row, Way, tools_left_out, weighty
from flywheel.layout import Layout

TARGETS: dict[str, ModuleType] = {
    "trl": trl,
    "openai": openai,
    "openrlhf": openrlhf,
    "label_studio": label_studio,
}
INTERFACE = "labeling_interface.xml"
BATCH_ROWS = 4096  # rows held as Python objects at a time


def find_dataset(layout: Layout, name: str) -> Path:
    """The folder of `preference`, frozen last, or of `preference/g0002`.

    Raises:
        ManifestError: There is no such dataset.
    """
    dataset, _, generation = name.partition("/")
    folder = layout.dataset(dataset, generation or "none").parent
    known = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
    if not known or (generation and generation not in known):
        every = sorted({path.parent.parent.name for path in folder.parent.glob(f"*/*/{MANIFEST}")})
        raise ManifestError(
            f"no frozen dataset {name!r} in {folder.parent}; there are {', '.join(every) or 'none'}"
            + (f", of {dataset} {', '.join(known)}" if known else "")
            + "; take a turn, or materialize the dataset"
        )
    return folder / (generation or known[-1])


def write_export(
    directory: Path, target: str, out: Path, *, cut_off: float = 0.5
) -> dict[str, Any]:
    """Write the dataset in `directory` as files of `target` into the folder `out`.

    Args:
        directory: A frozen dataset.
        target: One of `TARGETS`.
        out: Made, or replaced where it holds an earlier export.
        cut_off: Share of full marks from which a rating is a thumb up.

    Returns:
        The manifest that was written, without its lines.

    Raises:
        SettingsError: The target has no form for this dataset, or `out` holds something else.
        ManifestError: The dataset is not what was frozen.
    """
    dataset = DatasetManifest.load(directory)
    writer = _writer(target, dataset.name)
    out = out.absolute()
    _check(out, cut_off)
    draft, old = (out.with_name(f".{out.name}.{end}") for end in ("draft", "old"))
    for left in (draft, old):
        shutil.rmtree(left, ignore_errors=True)
    draft.mkdir(parents=True)
    way = Way(cut_off=cut_off, generation=dataset.generation)
    files: dict[str, Any] = {}
    lines: dict[str, list[dict[str, Any]]] = {}
    try:
        for split in sorted(dataset.rows_by_split):
            name = f"{split}.json" if target == "label_studio" else f"{split}.jsonl"
            rows = _rows(directory, split)
            made = writer(rows if target == "label_studio" else weighty(rows, way), way)
            files[name], lines[split] = _write(made, way, draft / name, _key(dataset.name))
        if target == "label_studio":
            (draft / INTERFACE).write_text(label_studio.interface(dataset.name))
        written = len({one for each in lines.values() for line in each for one in line["ids"]})
        facts = {
            "format": target,
            "format_version": TARGETS[target].VERSION,
            "dataset": {
                name: getattr(dataset, name) for name in ("name", "generation", "content_hash")
            },
            "licences": dataset.licences,
            "rows": dataset.rows,
            "rows_written": written,
            "rows_dropped": dataset.rows - written,
            "lossy": dict(sorted((why, count) for why, count in way.lost.items() if count)),
            "settings": way.settings,
            "files": files,
        }
        text = msgspec.json.encode({**facts, "lines": lines})
        (draft / MANIFEST).write_bytes(msgspec.json.format(text, indent=1) + b"\n")
        if out.exists():
            os.rename(out, old)
        os.rename(draft, out)
    finally:
        for left in (draft, old):
            shutil.rmtree(left, ignore_errors=True)
    return facts


def _writer(target: str, dataset: str) -> Any:
    if target not in TARGETS:
        raise SettingsError(f"no export to {target!r}; there are {', '.join(TARGETS)}")
    writers = TARGETS[target].WRITERS
    if dataset not in writers:
        others = [name for name, one in TARGETS.items() if dataset in one.WRITERS]
        raise SettingsError(
            f"{target} has no form for the dataset {dataset!r}, only for {', '.join(writers)}; "
            f"{dataset!r} goes to {', '.join(others) or 'none of the targets'}"
        )
    return writers[dataset]


def _check(out: Path, cut_off: float) -> None:
    if not 0 < cut_off <= 1:
        raise SettingsError(
            f"cut_off is a share of full marks above 0 and up to 1, found {cut_off}"
        )
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        before = msgspec.json.decode((out / MANIFEST).read_bytes())
        is_export = before["format"] in TARGETS and "lines" in before
        named = {*before["files"], MANIFEST, INTERFACE} if is_export else set()
    except (OSError, ValueError, TypeError, KeyError):
        named = set()
    found = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
    if strangers := sorted(found - named):
        raise SettingsError(
            f"{out} holds more than an earlier export ({strangers[0]}); name a new folder"
        )


def _rows(directory: Path, split: str) -> Iterator[Row]:
    for batch in read_split(directory, split).to_batches(max_chunksize=BATCH_ROWS):
        yield from batch.to_pylist()


def _write(
    made: Iterable[Line], way: Way, path: Path, key: str
) -> tuple[dict[str, Any], list[Any]]:
    """Lines into a file: JSONL, or one array where its name ends in .json."""
    beside = []
    is_array = path.suffix == ".json"
    with path.open("wb") as file:
        for number, line in enumerate(made):
            way.lost["tools_dropped"] += tools_left_out(line)
            text = msgspec.json.encode(line.value)
            file.write((b",\n" if number else b"[\n") + text if is_array else text + b"\n")
            ids = [row[key] for row in line.rows]
            records = sorted({uid for row in line.rows for uid in row["record_uids"]})
            weights = [row.get("weight") for row in line.rows]
            weighed = {"weights": weights} if set(weights) - {None, 1} else {}
            beside.append({"ids": ids, "record_ids": records, **line.beside, **weighed})
        if is_array:
            file.write(b"\n]\n" if beside else b"[]\n")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"lines": len(beside), "sha256": digest}, beside


def _key(dataset: str) -> str:
    return "evaluation_prompt_id" if dataset == "evaluation" else f"{dataset}_id"
