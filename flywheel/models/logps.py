"""Log-probabilities of responses under a causal language model, without logits nobody needs.

Dimension key
    B   rows, each a prompt with its response, padded on the right
    T   tokens of the longest row
    N   tokens that carry loss, over all rows
    V   vocabulary

Rows are padded on the right and attention is causal, so no real token sees padding and no mask
is needed. Only the N positions before a response token go through the head, in pieces. Rows that
share one row of the batch (`pack`) are told apart by their positions, which start again at 0:
given no mask, transformers lets each attend to itself only.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flywheel.datasets.render import Rendered
from flywheel.errors import SettingsError, TrainingError

E = TypeVar("E")
PIECE_LOGITS = 2**26  # logits held at once: 256 MB in fp32


class ResponseLogps(nn.Module):
    """A causal language model whose forward pass gives log-probabilities of response tokens."""

    def __init__(self, causal: Any) -> None:
        super().__init__()
        self.causal = causal
        self._room = learned_positions(causal)

    def forward(
        self,
        ids: Tensor,
        is_target: Tensor,
        positions: Tensor | None = None,
        temperatures: Tensor | None = None,
        with_entropy: bool = False,
    ) -> Any:
        """Log-probability of every target token, in nats, row after row.

        Args:
            ids: (B, T) token ids.
            is_target: (B, T) whether the token carries loss.
            positions: (B, T) place of each token in its own row, where rows are packed.
            temperatures: (B,), or (1,) of all rows: what the logits are divided by, as they were
                when the row was sampled; anything else makes ratios of about 2 at 0.6 (TRL #4159).
            with_entropy: Whether to give the entropy too.

        Returns:
            (N,) in fp32; with entropy a pair, the second (N,) that of the distribution which the
            token was drawn from, in nats and without gradient.

        Raises:
            TrainingError: A row is longer than the positions that the model has learned.
        """
        if self._room and positions is None and ids.shape[1] > self._room:
            raise TrainingError(
                f"a row of {ids.shape[1]} tokens is longer than the {self._room} positions that "
                f"the model has learned; lower max_tokens to that, or choose a model with more"
            )
        packed = {} if positions is None else {"position_ids": positions}
        decoder = self.causal.get_decoder()
        hidden = decoder(input_ids=ids, use_cache=False, **packed).last_hidden_state
        before = is_target[:, 1:]
        states, targets = hidden[:, :-1][before], ids[:, 1:][before]  # (N, d), (N,)
        heat = torch.ones(len(ids), device=ids.device) if temperatures is None else temperatures
        heat = heat[:, None].expand(before.shape)[before]  # (N,)

        def piece(states: Tensor, targets: Tensor, heat: Tensor) -> tuple[Tensor, ...]:
            logits = logits_of(self.causal, states).float() / heat[:, None]
            logps = torch.log_softmax(logits, dim=-1)
            told = logps.gather(-1, targets[:, None])[:, 0]
            return (told, entropy(logps.detach())) if with_entropy else (told,)

        rows = max(1, PIECE_LOGITS // self.causal.get_output_embeddings().weight.shape[0])
        if len(states) <= rows:
            found = piece(states, targets, heat)
        else:
            parts = zip(states.split(rows), targets.split(rows), heat.split(rows), strict=True)
            pieces = [checkpoint(piece, *part, use_reentrant=False) for part in parts]
            found = tuple(torch.cat(column) for column in zip(*pieces, strict=True))
        return found if with_entropy else found[0]


def learned_positions(causal: Any) -> int:
    """Positions of a model that looks them up in a table, as GPT-2 does; 0 of any other."""
    config = getattr(causal, "config", None)
    limit = getattr(config.get_text_config(), "max_position_embeddings", 0) if config else 0
    if not limit:
        return 0
    words = causal.get_input_embeddings()
    tables = [one for one in causal.modules() if isinstance(one, nn.Embedding)]
    # OPT's has two rows more than positions
    is_learned = any(one is not words and 0 <= one.num_embeddings - limit <= 2 for one in tables)
    return int(limit) if is_learned else 0


def logits_of(causal: Any, states: Tensor) -> Tensor:
    """(..., V) logits of (..., d) hidden states: the head, Cohere's scale and Gemma's cap."""
    config, logits = causal.config.get_text_config(), causal.get_output_embeddings()(states)
    if scale := getattr(config, "logit_scale", None):
        logits = logits * scale
    if cap := getattr(config, "final_logit_softcapping", None):
        logits = cap * torch.tanh(logits / cap)
    return logits


def entropy(logps: Tensor) -> Tensor:
    """(N,) entropies, in nats, of (N, V) log-probabilities; what is impossible adds nothing."""
    return torch.special.entr(logps.exp()).sum(-1)


def targets_of(row: Rendered) -> list[int]:
    """Places of the tokens of a row that carry loss, as `pad` marks them."""
    observed = {at for first, end in row.observed for at in range(first, end)}
    return [at for at in range(max(1, row.start), len(row.ids)) if at not in observed]


def pad(rows: Sequence[Rendered], device: Any) -> tuple[Tensor, Tensor]:
    """Rows as (B, T) ids and (B, T) target marks, padded with 0 on the right."""
    length = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    is_target = torch.zeros(len(rows), length, dtype=torch.bool)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = torch.tensor(row.ids)
        is_target[place, row.start : len(row.ids)] = True
        for first, end in row.observed:
            is_target[place, first:end] = False
    return ids.to(device), is_target.to(device)


def pack(rows: Sequence[E], length: Callable[[E], int]) -> list[list[E]]:
    """Put rows together into packs of no more tokens than the longest has, first fit."""
    longest_first = sorted(rows, key=lambda row: -length(row))
    packs: list[list[E]] = []
    room: list[int] = []
    for row in longest_first:
        place = first_fit(room, length(row))
        if place == len(room):
            packs.append([])
            room.append(length(longest_first[0]))
        packs[place].append(row)
        room[place] -= length(row)
    return packs


def first_fit(room: Sequence[int], length: int) -> int:
    """The first place with room for `length`; one beyond the last where there is none."""
    return next((place for place, left in enumerate(room) if left >= length), len(room))


def pad_packs(packs: Sequence[Sequence[Rendered]], device: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Packs as `pad` gives rows, and (B, T) positions: the place of a token in its own row."""
    ids, is_target = pad([_joined(pack) for pack in packs], device)
    positions = torch.zeros_like(ids)
    for place, pack in enumerate(packs):
        own = torch.cat([torch.arange(len(row.ids)) for row in pack])
        positions[place, : len(own)] = own
    return ids, is_target, positions


def _joined(pack: Sequence[Rendered]) -> Rendered:
    """Rows as one, in which each later prompt is observed; no row's first token is a target."""
    ids, observed = list[int](), list[tuple[int, int]]()
    for row in pack:
        spans = ((0, max(1, row.start)), *row.observed)
        observed += [(len(ids) + first, len(ids) + end) for first, end in spans]
        ids += row.ids
    return Rendered(ids=ids, start=0, observed=tuple(observed))


def row_sums(logps: Tensor, rows: Sequence[Rendered]) -> Tensor:
    """Add up (N,) token log-probabilities row by row: (B,)."""
    counts = torch.tensor([row.response_tokens for row in rows], device=logps.device)
    place = torch.repeat_interleave(torch.arange(len(rows), device=logps.device), counts)
    return torch.zeros(len(rows), device=logps.device, dtype=logps.dtype).index_add(0, place, logps)


def check_head(causal: Any) -> None:
    """Refuse a model whose logits are not those of `logits_of`.

    Raises:
        TrainingError: They are not, so the log-probabilities would be wrong.
    """
    device = next(causal.parameters()).device
    ids = torch.arange(4, device=device)[None] % causal.config.vocab_size
    with torch.no_grad():
        hidden = causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        plain = logits_of(causal, hidden)
        logits = causal(input_ids=ids, use_cache=False).logits
    if not torch.allclose(plain, logits, atol=1e-4, rtol=1e-4):
        raise TrainingError(
            f"{type(causal).__name__} changes its logits after the head in a way that this "
            f"recipe does not know; choose another base model"
        )


def check_packing(causal: Any) -> None:
    """Refuse a model in which rows that share one row of the batch see each other.

    Raises:
        SettingsError: They do: it has no positions, or keeps something else than attention.
    """
    device = next(causal.parameters()).device
    ids = torch.arange(8, device=device)[None] % causal.config.get_text_config().vocab_size
    decoder = causal.get_decoder()
    with torch.no_grad():
        alone = decoder(input_ids=ids[:, 4:], use_cache=False).last_hidden_state
        positions = torch.arange(4, device=device).repeat(2)[None]
        packed = decoder(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
    if not torch.allclose(alone, packed[:, 4:], atol=1e-4, rtol=1e-4):
        raise SettingsError(
            f"packing: true, but {type(causal).__name__} does not keep packed rows apart; "
            f"set packing to false"
        )
