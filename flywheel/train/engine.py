"""One module under one DeepSpeed engine: gradients out, one optimizer step in.

The whole loss of an optimizer step is `sum(local terms) / count`, where `count` is known before
the first backward and is the same on every rank. DeepSpeed averages gradients over ranks, so a
micro-batch back-propagates `world * local_sum / count`. Accumulation is ours (unmanaged), in
fp32. The learning rate is set by the loop: DeepSpeed's warm-ups spend two steps at zero.
"""

import contextlib
import io
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import torch

from flywheel.errors import TrainingError
from flywheel.process.worker import TINY_PARAMETERS as TINY
from flywheel.process.worker import rank, world
from flywheel.train.config import RunSettings

BUCKET = int(5e7)
GPU_BUCKET = int(5e8)


class Engine:
    """A module being trained.

    Attributes:
        device: Where its inputs go.
        stage: ZeRO stage in use.
    """

    def __init__(self, module: torch.nn.Module, settings: RunSettings) -> None:
        deepspeed = _deepspeed()
        on_gpu = torch.cuda.is_available()
        self.stage = settings.zero_stage if settings.zero_stage >= 0 else _stage(on_gpu)
        if on_gpu and self.stage == 0:
            raise TrainingError(
                "zero_stage 0 with bf16 takes a wrong first step in DeepSpeed 0.19.8 "
                "(training.md, 5.5); use 1, 2 or 3"
            )
        trainable = [weight for weight in module.parameters() if weight.requires_grad]
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=module, model_parameters=trainable, config=_config(settings, self.stage, on_gpu)
        )
        self.device = self.engine.device
        self._trainable, self._clip, self._norm = trainable, settings.clip, math.nan
        if self.stage == 0:
            self.optimizer.register_step_pre_hook(self._clip_gradients)
        is_tiny = sum(weight.numel() for weight in module.parameters()) < TINY
        self.autocasts = not on_gpu and not is_tiny and bf16_pays()

    def __call__(self, *arguments: Any) -> Any:
        """Run the module forward; on a CPU in bf16 where that pays, with fp32 weights."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocasts):
            return self.engine(*arguments)

    def backward(self, loss_sum: torch.Tensor, count: float) -> None:
        """Add the gradient of `loss_sum / count` to the step's."""
        self.engine.backward(world() * loss_sum / count, scale_wrt_gas=False)

    def step(self, learning_rate: float) -> float:
        """Take one optimizer step.

        Returns:
            The norm, before clipping, of the gradient over all processes. Infinite or NaN where
            the gradient is: DeepSpeed has then taken no step, or at stage 0 a worthless one.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.engine.step()
        if self.stage == 0:
            return self._norm
        is_applied = self.engine.was_step_applied()
        return float(self.engine.get_global_grad_norm()) if is_applied else math.inf

    def _clip_gradients(self, *_: Any) -> None:
        """Clip at stage 0, where DeepSpeed tells no norm: between its all-reduce and its step."""
        gradients = [weight.grad for weight in self._trainable if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self._norm = float(norm)
        if self._clip:
            torch.nn.utils.clip_grads_with_norm_(self._trainable, self._clip, norm)

    def save(self, folder: Path) -> None:
        """Write module and optimizer below `folder`; every rank calls it."""
        with _silent():
            self.engine.save_checkpoint(str(folder), tag="engine", save_latest=False)

    def load(self, folder: Path) -> None:
        """Read back what `save` wrote.

        Raises:
            TrainingError: There is nothing, or it is of another number of processes.
        """
        try:
            with _silent():
                path, _ = self.engine.load_checkpoint(str(folder), tag="engine")
        except Exception as error:
            raise TrainingError(f"cannot resume from {folder}: {error}") from error
        if path is None:
            raise TrainingError(f"cannot resume from {folder}: DeepSpeed found no checkpoint there")

    def gathered(self) -> contextlib.AbstractContextManager[None]:
        """Within it every rank sees whole parameters, at any stage."""
        if self.stage < 3:
            return contextlib.nullcontext()
        return _deepspeed().zero.GatheredParameters(list(self.engine.module.parameters()))


def _deepspeed() -> Any:
    """Import and initialise DeepSpeed once, without compiling anything.

    Processes that torchrun started meet at the port that it holds for them. A lone one meets
    nobody: its store is in its own memory, and no port is chosen that another could take first.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed reads it from there only
    with _silent():
        import deepspeed
        import deepspeed.ops

        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
        if not torch.distributed.is_initialized():
            # a C++ op that only inference uses; building it needs a compiler
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
            backend = "nccl" if torch.cuda.is_available() else "gloo"
            if world() == 1:
                alone = torch.distributed.HashStore()  # type: ignore[attr-defined]
                torch.distributed.init_process_group(backend, store=alone, rank=0, world_size=1)
            deepspeed.init_distributed(
                dist_backend=backend, auto_mpi_discovery=False, verbose=False
            )
    return deepspeed


def _stage(on_gpu: bool) -> int:
    """Stage 0 for a lone process in fp32, where sharding only costs; 2 elsewhere."""
    return 2 if on_gpu or world() > 1 else 0


def _config(settings: RunSettings, stage: int, on_gpu: bool) -> dict[str, Any]:
    bucket = GPU_BUCKET if on_gpu else BUCKET
    return {
        "train_micro_batch_size_per_gpu": 1,  # nominal: the loop forms the micro-batches
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": settings.clip if stage else 0.0,  # at stage 0 the engine above clips
        "steps_per_print": 10**9,
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": False,
            "contiguous_gradients": True,  # false once skipped the CPU all-reduce (DS #8382)
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
        },
        "data_types": {"grad_accum_dtype": "fp32"},
        **({"bf16": {"enabled": True, "check_grad_overflow": True}} if on_gpu else {}),
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": settings.learning_rate,
                "betas": [0.9, 0.95],
                "eps": 1e-8,
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


@contextlib.contextmanager
def _silent() -> Any:
    """Keep DeepSpeed's greetings off the run's log; its warnings still raise or are errors."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def barrier() -> None:
    """Wait for every process of the run."""
    if world() > 1:
        torch.distributed.barrier()


def summed(values: list[float]) -> list[float]:
    """Sum numbers over all processes."""
    if world() == 1:
        return values
    device = (
        torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else "cpu"
    )
    total = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(total)
    return total.tolist()


def shared_clock() -> float:
    """Seconds by the clock of the first process: all of them end a piece of work at once."""
    return summed([time.monotonic() if rank() == 0 else 0.0])[0]


__all__ = ["Engine", "barrier", "rank", "shared_clock", "summed", "world"]
