"""A model and the rows that it continues, with their keys and values in buffers written in place.

transformers' own cache is concatenated anew for every token, which on a CPU costs as much as the
model itself. Here every row has a slot in a buffer. Prompts are read in pieces of like length and
stand at the right end of their slots, read once for all rows that continue the same one; when
rows have ended, the last ones still going move into their slots.

Dimension key
    R   rows that are being continued
    T   tokens of the longest prompt of a piece, the others padded on the left
    V   vocabulary
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

GROWTH = 128  # tokens that a buffer grows by


class SlotLayer(DynamicLayer):
    """Keys and values of one layer.

    While `reading` says which slots are filled by the next forward pass, and by which of its
    prompts each, a pass attends to its own tokens only. After `open` it is one token a slot.
    """

    def __init__(self, rows: int, width: int, longest: int) -> None:
        super().__init__()
        self.reading: tuple[Tensor, Tensor] | None = None
        self._rows, self._length, self._longest = rows, width, longest
        self._buffers: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write what a forward pass adds, and give back all that it attends to."""
        new = (key_states, value_states)
        if self.reading:
            self._read(new, *self.reading)
            return new
        end = self._length + 1
        if end > self._buffers[0].shape[2]:
            more = (0, 0, 0, min(GROWTH, self._longest - self._length))
            self._buffers = [torch.nn.functional.pad(buffer, more) for buffer in self._buffers]
        for buffer, states in zip(self._buffers, new, strict=True):
            buffer[: self._rows, :, self._length : end] = states
        self._length = end
        return self.open()

    def open(self) -> tuple[Tensor, Tensor]:
        """Let the next pass attend to every slot in use: their keys and values."""
        self.reading, self.is_initialized = None, True
        keys, values = (one[: self._rows, :, : self._length] for one in self._buffers)
        self.keys, self.values = keys, values
        return keys, values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows at `indices`; only those beyond the end of what is kept may move."""
        moved = (indices >= len(indices)).nonzero()[:, 0]
        self._rows = len(indices)
        for buffer in self._buffers:
            buffer[moved] = buffer[indices[moved]]
        self.open()

    def _read(self, new: tuple[Tensor, Tensor], slots: Tensor, prompts: Tensor) -> None:
        if not self._buffers:  # of zeros: what is masked must still be a number
            end = min(self._length + GROWTH, self._longest)
            self._buffers = [
                states.new_zeros(self._rows, states.shape[1], end, states.shape[3])
                for states in new
            ]
        for buffer, states in zip(self._buffers, new, strict=True):
            buffer[slots, :, self._length - states.shape[2] : self._length] = states[prompts]


class Decoder:
    """A causal language model of any kind that continues rows, one token each at a time."""

    def __init__(self, model: Any, given: Sequence[Sequence[int]], most_new: int) -> None:
        self._model, self._given = model, given
        self._device = next(model.parameters()).device
        self._width = self._used = max(map(len, given))
        lengths = torch.tensor([len(row) for row in given], device=self._device)
        self._is_padded = bool((lengths < self._width).any())
        self._positions = lengths[:, None]
        places = torch.arange(self._width + most_new, device=self._device)
        self._mask = places >= (self._width - lengths)[:, None]
        self._slots = _slots(model, len(given), self._width, self._width + most_new)
        self._cache = (
            Cache(layers=[*self._slots]) if self._slots else DynamicCache(config=model.config)
        )
        # a mask made here goes to the attention as it is; other kinds make their own of a flat one
        self._makes_mask = (
            bool(self._slots)
            and model.config._attn_implementation == "sdpa"
            and getattr(model, "_supports_attention_backend", False)
        )
        self._accepted = inspect.signature(model.forward).parameters

    def read(self) -> Tensor:
        """(R, V) logits of the token after each prompt."""
        rows_of: dict[tuple[int, ...], list[int]] = {}
        for place, row in enumerate(self._given):
            rows_of.setdefault(tuple(row) if self._slots else (place,), []).append(place)
        logits = list[Tensor]()
        order = list[int]()
        for piece in self._pieces(list(rows_of.values())):
            slots = torch.tensor([slot for rows in piece for slot in rows], device=self._device)
            counts = torch.tensor([len(rows) for rows in piece], device=self._device)
            prompts = torch.repeat_interleave(torch.arange(len(piece), device=self._device), counts)
            for layer in self._slots:
                layer.reading = (slots, prompts)
            logits.append(self._read([self._given[rows[0]] for rows in piece])[prompts])
            order += slots.tolist()
        for layer in self._slots:
            layer.open()
        return torch.cat(logits)[torch.tensor(order, device=self._device).argsort()]

    def step(self, tokens: Tensor) -> Tensor:
        """(R, V) logits of the token after `tokens` (R,)."""
        self._used += 1
        options: dict[str, Any] = {}
        if self._is_padded:
            mask = self._mask[:, : self._used]
            options["attention_mask"] = mask[:, None, None] if self._makes_mask else mask.long()
            options["position_ids"] = self._positions
            self._positions = self._positions + 1
        return self._forward(tokens[:, None], options)

    def keep(self, rows: Tensor) -> None:
        """Go on with `rows` only: (smaller R,) places, in place but for those beyond it."""
        self._cache.batch_select_indices(rows)
        self._mask, self._positions = self._mask[rows], self._positions[rows]

    def _pieces(self, distinct: list[list[int]]) -> list[list[list[int]]]:
        """Rows by prompt, cut so that none is padded to more than twice its length."""
        if not self._slots:
            return [distinct]
        pieces: list[list[list[int]]] = []
        width = 0
        for rows in sorted(distinct, key=lambda rows: -len(self._given[rows[0]])):
            length = len(self._given[rows[0]])
            if 2 * length < width or not pieces:
                pieces.append([])
                width = length
            pieces[-1].append(rows)
        return pieces

    def _read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in prompts])
        lengths = torch.tensor([len(row) for row in prompts])
        mask = (torch.arange(width) >= (width - lengths)[:, None]).long()
        options: dict[str, Any] = {}
        if len(set(lengths.tolist())) > 1:
            options["attention_mask"] = mask.to(self._device)
            options["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0).to(self._device)
        return self._forward(ids.to(self._device), options)

    def _forward(self, ids: Tensor, options: dict[str, Any]) -> Tensor:
        """Logits (B, V) after the last of the ids (B, T), in fp32."""
        name = "cache" if "cache" in self._accepted else "past_key_values"  # until 5.2 has gone
        options |= {name: self._cache, "logits_to_keep": 1, "use_cache": True}
        if "position_ids" not in self._accepted:
            options.pop("position_ids", None)
        return self._model(input_ids=ids, **options).logits[:, -1].float()


def going_on(done: Tensor) -> Tensor:
    """Places of the rows that are not done: each its own, the last ones in those of the done."""
    left = len(done) - int(done.sum())
    places = torch.arange(left, device=done.device)
    places[done[:left]] = left + (~done[left:]).nonzero()[:, 0]
    return places


def _slots(model: Any, rows: int, width: int, longest: int) -> list[SlotLayer]:
    """A layer of slots for each of the model's; none where one keeps something else than keys and
    values, or forgets some of them before a row has `longest` tokens."""
    layers = DynamicCache(config=model.config).layers
    is_plain = all(
        type(layer) is DynamicLayer
        or (type(layer) is DynamicSlidingWindowLayer and layer.sliding_window > longest)
        for layer in layers
    )
    return [SlotLayer(rows, width, longest) for _ in layers] if is_plain else []
