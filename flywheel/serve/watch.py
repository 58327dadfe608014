"""Who answers: the champion and, on its stage, a challenger, as the ledger has it now.

The ledger is looked at every second, so that a promotion, a rollback or the end of a stage takes
effect without a restart. Weights are held against the hash of the ledger, file by file, before
they are loaded. Where they are others, or cannot be loaded, who answered goes on answering, the
fault is told, and it is tried again.
"""

import json
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from flywheel.errors import FlywheelError, ServeError
from flywheel.layout import Layout
from flywheel.models.load import load_tokenizer
from flywheel.models.publish import verify
from flywheel.promotion import Champion, Entry, alert, standing
from flywheel.promotion.reigns import as_champion
from flywheel.promotion.title import check_weights
from flywheel.rollout import Policy, RewardModel, ServerPolicy
from flywheel.serve.engine import Loaded
from flywheel.serve.settings import ServeSettings

T = TypeVar("T")
AGAIN_SECONDS = 10.0  # until something that failed is tried again
ASK_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """Who answers at one moment; replaced whole, never changed.

    Attributes:
        champion: None where there is none, or none that can be loaded.
        staged: A challenger on a stage.
        stage: Its stage, empty without one.
        judge: The champion's own reward model, which the challenger was not trained against, and
            its content hash.
        fault: What is not as the ledger has it.
    """

    champion: Loaded | None = None
    staged: Loaded | None = None
    stage: str = ""
    judge: tuple[RewardModel, str] | None = None
    fault: str = ""


class Watch:
    """Keeps `stand` as the ledger has it; `look` is called again and again by one thread."""

    def __init__(self, layout: Layout, settings: ServeSettings) -> None:
        self.stand = Stand()
        self._layout = layout
        self._settings = settings
        self._seen: tuple[int, ...] = ()
        self._again_at = 0.0

    def look(self) -> None:
        """Load who answers by the ledger, where that is not who answers now."""
        stamp = _stamp(self._layout.registry / "ledger.jsonl")
        if stamp == self._seen and not (self.stand.fault and time.monotonic() >= self._again_at):
            return
        before = self.stand
        faults: list[str] = []

        def tried(load: Callable[[], T], otherwise: T) -> T:
            try:
                return load()
            except Exception as error:  # whatever it is, who answers goes on answering
                faults.append(f"{error}" if isinstance(error, FlywheelError) else repr(error))
                return otherwise

        nobody: tuple[Champion | None, Entry | None] = (None, None)
        holder, entry = tried(lambda: standing(self._layout), nobody)
        champion = before.champion
        if not faults:
            champion = (
                tried(lambda: self._loaded(holder, before), before.champion) if holder else None
            )
        on_stage = entry if champion and not faults else None
        staged = (
            tried(lambda: self._loaded(as_champion(on_stage), before), None) if on_stage else None
        )
        stage = on_stage.stage if on_stage and staged else ""
        judge = None
        if stage == "shadow" and champion:
            folder = self._layout.checkpoint("reward_model", champion.generation)
            judge = tried(lambda: self._judge(folder, before), None)
        fault = "; ".join(faults)
        self._seen, self._again_at = stamp, time.monotonic() + AGAIN_SECONDS
        self.stand = Stand(champion=champion, staged=staged, stage=stage, judge=judge, fault=fault)
        if fault and fault != before.fault:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            alert(self._layout, {"at": at, "job": "serve", "steps": [], "message": fault})
            print(f"flywheel serve: {fault}", file=sys.stderr, flush=True)

    def _loaded(self, who: Champion, before: Stand) -> Loaded:
        for one in (before.champion, before.staged):
            if one and (one.generation, one.content_hash) == (who.generation, who.content_hash):
                return one
        check_weights(self._layout, who, "restore that folder from a copy", files=True)
        folder = str(self._layout.root / who.checkpoint)
        policy: Policy | ServerPolicy
        if self._settings.backend_url:
            policy = self._behind_a_server(folder, who.content_hash)
        else:
            policy = Policy.load(folder)
        return Loaded(who.generation, who.content_hash, policy)

    def _behind_a_server(self, folder: str, content_hash: str) -> ServerPolicy:
        """The policy as the other server has it, if it has it."""
        url = self._settings.backend_url.rstrip("/")
        with urllib.request.urlopen(f"{url}/models", timeout=ASK_SECONDS) as answer:
            names = [one["id"] for one in json.load(answer)["data"]]
        if content_hash not in names:
            raise ServeError(
                f"{url} has {', '.join(names)} and not {content_hash}; start it with {folder} and "
                f"--served-model-name {content_hash}"
            )
        tokenizer = load_tokenizer(folder)
        generation = Path(folder) / "generation_config.json"
        ends = json.loads(generation.read_text()).get("eos_token_id") if generation.exists() else []
        stops = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
        return ServerPolicy(
            base_url=url,
            model=content_hash,
            tokenizer=tokenizer,
            stop_ids=sorted(stops),
            text_only=self._settings.backend_text_only,
            tries=2,
        )

    def _judge(self, folder: Path, before: Stand) -> tuple[RewardModel, str]:
        content_hash = str(verify(folder)["content_hash"])
        if before.judge and before.judge[1] == content_hash:
            return before.judge
        return RewardModel.load(str(folder)), content_hash


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError:
        return (0,)
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
