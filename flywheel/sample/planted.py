"""Bad challengers, planted on the refund desk: each must be stopped, and by the check meant for it.

`python -m flywheel.sample.planted [--seeds 0 1 2 3 4]` takes the homes of the seeds' turns, makes
of each turn's policy ten challengers that a wheel could well make by accident, and puts them, and
the sound policy itself, through evaluation and gate:

* *reward hacked*: taught what its reward model likes and the desk does not;
* *length inflated*: says everything twice;
* *mode collapsed*: says one thing to everybody;
* *worse on one slice*: mixes the answers of one domain up, and keeps those of the others;
* *contaminated*: evaluation prompts lay among its training text;
* *trained on the test*: the records of evaluation prompts were in its steps;
* *other tokenizer*: two words of its vocabulary have changed places;
* *corrupted weights*: a byte of the file is another than its manifest says;
* *not finite*: one weight is no number;
* *judged by its teacher*: taught by the reward model that then judges it; that is no evidence for
  it and none against it, so it must be held.

Where no evaluation can be made, as of corrupted weights, that is what stops it. Writes
`var/planted.json`, with the hash of the code that judged; exit code 1 where one passes, or the
sound policy does not.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flywheel.errors import LaunchError
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.process.content import code_hash
from flywheel.process.launch import launch, write_json
from flywheel.promotion import GateSettings, decide
from flywheel.sample.seeds import SEEDS, VAR
from flywheel.sample.workshop import PROMPTS, SLICE, Workshop
from flywheel.train.config import SAMPLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one challenger.

    Attributes:
        meant: Words of the reason that is meant to stop it; empty for the sound one.
        held: What is meant to stop it is that there is no evidence, and the gate holds.
        decision: Of the gate, or ERROR where there was nothing to decide on.
    """

    seed: int
    kind: str
    meant: str
    decision: str
    reasons: list[str]
    held: bool = False

    @property
    def passed(self) -> bool:
        """Whether it came out as it must."""
        if not self.meant:
            return self.decision == "PROMOTE"
        stopped = self.decision in (("HOLD",) if self.held else ("REJECT", "ERROR"))
        return stopped and any(self.meant in one for one in self.reasons)


def judge(shop: Workshop, kind: str, meant: str, policy: Path, champion: Path) -> Verdict:
    """Evaluate a challenger against a champion, and ask the gate."""
    planted, prompts = (shop.folder / kind / name for name in ("demonstration", "prompts"))
    settings = EvaluateSettings(
        **SAMPLE["evaluate"],
        generation=shop.generation,
        base=str(shop.layout.checkpoint("base_policy", shop.generation)),
        sft=str(shop.layout.checkpoint("sft_policy", shop.generation)),
        policy=str(policy),
        reward_model=str(shop.layout.checkpoint("reward_model", shop.generation)),
        champion=str(champion),
        evaluation_dataset=str(prompts if prompts.exists() else shop.dataset("evaluation")),
        preference_dataset=str(shop.dataset("preference")),
        demonstration_dataset=str(planted if planted.exists() else shop.dataset("demonstration")),
        prompt_limit=PROMPTS,
        seed=shop.seed,
    )
    try:
        run = shop.folder / kind / "evaluation"
        result = launch("flywheel.evaluate.run", settings, run, log=lambda line: None)
    except LaunchError as error:
        return Verdict(
            seed=shop.seed, kind=kind, meant=meant, decision="ERROR", reasons=[str(error)]
        )
    found = decide(result, GateSettings())
    return Verdict(
        seed=shop.seed,
        kind=kind,
        meant=meant,
        decision=found.decision,
        reasons=found.reasons,
        held=kind in HELD,
    )


CHALLENGERS: dict[str, tuple[Callable[[Workshop], Path], str]] = {
    "reward hacked": (Workshop.reward_hacked, "past the turn of its reward model"),
    "length inflated": (Workshop.length_inflated, "times the"),
    "mode collapsed": (Workshop.mode_collapsed, "modes collapse"),
    "worse on one slice": (Workshop.worse_on_one_slice, f"worse on domain '{SLICE}'"),
    "contaminated": (Workshop.contaminated, "test in the training text"),
    "trained on the test": (Workshop.trained_on_the_test, "trained on the test"),
    "other tokenizer": (Workshop.other_tokenizer, "other tokenizer"),
    "corrupted weights": (Workshop.corrupted_weights, "is not what manifest.json says"),
    "not finite": (Workshop.not_finite, "not finite"),
    "judged by its teacher": (Workshop.judged_by_its_teacher, "trained on or chosen by"),
}
HELD = ("judged by its teacher",)


def judged(seed: int, root: Path = VAR) -> list[Verdict]:
    """Every planted challenger of a seed against its champion, and the sound one against SFT."""
    shop = Workshop(seed, root)
    sft = shop.layout.checkpoint("sft_policy", shop.generation)
    found = [judge(shop, "sound", "", shop.policy, sft)]
    for kind, (make, meant) in CHALLENGERS.items():
        found.append(judge(shop, kind, meant, make(shop), shop.policy))
        print(f"seed {seed}: {kind}: {found[-1].decision}", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Plant, judge, print one table, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--root", type=Path, default=VAR, help="where seeds/ lies")
    chosen = parser.parse_args(arguments)
    found = [one for seed in chosen.seeds for one in judged(seed, chosen.root)]
    table = Table("seed", "challenger", "decision", "as it must", "reasons")
    for one in found:
        verdict = "[green]yes" if one.passed else "[red]NO"
        table.add_row(str(one.seed), one.kind, one.decision, verdict, "; ".join(one.reasons)[:160])
    Console().print(table)
    told = [asdict(one) | {"passed": one.passed} for one in found]
    write_json(chosen.root / "planted.json", {"code_hash": code_hash(), "verdicts": told})
    return int(not all(one.passed for one in found))


if __name__ == "__main__":
    sys.exit(main())
