"""The decoder of `decoder.py` again for plain Llama-like models, in a third of the operations.

transformers spends most of a one-token step around its matrices, and its cache holds a prompt once
for every answer to it. Here prompts are read with no row padded on the left and are kept once,
answers are kept apart from them, without padding, and one softmax goes over both. Weights are read
from the live modules when a decoder is made: a policy is trained between two samplings.

Dimension key
    R   rows that are being continued
    P   distinct prompts, which S rows continue at most
    H   heads of keys; each serves N heads of queries of D numbers
    T   tokens of the longest prompt
    V   vocabulary
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flywheel.models.cuts import batch_tokens, cheapest_cuts
from flywheel.rollout.decoder import GROWTH, going_on
from flywheel.rollout.llama import Layer, angles, norm

READ_TOKENS = 16384  # of prompts at once
LIGHTER = 4  # a pass that reads costs this much less beside its tokens than one that trains


class LeanDecoder:
    """A Llama-like model that continues rows, one token each at a time."""

    def __init__(
        self, model: Any, layers: list[Layer], given: Sequence[Sequence[int]], most_new: int
    ) -> None:
        self._model, self._layers, self._most_new = model, layers, most_new
        attention = model.model.layers[0].self_attn
        self._scale = attention.scaling
        self._size, self._groups, self._heads = layers[0].size, layers[0].groups, layers[0].heads
        weight = model.model.embed_tokens.weight
        self._device, self._dtype = weight.device, weight.dtype
        places: dict[tuple[int, ...], int] = {}
        prompt_of = [places.setdefault(tuple(row), len(places)) for row in given]
        self._prompts = list(places)
        self._prompt_of = torch.tensor(prompt_of, device=self._device)
        lengths = torch.tensor([len(row) - 1 for row in self._prompts], device=self._device)
        self._positions = lengths[self._prompt_of]
        width = int(lengths.max())
        self._cos, self._sin = angles(model.model, width + most_new + 1)
        # what is masked must still be a number: zeros
        self._kept = weight.new_zeros(
            len(layers), 2, len(self._prompts), self._heads, width, self._size
        )
        beyond = torch.arange(width, device=self._device) >= lengths[:, None]
        hidden = torch.zeros(beyond.shape, device=self._device).masked_fill(beyond, -torch.inf)
        self._hidden = hidden
        self._said = weight.new_empty(
            len(layers), 2, len(given), self._heads, min(GROWTH, most_new), self._size
        )
        self._used = 0
        self._arrange()

    def read(self) -> Tensor:
        """(R, V) logits of the token after each prompt, whose last token is the first step."""
        order = sorted(range(len(self._prompts)), key=lambda one: -len(self._prompts[one]))
        shapes = [(1, len(self._prompts[one]) - 1) for one in order]
        cuts = cheapest_cuts(shapes, READ_TOKENS, batch_tokens() // LIGHTER)
        for first, end in pairwise([0, *cuts] if shapes[0][1] else []):
            piece, width = order[first:end], shapes[first][1]
            ids = [[*self._prompts[one][:-1], *[0] * width][:width] for one in piece]
            self._read(torch.tensor(ids, device=self._device), piece)
        last = torch.tensor([row[-1] for row in self._prompts], device=self._device)
        return self.step(last[self._prompt_of])

    def step(self, tokens: Tensor) -> Tensor:
        """(R, V) logits of the token after `tokens` (R,)."""
        if self._used == self._said.shape[4]:
            more = min(GROWTH, self._most_new - self._used)
            self._said = F.pad(self._said, (0, 0, 0, more))
        rows = len(tokens)
        cos, sin = self._cos[self._positions][:, None], self._sin[self._positions][:, None]
        states = self._model.model.embed_tokens(tokens)
        now = self._said[:, :, :rows, :, self._used]
        self._used += 1
        said = self._said[:, :, :rows, :, : self._used].flatten(2, 3)
        for place, layer in enumerate(self._layers):
            queries, keys, values = layer.queries_keys_values(states, cos, sin)
            now[place, 0], now[place, 1] = keys, values
            states = layer.after(states, self._attend(queries, place, said[place]))
        self._positions = self._positions + 1
        return self._logits(states)

    def keep(self, rows: Tensor) -> None:
        """Go on with `rows` only, places as `going_on` gives them, in place."""
        self._positions, self._prompt_of = self._positions[rows], self._prompt_of[rows]
        _close(self._said, rows)
        used = torch.zeros(self._kept.shape[2], dtype=torch.bool, device=self._device)
        used[self._prompt_of] = True
        if not used.all():
            prompts = going_on(~used)
            _close(self._kept, prompts)
            self._kept = self._kept[:, :, : len(prompts)]
            self._hidden = self._hidden[prompts]
            now = used.new_zeros(used.shape, dtype=torch.long)
            now[prompts] = torch.arange(len(prompts), device=self._device)
            self._prompt_of = now[self._prompt_of]
        self._arrange()

    def _arrange(self) -> None:
        """Lay rows out as a table of S places a prompt; where some are empty, by two indices."""
        prompts, rows = self._kept.shape[2], len(self._prompt_of)
        order = torch.arange(rows, device=self._device)
        counts = torch.bincount(self._prompt_of, minlength=prompts)
        self._each = int(counts.max())
        by_prompt = self._prompt_of.argsort(stable=True)
        begins = (counts.cumsum(0) - counts)[self._prompt_of[by_prompt]]
        self._place_of = torch.empty_like(order)
        self._place_of[by_prompt] = self._prompt_of[by_prompt] * self._each + order - begins
        self._row_at = order.new_zeros(prompts * self._each)
        self._row_at[self._place_of] = order
        self._is_table = bool((self._place_of == order).all()) and rows == len(self._row_at)
        self._mask = self._hidden.repeat_interleave(self._heads, 0)[:, None]  # (P H, 1, T)

    def _table(self, rows: Tensor) -> Tensor:
        """(R H, N, any) of rows as (P H, S N, any) of prompts; an empty place repeats a row."""
        if self._is_table and self._each == 1:
            return rows
        one = rows.unflatten(0, (-1, self._heads))
        one = one if self._is_table else one[self._row_at]
        one = one.unflatten(0, (-1, self._each)).transpose(1, 2)
        return one.reshape(-1, self._each * self._groups, rows.shape[-1])

    def _rows(self, table: Tensor) -> Tensor:
        """`_table` undone."""
        if self._is_table and self._each == 1:
            return table
        one = table.view(-1, self._heads, self._each, self._groups, table.shape[-1])
        one = one.transpose(1, 2).flatten(0, 1)
        one = one if self._is_table else one[self._place_of]
        return one.reshape(-1, self._groups, table.shape[-1])

    def _attend(self, queries: Tensor, place: int, said: Tensor) -> Tensor:
        """(R, H N D) what queries (R, H N, D) find in prompts and answers (2, R H, any, D)."""
        mine = queries.reshape(-1, self._groups, self._size)
        kept = self._kept[place].flatten(1, 2)
        ours = _products(self._table(mine), kept[0], self._scale, self._mask)
        own = _products(mine, said[0], self._scale, None)
        shares = torch.cat((self._rows(ours), own), -1).softmax(-1).to(self._dtype)
        width = kept.shape[2]
        found = self._rows(torch.bmm(self._table(shares[..., :width]), kept[1]))
        return torch.baddbmm(found, shares[..., width:], said[1]).view(len(queries), -1)

    def _read(self, ids: Tensor, places: list[int]) -> None:
        """Keep keys and values of prompts (B, T), padded on the right with what nothing sees."""
        count, width = ids.shape
        cos, sin = (one[:width, None].repeat(count, 1, 1) for one in (self._cos, self._sin))
        states = self._model.model.embed_tokens(ids).flatten(0, 1)
        for place, layer in enumerate(self._layers):
            heads = layer.queries_keys_values(states, cos, sin)
            queries, keys, values = (one.unflatten(0, ids.shape).transpose(1, 2) for one in heads)
            self._kept[place, 0, places, :, :width] = keys
            self._kept[place, 1, places, :, :width] = values
            if place + 1 == len(self._layers):
                return  # what comes after its keys and values is for the first step to tell
            keys, values = (one.repeat_interleave(self._groups, 1) for one in (keys, values))
            found = F.scaled_dot_product_attention(
                queries, keys, values, is_causal=True, scale=self._scale
            )
            states = layer.after(states, found.transpose(1, 2).flatten(2).flatten(0, 1))

    def _logits(self, states: Tensor) -> Tensor:
        return self._model.lm_head(norm(states, self._model.model.norm)).float()


def _close(buffer: Tensor, places: Tensor) -> None:
    """Move what lies beyond the end of `places` (of dimension 2) into the gaps."""
    moved = (places >= len(places)).nonzero()[:, 0]
    buffer[:, :, moved] = buffer[:, :, places[moved]]


def _products(queries: Tensor, keys: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """Scaled scores of each query with each key, in fp32 also where they are in bf16."""
    keys = keys.transpose(1, 2)
    if queries.dtype == torch.float32:
        start = queries.new_zeros(()) if mask is None else mask
        return torch.baddbmm(start, queries, keys, beta=int(mask is not None), alpha=scale)
    if queries.is_cuda:
        scores = torch.bmm(queries, keys, out_dtype=torch.float32) * scale
    else:
        scores = torch.bmm(queries.float(), keys.float()) * scale
    return scores if mask is None else scores + mask
