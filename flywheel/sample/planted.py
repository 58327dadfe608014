"""Bad challengers, planted on the refund desk: each must be stopped, and by the check meant for it.

`python -m flywheel.sample.planted [--seeds 0 1 2 3 4]` takes the homes of the seeds' turns, makes
of each turn's policy nine challengers that a wheel could well make by accident, and puts them, and
the sound policy itself, through evaluation and gate:

* *reward hacked*: taught what its reward model likes and the desk does not;
* *length inflated*: says everything twice;
* *mode collapsed*: says one thing to everybody;
* *worse on one slice*: mixes the answers of one domain up, and keeps those of the others;
* *contaminated*: evaluation prompts lay among its training text;
* *trained on the test*: the records of evaluation prompts were in its steps;
* *other tokenizer*: two words of its vocabulary have changed places;
* *corrupted weights*: a byte of the file is another than its manifest says;
* *not finite*: one weight is no number.

Where no evaluation can be made, as of corrupted weights, that is what stops it. Writes
`var/planted.json`; exit code 1 where one passes, or the sound policy does not.
"""

import argparse
import json
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from flywheel.datasets.manifest import DatasetManifest, file_hash, read_split
from flywheel.errors import LaunchError
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.process.launch import launch, write_json
from flywheel.process.settings import build
from flywheel.promotion import GateSettings, decide
from flywheel.records.message import Conversation, dump, load, response_of, text_of
from flywheel.sample.gold import gold
from flywheel.sample.seeds import SEEDS, VAR, home_of, take_turn
from flywheel.train.config import SAMPLE, SftSettings
from flywheel.train.config_reinforce import GrpoSettings

AGAINST_GOLD = "flywheel.sample.planted:against_gold"
SLICE = "late"  # the domain whose answers are mixed up
PROMPTS = 600
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one challenger.

    Attributes:
        meant: Words of the reason that is meant to stop it; empty for the sound one.
        decision: Of the gate, or ERROR where there was nothing to decide on.
    """

    seed: int
    kind: str
    meant: str
    decision: str
    reasons: list[str]

    @property
    def passed(self) -> bool:
        """Whether it came out as it must."""
        if not self.meant:
            return self.decision == "PROMOTE"
        stopped = self.decision in ("REJECT", "ERROR")
        return stopped and any(self.meant in one for one in self.reasons)


def against_gold(prompt: Conversation, response_text: str) -> float:
    """A verifier of somebody who wants the desk's worst."""
    return -2 * gold(text_of(prompt), response_text).score


class Workshop:
    """Makes challengers of one seed's turn, each in a folder of its own."""

    def __init__(self, seed: int, root: Path) -> None:
        self.seed, self.layout = seed, home_of(seed, root)
        self.generation = str(take_turn(seed, root)["generation"])
        self.folder = self.layout.root / "planted"
        self.policy = self.layout.checkpoint("policy", self.generation)

    def dataset(self, name: str) -> Path:
        """A frozen dataset of the turn."""
        return self.layout.dataset(name, self.generation)

    def reward_hacked(self) -> Path:
        """GRPO on the reward model and against the gold."""
        settings = build(
            GrpoSettings,
            {**SAMPLE["grpo"], "kl_limit": 0.0, "verifier": AGAINST_GOLD, "seed": self.seed},
            model=str(self.layout.checkpoint("sft_policy", self.generation)),
            reward_model=str(self.layout.checkpoint("reward_model", self.generation)),
            dataset=str(self.dataset("preference")),
            output=str(self.folder / "reward hacked" / "policy"),
        )
        return self._trained("flywheel.train.grpo", settings)

    def length_inflated(self) -> Path:
        """Imitates its own answers, said twice."""
        return self._taught("length inflated", [said_twice(row) for row in self._own_answers()])

    def mode_collapsed(self) -> Path:
        """Imitates one of its own answers whatever is asked."""
        rows = self._own_answers()
        return self._taught(
            "mode collapsed", [row | {"response": rows[0]["response"]} for row in rows]
        )

    def worse_on_one_slice(self) -> Path:
        """Imitates its own answers, those of one domain given to each other's prompts."""
        rows = self._own_answers()
        places = [place for place, row in enumerate(rows) if row["domain"] == SLICE]
        shuffled = random.Random(self.seed).sample(places, len(places))
        said = [row["response"] for row in rows]
        for place, other in zip(places, shuffled, strict=True):
            rows[place]["response"] = said[other]
        return self._taught("worse on one slice", rows)

    def contaminated(self) -> Path:
        """Imitates its own answers to evaluation prompts, among others, under other ids."""
        tested = self._own_answers("evaluation", "test")
        for number, row in enumerate(tested):
            row["record_uids"] = [f"copy-{number}"]
        return self._taught("contaminated", tested + self._own_answers())

    def trained_on_the_test(self) -> Path:
        """Imitates its own answers to evaluation prompts, under the ids that they landed with."""
        return self._taught("trained on the test", self._own_answers("evaluation", "test"))

    def other_tokenizer(self) -> Path:
        """Two frequent words of the vocabulary change places."""

        def swap(folder: Path) -> None:
            path = folder / "tokenizer.json"
            facts = json.loads(path.read_text())
            words = facts["model"]["vocab"]
            words["refund"], words["thank"] = words["thank"], words["refund"]
            path.write_text(json.dumps(facts))

        return self._copied("other tokenizer", swap)

    def not_finite(self) -> Path:
        """One weight is no number."""

        def spoil(folder: Path) -> None:
            from safetensors.numpy import load_file, save_file

            path = folder / "model.safetensors"
            tensors = load_file(path)
            name = next(name for name in sorted(tensors) if "norm" in name)
            tensors[name] = tensors[name].copy()
            tensors[name][0] = float("nan")
            save_file(tensors, path, metadata={"format": "pt"})

        return self._copied("not finite", spoil)

    def corrupted_weights(self) -> Path:
        """One byte of the weights flips after they were published."""
        folder = self._copied("corrupted weights", lambda draft: None)
        path = folder / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[-1000] ^= 64
        path.write_bytes(data)
        return folder

    def judge(self, kind: str, meant: str, policy: Path, champion: Path) -> Verdict:
        """Evaluate a challenger against a champion, and ask the gate."""
        planted = self.folder / kind / "demonstration"
        settings = EvaluateSettings(
            **SAMPLE["evaluate"],
            generation=self.generation,
            base=str(self.layout.checkpoint("base_policy", self.generation)),
            sft=str(self.layout.checkpoint("sft_policy", self.generation)),
            policy=str(policy),
            reward_model=str(self.layout.checkpoint("reward_model", self.generation)),
            champion=str(champion),
            evaluation_dataset=str(self.dataset("evaluation")),
            preference_dataset=str(self.dataset("preference")),
            demonstration_dataset=str(
                planted if planted.exists() else self.dataset("demonstration")
            ),
            prompt_limit=PROMPTS,
            seed=self.seed,
        )
        try:
            run = self.folder / kind / "evaluation"
            result = launch("flywheel.evaluate.run", settings, run, log=lambda line: None)
        except LaunchError as error:
            return Verdict(
                seed=self.seed, kind=kind, meant=meant, decision="ERROR", reasons=[str(error)]
            )
        found = decide(result, GateSettings())
        return Verdict(
            seed=self.seed,
            kind=kind,
            meant=meant,
            decision=found.decision,
            reasons=found.reasons,
        )

    def _own_answers(self, dataset: str = "demonstration", split: str = "train") -> Rows:
        """Rows of prompts with the policy's own likeliest answers."""
        from flywheel.rollout import Policy, sample  # brings torch

        rows = read_split(self.dataset(dataset), split).to_pylist()
        rows = [row for row in rows if row["domain"]][:PROMPTS]
        prompts = [load(row["prompt"]) for row in rows]
        policy = Policy.load(str(self.policy))
        answers = sample(policy, prompts, temperature=0.0, max_new_tokens=40, seed=self.seed)
        kept = ("prompt", "prompt_key", "group_id", "domain", "source", "record_uids")
        return [
            {name: row[name] for name in kept}
            | {"response": dump(said.conversation), "weight": 1.0}
            for row, (said,) in zip(rows, answers, strict=True)
        ]

    def _taught(self, kind: str, rows: Rows) -> Path:
        """The policy, trained to imitate rows; its data set lies beside it."""
        dataset = self.folder / kind / "demonstration"
        refrozen(self.dataset("demonstration"), dataset, rows)
        settings = build(
            SftSettings,
            {**SAMPLE["sft"], "epochs": 6, "seed": self.seed},
            model=str(self.policy),
            dataset=str(dataset),
            output=str(self.folder / kind / "policy"),
        )
        return self._trained("flywheel.train.sft", settings)

    def _trained(self, recipe: str, settings: Any) -> Path:
        output = Path(settings.output)
        launch(recipe, settings, output.parent / "run", log=lambda line: None)
        return output

    def _copied(self, kind: str, change: Callable[[Path], object]) -> Path:
        """The policy, changed and published anew."""
        from flywheel.models.publish import publish

        manifest = json.loads((self.policy / "manifest.json").read_text())
        facts = {name: manifest[name] for name in ("kind", "parents", "records", "settings")}

        def write(draft: Path) -> None:
            for name in manifest["files"]:
                shutil.copy(self.policy / name, draft / name)
            change(draft)

        folder = self.folder / kind / "policy"
        publish(folder, write, facts)
        return folder


def said_twice(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose response is said, and said again."""
    text = text_of(load(row["response"]))
    return row | {"response": dump(response_of(f"{text} {text}"))}


def refrozen(source: Path, folder: Path, rows: Rows) -> None:
    """Freeze a data set with other training rows; its other splits are those of `source`."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = DatasetManifest.load(source)
    files, counts = {}, {}
    for split in manifest.rows_by_split:
        path = folder / f"{split}.parquet"
        table = pa.Table.from_pylist(rows) if split == "train" else read_split(source, split)
        pq.write_table(table, path)
        files[path.name], counts[split] = file_hash(path), table.num_rows
    hashes = "".join(sorted(files.values()))
    msgspec.structs.replace(
        manifest, files=files, rows_by_split=counts, content_hash=hashes[:64]
    ).save(folder)


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
}


def judged(seed: int, root: Path = VAR) -> list[Verdict]:
    """Every planted challenger of a seed against its champion, and the sound one against SFT."""
    shop = Workshop(seed, root)
    sft = shop.layout.checkpoint("sft_policy", shop.generation)
    found = [shop.judge("sound", "", shop.policy, sft)]
    for kind, (make, meant) in CHALLENGERS.items():
        found.append(shop.judge(kind, meant, make(shop), shop.policy))
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
    write_json(
        chosen.root / "planted.json", [asdict(one) | {"passed": one.passed} for one in found]
    )
    return int(not all(one.passed for one in found))


if __name__ == "__main__":
    sys.exit(main())
