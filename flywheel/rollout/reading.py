"""Texts read by a Llama-like model; where they begin alike, that is read once.

Most of what is scored begins as its neighbour does: two responses to one prompt, a response and
what it was tampered into. All that a layer does token by token is done on the distinct beginnings,
without padding; only to look at each other tokens are laid out text by text. Of the last layer,
only the states that are asked for are computed.

Dimension key
    B   texts of a batch
    T   tokens of its longest text
    U   tokens of its texts, each beginning counted once
    N   states that are asked for, over all of them
    W   the most that are asked for of one text
    d   width of the states
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from flywheel.models.cuts import read_tokens
from flywheel.rollout.llama import Layer, angles, norm

ALIKE_FRAC = 1 / 4  # of a text that must be known for it to be read with its neighbour
LOOKS = 4  # tokens laid out text by text, to one that is read
# Of the widest state of a batch, which a CPU's cache should hold: at 3 M parameters, 1024 tokens at
# once take a fifth less time than 4096, and at 38 K, 4096 a quarter less than 1024.
CACHED_NUMBERS = 2**20
LEAST = 512  # tokens of a batch, where they are there
AT_ONCE = 256  # texts that are compared with their neighbours
Ints = npt.NDArray[np.int64]
Family = list[tuple[int, int]]  # places of texts, and tokens that each shares with the one before


def states_at(
    decoder: Any,
    layers: Sequence[Layer],
    texts: Sequence[list[int]],
    places: Sequence[Sequence[int]],
) -> Iterator[tuple[list[int], Tensor]]:
    """Last states of texts, batch after batch: which texts, and (N, d) states, text after text.

    Args:
        decoder: Without its head; `layers_of` knows it.
        layers: What that gave.
        texts: Token ids of each; at least one text.
        places: Tokens of each text whose states are asked for, in ascending order.
    """
    device = decoder.embed_tokens.weight.device
    cos, sin = angles(decoder, max(map(len, texts)))
    for batch in _batches(texts, _budget(layers, device)):
        laid = _laid_out(texts, places, batch).on(device)
        turns = cos[laid.positions][:, None], sin[laid.positions][:, None]
        states = _through(layers, decoder.embed_tokens(laid.ids), turns, laid)
        yield [text for text, _ in batch], norm(states, decoder.norm)


@dataclass(frozen=True, slots=True)
class Laid:
    """A batch of texts.

    Attributes:
        ids: (U,) distinct tokens.
        positions: (U,) place of each in its text.
        owners: (U,) where in B T a token stands.
        paths: (B, T) the tokens of each text, padded with any.
        asked: (B, W) places in each text, padded with the first.
        is_asked: (B, W) no padding.
    """

    ids: Tensor
    positions: Tensor
    owners: Tensor
    paths: Tensor
    asked: Tensor
    is_asked: Tensor

    def on(self, device: torch.device) -> "Laid":
        """The same on another device."""
        return Laid(*(getattr(self, name).to(device) for name in self.__slots__))


def _budget(layers: Sequence[Layer], device: torch.device) -> int:
    """Tokens of a batch."""
    if device.type != "cpu":
        return read_tokens()
    widest = sum(weight.shape[0] for weight, _ in layers[0].gate_up)
    return min(read_tokens(), max(LEAST, CACHED_NUMBERS // widest))


def _batches(texts: Sequence[list[int]], budget: int) -> list[Family]:
    """Texts in families that begin alike, and families with others of like length."""
    room = Room(budget)
    families: list[Family] = []
    order = sorted(range(len(texts)), key=lambda place: texts[place])
    for place, shared in zip(order, _shared([texts[place] for place in order]), strict=True):
        length = len(texts[place])
        is_kin = bool(families) and shared >= ALIKE_FRAC * length
        if is_kin and room.takes(1, length, length - shared):
            families[-1].append((place, shared))
        else:
            families.append([(place, 0)])
            room = Room(budget, 1, length, length)
    lengths = [[len(texts[text]) for text, _ in family] for family in families]
    longest_first = sorted(range(len(families)), key=lambda at: -max(lengths[at]))
    batches: list[Family] = []
    for at in longest_first:
        family, widest = families[at], max(lengths[at])
        new = sum(lengths[at]) - sum(shared for _, shared in family)
        if batches and room.takes(len(family), widest, new):
            batches[-1].extend(family)
        else:
            batches.append([*family])
            room = Room(budget, len(family), widest, new)
    return batches


@dataclass(slots=True)
class Room:
    """What a batch holds: texts, tokens of its longest, tokens that are read."""

    budget: int
    texts: int = 0
    widest: int = 0
    tokens: int = 0

    def takes(self, texts: int, widest: int, tokens: int) -> bool:
        """Take more, unless it is too much at once."""
        texts, tokens, widest = self.texts + texts, self.tokens + tokens, max(self.widest, widest)
        fits = tokens <= self.budget and texts * widest <= LOOKS * self.budget
        if fits:
            self.texts, self.widest, self.tokens = texts, widest, tokens
        return fits


def _shared(texts: Sequence[Sequence[int]]) -> list[int]:
    """Tokens that each text begins with as the one before it does."""
    found = [0]
    for start in range(0, len(texts) - 1, AT_ONCE):
        table, lengths = _padded(texts[start : start + AT_ONCE + 1])
        differs = table[1:] != table[:-1]
        least = np.minimum(lengths[1:], lengths[:-1])
        found += np.where(differs.any(1), differs.argmax(1), least).tolist()
    return found


def _padded(texts: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """(B, T) tokens, padded with what none is, and (B,) lengths."""
    lengths = np.array([len(text) for text in texts])
    table = np.full((len(texts), lengths.max()), -1)
    table[np.arange(table.shape[1]) < lengths[:, None]] = np.fromiter(chain(*texts), np.int64)
    return table, lengths


def _laid_out(
    texts: Sequence[Sequence[int]], places: Sequence[Sequence[int]], batch: Family
) -> Laid:
    table, lengths = _padded([texts[text] for text, _ in batch])
    column, shared = np.arange(table.shape[1]), np.array([[one] for _, one in batch])
    is_own = (column >= shared) & (column < lengths[:, None])
    owners = np.flatnonzero(is_own)
    numbers = np.zeros(table.shape, np.int64)
    numbers[is_own] = np.arange(len(owners))
    paths = np.maximum.accumulate(numbers)  # what a text shares is that of the texts above it
    counts = np.array([len(places[text]) for text, _ in batch])
    is_asked = np.arange(counts.max()) < counts[:, None]
    asked = np.zeros(is_asked.shape, np.int64)
    asked[is_asked] = np.fromiter(chain(*(places[text] for text, _ in batch)), np.int64)
    flat = table[is_own], owners % table.shape[1], owners, paths, asked, is_asked
    return Laid(*map(torch.from_numpy, flat))


def _through(
    layers: Sequence[Layer], states: Tensor, turns: tuple[Tensor, Tensor], laid: Laid
) -> Tensor:
    """(N, d) states behind the last layer, of (U, d) before the first."""
    for layer in layers[:-1]:
        heads = layer.queries_keys_values(states, *turns)
        found = _look(layer, *(_rows(one, laid.paths) for one in heads), None)
        states = layer.after(states, found.flatten(0, 1).index_select(0, laid.owners))
    queries, keys, values = layers[-1].queries_keys_values(states, *turns)
    at = laid.paths.gather(1, laid.asked)
    is_seen = torch.arange(laid.paths.shape[1], device=at.device) <= laid.asked[:, :, None]
    keys, values = (_rows(one, laid.paths) for one in (keys, values))
    found = _look(layers[-1], _rows(queries, at), keys, values, is_seen[:, None])
    return layers[-1].after(states[at[laid.is_asked]], found[laid.is_asked])


def _rows(states: Tensor, places: Tensor) -> Tensor:
    """(B, any, heads, D) of (U, heads, D): a fifth of the time that an index of two axes takes."""
    found = states.flatten(1).index_select(0, places.flatten())
    return found.view(*places.shape, *states.shape[1:])


def _look(
    layer: Layer, queries: Tensor, keys: Tensor, values: Tensor, is_seen: Tensor | None
) -> Tensor:
    """(B, W, H N D) what queries (B, W, H N, D) find in keys and values (B, T, H, D): in all that
    is not behind them, or in what is seen."""
    if layer.groups > 1:
        keys, values = (one.repeat_interleave(layer.groups, 2) for one in (keys, values))
    found = F.scaled_dot_product_attention(
        queries.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=is_seen,
        is_causal=is_seen is None,
        scale=layer.module.self_attn.scaling,
    )
    return found.transpose(1, 2).flatten(2)
