"""A reward model on disk and in memory: a decoder, one linear head, a shift, and its ends of turn.

The score of a response is read at its last real token, whose place comes from lengths and never
from token ids. The shift makes responses worth imitating average 0 (arXiv:2203.02155, 3.5). The
ids that end a turn lie beside it: a decoder without a head has no generation config to keep them.
"""

import json
import math
from collections.abc import Sequence
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


def save_reward(module: RewardHead, folder: Path, *, shift: float, stop_ids: Sequence[int]) -> None:
    """Write a reward model.

    Args:
        module: What was trained.
        folder: Where to; the tokenizer is the caller's to write.
        shift: What every score is lowered by.
        stop_ids: Ids that ended a turn in training; scoring must cut where training did.
    """
    module.backbone.save_pretrained(folder)
    save_file(
        {n: t.detach().contiguous().cpu() for n, t in module.head.state_dict().items()},
        folder / HEAD_FILE,
    )
    facts = {"shift": shift, "stop_ids": list(stop_ids)}
    (folder / FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n")


def load_reward(folder: str) -> tuple[RewardHead, float, list[int]]:
    """Read a reward model, its shift and its stop ids.

    Raises:
        ManifestError: The folder holds no reward model, or one without stop ids.
    """
    path = Path(folder)
    if not (path / HEAD_FILE).exists():
        raise ManifestError(f"no reward model in {folder} ({HEAD_FILE} is missing); train it first")
    facts = json.loads((path / FACTS_FILE).read_text())
    if "stop_ids" not in facts:
        raise ManifestError(
            f"{path / FACTS_FILE} does not say which ids end a turn, so scores would not be those "
            f"of training; remove the run's folder of {folder} and train it again"
        )
    module = RewardHead(load_backbone(folder))
    module.head.load_state_dict(load_file(path / HEAD_FILE))
    return module.eval(), float(facts["shift"]), list(facts["stop_ids"])
