"""Texts read by a Llama-like model; where they begin alike, that is read once.

Most of what is scored begins as its neighbour does: two responses to one prompt, a response and
what it was tampered into. All that a layer does token by token is done on the distinct beginnings,
without padding; only to look at each other tokens are laid out text by text, on sheets of texts of
like length. Of the last layer, only the states that are asked for are computed.

Dimension key
    U   tokens of a batch of texts, each beginning counted once
    N   states that are asked for, over all of them
    B   texts of a sheet
    T   tokens of its longest text
    W   the most that are asked for of one of its texts
    L   tokens that are laid out, B T of all sheets
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
LIKE_FRAC = 3 / 4  # of the longest text of a sheet that its shortest has
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
        yield laid.texts, norm(states, decoder.norm)


@dataclass(frozen=True, slots=True)
class Sheet:
    """Texts of like length.

    Attributes:
        paths: (B, T) the tokens of each text, padded with any.
        asked: (B, W) places in each text, padded with the first.
        is_asked: (B, W) no padding.
    """

    paths: Tensor
    asked: Tensor
    is_asked: Tensor


@dataclass(frozen=True, slots=True)
class Laid:
    """A batch of texts.

    Attributes:
        texts: Which, sheet after sheet.
        sheets: The texts.
        ids: (U,) distinct tokens.
        positions: (U,) place of each in its text.
        owners: (U,) where in L a token stands.
    """

    texts: list[int]
    sheets: list[Sheet]
    ids: Tensor
    positions: Tensor
    owners: Tensor

    def on(self, device: torch.device) -> "Laid":
        """The same on another device."""
        if device.type == "cpu":
            return self
        flat = (one.to(device) for one in (self.ids, self.positions, self.owners))
        sheets = [(one.paths, one.asked, one.is_asked) for one in self.sheets]
        moved = [Sheet(*(one.to(device) for one in three)) for three in sheets]
        return Laid(self.texts, moved, *flat)


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
        if is_kin and room.takes(length, length - shared):
            families[-1].append((place, shared))
        else:
            families.append([(place, 0)])
            room = Room(budget, length, length)
    lengths = [[len(texts[text]) for text, _ in family] for family in families]
    longest_first = sorted(range(len(families)), key=lambda at: -max(lengths[at]))
    batches: list[Family] = []
    for at in longest_first:
        family, laid = families[at], sum(lengths[at])
        new = laid - sum(shared for _, shared in family)
        if batches and room.takes(laid, new):
            batches[-1].extend(family)
        else:
            batches.append([*family])
            room = Room(budget, laid, new)
    return batches


@dataclass(slots=True)
class Room:
    """What a batch holds: tokens that are laid out, and tokens that are read."""

    budget: int
    laid: int = 0
    read: int = 0

    def takes(self, laid: int, read: int) -> bool:
        """Take more, unless it is too much at once."""
        laid, read = self.laid + laid, self.read + read
        fits = read <= self.budget and laid <= LOOKS * self.budget
        if fits:
            self.laid, self.read = laid, read
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
    rows, positions = np.nonzero(is_own)
    numbers = np.zeros(table.shape, np.int64)
    numbers[is_own] = np.arange(len(rows))
    paths = np.maximum.accumulate(numbers)  # what a text shares is that of the texts above it
    begins, end = np.zeros(len(batch), np.int64), 0
    order, sheets = list[int](), list[Sheet]()
    for sheet in _sheets(lengths):
        width = lengths[sheet].max()
        begins[sheet] = end + width * np.arange(len(sheet))
        end += width * len(sheet)
        mine = [batch[row][0] for row in sheet]
        order += mine
        asked, counts = _padded([places[text] for text in mine])
        is_asked = np.arange(asked.shape[1]) < counts[:, None]
        three = paths[sheet, :width], asked.clip(0), is_asked
        sheets.append(Sheet(*map(torch.from_numpy, three)))
    flat = table[is_own], positions, begins[rows] + positions
    return Laid(order, sheets, *map(torch.from_numpy, flat))


def _sheets(lengths: Ints) -> Iterator[Ints]:
    """Places of texts, those of like length together, the longest first."""
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        count = int((lengths[order] >= LIKE_FRAC * lengths[order[0]]).sum())
        yield order[:count]
        order = order[count:]


def _through(
    layers: Sequence[Layer], states: Tensor, turns: tuple[Tensor, Tensor], laid: Laid
) -> Tensor:
    """(N, d) states behind the last layer, of (U, d) before the first."""
    for layer in layers[:-1]:
        heads = layer.queries_keys_values(states, *turns)
        laid_out = ((_rows(one, sheet.paths) for one in heads) for sheet in laid.sheets)
        found = torch.cat([_look(layer, *three).flatten(0, 1) for three in laid_out])
        states = layer.after(states, found.index_select(0, laid.owners))
    queries, keys, values = layers[-1].queries_keys_values(states, *turns)
    tokens, ends = list[Tensor](), list[Tensor]()
    for sheet in laid.sheets:
        at = sheet.paths.gather(1, sheet.asked)
        column = torch.arange(sheet.paths.shape[1], device=at.device)
        is_seen = (column <= sheet.asked[:, :, None])[:, None]
        mine, there, told = _rows(queries, at), _rows(keys, sheet.paths), _rows(values, sheet.paths)
        found = _look(layers[-1], mine, there, told, is_seen)
        ends.append(found[sheet.is_asked])
        tokens.append(at[sheet.is_asked])
    return layers[-1].after(states.index_select(0, torch.cat(tokens)), torch.cat(ends))


def _rows(states: Tensor, places: Tensor) -> Tensor:
    """(B, any, heads, D) of (U, heads, D): a fifth of the time that an index of two axes takes."""
    found = states.flatten(1).index_select(0, places.flatten())
    return found.view(*places.shape, *states.shape[1:])


def _look(
    layer: Layer, queries: Tensor, keys: Tensor, values: Tensor, is_seen: Tensor | None = None
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
