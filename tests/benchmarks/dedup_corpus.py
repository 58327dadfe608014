"""The corpus that deduplication is measured on: English-like texts with planted near duplicates.

A Zipf vocabulary of 40,000 words; about 103 words and 430 letters a text; every fifth text is a
copy of an earlier one with words replaced so that the Jaccard similarity is about 1, .95, .9, .8,
.7 or .6; every tenth begins with one of twenty templates of 40 words, as texts under a shared
system prompt do. Many pairs sit right at .8, which flatters exact methods a little.
"""

import numpy as np

VOCABULARY = 40_000
SIMILARITIES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6)
LETTERS = list("abcdefghijklmnopqrstuvwxyz")


def corpus(count: int, seed: int = 7) -> list[str]:
    """Texts of the recipe above, the same for a seed."""
    rng = np.random.default_rng(seed)
    words = _vocabulary(rng)
    chance = 1 / np.arange(1, VOCABULARY + 1)
    bounds = np.cumsum(chance) / chance.sum()
    templates = [np.searchsorted(bounds, rng.random(40)) for _ in range(20)]
    texts: list[np.ndarray] = []
    for index in range(count):
        if index > 10 and rng.random() < 0.2:
            text = texts[int(rng.integers(index))].copy()
            aim = SIMILARITIES[int(rng.integers(len(SIMILARITIES)))]
            # a replaced word takes three shingles from one side and adds three to the other
            replaced = round(len(text) * (1 - aim) / (1 + aim) / 3)
            places = rng.choice(len(text), replaced, replace=False)
            text[places] = rng.integers(VOCABULARY, size=replaced)
        else:
            length = int(np.clip(rng.normal(99, 20), 20, 200))
            text = np.searchsorted(bounds, rng.random(length))
            if rng.random() < 0.1:
                text = np.concatenate([templates[int(rng.integers(20))], text])
        texts.append(text)
    return [" ".join(words[text].tolist()) for text in texts]


def _vocabulary(rng: np.random.Generator) -> np.ndarray:
    """Distinct words, the frequent ones short: one letter more for each ten times rarer."""
    found: dict[str, None] = {}
    while len(found) < VOCABULARY:
        letters = 2 + int(np.log10(len(found) + 1))
        found["".join(rng.choice(LETTERS, letters))] = None
    return np.array(list(found))
