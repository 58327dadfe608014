"""What an evaluation finds again where it was found before, kept beside it by content.

That is what asks no challenger: what a reward model is worth, and the losses of demonstrations
under the policies that a challenger is held against. And what the reward model said of each text,
by a hash of the text: policies are asked anew, and what they say as before is not scored anew.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flywheel.evaluate.settings import EvaluateSettings
from flywheel.process.content import code_hash, content_of, model_hash
from flywheel.process.launch import write_json
from flywheel.rollout import RememberingRewardModel

FILE_NAME = "reward_model.json"
SCORES = "scores.json"
DECIDE = ("pair_limit", "trap_limit", "max_tokens", "resamples", "seed")
PACKAGES = ("numpy", "tokenizers", "torch", "transformers")
Told = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What one evaluation keeps for the next.

    Attributes:
        settings: Of this evaluation.
        run_dir: Where the files lie.
        device: Type of the device that computes.
        hashes: `<model>_content_hash` of every model, taken before any was loaded.
    """

    settings: EvaluateSettings
    run_dir: Path
    device: str
    hashes: Mapping[str, str]

    def measured_once(self, measure: Callable[[], Told]) -> Told:
        """What `measure` says of the reward model, kept as by `once`."""
        asked = {
            "pairs": content_of(Path(self.settings.preference_dataset)),
            "settings": {name: getattr(self.settings, name) for name in DECIDE},
        }
        return self.once(FILE_NAME, "reward_model", measure, asked)

    def once(self, file: str, model: str, measure: Callable[[], Told], asked: Told) -> Told:
        """What `measure` says of a model, or said when nothing that decides it was other.

        That is weights, what was asked (data, settings), code and packages, each by its content,
        and the type of the device. Nothing is kept of a hub name, whose content is not known, nor
        where a budget may have cut the work short, nor of a model that was replaced meanwhile.
        """
        whole = self._facts(model)
        if self.settings.budget_seconds or not whole:
            return measure()
        whole |= asked
        path = self.run_dir / file
        if found := _read(path, whole):
            print(f"as measured before: {file}", flush=True)
            return found
        found = json.loads(json.dumps(measure()))  # the same types as when it is read again
        if model_hash(getattr(self.settings, model)) == whole["model"]:
            _write(path, whole, found)
        return found

    def remind(self, reward: RememberingRewardModel) -> None:
        """Tell the reward model what it said in the evaluation before this one."""
        if facts := self._facts("reward_model"):
            reward.before.update(_read(self.run_dir / SCORES, facts) or {})

    def remember(self, reward: RememberingRewardModel) -> None:
        """Keep what it said in this one, for the next."""
        if facts := self._facts("reward_model"):
            _write(self.run_dir / SCORES, facts, reward.said)

    def _facts(self, model: str) -> Told:
        """What decides what a model says; nothing of a hub name."""
        content = self.hashes[f"{model}_content_hash"]
        if content.startswith("hub:"):
            return {}
        packages = {name: version(name) for name in PACKAGES}
        return {
            "model": content,
            "code": code_hash(),
            "device": self.device,
            "packages": packages,
        }


def _write(path: Path, asked: Told, found: Told) -> None:
    write_json(path, {"asked": asked, "found": found, "hash": _hash_of(found)})


def _read(path: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """What a file keeps; None where there is none, of another question, or torn.

    The hash beside it shows what was torn, not what was forged: whoever writes here may write any.
    """
    try:
        kept = json.loads(path.read_text())
        is_whole = kept["asked"] == asked and kept["hash"] == _hash_of(kept["found"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(kept["found"]) if is_whole else None


def _hash_of(found: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()
