"""Near duplicates against the tools people use, exactness, and the scan for evaluation prompts.

200,000 texts (`dedup_corpus.py`), every tool in a process of its own (`dedup_race.py`), one after
the other on the same machine. Counted are CPU seconds of all threads and children from texts in
memory to pairs; recall and precision stand beside each speed, since most peers estimate what they
report. The truth is every pair of at least .8 by sets of tuples in plain Python, among the
candidates of all tools and of 32 bands of 4 rows, which miss one such pair in 20 million; the first
5,000 texts are compared by brute force besides. A peer that is not installed is left out
(`pip install "flywheel[bench]"`).
"""

import json
import pickle
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.dedup import kernel
from flywheel.dedup.overlap import EvaluationRuns
from flywheel.dedup.sets import words_of
from tests.benchmarks.dedup_corpus import corpus
from tests.benchmarks.dedup_race import THRESHOLD
from tests.benchmarks.measurement import Measurement

TEXTS = 200_000
BRUTE_FORCE = 5_000
PEERS = ("daft", "rensa", "datasketch", "text_dedup")
LEAST_RECALL = 0.94  # of a peer to be compared with: less is another task
EVALUATION_PROMPTS = 20_000
PEER_RUN_WORDS = 8


def measure(count: int = TEXTS) -> list[Measurement]:
    """Run the race and the scan."""
    texts = corpus(count)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "texts.pickle"
        source.write_bytes(pickle.dumps(texts))
        tools = ["flywheel", "flywheel_numpy", *filter(find_spec, PEERS)]
        runs = {tool: _run(tool, source) for tool in tools}
        met = [run["pairs"] for run in runs.values()]
        if find_spec("daft"):
            met.append(_run("truth", source)["pairs"])
        true = _true(texts, np.unique(np.concatenate(met)))
    for run in runs.values():
        right = np.isin(run["pairs"], true).sum()
        run["recall"], run["precision"] = right / len(true), right / max(len(run["pairs"]), 1)
        run["speed"] = count / run["seconds"]
    return [*_race(runs, count), *_exactness(runs["flywheel"], texts, true), _scan(texts)]


def _run(tool: str, source: Path) -> dict[str, Any]:
    out = source.with_name(f"{tool}.npz")
    command = [sys.executable, "-m", "tests.benchmarks.dedup_race", tool, str(source), str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    run: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found = np.load(out)
    return run | {"pairs": np.unique(found["first"] << 32 | found["second"])}


def _true(texts: list[str], pairs: np.ndarray) -> np.ndarray:
    """Those pairs that the definition confirms."""
    sets: dict[int, frozenset[tuple[str, ...]]] = {}
    kept = []
    for pair in pairs.tolist():
        a, b = (_set(texts, sets, index) for index in (pair >> 32, pair & 0xFFFFFFFF))
        common = len(a & b)
        if common >= (THRESHOLD - 1e-9) * (len(a) + len(b) - common):
            kept.append(pair)
    return np.array(kept, np.int64)


def _set(texts: list[str], known: dict[int, frozenset[Any]], index: int) -> frozenset[Any]:
    if index not in known:
        words = words_of(texts[index])
        known[index] = frozenset(zip(words, words[1:], words[2:], strict=False))
    return known[index]


def _race(runs: dict[str, dict[str, Any]], count: int) -> list[Measurement]:
    ours = runs["flywheel"]
    rivals = {tool: run for tool, run in runs.items() if tool != "flywheel"}
    fair = {
        tool: run
        for tool, run in rivals.items()
        if tool in PEERS and run["recall"] >= LEAST_RECALL - 0.005
    }
    best = max(fair, key=lambda tool: fair[tool]["speed"], default="")
    named = [("dedup_vs_best_peer", best)] if best else []
    named += [(f"dedup_vs_{tool}", tool) for tool in rivals]
    return [
        Measurement(
            name=name,
            value=ours["speed"],
            unit="texts/CPU s",
            peer=f"{tool} {rivals[tool]['version']}",
            peer_value=rivals[tool]["speed"],
            ratio=ours["speed"] / rivals[tool]["speed"],
            conditions=f"{count:,} texts, {kernel.state()}; recall {ours['recall']:.3f}, precision "
            f"{ours['precision']:.3f}, {ours['peak_gb']:.2f} GB; peer {rivals[tool]['recall']:.3f},"
            f" {rivals[tool]['precision']:.3f}, {rivals[tool]['peak_gb']:.2f} GB",
        )
        for name, tool in named
    ]


def _exactness(ours: dict[str, Any], texts: list[str], true: np.ndarray) -> list[Measurement]:
    few = texts[:BRUTE_FORCE]
    sets: dict[int, frozenset[Any]] = {}
    whole = [_set(few, sets, index) for index in range(len(few))]
    by_force = [
        a << 32 | b
        for b in range(len(few))
        for a in range(b)
        if len(common := whole[a] & whole[b])
        and len(common) >= (THRESHOLD - 1e-9) * (len(whole[a]) + len(whole[b]) - len(common))
    ]
    here = [p for p in ours["pairs"].tolist() if (p & 0xFFFFFFFF) < len(few)]
    both = len(set(here) & set(by_force))
    by_force_values = {"recall": both / len(by_force), "precision": both / len(here)}
    return [
        Measurement(
            name=f"dedup_{what}",
            value=float(ours[what]),
            unit="frac",
            peer=f"brute force, {len(few):,} texts",
            peer_value=by_force_values[what],
            ratio=float(ours[what]),
            conditions=f"{len(true):,} true pairs of {len(texts):,} texts at {THRESHOLD}",
        )
        for what in ("recall", "precision")
    ]


def _scan(texts: list[str]) -> Measurement:
    """Look for evaluation prompts, half of them planted in a text, in all texts."""
    prompts = corpus(EVALUATION_PROMPTS, seed=1007)
    planted = dict(zip(range(0, len(texts), 20), prompts[::2], strict=False))
    texts = [
        f"{text} {planted[place]}" if place in planted else text for place, text in enumerate(texts)
    ]
    start = time.process_time()
    found = EvaluationRuns(prompts).scan(texts)
    seconds = time.process_time() - start
    caught = {one.text for one in found.contained} >= planted.keys()
    start = time.process_time()
    _peer_scan(prompts, texts[: len(texts) // 10])
    peer = len(texts) // 10 / (time.process_time() - start)
    return Measurement(
        name="decontamination_docs_per_cpu_second",
        value=len(texts) / seconds,
        unit="texts/CPU s",
        peer="Python set of 8-grams",
        peer_value=peer,
        ratio=len(texts) / seconds / peer,
        conditions=f"{len(prompts):,} evaluation prompts, runs of 8 and 13 words with spans and "
        f"shares; {len(planted):,} planted, {'all' if caught else 'NOT ALL'} caught",
    )


def _peer_scan(prompts: list[str], texts: list[str]) -> set[int]:
    known = {run for prompt in prompts for run in _runs(prompt)}
    return {place for place, text in enumerate(texts) if not known.isdisjoint(_runs(text))}


def _runs(text: str) -> list[tuple[str, ...]]:
    words = words_of(text)
    return list(zip(*(words[step:] for step in range(PEER_RUN_WORDS)), strict=False))
