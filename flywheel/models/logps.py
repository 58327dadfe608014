"""Log-probabilities of responses under a causal language model, without logits nobody needs.

Dimension key
    B   rows, each a prompt with its response, padded on the right
    T   tokens of the longest row
    N   tokens that carry loss, over all rows
    V   vocabulary

Rows are padded on the right and attention is causal, so no real token sees padding and no mask
is needed. Only the N positions before a response token go through the head, in pieces.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flywheel.datasets.render import Rendered
from flywheel.errors import TrainingError

PIECE_LOGITS = 2**26  # logits held at once: 256 MB in fp32


class ResponseLogps(nn.Module):
    """A causal language model whose forward pass gives log-probabilities of response tokens."""

    def __init__(self, causal: Any) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, ids: Tensor, is_target: Tensor) -> Tensor:
        """Log-probability of every target token, in nats, row after row.

        Args:
            ids: (B, T) token ids.
            is_target: (B, T) whether the token carries loss.

        Returns:
            (N,) in fp32.
        """
        hidden = self.causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        before = is_target[:, 1:]
        states, targets = hidden[:, :-1][before], ids[:, 1:][before]  # (N, d), (N,)
        head = self.causal.get_output_embeddings()
        rows = max(1, PIECE_LOGITS // head.weight.shape[0])
        if len(states) <= rows:
            return token_logps(head(states), targets)
        pieces = [
            checkpoint(lambda s, t: token_logps(head(s), t), part, goal, use_reentrant=False)
            for part, goal in zip(states.split(rows), targets.split(rows), strict=True)
        ]
        return torch.cat(pieces)


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) log-probabilities of `targets` (N,) under `logits` (N, V), in fp32."""
    logps = torch.log_softmax(logits.float(), dim=-1)
    return logps.gather(-1, targets[:, None])[:, 0]


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


def row_sums(logps: Tensor, rows: Sequence[Rendered]) -> Tensor:
    """Add up (N,) token log-probabilities row by row: (B,)."""
    counts = torch.tensor([row.response_tokens for row in rows], device=logps.device)
    place = torch.repeat_interleave(torch.arange(len(rows), device=logps.device), counts)
    return torch.zeros(len(rows), device=logps.device, dtype=logps.dtype).index_add(0, place, logps)


def check_head(causal: Any) -> None:
    """Refuse a model whose logits are more than its head applied to its last hidden state.

    Raises:
        TrainingError: They are (scaled or capped logits), so the log-probabilities would be wrong.
    """
    device = next(causal.parameters()).device
    ids = torch.arange(4, device=device)[None] % causal.config.vocab_size
    with torch.no_grad():
        hidden = causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        plain = causal.get_output_embeddings()(hidden)
        logits = causal(input_ids=ids, use_cache=False).logits
    if not torch.allclose(plain, logits, atol=1e-4, rtol=1e-4):
        raise TrainingError(
            f"{type(causal).__name__} scales or caps its logits after the head, which this "
            f"recipe does not; choose another base model"
        )
