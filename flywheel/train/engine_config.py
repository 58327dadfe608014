"""How an engine is set up: precision, ZeRO stage, and DeepSpeed's dictionary of both."""

import os
from pathlib import Path
from typing import Any

import torch

from flywheel.errors import TrainingError
from flywheel.process.worker import TINY_PARAMETERS as TINY
from flywheel.process.worker import local_rank, local_world, world
from flywheel.train.config import RunSettings
from flywheel.train.footprint import choose_stage

BUCKET = int(5e7)
GPU_BUCKET = int(5e8)


def keeps_bf16(settings: RunSettings) -> bool:
    """Whether weights are kept in bf16: on a GPU that has it, unless fp32 is asked for."""
    if settings.precision == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return settings.precision == "bf16"


def stage_of(
    module: torch.nn.Module, settings: RunSettings, is_bf16: bool, beside_bytes: float = 0.0
) -> tuple[int, str]:
    """The ZeRO stage and why.

    Raises:
        TrainingError: Stage 0 is asked for with bf16 weights.
    """
    if settings.zero_stage == 0 and is_bf16:
        raise TrainingError(
            "zero_stage 0 with bf16 weights takes a wrong first step in DeepSpeed 0.19.8 "
            "(training.md, 5.5); use 1, 2 or 3, or precision = fp32"
        )
    stage, reason = choose_stage(
        parameters=sum(weight.numel() for weight in module.parameters()),
        trainable=sum(weight.numel() for weight in module.parameters() if weight.requires_grad),
        is_bf16=is_bf16,
        offload=settings.offload,
        device_bytes=_device_bytes(),
        processes=world(),
        beside_bytes=beside_bytes,
    )
    if settings.zero_stage >= 0 and settings.zero_stage != stage:
        return settings.zero_stage, f"ZeRO stage {settings.zero_stage}, as set; chosen: {reason}"
    return stage, reason


def _device_bytes() -> float:
    """Memory of this process' device: a GPU's, or its share of the machine's."""
    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info(local_rank())[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / local_world()


def checkpoint_activations(module: Any) -> None:
    """Recompute every decoder layer in the backward pass, non-reentrant (training.md, 36)."""
    models = [one for one in module.modules() if hasattr(one, "gradient_checkpointing_enable")]
    if not models:
        raise TrainingError(f"checkpointing: {type(module).__name__} has no layers that can")
    models[0].gradient_checkpointing_enable({"use_reentrant": False})
    module.train()  # layers in eval mode ignore it; dropout is zero


def deepspeed_config(settings: RunSettings, parameters: int) -> dict[str, Any]:
    """DeepSpeed's configuration of settings whose stage and precision are chosen."""
    stage, on_gpu = settings.zero_stage, torch.cuda.is_available()
    bucket = min(GPU_BUCKET if on_gpu else BUCKET, max(parameters, 1024))
    zero: dict[str, Any] = {
        "stage": stage,
        "overlap_comm": False,
        "contiguous_gradients": True,  # false once skipped the CPU all-reduce (DS #8382)
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
    }
    if settings.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": on_gpu}
    if stage == 3 and parameters < TINY:  # else none of a tiny model is ever sharded
        zero["stage3_param_persistence_threshold"] = 0
    return {
        "train_micro_batch_size_per_gpu": 1,  # nominal: the loop forms the micro-batches
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": settings.clip if stage else 0.0,  # at stage 0 the engine above clips
        "steps_per_print": 10**9,
        "zero_optimization": zero,
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",  # else bf16 gradients are summed over ranks in bf16
        **(
            {"bf16": {"enabled": True, "check_grad_overflow": True}}
            if settings.precision == "bf16"
            else {}
        ),
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": settings.learning_rate,
                "betas": [0.9, 0.95],
                "eps": settings.adam_eps,
                "weight_decay": settings.weight_decay,
                "torch_adam": True,
                "fused": True,  # builds nothing; six times the default loop on CPU
            },
        },
    }


def bf16_pays() -> bool:
    """Whether this processor multiplies matrices in bf16 itself.

    One that has to emulate it was measured eight times slower than in fp32. Read from what the
    processor says, not from a stopwatch: every process of a run, and a resumed one, must agree.
    """
    facts = Path("/proc/cpuinfo")
    flags = facts.read_text() if facts.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
