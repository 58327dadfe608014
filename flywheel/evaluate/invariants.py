"""What must hold of a challenger whatever it scores; a broken one is told with what broke it.

* *other tokenizer*: text means other numbers than those that the base has learnt.
* *trained on the test*: a record of an evaluation prompt was in a training step of the challenger,
  or of a checkpoint that it descends from, by their manifests.
* *test in the training text*: a frozen training row holds a whole evaluation prompt. The marks of
  deduplication keep those out; this looks at what was frozen, and not at the marks.
* *not finite*: the challenger gives an answer of its own no probability.

Weights that are not what their manifest says end the evaluation (`ManifestError`).
"""

import math
from collections.abc import Sequence
from pathlib import Path

from flywheel.evaluate.graders import Asked
from flywheel.evaluate.leaks import asked_text, leaks_into
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.versus import Answers
from flywheel.models.load import load_tokenizer
from flywheel.models.publish import FILE_NAME, manifest_of, record_counts, verify
from flywheel.process.content import model_hash

SHOWN = 3  # of what broke an invariant


def verify_weights(settings: EvaluateSettings) -> None:
    """Hold every checkpoint of ours against its manifest.

    Raises:
        ManifestError: A file is missing or was changed.
    """
    for model in (settings.sft, settings.policy, settings.reward_model, settings.champion):
        if model and manifest_of(Path(model)):
            verify(Path(model))


def broken_invariants(
    settings: EvaluateSettings, asked: Sequence[Asked], mine: Answers
) -> dict[str, str]:
    """Name of each broken invariant, with what broke it; empty where all hold."""
    found = {
        "other tokenizer": _other_tokenizer(settings),
        "trained on the test": _trained_on_the_test(settings, asked),
        "test in the training text": _test_in_the_text(settings, asked),
        "not finite": _not_finite(mine),
    }
    return {name: told for name, told in found.items() if told}


def _other_tokenizer(settings: EvaluateSettings) -> str:
    base, mine = (load_tokenizer(name) for name in (settings.base, settings.policy))
    ids, others = base.get_vocab(), mine.get_vocab()
    moved = [word for word, place in ids.items() if others.get(word) != place]
    if moved:
        return (
            f"{len(moved)} of the base's {len(ids)} tokens have another id or none, {_few(moved)}"
        )
    if base.chat_template != mine.chat_template:
        return "its chat template is not the base's"
    return ""


def _trained_on_the_test(settings: EvaluateSettings, asked: Sequence[Asked]) -> str:
    tested = {uid for one in asked for uid in one.record_uids}
    seen = tested & records_of(Path(settings.policy))
    return f"{len(seen)} of {len(tested)} tested records, {_few(sorted(seen))}" if seen else ""


def records_of(checkpoint: Path) -> set[str]:
    """Records that were in a step of a checkpoint, or of one that it descends from."""
    folders = _lineage(checkpoint)[0]
    return {uid for one in folders for uid, times in record_counts(one) if times}


def unknown_ancestors(checkpoint: Path) -> list[str]:
    """Models that a checkpoint descends from and that are here no longer, by content hash."""
    return _lineage(checkpoint)[1]


def _lineage(checkpoint: Path) -> tuple[list[Path], list[str]]:
    """The folders of a checkpoint and of its ancestors, and the hashes of those not found.

    A parent is looked for where its manifest says, and, for a home that was moved, among the
    checkpoints beside this one; by its content in both. A hub name has none, and no records.
    """
    beside = {
        str(manifest_of(path.parent).get("content_hash")): path.parent
        for path in checkpoint.parent.parent.glob(f"*/[!.]*/{FILE_NAME}")
    }
    found, missing, waiting = [checkpoint], [], [checkpoint]
    while waiting:
        for parent in manifest_of(waiting.pop()).get("parents", ()):
            content, folder = parent.get("content_hash"), Path(parent["model"])
            if not content:
                continue
            if not folder.is_dir() or model_hash(parent["model"]) != content:
                if content not in beside:
                    missing.append(str(content))
                    continue
                folder = beside[content]
            if folder not in found:
                found.append(folder)
                waiting.append(folder)
    return found, missing


def _test_in_the_text(settings: EvaluateSettings, asked: Sequence[Asked]) -> str:
    items = [asked_text(one.prompt) for one in asked if not one.stands_in]
    named = (settings.demonstration_dataset, settings.preference_dataset, settings.rating_dataset)
    leaks = leaks_into(items, [Path(one) for one in named if one])
    if not leaks:
        return ""
    prompts = {leak.item for leak in leaks}
    return f"{len(prompts)} of {len(items)} prompts, {_few([leak.span for leak in leaks])}"


def _not_finite(mine: Answers) -> str:
    count = sum(not math.isfinite(one.logprob) for one in mine.responses)
    return f"{count} of {len(mine.responses)} answers have no finite probability" if count else ""


def _few(names: list[str]) -> str:
    shown = ", ".join(repr(one[:120]) for one in names[:SHOWN])
    return f"e.g. {shown}"
