"""What a run says of itself: rates, share of peak, memory, phases; and the curves of all that."""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from flywheel.errors import SettingsError
from flywheel.layout import Layout
from flywheel.models.load import load_causal
from flywheel.models.logps import ResponseLogps
from flywheel.process.tensorboard import export
from flywheel.train import throughput
from flywheel.train.config import RunSettings
from flywheel.train.engine import Engine
from flywheel.train.throughput import Gauge, flops_per_token, peak_flops, peak_memory
from tests.models_for_tests import tiny
from tests.test_resume import Drawing, trained

HAS_WRITER = find_spec("tensorboardX") is not None


def config(**changes: int) -> SimpleNamespace:
    small = {"hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1}
    sizes = {"intermediate_size": 10, "num_hidden_layers": 3, "vocab_size": 100}
    return SimpleNamespace(**{**small, **sizes, **changes})


def test_operations_per_token_are_those_counted_by_hand() -> None:
    # QKV 2*8*4*(2+2) = 256, O 2*2*4*8 = 128, scores and values 4*2*4*5 = 160, gates 6*8*10 = 480
    layers, head = 3 * (256 + 128 + 160 + 480), 2 * 100 * 8
    found = flops_per_token(config(), 5, has_head=True, trained_frac=1.0)
    assert found == 3 * (layers + head) == 14016
    assert flops_per_token(config(), 5, has_head=False, trained_frac=1.0) == 3 * layers
    assert flops_per_token(config(), 5, has_head=False, trained_frac=0.0) == 2 * layers
    wide = flops_per_token(config(head_dim=8), 5, has_head=False, trained_frac=1.0)
    assert wide == 3 * 3 * (512 + 256 + 320 + 480)


def test_the_share_of_peak_is_of_the_peak_of_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ResponseLogps(load_causal(tiny(tmp_path)))
    engine = Engine(module, RunSettings(output=""))
    monkeypatch.setattr(throughput, "peak_flops", lambda *_: 1e9)
    found = Gauge(engine)(tokens=60, sequences=10, seconds=2.0)
    per_token = flops_per_token(module.causal.config, 6.0, has_head=True, trained_frac=1.0)
    assert found["tokens_per_second"] == 30 and found["mfu"] == pytest.approx(30 * per_token / 1e9)


def test_a_module_that_is_no_transformer_counts_six_operations_a_parameter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(torch.nn.Linear(9, 1), RunSettings(output=""))
    monkeypatch.setattr(throughput, "peak_flops", lambda *_: 600.0)
    assert Gauge(engine)(tokens=10, sequences=1, seconds=1.0)["mfu"] == pytest.approx(1.0)


def test_the_peak_is_measured_once_and_memory_never_falls() -> None:
    first = peak_flops("cpu", torch.float32)
    assert first > 1e8 and peak_flops("cpu", torch.float32) == first
    before = peak_memory("cpu")
    held = torch.ones(2**24)  # 64 MB
    assert peak_memory("cpu") >= before >= 2**26
    del held
    assert peak_memory("cpu") >= before


def test_every_row_tells_rates_memory_and_where_its_seconds_went(tmp_path: Path) -> None:
    _, result = trained(tmp_path, Drawing())
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    phases = ("draw_seconds", "backward_seconds", "step_seconds")
    for row in rows:
        assert {"tokens_per_second", "mfu", "memory_bytes", "grad_norm"} <= row.keys()
        assert 0 < sum(row[name] for name in phases) <= row["seconds"] * 1.000001
    assert result["mfu"] > 0 and result["memory_bytes"] == max(row["memory_bytes"] for row in rows)
    assert result["canary_error"] < 1e-5 and result["canary_seconds"] > 0


def runs(root: Path) -> Layout:
    layout = Layout(root)
    for generation in ("g0001", "g0002"):
        run_dir = layout.run("sft_policy", generation)
        run_dir.mkdir(parents=True)
        rows = [{"step": step, "loss": 1 / step, "seconds": 0.5} for step in (1, 2, 3)]
        lines = [json.dumps(row) for row in rows]
        (run_dir / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 4, "lo']))
    return layout


@pytest.mark.skipif(HAS_WRITER, reason="the package is there")
def test_without_the_writer_of_events_the_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"pip install 'flywheel\[tensorboard\]'"):
        export(runs(tmp_path))


@pytest.mark.skipif(not HAS_WRITER, reason="needs flywheel[tensorboard]")
def test_curves_hold_every_whole_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboardX.proto.event_pb2 import Event

    from flywheel import cli

    layout = runs(tmp_path)
    monkeypatch.setattr(cli, "home", lambda: SimpleNamespace(layout=layout))
    said = cli.curves(argparse.Namespace(generation="g0002", json=True))
    assert said["runs"] == [str(layout.tensorboard / "g0002" / "sft_policy")]
    (file,) = Path(said["runs"][0]).glob("events.*")
    data, place, found = file.read_bytes(), 0, []
    while place < len(data):
        length = int.from_bytes(data[place : place + 8], "little")
        event = Event.FromString(data[place + 12 : place + 12 + length])
        found += [(event.step, one.tag, one.simple_value) for one in event.summary.value]
        place += 16 + length
    assert [step for step, tag, _ in found if tag == "loss"] == [1, 2, 3]
    assert [value for _, tag, value in found if tag == "loss"] == pytest.approx([1, 1 / 2, 1 / 3])
    assert len(export(layout)) == 2


@pytest.mark.skipif(not HAS_WRITER, reason="needs flywheel[tensorboard]")
def test_a_generation_that_took_no_step_has_no_curves(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no run of g0009 has taken a step"):
        export(runs(tmp_path), "g0009")
