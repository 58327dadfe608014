"""How fast a run is against what its devices can do: tokens a second, share of peak, memory.

The share (MFU) is of a matrix product's speed measured on this host at the start, in the run's
precision and threads, not of a data sheet's. Every token is counted as if it went through the
head and full, non-causal attention; what a recipe saves there, it gains in the share.
"""

import resource
import time
from functools import lru_cache
from typing import Any

import torch

from flywheel.train.engine import Engine
from flywheel.train.ranks import summed

PEAK_SECONDS = 0.1  # of measuring, after one product to warm up
PEAK_SIZE = 1024  # a side of the matrices on a CPU: 4 MB in fp32
GPU_PEAK_SIZE = 8192


def flops_per_token(config: Any, tokens: float, *, has_head: bool, trained_frac: float) -> float:
    """Floating-point operations of one token's forward and backward pass in a transformer.

    `3 [layers (QKV + O + 4 heads d s + 6 h i) + 2 V h]`, with a multiply-add as two (TRL,
    utils.py::compute_flops_per_token); of the factor 3, one is the gradient of the weights that
    are trained.

    Args:
        config: Of a Hugging Face decoder.
        tokens: Length of a sequence, s.
        has_head: Whether tokens go on to the vocabulary.
        trained_frac: Share of the parameters that are trained; small under LoRA.
    """
    hidden, heads = config.hidden_size, config.num_attention_heads
    width = getattr(config, "head_dim", None) or hidden // heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    feed_forward = getattr(config, "intermediate_size", None) or 4 * hidden
    projections = 2 * hidden * width * (heads + 2 * key_heads) + 2 * heads * width * hidden
    layer = projections + 4 * heads * width * tokens + 6 * hidden * feed_forward
    head = 2 * config.vocab_size * hidden if has_head else 0
    return (2 + trained_frac) * (config.num_hidden_layers * layer + head)


class Gauge:
    """What the rows of `metrics.jsonl` say of speed and memory."""

    def __init__(self, engine: Engine) -> None:
        self._peak = summed([peak_flops(engine.device.type, _dtype(engine))])[0]
        self._device = engine.device.type
        models = [one for one in engine.engine.module.modules() if hasattr(one, "config")]
        decoders = [one for one in models if hasattr(one.config, "num_hidden_layers")]
        self._config = decoders[0].config if decoders else None
        self._has_head = any(getattr(one, "lm_head", None) is not None for one in decoders)
        self._parameters, self._trained = engine.parameters, engine.trained_parameters

    def __call__(self, tokens: int, sequences: int, seconds: float) -> dict[str, float]:
        """Rates of a step over all processes, and the first one's peak memory."""
        share = self._trained / self._parameters
        if self._config is None:
            flops = (4.0 + 2 * share) * self._parameters
        else:
            flops = flops_per_token(
                self._config,
                tokens / sequences,
                has_head=self._has_head,
                trained_frac=share,
            )
        return {
            "tokens_per_second": tokens / seconds,
            "mfu": tokens * flops / seconds / self._peak,
            "memory_bytes": peak_memory(self._device),
        }


def peak_memory(device: str) -> int:
    """Most bytes that this process has held: on its GPU, or of the machine's memory."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def peak_flops(device: str, dtype: torch.dtype) -> float:
    """Multiply-adds of a large matrix product here, times two, a second; once per process."""
    return _measured(device, dtype, torch.get_num_threads())


@lru_cache(maxsize=8)
def _measured(device: str, dtype: torch.dtype, threads: int) -> float:
    size = GPU_PEAK_SIZE if device == "cuda" else PEAK_SIZE
    a = torch.ones(size, size, dtype=dtype, device=device)
    best, spent = float("inf"), 0.0
    out = torch.mm(a, a)
    while spent < PEAK_SECONDS:
        _wait(device)
        began = time.perf_counter()
        torch.mm(a, a, out=out)
        _wait(device)
        took = time.perf_counter() - began
        best, spent = min(best, took), spent + took
    return 2 * size**3 / best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _dtype(engine: Engine) -> torch.dtype:
    is_bf16 = engine.autocasts or engine.settings.precision == "bf16"
    return torch.bfloat16 if is_bf16 else torch.float32
