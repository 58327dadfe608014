"""How many short documents a CPU second looks through for personal data, and redacts."""

import random
import time
from collections.abc import Callable
from statistics import median

import pyarrow as pa

from flywheel.privacy import find, kinds_found, redact
from tests.benchmarks.measurement import Measurement
from tests.test_privacy import corpus

DOCUMENTS = 100_000
REPEATS = 3
LEAST = 100_000.0  # documents per CPU second that issue 4 asks for
CODE = (
    "for row in range(0, {}): total += table[row][{}] * 1.{} - (x.y.z or 10.{}) # {}-{:02d}-{:02d}"
)


def measure() -> list[Measurement]:
    """Prose with a tenth of values and a tenth of decoys, code, and rewriting what holds one."""
    rng = random.Random(0)
    texts, truth = corpus(count=3000)
    held = [text for text, kinds in zip(texts, truth, strict=True) if kinds]
    decoys, plain = texts[1::3], texts[2::3]  # as `corpus` deals them out
    third = {0: held, 1: decoys}
    prose = [
        " ".join([rng.choice(plain), rng.choice(plain), rng.choice(third.get(at % 10, plain))])
        for at in range(DOCUMENTS)
    ]
    code = [
        "\n".join(CODE.format(*rng.choices(range(1, 9_999), k=7)) for _ in range(3))
        for _ in range(DOCUMENTS)
    ]
    columns = {
        "prose, a tenth holds a value and a tenth a decoy": prose,
        "code full of digits": code,
    }
    found = []
    for told, documents in columns.items():
        column = pa.array(documents)
        both = _per_second(lambda column=column: kinds_found(column), DOCUMENTS)
        alone = _per_second(
            lambda documents=documents: [find(text, escaped=True) for text in documents[:10_000]],
            10_000,
        )
        size = sum(map(len, documents)) / DOCUMENTS
        found.append(
            Measurement(
                name="redaction_docs_per_cpu_second",
                value=both,
                unit="documents / CPU s",
                peer="limit",
                peer_value=LEAST,
                ratio=both / LEAST,
                conditions=f"{DOCUMENTS} documents of {size:.0f} signs, {told}; the same patterns "
                f"in Python's re alone: {alone:.0f}",
            )
        )
    some = [held[at % len(held)] for at in range(20_000)]
    rate = _per_second(lambda: [redact(text, _placeholder) for text in some], len(some))
    found.append(
        Measurement(
            name="redaction_of_held_docs_per_cpu_second",
            value=rate,
            unit="documents / CPU s",
            peer="none",
            peer_value=float("nan"),
            ratio=float("nan"),
            conditions="every document holds a value and is rewritten with its pseudonym",
        )
    )
    return found


def _placeholder(kind: str, value: str) -> str:
    return f"<{kind.upper()}>"


def _per_second(work: Callable[[], object], count: int) -> float:
    seconds = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return count / median(seconds)
