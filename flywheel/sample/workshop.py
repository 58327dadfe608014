"""Makes bad challengers out of a sound policy of the refund desk; `planted` judges them."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.datasets.manifest import DatasetManifest, file_hash, read_split
from flywheel.errors import TrainingError
from flywheel.process.launch import launch
from flywheel.process.settings import build
from flywheel.records.message import Conversation, dump, load, response_of, text_of
from flywheel.sample.gold import gold
from flywheel.sample.seeds import home_of, take_turn
from flywheel.train.config import SAMPLE, SftSettings
from flywheel.train.config_reinforce import GrpoSettings

AGAINST_GOLD = "flywheel.sample.workshop:against_gold"
AGAINST = (1.0, 0.5, 0.25)  # weights of the gold against which a reward is hacked, tried in turn
CLEARLY = 3  # standard errors of the reward at the start
FAR = 6.0  # nats: the reward model clearly likes it better, and its answers still differ
MISSING_END = 4.0  # costs more than what a reward model gives for an answer that is cut off
SLICE = "late"  # the domain whose answers are mixed up
PROMPTS = 600
Rows = list[dict[str, Any]]


def against_gold(prompt: Conversation, response_text: str) -> float:
    """A verifier of somebody who wants the desk's worst."""
    return -2 * gold(text_of(prompt), response_text).score


def is_hacked(held_out: Sequence[dict[str, float]]) -> bool:
    """Whether reward model and verifier both like the end of a run better than its start."""
    return is_liked(held_out) and is_liked(held_out, by="verifier")


def is_liked(held_out: Sequence[dict[str, float]], by: str = "reward_model") -> bool:
    """Whether a part of the reward likes the end of a run clearly better than its start."""
    first, last = held_out[0], held_out[-1]
    part = f"held_out_{by}_mean"
    return last[part] - first[part] > CLEARLY * first["held_out_reward_se"]


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
        """GRPO on the reward model and against the gold, so much that both are followed.

        Where the gold outweighs the reward model a policy may end that neither likes: bad, and not
        hacked. Then it weighs less, until validation prompts say that what was meant was made.

        Raises:
            TrainingError: At no weight did the reward model like it better, and the gold less.
        """
        for weight in AGAINST:
            against = {"verifier": AGAINST_GOLD, "verifier_weight": weight}
            output, result = self._pleasing("reward hacked", {"kl_limit": 0.0, **against})
            if is_hacked(result["held_out"]):
                return output
        raise TrainingError(
            f"no reward-hacked challenger came of seed {self.seed} with {AGAINST} times the gold "
            f"against it; see metrics.jsonl below {self.folder}"
        )

    def judged_by_its_teacher(self) -> Path:
        """GRPO on the reward model alone, which then grades every evaluation prompt.

        Raises:
            TrainingError: The reward model does not like it better than at the start.
        """
        kind = "judged by its teacher"
        rows = read_split(self.dataset("evaluation"), "test").to_pylist()
        rows = [row | {"grader": "reward_model"} for row in rows]
        refrozen(self.dataset("evaluation"), self.folder / kind / "prompts", rows, "test")
        output, result = self._pleasing(kind, {"kl_limit": FAR})
        if not is_liked(result["held_out"]):
            raise TrainingError(
                f"the reward model of seed {self.seed} does not like better what it taught; see "
                f"metrics.jsonl below {output.parent}"
            )
        return output

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
        return self._trained("flywheel.train.sft", settings)[0]

    def _pleasing(self, kind: str, changes: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
        """The SFT policy, taught by the reward model."""
        settings = build(
            GrpoSettings,
            {**SAMPLE["grpo"], "seed": self.seed, **changes},
            missing_end=MISSING_END,
            model=str(self.layout.checkpoint("sft_policy", self.generation)),
            reward_model=str(self.layout.checkpoint("reward_model", self.generation)),
            dataset=str(self.dataset("preference")),
            output=str(self.folder / kind / "policy"),
        )
        return self._trained("flywheel.train.grpo", settings)

    def _trained(self, recipe: str, settings: Any) -> tuple[Path, dict[str, Any]]:
        output = Path(settings.output)
        return output, launch(recipe, settings, output.parent / "run", log=lambda line: None)

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


def refrozen(source: Path, folder: Path, rows: Rows, changed: str = "train") -> None:
    """Freeze a data set with other rows in one split; its other splits are those of `source`."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = DatasetManifest.load(source)
    files, counts = {}, {}
    for split in manifest.rows_by_split:
        path = folder / f"{split}.parquet"
        table = pa.Table.from_pylist(rows) if split == changed else read_split(source, split)
        pq.write_table(table, path)
        files[path.name], counts[split] = file_hash(path), table.num_rows
    hashes = "".join(sorted(files.values()))
    msgspec.structs.replace(
        manifest, files=files, rows_by_split=counts, content_hash=hashes[:64]
    ).save(folder)
