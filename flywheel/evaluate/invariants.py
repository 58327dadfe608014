"""What must hold of a challenger whatever it scores; a broken one is told with what broke it.

* *other tokenizer*: text means other numbers than those that the base has learnt.
* *trained on the test*: a record of an evaluation prompt was in a training step of the challenger,
  or of a checkpoint that it descends from, by their manifests.
* *reward model trained on its test*: a record of a held-out pair by which the reward model is
  measured was in one of its training steps, or of a checkpoint that it descends from.
* *test in the training text*: a frozen training row holds a whole evaluation prompt. The marks of
  deduplication keep those out; this looks at what was frozen, and not at the marks.
* *not finite*: the challenger gives an answer of its own no probability.
* *personal data*: an answer holds an address, a number or a secret that its prompt does not.
* *rule ...*: answers break a rule of the user's own (`graders/rules.py`).

The last two prove first that they can find something: a planted answer must be caught.

Weights that are not what their manifest says end the evaluation (`ManifestError`).
"""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from flywheel.datasets.manifest import read_split
from flywheel.errors import EvaluationError
from flywheel.evaluate.graders.graders import Asked
from flywheel.evaluate.graders.rules import Rule, read_rules
from flywheel.evaluate.sets.leaks import asked_text, leaks_into
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.versus import Answers
from flywheel.models.load import load_tokenizer
from flywheel.models.publish import FILE_NAME, manifest_of, record_counts, verify
from flywheel.privacy import find, kinds_found
from flywheel.process.content import model_hash
from flywheel.records.message import text_of

SHOWN = 3  # of what broke an invariant
PLANTED = "jo.miller@mail.desk.co"


def verify_weights(settings: EvaluateSettings) -> None:
    """Hold every checkpoint of ours against its manifest.

    Raises:
        ManifestError: A file is missing or was changed.
    """
    models = (settings.base, settings.sft, settings.policy, settings.reward_model)
    for model in (*models, settings.champion):
        if model and manifest_of(Path(model)):
            verify(Path(model))


def broken_invariants(
    settings: EvaluateSettings, asked: Sequence[Asked], mine: Answers
) -> dict[str, str]:
    """Name of each broken invariant, with what broke it; empty where all hold.

    Args:
        settings: Of the evaluation.
        asked: The whole test, none of which may have been trained on.
        mine: The challenger's answers to its first prompts, for as many as there was time.
    """
    answered = asked[: len(mine.responses)]
    found = {
        "other tokenizer": _other_tokenizer(settings),
        "trained on the test": _trained_on_the_test(settings, asked),
        "reward model trained on its test": _reward_on_its_test(settings),
        "test in the training text": _test_in_the_text(settings, asked),
        "not finite": _not_finite(mine),
        "personal data": _personal_data(settings, answered, mine),
    }
    for name, rule in read_rules(settings.rules).items():
        found[f"rule {name}"] = _against_rule(rule, answered, mine)
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
    return _seen(tested, settings.policy, "tested records")


def _reward_on_its_test(settings: EvaluateSettings) -> str:
    pairs = read_split(Path(settings.preference_dataset), "test")
    held = pairs["record_uids"].to_pylist() if "record_uids" in pairs.column_names else []
    records = {uid for uids in held for uid in uids or ()}
    return _seen(records, settings.reward_model, "records of its held-out pairs")


def _seen(tested: set[str], model: str, what: str) -> str:
    seen = tested & records_of(Path(model))
    return f"{len(seen)} of {len(tested)} {what}, {_few(sorted(seen))}" if seen else ""


def records_of(checkpoint: Path) -> set[str]:
    """Records that were in a step of a checkpoint, or of one that it descends from."""
    folders = _lineage(checkpoint)[0]
    return {uid for one in folders for uid, times in record_counts(one) if times}


def unknown_ancestors(checkpoint: Path) -> list[str]:
    """Models that a checkpoint descends from and that are here no longer, by content hash."""
    return _lineage(checkpoint)[1]


def ancestors(checkpoint: Path) -> set[str]:
    """Content hashes of what a checkpoint started from or was taught by, also of what is gone."""
    return {
        str(parent.get("content_hash") or f"hub:{parent['model']}")
        for one in _lineage(checkpoint)[0]
        for parent in manifest_of(one).get("parents", ())
    }


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


def _personal_data(settings: EvaluateSettings, asked: Sequence[Asked], mine: Answers) -> str:
    control = told_of_people([""], [f"write to {PLANTED}"])
    if control != {0: [PLANTED]}:
        raise EvaluationError(
            f"a planted address is not found in an answer ({control}): what looks for personal "
            f"data is blind"
        )
    texts = [one.text for one in mine.responses]
    found = told_of_people([text_of(one.prompt) for one in asked], texts)
    if len(found) <= settings.most_personal_data_frac * len(texts):
        return ""
    kinds = Counter(one.kind.name for place in found for one in find(texts[place]))
    return (
        f"{len(found)} of {len(texts)} answers tell what their prompt does not ("
        f"{', '.join(kinds)}), to prompts {_few([asked[place].key for place in sorted(found)])}"
    )


def told_of_people(prompts: Sequence[str], answers: Sequence[str]) -> dict[int, list[str]]:
    """Values of a person in each answer that its prompt does not hold; answers without are absent.

    The prompt's are compared as two ways of writing one value are known to be one.
    """
    told = {}
    for place in kinds_found(pa.array(answers, pa.string())):
        known = {(one.kind.name, one.kind.same(one.value)) for one in find(prompts[place])}
        new = [
            one.value
            for one in find(answers[place])
            if (one.kind.name, one.kind.same(one.value)) not in known
        ]
        if new:
            told[place] = new
    return told


def _against_rule(rule: Rule, asked: Sequence[Asked], mine: Answers) -> str:
    broken = [
        one.key
        for one, response in zip(asked, mine.responses, strict=True)
        if not rule.holds(one.prompt, response.text)
    ]
    if len(broken) <= rule.most_frac * len(asked):
        return ""
    return f"{len(broken)} of {len(asked)} answers break it, to prompts {_few(broken)}"


def _few(names: list[str]) -> str:
    shown = ", ".join(repr(one[:120]) for one in names[:SHOWN])
    return f"e.g. {shown}"
