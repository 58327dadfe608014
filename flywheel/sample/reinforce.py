"""What reinforcement reaches on the refund desk, and what it costs to trust a learned reward.

`python -m flywheel.sample.reinforce [--seeds 0 1 2 3 4]` takes the homes of the seeds' turns
(`python -m flywheel.sample.seeds` leaves them in `var/seeds`) and trains GRPO from each SFT policy
three times: on the true reward as a verifier; on the turn's reward model; and on the reward model
with a limit on how far held-out responses may stray. The first is compared with the turn's DPO
policy. Of the second the gold is measured beside the proxy on validation prompts as training goes
on, never taught; where it turns is read off the best curve that rises and then falls, and the form
of Gao et al. is fitted and shown (`flywheel.evaluate.reward.overoptimisation`). The third run,
looked at before every step, ends at `CAUTION` of that turn: as a team has a hundred or two answers
to validation prompts judged along a first run, and trains once more up to where they were best. A
turn belongs to its reward model: the median of other seeds' was tried, and came too late for three
of five. What is reached is measured on evaluation prompts, which neither run nor limit has seen.
Writes `var/reinforce.json`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flywheel.evaluate.reward.overoptimisation import Curve, fitted, points_of
from flywheel.process.launch import launch, write_json
from flywheel.process.settings import build
from flywheel.records.message import Conversation, text_of
from flywheel.sample.gold import gold
from flywheel.sample.measure import Estimate, answer, average, evaluation_requests, pool
from flywheel.sample.seeds import SEEDS, VAR, home_of, take_turn
from flywheel.train.config import SAMPLE
from flywheel.train.config_reinforce import GrpoSettings

VERIFIER = "flywheel.sample.reinforce:true_reward"
TRUE, FREE, STOPPED = "GRPO, true reward", "GRPO, reward model", "GRPO, reward model, stopped"
CAUTION = 0.8  # of the fitted peak: one step more is taken than the limit allows, and fits err


def true_reward(prompt: Conversation, response_text: str) -> float:
    """The gold of a reply, as a verifier; not having ended is a part of the reward of its own."""
    return gold(text_of(prompt), response_text).score


@dataclass(frozen=True, slots=True)
class Desk:
    """The policies of a seed's turn and what they answer, as they come to be.

    Attributes:
        scores: Gold of each policy on each evaluation prompt.
    """

    seed: int
    root: Path
    scores: dict[str, list[float]] = field(default_factory=dict)

    @property
    def generation(self) -> str:
        """Of the turn, taken first where it was not."""
        return str(take_turn(self.seed, self.root)["generation"])

    def checkpoint(self, name: str) -> Path:
        """A checkpoint of the turn."""
        return home_of(self.seed, self.root).checkpoint(name, self.generation)

    def train(self, name: str, **own: Any) -> dict[str, Any]:
        """GRPO from the SFT policy; its result. Its gold comes under `name` in `scores`."""
        layout = home_of(self.seed, self.root)
        folder = layout.root / "reinforce" / name.replace(", ", "-").replace(" ", "_")
        settings = build(
            GrpoSettings,
            {**SAMPLE["grpo"], "verifier": VERIFIER, "seed": self.seed, **own},
            model=str(self.checkpoint("sft_policy")),
            dataset=str(layout.dataset("preference", self.generation)),
            output=str(folder / "policy"),
        )
        result = launch("flywheel.train.grpo", settings, folder / "run")
        self.score(name, folder / "policy")
        return result

    def score(self, name: str, policy: Path) -> None:
        """Gold of a policy's answers to the evaluation prompts."""
        requests = evaluation_requests(self.seed)
        self.scores[name] = answer(policy, requests, temperature=1.0, seed=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing, print two tables, write `var/reinforce.json`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--root", type=Path, default=VAR, help="where seeds/ lies")
    chosen = parser.parse_args(argv)
    desks = [Desk(seed, chosen.root) for seed in chosen.seeds]
    curves = [free(desk) for desk in desks]
    limits = [limit_of(curve.peak) for curve in curves]
    ends = [
        desk.train(STOPPED, **learned(desk, kl_limit=limit), measure_every=1)["held_out"][-1]
        for desk, limit in zip(desks, limits, strict=True)
    ]
    strays = [one["held_out_kl_root"] for one in ends]
    golds = compared(desks)
    console, table = Console(), Table("gold", *(f"seed {s}" for s in chosen.seeds), "pooled, 95 %")
    for name, line in golds.items():
        table.add_row(name, *(f"{one.value:.3f}" for one in line), str(pool(line)))
    peaks = ["none" if one.peak is None else f"{one.peak:.2f}" for one in curves]
    table.add_row("fitted peak, root of nats", *peaks, "")
    table.add_row("where it stopped", *(f"{one:.2f}" for one in strays), "")
    console.print(table)
    for seed, curve in zip(chosen.seeds, curves, strict=True):
        console.print(drawn(f"seed {seed}", curve))
    write_json(
        chosen.root / "reinforce.json",
        {
            "seeds": list(chosen.seeds),
            "gold": {name: [asdict(one) for one in line] for name, line in golds.items()},
            "curves": [asdict(curve) for curve in curves],
            "limits_nats": limits,
            "stopped_at_root": strays,
        },
    )
    return 0


def free(desk: Desk) -> Curve:
    """Score the turn's policies, train on the true and on the learned reward without a limit."""
    desk.score("SFT", desk.checkpoint("sft_policy"))
    desk.score("DPO", desk.checkpoint("policy"))
    desk.train(TRUE, kl_limit=0.0)
    run = desk.train(FREE, **learned(desk, kl_limit=0.0), measure_every=4)
    return fitted(points_of(run["held_out"]))


def learned(desk: Desk, kl_limit: float) -> dict[str, Any]:
    """Settings of a run on the turn's reward model, the gold only measured."""
    return {
        "reward_model": str(desk.checkpoint("reward_model")),
        "verifier_weight": 0.0,
        "kl_beta": 0.0,  # nothing but the limit holds it back
        "kl_limit": kl_limit,
        "held_out_limit": 200,
    }


def limit_of(peak: float | None) -> float:
    """Nats at which a run is to end, from the fitted peak in their root; 0, no limit, without."""
    return 0.0 if peak is None else (CAUTION * peak) ** 2


def compared(desks: Sequence[Desk]) -> dict[str, list[Estimate]]:
    """Gold of every policy of every seed, and the differences that the experiment is about."""
    golds = {name: [average(desk.scores[name]) for desk in desks] for name in desks[0].scores}
    for better, other in ((TRUE, "DPO"), (STOPPED, FREE), (STOPPED, "SFT")):
        pairs = [zip(desk.scores[better], desk.scores[other], strict=True) for desk in desks]
        golds[f"{better}, less {other}"] = [average([a - b for a, b in pair]) for pair in pairs]
    return golds


def drawn(title: str, curve: Curve) -> Table:
    """The points of a curve as a table, the fit in its caption."""
    peak = "no peak" if curve.peak is None else f"peak at {curve.peak:.2f}"
    table = Table(
        "root of nats", "proxy", "gold", "fitted gold", title=title,
        caption=f"alpha {curve.alpha:.3f}, beta {curve.beta:.3f}, {peak}",
    )  # fmt: skip
    for d, proxy, true in curve.points:
        cells = (d, proxy, true, curve.points[0][2] + curve.gained(d))
        table.add_row(*(f"{one:.3f}" for one in cells))
    return table


if __name__ == "__main__":
    sys.exit(main())
