"""What an evaluation on 1,000 prompts costs beside the sampling in it.

*Sampling* is every call of `rollout.sample` that the evaluation makes: challenger, base, SFT policy
and champion at the temperature, the first three greedily, the policies put aside along the
challenger's run, and the pools of the best of n. *All* is the whole of `evaluate.run.run`: also
rendering, scores of the reward model on answers, held-out pairs and traps, losses of
demonstrations, intervals, leaks, tables, page. Both in CPU seconds of one thread; imports are paid
before, loading models is not. The first evaluation of a generation is what a turn pays: it measures
the reward model too. The second is of another challenger of the same generation, with a run of its
own. It asks all policies anew, and finds kept what asks no challenger: the reward model's worth,
losses of demonstrations, and what the reward model said of base's, SFT policy's and champion's
answers, which are the same.

Models are random, so that no two answers are the same text: trained ones repeat themselves, and
what is repeated is scored once.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa

from flywheel.evaluate import policies
from flywheel.evaluate import run as evaluation
from flywheel.evaluate.reward import best_of_n
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.models.publish import publish
from flywheel.models.small import small_llama, word_tokenizer
from flywheel.process.launch import write_json
from flywheel.records.message import dump, prompt_of, response_of
from flywheel.rollout import Policy, RewardModel
from flywheel.sample import corpus
from flywheel.sample.world import draw_request
from tests.benchmarks.measurement import Measurement
from tests.models_for_tests import freeze, reward_of

PROMPTS, PAIRS, DEMONSTRATIONS = 1000, 1000, 500
ASIDE = 6  # policies along the challenger's run, as many as a turn puts aside
LIMIT = 1.3
POLICIES = ("base", "sft", "policy", "champion")
CHALLENGERS = ("policy", "rival")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A model, and how much it says."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    words: int
    new_tokens: int


SIZES = {
    "the sample world's": Size(  # whose trained policies say 17 tokens
        hidden=32, layers=2, heads=2, feed_forward=88, words=0, new_tokens=17
    ),
    "3 M parameters": Size(
        hidden=192, layers=6, heads=6, feed_forward=512, words=2000, new_tokens=64
    ),
}


def evaluation_cost() -> list[Measurement]:
    """Both sizes, a first evaluation and a second each, against the limit."""
    return [one for name, size in SIZES.items() for one in _measured(name, size)]


def _measured(name: str, size: Size) -> list[Measurement]:
    spent: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as timed:
        settings = _world(Path(folder), size)
        out = Path(folder) / "run"
        out.mkdir()
        pa.array(["imports pandas"])
        Policy.load(settings.base), RewardModel.load(settings.reward_model)
        for module in (policies, best_of_n):
            timed.enter_context(_timed(module, "sample", "sampling", spent))
        timed.enter_context(_timed(evaluation, "measure_reward", "reward", spent))
        timed.enter_context(_timed(evaluation, "run", "all", spent))
        found = []
        for which in ("first", "second"):
            spent |= dict.fromkeys(("all", "sampling", "reward"), 0.0)
            evaluation.run(settings, out)
            settings = replace(
                settings,
                policy=str(Path(folder) / CHALLENGERS[1]),
                along=str(Path(folder) / f"along-{CHALLENGERS[1]}"),
            )
            found.append(_told(f"{name}, {which} evaluation of a generation", size, spent))
    return found


def _told(name: str, size: Size, spent: dict[str, float]) -> Measurement:
    of_reward = spent["reward"] / spent["sampling"]
    return Measurement(
        name=f"evaluation_cost: {name}",
        value=spent["all"],
        unit="CPU s",
        peer="sampling in it",
        peer_value=spent["sampling"],
        ratio=spent["all"] / spent["sampling"],
        conditions=f"{PROMPTS} prompts, {len(POLICIES)} policies, {ASIDE} along the run, "
        f"{size.new_tokens} new tokens, {PAIRS} held-out pairs, {DEMONSTRATIONS} demonstrations, 1 "
        f"thread; limit {LIMIT}, lower wins; {of_reward:.2f} of the ratio measures the reward "
        f"model, whoever the challenger is",
    )


@contextmanager
def _timed(module: Any, name: str, kind: str, spent: dict[str, float]) -> Iterator[None]:
    """Add the CPU seconds of every call of a function to `spent[kind]`."""
    plain = getattr(module, name)

    def called(*given: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return plain(*given, **options)
        finally:
            spent[kind] += time.process_time() - began

    setattr(module, name, called)
    try:
        yield
    finally:
        setattr(module, name, plain)


def _world(folder: Path, size: Size) -> EvaluateSettings:
    """Random models and the refund desk's requests; responses are random words."""
    rng = Random(0)
    pages = [*corpus.pages(2000, seed=0), " ".join(f"word{one}" for one in range(size.words))]
    tokenizer = word_tokenizer(pages)
    words = [one for one in tokenizer.get_vocab() if not one.startswith("<")]
    steps = range(1, ASIDE + 1)
    aside = {one: [f"along-{one}/step-{step:08d}" for step in steps] for one in CHALLENGERS}
    folders = (*POLICIES, "reward_base", *aside["policy"], "rival", *aside["rival"])
    for seed, name in enumerate(folders):
        model = small_llama(
            tokenizer,
            hidden=size.hidden,
            layers=size.layers,
            heads=size.heads,
            feed_forward=size.feed_forward,
            rope_theta=10000.0,
            max_positions=256,
            seed=seed,
        )
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    for one, names in aside.items():
        told = [
            {"step": step, "content_hash": _published(folder / name, {"step": step})}
            for step, name in zip(steps, names, strict=True)
        ]
        _published(folder / one, {"result": {"steps": ASIDE + 1, "along": told}})
    asked: dict[str, None] = {}  # no two alike
    while len(asked) < PROMPTS:
        asked[draw_request(rng).text] = None

    def said() -> str:
        return dump(response_of(" ".join(rng.choices(words, k=size.new_tokens - 1))))

    rows = [
        {"prompt": dump(prompt_of(text)), "prompt_key": f"{at:04d}", "group_id": f"{at:04d}"}
        for at, text in enumerate(asked)
    ]
    prompts = [
        row | {"grader": "refund_desk", "reference": None, "domain": "", "source": ""}
        for row in rows
    ]
    votes = {"votes_a": 2, "votes_b": 1, "ties": 0, "domain": ""}
    tested = {"tested_votes": 3, "tested_votes_right": 2, "tested_votes_for_a": 2}
    pairs = [
        rows[at % 250] | {"response_a": said(), "response_b": said(), "probability_a": p}
        for at, p in enumerate(rng.choices((0.9, 0.1, 0.5), k=PAIRS))
    ]
    shown = [rows[at % 250] | {"response": said(), "source": ""} for at in range(DEMONSTRATIONS)]
    write_json(folder / "rules.json", {})
    return EvaluateSettings(
        generation="g0002",
        **{name: str(folder / name) for name in POLICIES},
        along=str(folder / "along-policy"),
        reward_model=reward_of(folder / "reward_base", folder / "reward"),
        evaluation_dataset=freeze(folder / "evaluation", test=prompts),
        preference_dataset=freeze(
            folder / "preference", train=[], test=[one | votes | tested for one in pairs]
        ),
        demonstration_dataset=freeze(folder / "demonstration", test=shown),
        prompt_limit=PROMPTS,
        max_new_tokens=size.new_tokens,
        threads=1,
    )


def _published(folder: Path, facts: dict[str, Any]) -> str:
    """Describe a model that lies in a folder as a checkpoint is; its content hash."""
    plain = folder.rename(folder.with_name(f"{folder.name}-plain"))
    write = partial(shutil.copytree, plain, dirs_exist_ok=True)
    return str(publish(folder, write, facts)["content_hash"])
