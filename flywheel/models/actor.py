"""A policy as reinforcement trains it, alone or with its value model: one module, one engine.

Dimension key
    B   rows, each a prompt with its response, padded on the right
    T   tokens of the longest row
    N   tokens that carry loss, over all rows
    V   vocabulary
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flywheel.models.logps import PIECE_LOGITS


class Critic(nn.Module):
    """A decoder and one linear head that start by expecting 0 everywhere (arXiv:2403.17031)."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.config.hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor, is_target: Tensor) -> Tensor:
        """(N,) what is expected from before each target token on, in fp32."""
        hidden = self.backbone(input_ids=ids, use_cache=False).last_hidden_state
        return self.head(hidden[:, :-1][is_target[:, 1:]])[:, 0].float()


class Actor(nn.Module):
    """A causal language model, and a value model beside it where there is one."""

    def __init__(self, causal: Any, critic: Critic | None = None) -> None:
        super().__init__()
        self.causal, self.critic = causal, critic

    def forward(
        self, ids: Tensor, is_target: Tensor, temperatures: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability, entropy and value at every target token, row after row.

        Args:
            ids: (B, T) token ids.
            is_target: (B, T) whether the token carries loss.
            temperatures: (B,) what the logits of each row are divided by, as they were when it
                was sampled; anything else makes ratios of about 2 at 0.6 (TRL #4159).

        Returns:
            (N,) log-probabilities in nats; (N,) entropies, without gradient; (N,) values, zeros
            where there is no value model. All in fp32.
        """
        hidden = self.causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        before = is_target[:, 1:]
        states, targets = hidden[:, :-1][before], ids[:, 1:][before]  # (N, d), (N,)
        scales = temperatures[:, None].expand(before.shape)[before]
        head = self.causal.get_output_embeddings()

        def tokens(part: Tensor, goal: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
            return token_facts(head(part).float() / scale[:, None], goal)

        rows = max(1, PIECE_LOGITS // head.weight.shape[0])
        if len(states) <= rows:
            logps, entropies = tokens(states, targets, scales)
        else:
            cut = zip(states.split(rows), targets.split(rows), scales.split(rows), strict=True)
            pieces = [checkpoint(tokens, *piece, use_reentrant=False) for piece in cut]
            logps, entropies = (torch.cat(side) for side in zip(*pieces, strict=True))
        values = torch.zeros_like(logps) if self.critic is None else self.critic(ids, is_target)
        return logps, entropies, values


def token_facts(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) log-probabilities of `targets` (N,) and (N,) entropies under `logits` (N, V)."""
    logps = torch.log_softmax(logits, dim=-1)
    spread = logps.detach()
    return logps.gather(-1, targets[:, None])[:, 0], -(spread.exp() * spread).sum(-1)
