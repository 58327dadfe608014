"""A reward model on disk and in memory: a decoder, one linear head, and a shift.

The score of a response is read at its last real token, whose place comes from lengths and never
from token ids. The shift makes responses worth imitating average 0 (arXiv:2203.02155, 3.5).
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flywheel.errors import ManifestError
from flywheel.models.load import load_backbone

HEAD_FILE = "reward_head.safetensors"
FACTS_FILE = "reward.json"


class RewardHead(nn.Module):
    """Decoder and head; the forward pass gives one score per row."""

    def __init__(self, backbone: Any, seed: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        width = backbone.config.hidden_size
        self.head = nn.Linear(width, 1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():  # arXiv:2403.17031
            self.head.weight.normal_(std=1 / math.sqrt(width + 1), generator=generator)
            self.head.bias.zero_()

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """(B,) scores of (B, T) ids padded on the right, read at `lengths` - 1."""
        hidden = self.backbone(input_ids=ids, use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(ids), device=ids.device), lengths - 1]
        return self.head(last)[:, 0].float()


def save_reward(module: RewardHead, folder: Path, *, shift: float) -> None:
    """Write a reward model; `shift` is what every score is lowered by."""
    module.backbone.save_pretrained(folder)
    save_file(
        {n: t.detach().contiguous().cpu() for n, t in module.head.state_dict().items()},
        folder / HEAD_FILE,
    )
    (folder / FACTS_FILE).write_text(json.dumps({"shift": shift}, indent=2) + "\n")


def load_reward(folder: str) -> tuple[RewardHead, float]:
    """Read a reward model and its shift.

    Raises:
        ManifestError: The folder holds no reward model.
    """
    path = Path(folder)
    if not (path / HEAD_FILE).exists():
        raise ManifestError(f"no reward model in {folder} ({HEAD_FILE} is missing); train it first")
    module = RewardHead(load_backbone(folder))
    module.head.load_state_dict(load_file(path / HEAD_FILE))
    return module.eval(), float(json.loads((path / FACTS_FILE).read_text())["shift"])
