"""A policy as reinforcement trains it, alone or with its value model: one module, one engine.

Dimension key
    B   rows, each a prompt with its response, padded on the right
    T   tokens of the longest row
    N   tokens that carry loss, over all rows
"""

from typing import Any

import torch
from torch import Tensor, nn

from flywheel.models.logps import ResponseLogps
from flywheel.models.reward import ScoreHead


class Critic(nn.Module):
    """A decoder and one linear head that start by expecting 0 everywhere (arXiv:2403.17031)."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = ScoreHead(backbone.config.hidden_size)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor, is_target: Tensor) -> Tensor:
        """(N,) what is expected from before each target token on, in fp32."""
        hidden = self.backbone(input_ids=ids, use_cache=False).last_hidden_state
        return self.head(hidden[:, :-1][is_target[:, 1:]])[:, 0]


class Actor(ResponseLogps):
    """A causal language model, and a value model beside it where there is one."""

    def __init__(self, causal: Any, critic: Critic | None = None) -> None:
        super().__init__(causal)
        self.critic = critic

    def forward(  # type: ignore[override]
        self, ids: Tensor, is_target: Tensor, temperatures: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability, entropy and value at every target token, row after row.

        Args:
            ids: (B, T) token ids.
            is_target: (B, T) whether the token carries loss.
            temperatures: (B,) what the logits of each row were divided by when it was sampled.

        Returns:
            (N,) log-probabilities in nats; (N,) entropies, without gradient; (N,) values, zeros
            where there is no value model. All in fp32.
        """
        logps, entropies = super().forward(
            ids, is_target, temperatures=temperatures, with_entropy=True
        )
        values = torch.zeros_like(logps) if self.critic is None else self.critic(ids, is_target)
        return logps, entropies, values
