"""What reinforcement reaches on the refund desk, and what it costs to trust a learned reward.

`python -m flywheel.sample.reinforce [--seeds 0 1 2 3 4]` takes the homes of the seeds' turns
(`python -m flywheel.sample.seeds` leaves them in `var/seeds`) and trains GRPO from each SFT policy
three times: on the true reward as a verifier; on the turn's reward model; and on the reward model
with a limit on how far held-out responses may stray. The first is compared with the turn's DPO
policy. Of the others the gold is measured beside the proxy on held-out prompts as training goes
on, never taught, and the form of Gao et al. is fitted to it: gold gained = d (alpha - beta log d)
at d, the root of the divergence in nats, with its peak at d = exp(alpha / beta - 1)
(arXiv:2210.10760). Writes `var/reinforce.json`.

What it cannot show: the limit was chosen for this world beforehand (`KL_LIMIT`), not found by a
rule that would find it in another.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from flywheel.process.launch import launch, write_json
from flywheel.process.settings import build
from flywheel.records.message import Conversation, text_of
from flywheel.sample.gold import gold
from flywheel.sample.measure import Estimate, answer, average, evaluation_requests, pool, wins
from flywheel.sample.seeds import SEEDS, VAR, home_of, take_turn
from flywheel.train.config import SAMPLE
from flywheel.train.config_reinforce import GrpoSettings

VERIFIER = "flywheel.sample.reinforce:true_reward"
KL_LIMIT = 4.0  # nats; best of 128 strays 3.9
FREE = {"kl_beta": 0.0, "measure_every": 2}  # nothing but the rule to stop holds it back


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Gold against proxy over the root of the divergence, and the fitted form.

    Attributes:
        points: (root of nats, proxy, gold) of every measurement.
        peak: Root of nats at which the fitted gold is highest; None where it has no peak.
    """

    points: tuple[tuple[float, float, float], ...]
    alpha: float
    beta: float
    peak: float | None


def true_reward(prompt: Conversation, response_text: str) -> float:
    """The gold of a reply, as a verifier; not having ended is a part of the reward of its own."""
    return gold(text_of(prompt), response_text).score


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing, print two tables, write `var/reinforce.json`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--root", type=Path, default=VAR, help="where seeds/ lies")
    chosen = parser.parse_args(argv)
    found = [of_seed(seed, chosen.root) for seed in chosen.seeds]
    golds = {name: [one[0][name] for one in found] for name in found[0][0]}
    console, table = Console(), Table("gold", *(f"seed {s}" for s in chosen.seeds), "pooled, 95 %")
    for name, line in golds.items():
        table.add_row(name, *(f"{one.value:.3f}" for one in line), str(pool(line)))
    console.print(table)
    for seed, (_, curves) in zip(chosen.seeds, found, strict=True):
        for name, curve in curves.items():
            console.print(drawn(f"seed {seed}, {name}", curve))
    write_json(
        chosen.root / "reinforce.json",
        {
            "seeds": list(chosen.seeds),
            "gold": {name: [asdict(one) for one in line] for name, line in golds.items()},
            "curves": [{name: asdict(one) for name, one in row.items()} for _, row in found],
        },
    )
    return 0


def of_seed(
    seed: int, root: Path = VAR, **changes: Any
) -> tuple[dict[str, Estimate], dict[str, Curve]]:
    """Gold of each policy of a seed on the evaluation prompts, and the curves of the learned runs.

    Args:
        seed: Of the turn and of all training.
        root: Where the homes of the seeds lie.
        changes: Settings of GRPO, before those that make the runs differ.
    """
    layout, requests = home_of(seed, root), evaluation_requests(seed)
    generation = take_turn(seed, root)["generation"]
    reward = str(layout.checkpoint("reward_model", generation))
    learned = {"reward_model": reward, "verifier_weight": 0.0, **FREE}
    runs: dict[str, dict[str, Any]] = {
        "GRPO on the true reward": {},
        "GRPO on the reward model": learned,
        "GRPO on the reward model, stopped": {**learned, "kl_limit": KL_LIMIT},
    }
    policies = {
        "SFT": layout.checkpoint("sft_policy", generation),
        "DPO": layout.checkpoint("policy", generation),
    }
    curves = {}
    for number, (name, own) in enumerate(runs.items()):
        folder = layout.root / "reinforce" / str(number)
        settings = build(
            GrpoSettings,
            {**SAMPLE["grpo"], "verifier": VERIFIER, "seed": seed, **changes, **own},
            model=str(policies["SFT"]),
            dataset=str(layout.dataset("preference", generation)),
            output=str(folder / "policy"),
        )
        result = launch("flywheel.train.grpo", settings, folder / "run")
        policies[name] = folder / "policy"
        if own:
            curves[name] = curve_of(result["held_out"])
    scores = {
        name: answer(folder, requests, temperature=1.0, seed=1) for name, folder in policies.items()
    }
    golds = {name: average(values) for name, values in scores.items()}
    golds["win rate of GRPO on the true reward over DPO"] = wins(
        scores["GRPO on the true reward"], scores["DPO"]
    )
    golds["gold that the rule to stop saves"] = average(
        [
            stopped - free
            for stopped, free in zip(
                scores["GRPO on the reward model, stopped"],
                scores["GRPO on the reward model"],
                strict=True,
            )
        ]
    )
    return golds, curves


def curve_of(measured: Sequence[dict[str, float]]) -> Curve:
    """Fit gold gained = d (alpha - beta log d) by least squares; the first point is the start."""
    points = tuple(
        (one["held_out_kl_root"], one["held_out_reward_model_mean"], one["held_out_verifier_mean"])
        for one in measured
    )
    away = [(d, gained - points[0][2]) for d, _, gained in points if d > 0]
    if len(away) < 2:
        return Curve(points=points, alpha=math.nan, beta=math.nan, peak=None)
    roots, gains = (np.array(side) for side in zip(*away, strict=True))
    columns = np.stack([roots, -roots * np.log(roots)], axis=1)
    alpha, beta = (float(one) for one in np.linalg.lstsq(columns, gains, rcond=None)[0])
    return Curve(
        points=points,
        alpha=alpha,
        beta=beta,
        peak=math.exp(alpha / beta - 1) if beta > 0 else None,
    )


def drawn(title: str, curve: Curve) -> Table:
    """The points of a curve as a table, the fit in its caption."""
    peak = "no peak" if curve.peak is None else f"peak at {curve.peak:.2f}"
    table = Table(
        "root of nats", "proxy", "gold", "fitted gold", title=title,
        caption=f"alpha {curve.alpha:.3f}, beta {curve.beta:.3f}, {peak}",
    )  # fmt: skip
    for d, proxy, true in curve.points:
        gain = d * (curve.alpha - curve.beta * math.log(d)) if d else 0.0
        cells = (d, proxy, true, curve.points[0][2] + gain)
        table.add_row(*(f"{one:.3f}" for one in cells))
    return table


if __name__ == "__main__":
    sys.exit(main())
