"""Readers: one module a format, each with `sniff` (how sure, and why) and `read`.

`sniff` sees one object and answers from 0 to 1. `read` turns one object into records, and raises
`RecordError` (or msgspec's own) with the reason where it cannot.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.errors import SettingsError
from flywheel.ingest.formats import openai, own, question_answer, tau_bench, trl
from flywheel.records import Record

RAW = "raw"
OWN = "flywheel"
LEAST_SURE = 0.2  # of the first objects that must look like a format


@dataclass(frozen=True, slots=True)
class Format:
    """How one format is recognised and read."""

    name: str
    sniff: Callable[[dict[str, Any]], float]
    read: Callable[[dict[str, Any]], Sequence[Record]]
    told_by: str  # what makes it recognisable, for people


FORMATS = {
    one.name: one
    for one in (
        Format(OWN, own.sniff, own.read, "a key `kind` that names one of ours"),
        Format("tau_bench", tau_bench.sniff, tau_bench.read, "task_id, reward, info and traj"),
        Format("openai", openai.sniff, openai.read, "messages, or input and preferred_output"),
        Format("trl", trl.sniff, trl.read, "prompt, completion, chosen, rejected, label"),
        Format("question_answer", question_answer.sniff, question_answer.read, "question, answer"),
    )
}


def recognise(samples: Iterable[dict[str, Any]]) -> tuple[str, float, str]:
    """Name the format of a file from its first objects: (name, how sure, why).

    A file that is only partly of a format is read as that format, so that what does not fit is
    quarantined, or blocks it, and is never taken for a raw source in silence.
    """
    seen = list(samples)
    sure = {
        name: sum(one.sniff(value) for value in seen) / max(1, len(seen))
        for name, one in FORMATS.items()
    }
    best = max(sure, key=sure.__getitem__)
    if sure[best] < LEAST_SURE:
        return RAW, 1 - sure[best], "the keys are those of no known format"
    return best, sure[best], FORMATS[best].told_by


def named(name: str) -> Format:
    """The format called `name`.

    Raises:
        SettingsError: There is none.
    """
    if name not in FORMATS:
        raise SettingsError(f"no format {name!r}; there are auto, {', '.join(FORMATS)} and {RAW}")
    return FORMATS[name]
