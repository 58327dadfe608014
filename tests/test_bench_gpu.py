"""The GPU benchmark: refuses where there is none, and takes all its paths at toy size on a CPU."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmarks import gpu

TOY = gpu.Size(
    name="toy",
    shape=gpu._shape(32, 2, 4, 2, 64),
    words=60,
    batch=4,
    steps=4,
    tokens=32,
    micro_tokens=64,
    new_tokens=4,
    epochs={"dpo": 1.0, "grpo": 8.0},
)


def here(recipe: str, settings: Any, folder: Path) -> dict[str, Any]:
    """Train in this process, which has torch loaded already."""
    folder.mkdir()
    return importlib.import_module(recipe).run(settings, folder)


def test_every_path_of_the_gpu_benchmark_runs_at_toy_size() -> None:
    found = {row.name: row for row in gpu.measure((TOY,), here)}
    assert list(found) == [
        "sft_mfu: toy, ZeRO 2",
        "sft_vs_torch: toy, ZeRO 2",
        "sft_mfu: toy, ZeRO 3",
        "sft_vs_torch: toy, ZeRO 3",
        "bf16_loss: toy",
        "bf16_gradient: toy",
        "sampling_vs_hf: toy",
        "dpo_end_to_end",
        "grpo_end_to_end",
    ]
    assert found["bf16_loss: toy"].ratio > 1 and found["bf16_gradient: toy"].ratio > 1
    assert found["bf16_gradient: toy"].value > 1e-6  # or it was fp32 twice
    assert found["sampling_vs_hf: toy"].conditions.endswith("32 of 32 answers equal")
    assert all(found[f"{one}_end_to_end"].conditions.endswith("True") for one in ("dpo", "grpo"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_measures_nothing(capsys: pytest.CaptureFixture) -> None:
    assert gpu.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().out
