"""A made-up file of comparisons of any size: distinct prompts, several annotators a pair, dirt.

Words follow a Zipf law over a vocabulary of 40,000, so that texts compress and repeat n-grams
about as English does. A prompt has 8 to 60 words and sometimes lines, a response 20 to 90; every
pair is judged by three annotators of 5,000, whose accuracy lies between .6 and .95. One line in
`DIRT` is spoilt in one of the ways that a read which ignores errors passes over in silence.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

DIRT = 1_000
PER_PAIR = 3
PEOPLE = 5_000
VOCABULARY = 40_000
PAIRS_AT_ONCE = 5_000
SPOIL: tuple[Callable[[bytes], bytes], ...] = (
    lambda line: line[:-20],  # cut off
    lambda line: line[:-1] + b',"choice":"a"}',  # a key twice
    lambda line: line.replace(b'"seconds":', b'"seconds":NaN,"cost_usd":', 1),
    lambda line: line.replace(b'"seconds":', b'"cost_usd":"much","seconds":', 1),  # a wrong leaf
    lambda line: line[:-1] + b',"colour":"red"}',  # a key that nobody knows
    lambda line: line[:-1] + b',"metadata":{"order":' + b"9" * 400 + b"}}",  # a big integer
    lambda line: line.replace(b'"response_a":', b'"response_a":\xff', 1),  # no UTF-8
    lambda line: line[:-1] + b",}",  # a comma too many
    lambda line: line + line,  # two objects in one line
    lambda line: b"  ",  # blank
)


def comparison_lines(
    count: int, *, seed: int = 0, first_pair: int = 0, dirt: int = DIRT
) -> Iterator[bytes]:
    """Lines without their ends; the n-th pair is the same in every file of one seed."""
    words = _vocabulary(seed)
    weights = 1.0 / np.arange(1, VOCABULARY + 1) ** 1.05
    steps = np.cumsum(weights / weights.sum())
    told = 0
    for chunk in range(first_pair // PAIRS_AT_ONCE, 2**40):
        draw = np.random.default_rng((seed, chunk))
        lengths = draw.integers((8, 20, 20), (61, 91, 91), (PAIRS_AT_ONCE, 3))
        chosen = np.searchsorted(steps, draw.random(int(lengths.sum())))
        texts = _texts(words, chosen.tolist(), lengths.ravel().tolist())
        who = draw.integers(0, PEOPLE, (PAIRS_AT_ONCE, PER_PAIR)).tolist()
        is_right = draw.random((PAIRS_AT_ONCE, PER_PAIR)) < 0.6 + 0.35 * (np.array(who) / PEOPLE)
        is_tie = draw.random((PAIRS_AT_ONCE, PER_PAIR)) < 0.05
        spent = draw.integers(50, 4_000, (PAIRS_AT_ONCE, PER_PAIR)).tolist()
        for at in range(PAIRS_AT_ONCE):
            pair = chunk * PAIRS_AT_ONCE + at
            if pair < first_pair:
                continue
            sides = f'"prompt":{texts[3 * at]},"response_a":{texts[3 * at + 1]},'
            sides += f'"response_b":{texts[3 * at + 2]}'
            better = "ab"[pair * 7919 % 2]
            worse = "ba"[pair * 7919 % 2]
            for vote in range(PER_PAIR):
                choice = "tie" if is_tie[at, vote] else better if is_right[at, vote] else worse
                line = (
                    f'{{"kind":"comparison","annotator_id":"p{who[at][vote]}",'
                    f'"annotator_kind":"person",{sides},"choice":"{choice}",'
                    f'"seconds":{spent[at][vote] / 10},"domain":"d{pair % 20}",'
                    f'"model_a":"m{pair % 3}","model_b":"m{pair % 5}",'
                    f'"occurred_at":"2026-{1 + pair % 9:02}-{1 + vote + pair % 25:02}T10:00:00Z"}}'
                ).encode()
                told += 1
                if dirt and told % dirt == 0:
                    line = SPOIL[told // dirt % len(SPOIL)](line)
                yield line
                if told == count:
                    return


def write_comparisons(path: Path, count: int, **options: int) -> None:
    """Write `count` lines; options as for `comparison_lines`."""
    with path.open("wb", buffering=2**20) as file:
        for line in comparison_lines(count, **options):
            file.write(line)
            file.write(b"\n")


def _vocabulary(seed: int) -> list[str]:
    draw = np.random.default_rng((seed, 2**32))
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    weights = 1.0 / np.arange(3, 29)
    weights /= weights.sum()
    sizes = np.minimum(2 + draw.geometric(0.22, VOCABULARY), 14)
    return ["".join(draw.choice(letters, size, p=weights)) for size in sizes]


def _texts(words: list[str], chosen: list[int], lengths: list[int]) -> list[str]:
    """Texts as JSON strings: sentences, now and then a line end or a letter that is not ASCII."""
    texts, start = [], 0
    for number, length in enumerate(lengths):
        parts = [words[at] for at in chosen[start : start + length]]
        start += length
        parts[0] = parts[0].capitalize()
        for at in range(11, length - 3, 13):
            parts[at] += ".\n" if number % 4 == 0 else "."
        if number % 7 == 0:
            parts[length // 2] = "caf\u00e9"
        texts.append(json.dumps(" ".join(parts) + ".", ensure_ascii=number % 2 == 0))
    return texts
