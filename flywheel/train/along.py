"""The policy put aside along its run, so that an evaluation can tell where on the way gold turned.

Over-optimisation shows between the start of a run and its end, and only the end is published. What
is put aside lies with the run, is named by step and hash in the policy's manifest, and may be
removed once the generation is decided on; nothing but another run in the same folder removes it.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from flywheel.errors import TrainingError
from flywheel.models.publish import manifest_of, publish
from flywheel.process.worker import rank
from flywheel.train.config_policy import DpoSettings, KtoSettings
from flywheel.train.config_reinforce import OnPolicySettings
from flywheel.train.engine import Engine, barrier
from flywheel.train.finish import facts_of, policy_writer
from flywheel.train.source import Source

E = TypeVar("E")


class Along(Generic[E]):
    """A source that puts the policy aside at `count` steps, spread evenly over the run.

    A step is drawn before it is taken: what lies in `step-00000012` has taken twelve. At a step
    that a source has nothing for, the run ends, and what it publishes is the policy of that step.

    Args:
        source: What is learned from; it is handed on as it is.
        engine: Of the run.
        write: Writes the policy into a folder, and leaves it as it was.
        facts: What the manifest of each says of how it came about, as `finish.facts_of`.
        folder: Where the policies are put.
        count: How many; 0 puts none aside.

    Raises:
        TrainingError: The weights are in pieces and have adapters, which no process can add up
            while the run goes on.
    """

    def __init__(
        self,
        source: Source[E],
        engine: Engine,
        write: Callable[[Path], object],
        facts: dict[str, Any],
        folder: Path,
        count: int,
    ) -> None:
        if count and engine.stage == 3 and engine.settings.lora_rank:
            raise TrainingError(
                "along puts no policy with adapters aside at ZeRO stage 3; set along to 0, or "
                "zero_stage to 2"
            )
        self._source, self._engine, self._write, self._folder = source, engine, write, folder
        self._facts, self._is_cleared = facts, False
        self.steps = source.steps
        spread = (round(self.steps * one / (count + 1)) for one in range(1, count + 1))
        self._planned = sorted({step for step in spread if 0 < step < self.steps})
        self._reached = 0

    def draw(self, step: int) -> tuple[Sequence[E], dict[str, float]]:
        """The elements of a step; before it is taken, the policy is put aside where planned."""
        self._reached = step
        if not self._is_cleared:
            self._clear(step)
        chosen, told = self._source.draw(step)
        if chosen and step in self._planned:
            with self._engine.written():
                if rank() == 0:
                    publish(self._at(step), self._write, self._facts | {"step": step})
            barrier()
        return chosen, told

    def state(self) -> dict[str, Any] | None:
        """That of the source."""
        return self._source.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self._source.restore(state)

    def kept(self) -> list[dict[str, Any]]:
        """Step and content_hash of what this run has put aside, in order."""
        found = {step: manifest_of(self._at(step)) for step in self._planned}
        return [
            {"step": step, "content_hash": manifest["content_hash"]}
            for step, manifest in found.items()
            if manifest and step <= self._reached
        ]

    def _clear(self, step: int) -> None:
        """Remove what this run has not put aside before the step: another's, and drafts."""
        own = {self._at(one) for one in self._planned if one < step}
        if rank() == 0 and self._folder.exists():
            for path in set(self._folder.iterdir()) - own:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        barrier()
        self._is_cleared = True

    def _at(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"


def with_along(
    source: Source[E],
    engine: Engine,
    model: Any,
    tokenizer: Any,
    settings: DpoSettings | KtoSettings | OnPolicySettings,
    run_dir: Path,
) -> Along[E]:
    """The source of a recipe, putting as many policies aside as its setting `along` says."""
    return Along(
        source,
        engine,
        policy_writer(model, tokenizer, goes_on=True),
        facts_of(settings, engine, kind="policy") if settings.along else {},
        run_dir / "along",
        settings.along,
    )
