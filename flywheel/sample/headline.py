"""InstructGPT's headline in small: an aligned policy against an unaligned base 100 times its size.

`python -m flywheel.sample.headline [--seeds 0 1 2]` takes the aligned policy of each seed's turn
(`python -m flywheel.sample.seeds` leaves them in `var/seeds`), pre-trains a base of at least 100
times its parameters on the same tokens by the same recipe, and lets the hidden gold compare
sampled replies to prompts that nobody trained on. Beside it stand the controls without which the
number would say little. Writes `var/headline.json`. Hours on two cores.

What it cannot show: scale, transfer, language. The demonstrations hold the rule more cleanly than
the corpus does, so that most of the win is better data; the control "large base after the same
SFT" says how much is left.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from flywheel.errors import SettingsError
from flywheel.process.launch import launch, write_json
from flywheel.process.settings import build
from flywheel.sample.corpus import WRITER_SHARES
from flywheel.sample.deliver import PAGES, corpus_path, corpus_table, publish
from flywheel.sample.gold import grade
from flywheel.sample.measure import Estimate, answer, evaluation_requests, pool, wins
from flywheel.sample.seeds import VAR, home_of, take_turn
from flywheel.sample.world import ASKED_AT, Request, write_reply
from flywheel.sample.writers import HABITS, write_page_reply
from flywheel.train.config import SAMPLE, PretrainSettings, SftSettings

LARGE = {"hidden": 352, "layers": 2, "heads": 4, "feed_forward": 968}  # 3.0 M parameters
LARGE_TRAINING = {"learning_rate": 2e-3, "batch": 16}  # 1e-2 diverges at this width


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The policy against one opponent, over seeds."""

    opponent: str
    by_seed: tuple[Estimate, ...]
    pooled: Estimate


def main(argv: list[str] | None = None) -> int:
    """Measure, print one table, write `var/headline.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args(argv).seeds
    found = [of_seed(seed) for seed in seeds]
    lines = [
        Line(
            opponent=name,
            by_seed=tuple(one[name] for one in found),
            pooled=pool([one[name] for one in found]),
        )
        for name in found[0]
    ]
    table = Table("the aligned policy is preferred over", *(f"seed {s}" for s in seeds), "pooled")
    for line in lines:
        table.add_row(line.opponent, *(str(one) for one in line.by_seed), str(line.pooled))
    console = Console()
    console.print(table)
    console.print(__doc__.split("What it cannot show:")[1].strip(), style="dim")
    write_json(VAR / "headline.json", {"seeds": seeds, "lines": [asdict(one) for one in lines]})
    return 0


def of_seed(
    seed: int, root: Path = VAR, *, size: dict[str, int] = LARGE, pages: int = PAGES
) -> dict[str, Estimate]:
    """Win rates of one seed's policy, by opponent.

    Args:
        seed: Of the turn and of all training.
        root: Where the homes of the seeds lie.
        size: Of the large base.
        pages: Of the corpus that the small base was trained on.

    Raises:
        SettingsError: The large base is not 100 times the small one.
    """
    layout = home_of(seed, root)
    generation = take_turn(seed, root)["generation"]
    folder = layout.root / "headline"
    more = folder / "corpus_3x.parquet"
    publish(more, corpus_table(3 * pages, seed=seed))  # fresh pages, not the same ones again
    large = _pretrain(folder / "large", corpus_path(layout), seed, size)
    longer = _pretrain(folder / "large_3x", more, seed, size)
    small = _manifest(layout.checkpoint("base_policy", generation))
    ratio = _manifest(large)["result"]["parameters"] / small["result"]["parameters"]
    if ratio < 100:
        raise SettingsError(
            f"the large base has only {ratio:.0f} times the parameters, not 100; raise LARGE"
        )
    tuned = _tune(large, layout.dataset("demonstration", generation), folder / "large_sft", seed)

    requests = evaluation_requests(seed)
    policy = layout.checkpoint("policy", generation)
    mine = answer(policy, requests, temperature=1.0, seed=1)
    opponents = {
        f"large base, {ratio:.0f} times the parameters, same tokens": (large, 1.0),
        "large base, greedy": (large, 0.0),
        "large base, three times the tokens": (longer, 1.0),
        "large base after the same SFT": (tuned, 1.0),
    }
    found = {
        name: wins(mine, answer(folder, requests, temperature=temperature, seed=2))
        for name, (folder, temperature) in opponents.items()
    }
    found["a perfect imitator of #chat pages"] = wins(mine, imitator(requests, seed))
    found["form only: courteous, facts of another request"] = wins(mine, form_only(requests))
    return found


def imitator(requests: list[Request], seed: int) -> list[float]:
    """Gold of replies drawn exactly as the corpus draws them."""
    rng = Random(f"{seed}:imitator")
    golds = []
    for request in requests:
        (writer,) = rng.choices(tuple(HABITS), WRITER_SHARES[ASKED_AT])
        golds.append(grade(request, write_page_reply(rng, request, HABITS[writer])).score)
    return golds


def form_only(requests: list[Request]) -> list[float]:
    """Gold of the right reply to the request before: the form without the facts."""
    return [
        grade(request, write_reply(other)).score
        for request, other in zip(requests, [requests[-1], *requests[:-1]], strict=True)
    ]


def _pretrain(output: Path, corpus: Path, seed: int, size: dict[str, int]) -> Path:
    settings = build(
        PretrainSettings,
        {**SAMPLE["base"], **size, **LARGE_TRAINING, "seed": seed},
        corpus=str(corpus),
        output=str(output),
    )
    launch("flywheel.train.pretrain", settings, output.with_name(f"run_{output.name}"))
    return output


def _tune(model: Path, dataset: Path, output: Path, seed: int) -> Path:
    settings = build(
        SftSettings,
        {**SAMPLE["sft"], "seed": seed},
        model=str(model),
        dataset=str(dataset),
        output=str(output),
    )
    settings = replace(settings, learning_rate=LARGE_TRAINING["learning_rate"])
    launch("flywheel.train.sft", settings, output.with_name(f"run_{output.name}"))
    return output


def _manifest(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text()))


if __name__ == "__main__":
    sys.exit(main())
