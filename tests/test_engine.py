"""The engine against plain torch, at every stage; the canary; what a saved engine goes on with."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flywheel.errors import SettingsError, TrainingError
from flywheel.models.load import load_causal
from flywheel.models.logps import ResponseLogps
from flywheel.models.lora import with_lora
from flywheel.train import canary, rng
from flywheel.train.config import RunSettings
from flywheel.train.engine import Engine
from tests.models_for_tests import tiny
from tests.runs_for_tests import jobs, prepared

LAYOUTS = [
    (stage, offload, checkpointing)
    for stage, offload, checkpointing in product((0, 1, 2, 3), (False, True), (False, True))
    if stage or not offload
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.set_num_threads(1)
    return tiny(tmp_path_factory.mktemp("base"))


@pytest.fixture(autouse=True)
def no_deprecations_of_torch() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def settings(**changes: Any) -> RunSettings:
    return RunSettings(output="", learning_rate=1e-3, weight_decay=0.1, **changes)


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Four rows of seven tokens, of which some carry loss."""
    numbers = torch.Generator().manual_seed(step)
    ids = torch.randint(4, 14, (4, 7), generator=numbers)
    return ids, torch.arange(7)[None] >= torch.tensor([2, 4, 3, 6])[:, None]


def steps_of(engine: Engine, count: int = 5, first: int = 0) -> list[tuple[float, float]]:
    """Losses and gradient norms of steps in two micro-batches of 1 and 3 rows."""
    found = []
    for step in range(first, first + count):
        ids, targets = batch(step)
        loss = 0.0
        for part in CUT:
            nats = -engine(ids[part], targets[part]).sum()
            engine.backward(nats, float(targets.sum()))
            loss += float(nats) / float(targets.sum())
        found.append((loss, engine.step(1e-3)))
    return found


WHOLE, CUT, ROWS = (slice(0, 4),), (slice(0, 1), slice(1, 4)), [slice(n, n + 1) for n in range(4)]


def plain_steps(
    module: Any, dtype: torch.dtype = torch.float32, cut: Sequence[slice] = WHOLE
) -> list[tuple[float, float]]:
    """Five such steps in plain torch, in bf16 with fp32 copies of the weights; its rounding depends
    on how a batch is cut."""
    for weight in module.parameters():  # buffers stay in fp32, rotary frequencies among them
        weight.data = weight.data.to(dtype)
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    masters = [weight.detach().float().clone().requires_grad_() for weight in weights]
    optimizer = torch.optim.AdamW(masters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    found = []
    for step in range(5):
        (ids, targets), loss = batch(step), 0.0
        for part in cut:
            nats = -module(ids[part], targets[part]).sum() / targets.sum()
            for master, gradient in zip(masters, torch.autograd.grad(nats, weights), strict=True):
                master.grad = gradient.float() + (0 if master.grad is None else master.grad)
            loss += float(nats)
        norm = torch.nn.utils.clip_grad_norm_(masters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        for weight, master in zip(weights, masters, strict=True):
            weight.data.copy_(master.data)
        found.append((loss, float(norm)))
    return found


@pytest.mark.parametrize(("stage", "offload", "checkpointing"), LAYOUTS)
def test_five_steps_are_those_of_plain_torch_at_every_stage(
    base: str, stage: int, offload: bool, checkpointing: bool
) -> None:
    expected = plain_steps(ResponseLogps(load_causal(base)))
    chosen = settings(zero_stage=stage, offload=offload, checkpointing=checkpointing)
    module, calls = ResponseLogps(load_causal(base)), []
    engine = Engine(module, chosen)
    module.causal.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    found = steps_of(engine)
    if stage == 3:  # truly sharded, small as it is
        assert all(weight.numel() == 0 for weight in module.parameters())
    assert len(calls) == (20 if checkpointing else 10)  # ten micro-batches
    assert [one[0] for one in found] == pytest.approx([one[0] for one in expected], abs=1e-6)
    assert [one[1] for one in found] == pytest.approx([one[1] for one in expected], rel=2e-6)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_bf16_weights_learn_what_plain_torch_learns_with_fp32_copies(base: str, stage: int) -> None:
    expected = plain_steps(ResponseLogps(load_causal(base)), torch.bfloat16, CUT)
    engine = Engine(ResponseLogps(load_causal(base)), settings(zero_stage=stage, precision="bf16"))
    assert next(engine.engine.module.parameters()).dtype == torch.bfloat16
    found = steps_of(engine)
    assert [one[0] for one in found] == pytest.approx([one[0] for one in expected], rel=5e-4)


def test_stage_3_puts_no_whole_module_on_a_device_and_writes_one_from_the_host(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, moved = torch.nn.Module.to, []

    def to(module: torch.nn.Module, *arguments: Any, **named: Any) -> torch.nn.Module:
        moved.append(type(module).__name__)
        return sound(module, *arguments, **named)

    monkeypatch.setattr(torch.nn.Module, "to", to)
    Engine(ResponseLogps(load_causal(base)), settings(zero_stage=2))
    assert "ResponseLogps" in moved  # how DeepSpeed places what is not sharded
    moved.clear()
    module = ResponseLogps(load_causal(base))
    before = {name: weight.clone() for name, weight in module.named_parameters()}
    engine = Engine(module, settings(zero_stage=3))
    assert "ResponseLogps" not in moved
    with engine.written():
        for name, weight in module.named_parameters():
            assert torch.equal(weight, before[name]) and weight.device.type == "cpu"
    assert all(weight.numel() == 0 for weight in module.parameters())
    assert steps_of(engine, 1)[0][0] > 0  # and training goes on


@pytest.mark.parametrize("stage", [2, 3])
def test_lora_trains_on_a_frozen_base_that_does_not_move(base: str, stage: int) -> None:
    expected = plain_steps(ResponseLogps(with_lora(load_causal(base), 2, 0)))
    module = ResponseLogps(with_lora(load_causal(base), 2, 0))
    frozen = {n: w.clone() for n, w in module.named_parameters() if not w.requires_grad}
    engine = Engine(module, settings(zero_stage=stage, checkpointing=True))
    found = steps_of(engine)
    assert [one[0] for one in found] == pytest.approx([one[0] for one in expected], abs=1e-6)
    with engine.gathered():
        after = dict(module.named_parameters())
        assert all(torch.equal(weight, after[name]) for name, weight in frozen.items())
    assert engine.trained_parameters < engine.parameters / 2


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_two_engines_take_turns_in_one_process(base: str, stage: int) -> None:
    expected = plain_steps(ResponseLogps(load_causal(base)))
    one, two = (
        Engine(ResponseLogps(load_causal(base)), settings(zero_stage=stage)) for _ in range(2)
    )
    found = []
    for step in range(5):
        ids, targets = batch(step)
        for part in CUT:
            for engine in (one, two):
                nats = -engine(ids[part], targets[part]).sum()
                engine.backward(nats, float(targets.sum()))
        found.append([one.step(1e-3), two.step(1e-3)])
    for side in (0, 1):
        norms = [pair[side] for pair in found]
        assert norms == pytest.approx([norm for _, norm in expected], rel=2e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("before", "after"), [(2, 2), (3, 3), (1, 3), (0, 2), (2, 0), (3, 0), (0, 3)]
)
def test_what_was_saved_at_one_stage_goes_on_at_any(
    base: str, tmp_path: Path, before: int, after: int, precision: str
) -> None:
    if precision == "bf16" and not (before and after):
        pytest.skip("stage 0 has no bf16 weights")
    asked = [settings(zero_stage=stage, precision=precision) for stage in (before, after)]
    engine = Engine(ResponseLogps(load_causal(base)), asked[0])
    steps_of(engine, 3)
    engine.times_seen.update(["d-red"] * 3)
    engine.save(tmp_path)
    expected = steps_of(engine, 4, first=3)
    other = Engine(ResponseLogps(load_causal(tiny(tmp_path / "other", seed=7))), asked[1])
    other.load(tmp_path)
    assert other.adam_steps == 3 and other.times_seen == {"d-red": 3}
    found = steps_of(other, 4, first=3)
    if before == after:
        assert found == expected  # bit by bit
    assert found[0][0] == pytest.approx(expected[0][0], abs=1e-6)
    bound = {"fp32": 1e-6, "bf16": 5e-3}[precision]  # stages round bf16 sums in other orders
    assert [one[0] for one in found] == pytest.approx([one[0] for one in expected], abs=bound)


def test_another_module_does_not_go_on_from_what_was_saved(base: str, tmp_path: Path) -> None:
    Engine(ResponseLogps(with_lora(load_causal(base), 2, 0)), settings()).save(tmp_path)
    other = Engine(ResponseLogps(load_causal(base)), settings())
    with pytest.raises(TrainingError, match="holds other weights than are trained here"):
        other.load(tmp_path)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"zero_stage": 4}, "zero_stage must be 0 to 3"),
        ({"precision": "fp16"}, "fp16 overflows"),
        ({"zero_stage": 0, "offload": True}, "zero_stage 0 has no offload"),
        ({"zero_stage": 0, "precision": "bf16"}, "wrong first step"),
    ],
)
def test_settings_that_train_wrongly_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(**chosen)


def test_adam_s_eps_is_the_setting(base: str) -> None:
    changes = []
    for eps in (1e-8, 10.0):
        engine = Engine(ResponseLogps(load_causal(base)), settings(adam_eps=eps))
        before = engine.whole(engine.trained[0]).clone()
        steps_of(engine, 1)
        changes.append(float((engine.whole(engine.trained[0]) - before).norm()))
    assert changes[1] < changes[0] / 5


@pytest.mark.parametrize(
    ("stage", "precision"), [(0, "fp32"), (2, "fp32"), (3, "fp32"), (2, "bf16")]
)
def test_the_canary_lets_a_sound_engine_train_and_draws_no_random_number(
    stage: int, precision: str
) -> None:
    before = rng.states()
    found = canary.check(settings(zero_stage=stage, precision=precision))
    assert found["canary_error"] < canary.LIMITS[precision] and rng.states() == before


def scaled(engine: Engine, loss_sum: Tensor, count: float) -> None:
    """Divides by the number of micro-batches a second time (ms-swift #10117)."""
    engine.engine.backward(loss_sum / count / 2, scale_wrt_gas=False)


def last_only(engine: Engine, loss_sum: Tensor, count: float) -> None:
    """Keeps the last micro-batch only (open-instruct #1498)."""
    for weight in engine._trainable:
        weight.grad = None
    engine.engine.backward(loss_sum / count, scale_wrt_gas=False)


@pytest.mark.parametrize("defect", [scaled, last_only])
def test_the_canary_refuses_an_engine_that_accumulates_wrongly(
    monkeypatch: pytest.MonkeyPatch, defect: Any
) -> None:
    monkeypatch.setattr(Engine, "backward", defect)
    with pytest.raises(TrainingError, match="gradient norm of one step must be that of plain"):
        canary.check(settings(zero_stage=0, precision="fp32"))


def test_the_canary_refuses_a_first_step_that_is_adam_s_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound = Engine.step

    def after_another(engine: Engine, rate: float) -> float:
        engine._make_moments(1)  # what DeepSpeed does at stage 0 with bf16 weights
        return sound(engine, rate)

    monkeypatch.setattr(Engine, "step", after_another)
    with pytest.raises(TrainingError, match="Adam's counter must be 1 after its first step"):
        canary.check(settings(zero_stage=0, precision="fp32"))
    monkeypatch.setattr(Engine, "adam_steps", 1)  # the counter lies too
    with pytest.raises(TrainingError, match="parameter change of one step"):
        canary.check(settings(zero_stage=0, precision="fp32"))


def test_two_processes_that_do_not_reduce_are_refused_by_the_canary(tmp_path: Path) -> None:
    found = jobs("canaries", tmp_path)
    for defect, said in found.items():
        if defect.startswith("none"):
            assert said == ["", ""]
        elif defect.startswith("all-reduce"):
            assert all("gradient norm of one step must be" in one for one in said), (defect, said)
        else:
            assert all("the gradient canary" in one for one in said), (defect, said)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "offload", "checkpointing"), LAYOUTS)
def test_two_processes_take_the_steps_of_plain_torch(
    base: str, tmp_path: Path, stage: int, offload: bool, checkpointing: bool
) -> None:
    expected = plain_steps(ResponseLogps(load_causal(base)))
    found = jobs("steps", tmp_path, base, stage, int(offload), int(checkpointing), "fp32")
    for one in found:
        assert one["norms"] == pytest.approx([norm for _, norm in expected], rel=2e-6)
        assert one["losses"] == pytest.approx([loss for loss, _ in expected], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_two_processes_with_bf16_weights_learn_what_plain_torch_learns(
    base: str, tmp_path: Path, stage: int
) -> None:
    expected = plain_steps(ResponseLogps(load_causal(base)), torch.bfloat16, ROWS)
    for one in jobs("steps", tmp_path, base, stage, 0, 0, "bf16"):
        assert one["losses"] == pytest.approx([loss for loss, _ in expected], rel=5e-4)


def test_a_run_needs_no_compiler(base: str, tmp_path: Path) -> None:
    run_dir = prepared(base, tmp_path)
    environment = {**os.environ, "PATH": str(tmp_path), "HOME": str(tmp_path)}
    environment.pop("CC", None)
    done = subprocess.run(
        [sys.executable, "-m", "flywheel.train.sft", run_dir],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and (run_dir / "result.json").exists(), done.stderr[-2000:]
