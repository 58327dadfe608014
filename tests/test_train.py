"""Recipes and their loop: what they learn, what changes nothing, what a kill costs."""

import hashlib
import json
import math
import os
import pickle
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from flywheel.datasets.manifest import read_split
from flywheel.datasets.render import Rendered
from flywheel.errors import LaunchError, ManifestError, SettingsError, TrainingError
from flywheel.layout import TITLE_MARK, Layout
from flywheel.models.cuts import cheapest_cuts
from flywheel.models.load import load_backbone, load_causal, load_tokenizer
from flywheel.models.logps import ResponseLogps, pad
from flywheel.models.publish import verify
from flywheel.models.reward import RewardHead
from flywheel.process.launch import launch
from flywheel.process.settings import build
from flywheel.records.message import dump, prompt_of, response_of
from flywheel.rollout import Policy, RewardModel, sample
from flywheel.train.base import resolve_base
from flywheel.train.batches import micro_batches
from flywheel.train.config import PretrainSettings, SftSettings
from flywheel.train.config_policy import DpoSettings
from flywheel.train.config_reward import RewardSettings
from flywheel.train.data import Group, Pair, Reader, dense
from flywheel.train.engine import Engine
from flywheel.train.reward import pairs_of, scores, texts_of
from flywheel.train.source import Shuffled
from tests.models_for_tests import (
    COLOURS,
    demonstrations,
    freeze,
    pages,
    preferences,
    tiny,
    two_ends,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("base"))


def run(recipe: str, settings: Any, folder: Path, **options: Any) -> dict[str, Any]:
    return launch(f"flywheel.train.{recipe}", settings, folder, log=lambda line: None, **options)


def sft(base: str, folder: Path, **changes: Any) -> SftSettings:
    chosen = {"epochs": 30.0, "batch": 8, "learning_rate": 1e-2, "warmup_steps": 3}
    return SftSettings(
        **{**chosen, **changes},
        model=base,
        dataset=demonstrations(folder / "demonstration"),
        output=str(folder / "sft"),
    )


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


@pytest.fixture(scope="module")
def imitator(base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("sft")
    result = run("sft", sft(base, folder), folder / "run")
    return result["checkpoint"], result


def test_sft_learns_to_say_what_was_demonstrated(imitator: tuple[str, dict[str, Any]]) -> None:
    folder, result = imitator
    assert result["loss"] < 0.1 < result["start_loss"]
    prompts = [prompt_of(f"say {one}") for one in COLOURS]
    answers = sample(Policy.load(folder), prompts, temperature=0, max_new_tokens=10)
    assert [row[0].text for row in answers] == [f"{one} it is ." for one in COLOURS]
    assert all(row[0].ended for row in answers)


def test_a_checkpoint_names_parents_data_records_and_proves_itself(
    imitator: tuple[str, dict[str, Any]], base: str
) -> None:
    folder = Path(imitator[0])
    manifest = verify(folder)
    (parent,) = manifest["parents"]
    assert manifest["kind"] == "sft_policy" and parent["model"] == base
    assert len(parent["content_hash"]) == 64
    assert manifest["datasets"] == {"demonstration": "0" * 64}
    assert manifest["records"]["count"] == 4
    copy = folder.with_name("changed")
    subprocess.run(["cp", "-r", folder, copy], check=True)
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    with pytest.raises(ManifestError, match=r"model\.safetensors"):
        verify(copy)


def test_a_finished_run_is_read_back_and_not_run_again(base: str, tmp_path: Path) -> None:
    settings = sft(base, tmp_path, epochs=1.0)
    first = run("sft", settings, tmp_path / "run")
    started = time.monotonic()
    assert run("sft", settings, tmp_path / "run") == first
    assert time.monotonic() - started < 1
    other = run("sft", replace(settings, seed=1), tmp_path / "run")
    assert other["content_hash"] != first["content_hash"]


def test_a_champion_is_read_back_and_never_trained_over(base: str, tmp_path: Path) -> None:
    settings = sft(base, tmp_path, epochs=1.0)
    first = run("sft", settings, tmp_path / "run")
    (Path(first["checkpoint"]) / TITLE_MARK).touch()
    with pytest.raises(TrainingError, match="never replaced; train in a new generation"):
        run("sft", replace(settings, seed=1), tmp_path / "run")
    assert run("sft", settings, tmp_path / "run") == first  # nothing of its run was touched


@pytest.mark.parametrize("lost", ["", "model.safetensors", "manifest.json"])
def test_a_finished_run_whose_checkpoint_is_gone_is_run_again(
    base: str, tmp_path: Path, lost: str
) -> None:
    settings = sft(base, tmp_path, epochs=1.0)
    first = run("sft", settings, tmp_path / "run")
    folder = Path(first["checkpoint"])
    (folder / lost).unlink() if lost else shutil.rmtree(folder)
    again = run("sft", settings, tmp_path / "run")
    assert again["content_hash"] == first["content_hash"]
    assert verify(folder)["content_hash"] == first["content_hash"]


def test_other_weights_in_the_same_folder_are_another_base(base: str, tmp_path: Path) -> None:
    folder = tmp_path / "outside"
    shutil.copytree(base, folder)
    settings = sft(str(folder), tmp_path, epochs=1.0)
    before = resolve_base(Layout(root=tmp_path), "g0001", str(folder)).content_hash
    first = run("sft", settings, tmp_path / "run")
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(struct.pack("<f", 0.5))
    assert resolve_base(Layout(root=tmp_path), "g0001", str(folder)).content_hash != before
    again = run("sft", settings, tmp_path / "run")
    assert again["content_hash"] != first["content_hash"]
    assert verify(tmp_path / "sft")["parents"][0]["content_hash"] != before


def test_cut_prompts_are_counted_in_the_result(base: str, tmp_path: Path) -> None:
    # <bos> say red <r> red it is . <eos>: nine tokens, one too many
    settings = sft(base, tmp_path, epochs=1.0, max_tokens=8)
    result = run("sft", settings, tmp_path / "run")
    assert result["truncated_count"] == len(COLOURS) and result["dropped"] == {}
    whole = sft(base, tmp_path, epochs=1.0, max_tokens=9)
    assert run("sft", whole, tmp_path / "run")["truncated_count"] == 0


def test_lora_changes_the_published_weights_and_leaves_no_adapter(
    base: str, tmp_path: Path
) -> None:
    result = run("sft", sft(base, tmp_path, lora_rank=4), tmp_path / "run")
    assert result["loss"] < result["start_loss"] / 2
    before, after = weights(base), weights(result["checkpoint"])
    assert before.keys() == after.keys()
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(before[name], after[name])
    answers = sample(
        Policy.load(result["checkpoint"]), [prompt_of("say red")], temperature=0, max_new_tokens=8
    )
    assert answers[0][0].text.startswith("red")


@pytest.mark.parametrize(("devices", "stage"), [(1, 2), (2, 0), (2, 2)])
def test_processes_and_zero_stages_change_only_the_speed(
    base: str, tmp_path: Path, devices: int, stage: int
) -> None:
    settings = sft(base, tmp_path / "plain", epochs=3.0)
    plain = run("sft", settings, tmp_path / "plain" / "run")
    other = sft(base, tmp_path / "other", epochs=3.0, zero_stage=stage)
    found = run("sft", other, tmp_path / "other" / "run", devices=devices)
    assert (found["world"], found["zero_stage"]) == (devices, stage)
    assert found["loss"] == pytest.approx(plain["loss"], abs=1e-4)
    norms = [
        [
            json.loads(line)["grad_norm"]
            for line in (tmp_path / name / "run" / "metrics.jsonl").open()
        ]
        for name in ("plain", "other")
    ]
    assert norms[1] == pytest.approx(norms[0], rel=1e-2) and norms[1][0] == pytest.approx(
        norms[0][0], rel=1e-5
    )
    two = weights(found["checkpoint"])
    for name, value in weights(plain["checkpoint"]).items():
        assert torch.allclose(value, two[name], atol=1e-4), name


@pytest.mark.slow  # three processes
def test_lora_on_partitioned_weights_publishes_what_one_process_does(
    base: str, tmp_path: Path
) -> None:
    settings = sft(base, tmp_path / "plain", epochs=2.0, lora_rank=4)
    plain = run("sft", settings, tmp_path / "plain" / "run")
    other = sft(base, tmp_path / "other", epochs=2.0, lora_rank=4, zero_stage=3)
    found = run("sft", other, tmp_path / "other" / "run", devices=2)
    assert (found["world"], found["zero_stage"]) == (2, 3)
    start, one, two = map(weights, (base, plain["checkpoint"], found["checkpoint"]))
    assert one.keys() == two.keys() == start.keys()
    assert max((two[name] - start[name]).abs().max() for name in start) > 1e-2, "it has learnt"
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-4), name


def test_the_engine_takes_the_step_that_plain_torch_takes(base: str, tmp_path: Path) -> None:
    settings = sft(base, tmp_path, epochs=0.5, batch=8, warmup_steps=0, learning_rate=1e-3)
    result = run("sft", settings, tmp_path / "run")
    from flywheel.models.load import load_tokenizer
    from flywheel.train.data import Reader

    tokenizer, model = load_tokenizer(base), load_causal(base)
    rows = Reader(settings.dataset, tokenizer, [tokenizer.eos_token_id], 64).demonstrations("train")
    module = ResponseLogps(model)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0)
    texts = [row.text for row in Shuffled(rows, settings).draw(0)[0]]
    logps = module(*pad(texts, "cpu"))
    (-logps.sum() / len(logps)).backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    assert result["steps"] == 1
    published = weights(result["checkpoint"])
    for name, value in model.state_dict().items():
        if name in published:
            assert torch.allclose(value, published[name], atol=1e-6), name


def test_dropout_is_off_in_every_pass(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=20, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    model, ids = load_causal(str(tmp_path)).train(), torch.arange(6)[None]
    assert torch.equal(model(ids).logits, model(ids).logits)


def test_all_pairs_of_a_prompt_weigh_as_one(base: str, tmp_path: Path) -> None:
    settings = RewardSettings(model=base, dataset="", output="", zero_stage=0)
    engine = Engine(RewardHead(load_backbone(base)), settings)
    texts = [Rendered(ids=[1, 5 + place], start=1) for place in range(3)]
    pairs = [Pair(0, 1, 1.0, 1.0), Pair(0, 2, 1.0, 1.0), Pair(1, 2, 1.0, 4.0)]
    ranked, single = Group(texts, pairs, ()), Group(texts[:2], pairs[:1], ())
    groups = [ranked, single]
    *_, weights = pairs_of(scores(engine, texts_of(groups)), groups)
    assert weights.tolist() == pytest.approx([1 / 6, 1 / 6, 4 / 6, 1.0])


def test_a_reward_model_finds_the_planted_preference(
    imitator: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    settings = RewardSettings(
        model=imitator[0],
        dataset=preferences(tmp_path / "preference"),
        output=str(tmp_path / "reward"),
        epochs=20.0,
        batch=4,
        learning_rate=5e-3,
    )
    result = run("reward", settings, tmp_path / "run")
    assert result["validation_accuracy_frac"] == 1.0
    reward = RewardModel.load(result["checkpoint"])
    prompts = [prompt_of("say red")] * 2
    right, wrong = reward.score(
        prompts, [response_of("red it is ."), response_of("no , it is not .")]
    )
    assert right is not None and wrong is not None
    # soft labels of 0.9: the gap settles near log(0.9 / 0.1), and preferred responses near 0
    assert right - wrong == pytest.approx(2.2, abs=0.8)
    assert right == pytest.approx(0.0, abs=0.5)


def test_a_published_reward_model_scores_as_it_did_in_training(tmp_path: Path) -> None:
    base = two_ends(tmp_path / "base")
    settings = RewardSettings(
        model=base,
        dataset=preferences(tmp_path / "preference"),
        output=str(tmp_path / "reward"),
        epochs=2.0,
        batch=4,
        learning_rate=5e-3,
    )
    result = run("reward", settings, tmp_path / "run")
    reward = RewardModel.load(result["checkpoint"])
    assert len(reward.stop_ids) == 2
    prompts = [prompt_of(f"say {one}") for one in COLOURS]
    found = reward.score(prompts, [response_of(f"{one} it is .") for one in COLOURS])
    # the shift is the mean that training gave to these very responses
    assert sum(one for one in found if one is not None) / 4 == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("recipe", ["reward", "dpo"])
def test_without_held_out_pairs_the_result_holds_null_and_a_check_warns(
    base: str, tmp_path: Path, recipe: str
) -> None:
    from assets.training import beats_chance

    rows = read_split(Path(preferences(tmp_path / "some")), "train").to_pylist()
    undecided = [{**rows[0], "probability_a": 0.5}]  # in validation, and decides nothing
    settings = {"reward": RewardSettings, "dpo": DpoSettings}[recipe](
        model=base,
        dataset=freeze(tmp_path / "preference", train=rows, validation=undecided),
        output=str(tmp_path / "out"),
    )
    run(recipe, settings, tmp_path / "run")
    text = (tmp_path / "run" / "result.json").read_text()
    result = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert result["validation_accuracy_frac"] is None and result["validation_pairs"] == 0
    check = beats_chance(result)
    assert check.passed and check.severity.name == "WARN"
    assert check.description == "no held-out pair in validation"
    assert not beats_chance({"validation_accuracy_frac": 0.5}).passed


def test_a_cut_prompt_keeps_its_pairs_together_and_loses_none() -> None:
    everyone = [f"r{place}" for place in range(30)]
    edges = [(a, b) for a, b in combinations(everyone, 2) if (hash_of(a + b) % 10) < 6]
    groups = dense(edges, 9)
    assert sorted(place for group in groups for place in group) == list(range(len(edges)))
    touched = [{node for place in group for node in edges[place]} for group in groups]
    assert max(map(len, touched)) == 9
    forwards = sum(map(len, touched))
    assert len(edges) / forwards > 1.0  # one by one it would be 0.5
    assert dense([("a", "b"), ("c", "d")], 4) == [[0, 1]]  # a prompt that fits stays whole
    assert dense([("a", "b"), ("c", "d")], 3) == [[0], [1]]


def hash_of(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def test_every_pair_of_a_cut_prompt_weighs_alike(tmp_path: Path, base: str) -> None:
    rows = read_split(preferences(tmp_path / "preference"), "train").to_pylist()
    row = rows[0] | {"weight": 1.0}
    keys = [("a", "b"), ("a", "c"), ("b", "c"), ("c", "d")]
    judged = [row | {"response_a_key": a, "response_b_key": b} for a, b in keys]
    folder = freeze(tmp_path / "cut", train=judged, validation=[])
    reader = Reader(folder, load_tokenizer(base), [2], 64)
    groups = reader.groups("train", max_responses=3)
    assert [len(group.pairs) for group in groups] == [3, 1]
    assert [group.share for group in groups] == [3.0, 1.0]  # each pair one


def test_a_pair_that_is_dropped_counts_once_under_its_reason(base: str, tmp_path: Path) -> None:
    from flywheel.models.load import load_tokenizer
    from flywheel.train.data import Reader

    (row, *_) = read_split(Path(preferences(tmp_path / "some")), "train").to_pylist()
    long, silent = dump(response_of("it is . " * 20)), dump(prompt_of("say red"))
    rows = [
        {**row, "response_a": long, "response_b": long},
        {**row, "response_b": long},
        {**row, "response_a": silent, "response_b": silent},
        row,
    ]
    tokenizer = load_tokenizer(base)
    dataset = freeze(tmp_path / "d", train=rows)
    reader = Reader(dataset, tokenizer, [tokenizer.eos_token_id], 16)
    assert len(reader.pairs("train", min_margin=0.0)) == 1
    over, mute = "response over 16 tokens", "response without a turn of the assistant"
    assert reader.dropped == {over: 2, mute: 1}
    said = freeze(tmp_path / "e", train=[{**row, "response": long}, {**row, "response": silent}])
    reader = Reader(said, tokenizer, [tokenizer.eos_token_id], 16)
    assert not reader.demonstrations("train") and reader.dropped == {over: 1, mute: 1}


def test_dpo_moves_towards_what_was_preferred(base: str, tmp_path: Path) -> None:
    settings = DpoSettings(
        model=base,
        dataset=preferences(tmp_path / "preference"),
        output=str(tmp_path / "policy"),
        epochs=10.0,
        batch=8,
        learning_rate=3e-3,
        beta=0.3,
    )
    result = run("dpo", settings, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    # policy = reference: every pair's cross-entropy is log 2, and no margin
    assert rows[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert rows[0]["margin"] == pytest.approx(0.0, abs=1e-5)
    assert rows[-1]["margin"] > 0.5 and result["validation_accuracy_frac"] == 1.0


def test_pretraining_brings_its_own_tokenizer(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pages() * 40}), tmp_path / "corpus.parquet")
    settings = PretrainSettings(
        corpus=str(tmp_path / "corpus.parquet"),
        output=str(tmp_path / "base"),
        hidden=16,
        epochs=2.0,
        packing=True,
    )
    result = run("pretrain", settings, tmp_path / "run")
    assert result["loss"] < result["start_loss"] / 2
    policy = Policy.load(result["checkpoint"])
    answers = sample(policy, [prompt_of("say blue")], temperature=0, max_new_tokens=8)
    assert answers[0][0].text == "blue it is ."


def test_a_budget_ends_the_run_with_its_schedule(base: str, tmp_path: Path) -> None:
    settings = sft(base, tmp_path, epochs=100000.0, budget_seconds=1.0)
    result = run("sft", settings, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert result["steps"] < result["steps_planned"]
    assert rows[-1]["learning_rate"] < 0.2 * settings.learning_rate


def test_a_loss_that_is_not_finite_stops_the_run_and_says_what_to_do(
    base: str, tmp_path: Path
) -> None:
    settings = sft(base, tmp_path, learning_rate=1e30, clip=1e30)
    with pytest.raises(LaunchError, match=r"(?s)(loss|norm) of step .* lower learning_rate"):
        run("sft", settings, tmp_path / "run")


STEEP = """
import sys
from pathlib import Path
import torch
from flywheel.errors import TrainingError
from flywheel.train.config import RunSettings
from flywheel.train.engine import Engine, rank
from flywheel.train.loop import Objective, fit
from flywheel.train.source import Shuffled
folder = Path(sys.argv[1])
settings = RunSettings(output="", batch=2, zero_stage=int(sys.argv[2]))
engine = Engine(torch.nn.Linear(2, 1, bias=False), settings)
objective = Objective(  # the root of 0: a finite loss without a finite gradient
    loss=lambda engine, rows: ((0 * engine(torch.ones(len(rows), 2))).sqrt().sum(), {}),
    count=lambda one: 1.0, shape=lambda one: (1, 1), tokens=lambda one: 1,
    record_uids=lambda one: (f"d-{one}",),
)
try:
    fit(engine, Shuffled(list(range(8)), settings), objective, settings, folder)
except TrainingError as error:
    (folder / f"refused-{rank()}").write_text(str(error))
"""


@pytest.mark.parametrize(("devices", "stage"), [(1, 0), (2, 0), (1, 2)])
def test_a_gradient_that_is_not_finite_stops_the_run_and_names_step_and_records(
    tmp_path: Path, devices: int, stage: int
) -> None:
    (tmp_path / "steep.py").write_text(STEEP)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={devices}"]
    starter = [sys.executable, *(torchrun if devices > 1 else [])]
    done = subprocess.run(
        [*starter, tmp_path / "steep.py", tmp_path, str(stage)],
        capture_output=True,
        text=True,
        check=False,
    )
    refused = [path.read_text() for path in tmp_path.glob("refused-*")]
    assert len(refused) == devices, done.stdout + done.stderr[-3000:]
    said = r"the gradient norm of step 1 is (nan|inf).*lower learning_rate.*d-\d, d-\d$"
    assert all(re.match(said, one) for one in refused), refused
    assert not (tmp_path / "metrics.jsonl").read_text()  # nothing was done that counts


def test_a_lone_run_needs_no_port_and_heeds_no_ranks_from_outside(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1")):
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        before = dict(os.environ)
        assert run("sft", sft(base, tmp_path, epochs=1.0), tmp_path / "run")["world"] == 1
        assert dict(os.environ) == before


def test_a_crash_shows_the_last_lines_of_the_recipe(tmp_path: Path) -> None:
    settings = SftSettings(model=str(tmp_path / "no"), dataset="d", output=str(tmp_path / "o"))
    with pytest.raises(LaunchError, match=r"(?s)status 1 and no result.*no model in"):
        run("sft", settings, tmp_path / "run")


def endless(base: str, folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """A process that launched a run in `folder`/run, and the metrics that the run adds to."""
    settings = sft(base, folder, epochs=1000000.0)
    script = (
        "import sys, pickle, pathlib; from flywheel.process.launch import launch;"
        "s = pickle.load(open(sys.argv[1], 'rb'));"
        "launch('flywheel.train.sft', s, pathlib.Path(sys.argv[2]), log=print)"
    )
    (folder / "s").write_bytes(pickle.dumps(settings))
    parent = subprocess.Popen([sys.executable, "-c", script, folder / "s", folder / "run"])
    metrics = folder / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    return parent, metrics


def test_a_second_run_in_one_folder_is_refused_until_the_first_is_dead(
    base: str, tmp_path: Path
) -> None:
    parent, metrics = endless(base, tmp_path)
    settings = sft(base, tmp_path, epochs=1.0)
    try:
        with pytest.raises(LaunchError, match=rf"process {parent.pid}, .* is at work in .*run;"):
            run("sft", settings, tmp_path / "run")
        size = metrics.stat().st_size
        time.sleep(0.5)
        assert metrics.stat().st_size > size  # and the first goes on
    finally:
        parent.kill()
        parent.wait()
    time.sleep(1)
    assert run("sft", settings, tmp_path / "run")["steps"] == 2


def test_training_dies_with_the_run_that_started_it(base: str, tmp_path: Path) -> None:
    parent, metrics = endless(base, tmp_path)
    parent.kill()
    parent.wait()
    time.sleep(1)
    size = metrics.stat().st_size
    time.sleep(1)
    assert metrics.stat().st_size == size


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"epoch": 1}, "no setting 'epoch'"),
        ({"epochs": "1"}, "epochs must be a float"),
        ({"seed": True}, "seed must be a int"),
        ({"learning_rate": float("nan")}, "learning_rate must be"),
        ({"batch": 0}, "batch must be positive"),
        ({}, "needs .*model"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(chosen: dict, message: str) -> None:
    inputs = {"output": "o", "dataset": "d"} | ({"model": "m"} if chosen else {})
    with pytest.raises(SettingsError, match=message):
        build(SftSettings, chosen, **inputs)


@pytest.mark.parametrize(
    ("settings", "full", "lora"),
    [(SftSettings, 2e-5, 2e-4), (RewardSettings, 9e-6, 9e-5), (DpoSettings, 5e-7, 5e-6)],
)
def test_lora_has_a_learning_rate_of_its_own_unless_one_is_chosen(
    settings: Any, full: float, lora: float
) -> None:
    inputs = {"model": "m", "dataset": "d", "output": "o"}
    assert settings(**inputs).learning_rate == full
    assert settings(**inputs, lora_rank=8).learning_rate == lora
    assert settings(**inputs, lora_rank=8, learning_rate=3e-4).learning_rate == 3e-4
    pretrain = PretrainSettings(corpus="c", output="o", lora_rank=8)
    assert pretrain.learning_rate == PretrainSettings(corpus="c", output="o").learning_rate


def test_micro_batches_hold_every_element_once_within_the_budget() -> None:
    sizes = [3, 9, 4, 4, 7, 1]
    batches = micro_batches(sizes, lambda size: (1, size), 10)
    assert sorted(one for batch in batches for one in batch) == sorted(sizes)
    assert all(len(batch) == 1 or len(batch) * max(batch) <= 10 for batch in batches)


def test_batches_are_cut_where_padding_and_their_number_cost_least() -> None:
    shapes = sorted(((1 + n % 3, 3 + 7 * n % 11) for n in range(9)), key=lambda one: -one[1])

    def cost(ends: Sequence[int]) -> float:
        batches = [shapes[first:end] for first, end in pairwise([0, *ends])]
        sizes = [sum(rows for rows, _ in batch) * batch[0][1] for batch in batches]
        fits = all(len(one) == 1 or size <= 60 for one, size in zip(batches, sizes, strict=True))
        return sum(sizes) + 9 * len(sizes) if fits else math.inf

    inner = range(1, len(shapes))
    ways = [[*ends, len(shapes)] for n in inner for ends in combinations(inner, n)]
    assert cost(cheapest_cuts(shapes, 60, 9)) == min(map(cost, ways)) < math.inf
    assert cheapest_cuts([], 60, 9) == [] and cheapest_cuts([(1, 100)], 60, 9) == [1]


def test_an_empty_split_is_an_error_that_says_so(base: str, tmp_path: Path) -> None:
    from flywheel.train.data import Reader, needed

    reader = Reader(demonstrations(tmp_path / "d"), None, [], 64)
    with pytest.raises(TrainingError, match="land more feedback"):
        needed([], reader, "demonstration")
