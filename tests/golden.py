"""Losses of the first steps of each recipe on tiny models: what a change of the maths would move.

`python -m tests.golden` writes `tests/golden.json` anew, with a stamp of what it ran on. Do so only
where a loss is meant to change, and say why in the commit.
"""

import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch

from flywheel.models.load import load_backbone, load_causal, load_tokenizer
from flywheel.models.logps import ResponseLogps
from flywheel.models.reward import RewardHead
from flywheel.train.config import RunSettings, SftSettings
from flywheel.train.config_policy import BETAS, WITHOUT_REFERENCE, DpoSettings
from flywheel.train.config_reward import RewardSettings
from flywheel.train.data import Reader
from flywheel.train.dpo import Judged, preferred, referenced
from flywheel.train.engine import Engine
from flywheel.train.loop import Objective, fit
from flywheel.train.reward import bradley_terry
from flywheel.train.sft import imitate
from flywheel.train.source import Shuffled
from tests.models_for_tests import demonstrations, preferences, tiny

FILE = Path(__file__).with_suffix(".json")
STEPS = 8


def stamp() -> dict[str, str]:
    """What the last digits depend on."""
    return {"torch": torch.__version__.split("+")[0], "machine": platform.machine()}


def trajectories(folder: Path) -> dict[str, list[float]]:
    """Losses of the first steps, by recipe."""
    base = tiny(folder / "base")
    shown, judged = demonstrations(folder / "shown"), preferences(folder / "judged")
    common: dict[str, Any] = {
        "model": base,
        "output": "",
        "batch": 4,
        "learning_rate": 5e-3,
        "warmup_steps": 2,
        "epochs": STEPS / 4,
        "zero_stage": 0,
    }
    found = {}

    def reader(dataset: str) -> Reader:
        tokenizer = load_tokenizer(base)
        return Reader(dataset, tokenizer, [tokenizer.eos_token_id], 64)

    def steps(
        name: str, engine: Engine, elements: Any, objective: Objective[Any], settings: RunSettings
    ) -> None:
        run = folder / name
        run.mkdir(exist_ok=True)
        fit(engine, Shuffled(elements, settings), objective, settings, run)
        rows = (run / "metrics.jsonl").read_text().splitlines()
        found[name] = [json.loads(row)["loss"] for row in rows]

    sft = SftSettings(**common, dataset=shown)
    engine = Engine(ResponseLogps(load_causal(base)), sft)
    steps("sft", engine, reader(shown).demonstrations("train"), imitate(), sft)
    reward = RewardSettings(**common | {"epochs": 8.0}, dataset=judged)
    engine = Engine(RewardHead(load_backbone(base)), reward)
    groups = reader(judged).groups("train", max_responses=9)
    steps("reward", engine, groups, bradley_terry(), reward)
    for loss in BETAS:
        dpo = DpoSettings(**common, dataset=judged, loss=loss)
        engine = Engine(ResponseLogps(load_causal(base)), dpo)
        pairs = reader(judged).pairs("train", min_margin=0.0)
        known = (
            [Judged(pair, (0.0, 0.0)) for pair in pairs]
            if loss in WITHOUT_REFERENCE
            else referenced(engine, pairs, dpo, folder, 1.0)[0]
        )
        steps(f"dpo {loss}", engine, known, preferred(dpo), dpo)
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        losses = trajectories(Path(name))
    FILE.write_text(json.dumps({"stamp": stamp(), "losses": losses}, indent=1) + "\n")
