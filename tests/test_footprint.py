"""The ZeRO stage is a function of what a process would hold."""

from typing import Any

import pytest
from transformers import LlamaConfig

from flywheel.train.footprint import bytes_per_process, cache_bytes, choose_stage

B7 = 7_000_000_000
H100 = 80e9


def choice(**changes: Any) -> tuple[int, str]:
    asked: dict[str, Any] = {"parameters": B7, "trainable": B7, "is_bf16": True, "offload": False}
    return choose_stage(**{**asked, "device_bytes": H100, "processes": 1, **changes})


def held(stage: int, **changes: Any) -> float:
    asked: dict[str, Any] = {"parameters": 100, "trainable": 100, "is_bf16": True}
    return bytes_per_process(stage, **{**asked, "offload": False, "processes": 1, **changes})


def test_a_trained_parameter_takes_18_bytes_in_bf16_and_16_at_stage_0() -> None:
    assert held(2) == 1800  # 2 weight + 4 gradient + 4 master + 8 Adam
    assert held(0, is_bf16=False) == 1600


def test_each_stage_shares_more_and_frozen_parameters_are_weights_only() -> None:
    assert [held(stage, processes=4) for stage in (1, 2, 3)] == [900, 600, 450]
    assert held(2, trainable=10) == 200 + 160
    assert held(2, offload=True) == 600


@pytest.mark.parametrize(
    ("asked", "stage"),
    [
        ({"parameters": 10**6, "trainable": 10**6, "is_bf16": False}, 0),
        ({"parameters": 10**6, "trainable": 10**6}, 2),  # bf16 takes a wrong first step at 0
        ({"parameters": 10**6, "trainable": 10**6, "is_bf16": False, "processes": 2}, 2),
        ({"parameters": 10**6, "trainable": 10**6, "is_bf16": False, "offload": True}, 2),
        ({"processes": 8}, 2),  # 14 + 112 / 8 GB: fits
        ({"processes": 8, "parameters": 4 * B7, "trainable": 4 * B7}, 3),  # 56 + 56 GB does not
        ({"processes": 8, "parameters": 3 * B7, "trainable": 10**7}, 2),  # LoRA: 42 GB of weights
    ],
)
def test_the_least_sharding_that_fits_is_chosen(asked: dict[str, Any], stage: int) -> None:
    found, reason = choice(**asked)
    assert found == stage and reason.startswith(f"ZeRO stage {stage}") and "\n" not in reason


def test_what_fits_at_no_stage_is_told_with_the_remedy() -> None:
    stage, reason = choice()
    assert stage == 2 and "117.3 GiB of 74.5 GiB" in reason and "offload = true" in reason
    assert "offload" not in choice(offload=True, parameters=100 * B7)[1]


def test_what_is_held_beside_the_module_is_counted_and_told() -> None:
    asked: dict[str, Any] = {"processes": 8, "parameters": B7, "trainable": B7}
    assert choice(**asked)[0] == 2  # 14 + 112 / 8 GB
    stage, reason = choice(**asked, beside_bytes=30e9)  # 28 + 30 GB do not leave room for it
    assert stage == 3 and "27.9 GiB of it beside the module" in reason
    assert "beside the module" not in choice(**asked)[1]


def test_keys_and_values_are_those_of_the_key_heads() -> None:
    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2
    )
    one = cache_bytes(config, rows=1, tokens=1, is_bf16=True)
    assert one == 2 * 3 * 2 * 8 * 2  # both, layers, heads, numbers, bytes
    assert cache_bytes(config, rows=4, tokens=5, is_bf16=False) == 4 * 5 * 2 * one
