"""A reward model on disk and in memory: a decoder, one linear head, and the facts of its scale.

A score is read at a given token: of a response, the last real one; of a step, the end of its
turn. Places come from lengths and never from token ids. Published scores are shifted, so that
responses worth imitating average 0 (arXiv:2203.02155, 3.5), and divided by a scale. The ids that
end a turn lie beside it: a decoder without a head has no generation config to keep them.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flywheel.datasets.render import Rendered
from flywheel.errors import ManifestError
from flywheel.models.load import load_backbone
from flywheel.models.logps import pad

HEAD_FILE = "reward_head.safetensors"
FACTS_FILE = "reward.json"
REWARD, STEP_REWARD = "reward_model", "step_reward_model"


class ScoreHead(nn.Linear):
    """Hidden states to one number each, in fp32 whatever they are in: bf16 makes 256 scores near 5
    into 70."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 1)

    def forward(self, input: Tensor) -> Tensor:
        """(..., d) to (..., 1)."""
        with torch.autocast(input.device.type, enabled=False):
            return nn.functional.linear(input.float(), self.weight.float(), self.bias.float())


class RewardHead(nn.Module):
    """Decoder and head; the forward pass gives one score per place asked for."""

    def __init__(self, backbone: Any, seed: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        width = backbone.config.hidden_size
        self.head = ScoreHead(width)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():  # arXiv:2403.17031
            self.head.weight.normal_(std=1 / math.sqrt(width + 1), generator=generator)
            self.head.bias.zero_()

    def forward(self, ids: Tensor, places: Tensor) -> Tensor:
        """(N,) scores of (B, T) ids padded on the right, at (N, 2) rows and tokens, in fp32."""
        hidden = self.backbone(input_ids=ids, use_cache=False).last_hidden_state
        return self.head(hidden[places[:, 0], places[:, 1]])[:, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardFacts:
    """What turns raw scores into published ones.

    Attributes:
        kind: `reward_model`, or `step_reward_model`, whose scores are log-odds of a good step.
        shift: What every score is lowered by.
        scale: What it is divided by after that.
        stop_ids: Ids that ended a turn in training; scoring must cut where training did.
    """

    kind: str
    shift: float
    scale: float
    stop_ids: list[int]


def last_token(text: Rendered) -> list[int]:
    """Where the score of a whole response is read."""
    return [len(text.ids) - 1]


def scores_at(
    module: Callable[[Tensor, Tensor], Tensor],
    texts: Sequence[Rendered],
    places: Sequence[Sequence[int]],
    device: Any,
) -> Tensor:
    """(N,) raw scores of rendered texts at the given tokens of each, text after text.

    Each text goes forward once, however many of its tokens are read.
    """
    ids, _ = pad(texts, device)
    wanted = [(row, token) for row, tokens in enumerate(places) for token in tokens]
    return module(ids, torch.tensor(wanted, device=device))


def save_reward(
    module: RewardHead,
    folder: Path,
    *,
    shift: float,
    stop_ids: Sequence[int],
    scale: float = 1.0,
    kind: str = REWARD,
) -> None:
    """Write a reward model; the tokenizer is the caller's to write. See `RewardFacts`."""
    module.backbone.save_pretrained(folder)
    save_file(
        {n: t.detach().contiguous().cpu() for n, t in module.head.state_dict().items()},
        folder / HEAD_FILE,
    )
    facts = RewardFacts(kind=kind, shift=shift, scale=scale, stop_ids=list(stop_ids))
    (folder / FACTS_FILE).write_text(json.dumps(asdict(facts), indent=2) + "\n")


def load_reward(folder: str, kind: str = REWARD) -> tuple[RewardHead, RewardFacts]:
    """Read a reward model of a kind; one that was written before there was a scale has 1.

    Raises:
        ManifestError: The folder holds no reward model, one of the other kind, or one without
            stop ids.
    """
    path = Path(folder)
    if not (path / HEAD_FILE).exists():
        raise ManifestError(f"no reward model in {folder} ({HEAD_FILE} is missing); train it first")
    found = {"kind": REWARD, "scale": 1.0} | json.loads((path / FACTS_FILE).read_text())
    if "stop_ids" not in found:
        raise ManifestError(
            f"{path / FACTS_FILE} does not say which ids end a turn, so scores would not be those "
            f"of training; remove the run's folder of {folder} and train it again"
        )
    if found["kind"] != kind:
        raise ManifestError(
            f"{folder} holds a {found['kind']} where a {kind} is needed, and their scores mean "
            f"different things; name a checkpoint of the other recipe"
        )
    module = RewardHead(load_backbone(folder))
    module.head.load_state_dict(load_file(path / HEAD_FILE))
    return module.eval(), RewardFacts(**found)
