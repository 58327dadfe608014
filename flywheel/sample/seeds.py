"""The claims of the sample world over several seeds, each a whole turn through the command line.

`python -m flywheel.sample.seeds [--seeds 0 1 2 3 4]` takes a turn in `var/seeds/<seed>` for each
seed (a finished one is not repeated), reads its `turn.json` and the greedy replies that its
evaluation graded, prints one table and writes `var/seeds.json`. Exit code 1 where a claim fails.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from flywheel.errors import SettingsError
from flywheel.layout import Layout
from flywheel.sample.deliver import publish
from flywheel.sample.measure import Estimate, average, pool

VAR = Path(__file__).parents[2] / "var"
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One number of the issue, over seeds; `passed` is None for what is only reported."""

    claim: str
    by_seed: tuple[Estimate, ...]
    pooled: Estimate
    passed: bool | None


def home_of(seed: int, root: Path = VAR) -> Layout:
    """The home of one seed."""
    return Layout(root / "seeds" / str(seed))


def take_turn(seed: int, root: Path = VAR) -> dict[str, Any]:
    """Take the first turn of this seed, unless it was taken before; returns its turn.json.

    Raises:
        SettingsError: The turn failed; its own output stands above.
    """
    layout = home_of(seed, root)
    if not layout.turn_result.exists():
        command = [sys.executable, "-m", "flywheel.cli", "run", "--seed", str(seed)]
        done = subprocess.run(["env", f"FLYWHEEL_HOME={layout.root}", *command], check=False)
        if done.returncode:
            raise SettingsError(f"the turn of seed {seed} failed; run it again to go on from there")
    return dict(json.loads(layout.turn_result.read_text()))


def greedy(seed: int, generation: str, root: Path = VAR) -> dict[str, Estimate]:
    """Gold of greedy replies of the base, the SFT policy and the policy, as the turn graded them.

    Their means are `policy.greedy.mean_score` in turn.json; here they get their intervals.
    """
    path = home_of(seed, root).evaluation(generation) / "samples.parquet"
    rows = pq.read_table(path, columns=["policy", "greedy", "score"]).to_pylist()
    return {
        name: average([one["score"] for one in rows if one["greedy"] and one["policy"] == name])
        for name in ("base", "sft", "policy")
    }


def claims(
    turns: Sequence[dict[str, Any]], greedy_gold: Sequence[dict[str, Estimate]]
) -> list[Claim]:
    """Put the issue's claims to the turns of several seeds."""
    over_base = [_win(turn, "base") for turn in turns]
    over_sft = [_win(turn, "sft") for turn in turns]
    reward = [_interval(turn["reward_model"], "accuracy", "ci") for turn in turns]
    lead = [_interval(turn["reward_model"]["over_length"], "difference", "ci") for turn in turns]
    longest = [_interval(turn["reward_model"], "longest_wins", "longest_wins_ci") for turn in turns]
    beats = all(one.low > other.high for one, other in zip(reward, longest, strict=True))
    sft = [found["sft"] for found in greedy_gold]
    missed = [float(sum(not one["passed"] for one in turn["faults"])) for turn in turns]

    def claim(text: str, found: Sequence[Estimate], passed: bool | None) -> Claim:
        return Claim(claim=text, by_seed=tuple(found), pooled=pool(found), passed=passed)

    return [
        claim("DPO over base: low end >= .65", over_base, pool(over_base).low >= 0.65),
        claim("DPO over SFT: low end > .5", over_sft, pool(over_sft).low > 0.5),
        claim("greedy SFT below .9 of perfect", sft, pool(sft).high < 0.9),
        claim("greedy DPO (reported)", [found["policy"] for found in greedy_gold], None),
        claim("greedy base (reported)", [found["base"] for found in greedy_gold], None),
        claim("reward model above longest wins, intervals disjoint in each seed", reward, beats),
        claim("longest wins (reported)", longest, None),
        claim("its lead on longest/shortest wins: low end > 0", lead, pool(lead).low > 0),
        claim("planted faults missed: none", [_exact(one) for one in missed], not any(missed)),
    ]


def _win(turn: dict[str, Any], opponent: str) -> Estimate:
    return _interval(turn["policy"]["versus"][opponent], "win_rate", "ci")


def _interval(found: dict[str, Any], value: str, interval: str) -> Estimate:
    low, high = found[interval]
    return Estimate(value=found[value], low=low, high=high)


def _exact(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def show(found: Sequence[Claim], seeds: Sequence[int], console: Console) -> None:
    """Print one table."""
    table = Table("claim", *(f"seed {seed}" for seed in seeds), "pooled, 95 %", "")
    for one in found:
        verdict = {None: "", True: "[green]holds", False: "[red]FAILS"}[one.passed]
        cells = (f"{estimate.value:.3f}" for estimate in one.by_seed)
        table.add_row(one.claim, *cells, str(one.pooled), verdict)
    console.print(table)
    console.print("Annotators are simulated; gold is a program. Replies at T = 1 unless greedy.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    seeds = parser.parse_args(arguments).seeds
    turns = [take_turn(seed) for seed in seeds]
    gold = [greedy(seed, turn["generation"]) for seed, turn in zip(seeds, turns, strict=True)]
    found = claims(turns, gold)
    show(found, seeds, Console())
    report = {"seeds": list(seeds), "claims": [asdict(one) for one in found]}
    publish(VAR / "seeds.json", json.dumps(report, indent=2).encode() + b"\n")
    return int(any(one.passed is False for one in found))


if __name__ == "__main__":
    sys.exit(main())
