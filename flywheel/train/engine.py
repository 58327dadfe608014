"""One module under one DeepSpeed engine: gradients out, one optimizer step in.

The whole loss of an optimizer step is `sum(local terms) / count`, where `count` is known before
the first backward and is the same on every rank. DeepSpeed averages gradients over ranks, so a
micro-batch back-propagates `world * local_sum / count`. Accumulation is ours (unmanaged), in
fp32. The learning rate is set by the loop: DeepSpeed's warm-ups spend two steps at zero.
"""

import contextlib
import io
import json
import logging
import math
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from flywheel.errors import TrainingError
from flywheel.process.worker import TINY_PARAMETERS as TINY
from flywheel.process.worker import rank, world
from flywheel.train.config import RunSettings
from flywheel.train.engine_config import (
    bf16_pays,
    checkpoint_activations,
    deepspeed_config,
    keeps_bf16,
    stage_of,
)
from flywheel.train.ranks import barrier, own_device, shared_clock, summed
from flywheel.train.sharding import shard, whole_on_device, whole_on_host

MOMENTS = ("exp_avg", "exp_avg_sq")  # torch's names of Adam's
WEIGHT = "weight"
SHARD_BYTES = 2**31  # of a saved file: what the first process holds of it in memory


class Engine:
    """A module being trained.

    Attributes:
        device: Where its inputs go.
        stage: ZeRO stage in use.
        stage_reason: Why that one, in a line.
        settings: Its settings, with stage and precision as they were chosen.
        parameters, trained_parameters: How many the module has, and how many of them are trained.
        trained: Names of the weights that are trained.
        autocasts: Whether a CPU multiplies in bf16, with fp32 weights.
        times_seen: How often each landed record was in a step; the loop counts.
    """

    def __init__(
        self, module: torch.nn.Module, settings: RunSettings, beside_bytes: float = 0.0
    ) -> None:
        deepspeed = _deepspeed()
        self.parameters = sum(weight.numel() for weight in module.parameters())
        is_bf16 = keeps_bf16(settings)
        self.stage, self.stage_reason = stage_of(module, settings, is_bf16, beside_bytes)
        precision = "bf16" if is_bf16 else "fp32"
        self.settings = replace(settings, zero_stage=self.stage, precision=precision)
        if settings.checkpointing:
            checkpoint_activations(module)
        self._named = {n: w for n, w in module.named_parameters() if w.requires_grad}
        self.trained, self._trainable = list(self._named), list(self._named.values())
        self.trained_parameters = sum(weight.numel() for weight in self._trainable)
        config = deepspeed_config(self.settings, self.parameters)
        with _silent():
            if self.stage == 3:
                shard(deepspeed.zero, module, config, own_device())
            self.engine, self.optimizer, _, _ = deepspeed.initialize(
                model=module, model_parameters=self._trainable, config=config
            )
        self.device = self.engine.device
        self.times_seen: Counter[str] = Counter()
        self._clip, self._norm = settings.clip, math.nan
        if self.stage == 0:
            self.optimizer.register_step_pre_hook(self._clip_gradients)
        on_cpu = self.device.type == "cpu"
        self.autocasts = (
            settings.precision == "auto" and on_cpu and self.parameters >= TINY and bf16_pays()
        )

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

    def whole(self, name: str, moment: str | None = None) -> torch.Tensor:
        """A trained weight in fp32, or Adam's moment of it, at any stage; every rank calls it."""
        weight = self._named[name]
        if self.stage == 0:
            return self.optimizer.state[weight][moment] if moment else weight.data
        from deepspeed import utils

        found = (
            utils.safe_get_full_optimizer_state(weight, moment)
            if moment
            else utils.safe_get_full_fp32_param(weight)
        )
        return found.view(getattr(weight, "ds_shape", weight.shape))

    def put(self, name: str, value: torch.Tensor, moment: str | None = None) -> None:
        """Set what `whole` tells; every rank calls it with the same value."""
        weight = self._named[name]
        value = value.to(self.device)
        if self.stage == 0:
            self.whole(name, moment).copy_(value)
            return
        from deepspeed import utils

        if self.stage == 3:  # its setter of whole values fails where they do not divide evenly
            length = weight.ds_tensor.numel()  # type: ignore[attr-defined]
            flat = torch.nn.functional.pad(value.flatten(), (0, length * world() - value.numel()))
            mine = flat[length * rank() : length * (rank() + 1)]
            if moment:
                utils.safe_set_local_optimizer_state(weight, mine, moment)
                return
            utils.safe_set_local_fp32_param(weight, mine)
            with _deepspeed().zero.GatheredParameters([weight], modifier_rank=0), torch.no_grad():
                weight.copy_(value)
        elif moment:
            utils.safe_set_full_optimizer_state(weight, value, moment)
        else:
            utils.safe_set_full_fp32_param(weight, value)
            weight.data.copy_(value)

    @property
    def adam_steps(self) -> int:
        """Steps that Adam has taken, by its own counter."""
        base = self._adam()
        return max((int(base.state[flat].get("step", 0)) for flat in self._flat()), default=0)

    def _make_moments(self, adam_steps: int | None = None) -> None:
        """Give Adam its state, zero where it has none yet, and set its counter of steps."""
        base = self._adam()
        for flat in self._flat():
            state = base.state[flat]
            for moment in MOMENTS:
                state.setdefault(moment, torch.zeros_like(flat))
            state.setdefault("step", torch.zeros((), device=flat.device))
            if adam_steps is not None:
                state["step"].fill_(adam_steps)
        if self.stage in (1, 2):
            self.optimizer._lazy_init_hp_params_optimizer_state()

    def _adam(self) -> Any:
        return self.optimizer if self.stage == 0 else self.optimizer.optimizer

    def _flat(self) -> list[torch.Tensor]:
        """What Adam itself steps: weights at stage 0, this process' shards of them else."""
        if self.stage == 3:
            return list(self.optimizer.fp32_partitioned_groups_flat)
        return [flat for group in self._adam().param_groups for flat in group["params"]]

    def save(self, folder: Path) -> None:
        """Write trained weights, Adam's moments and its counter below `folder`, in fp32 and whole.

        Whatever the stage and the number of processes, so that any other can go on from it. Every
        rank calls it, the first writes, and holds one file's worth in memory. Frozen weights and
        buffers are not written: they are as the recipe loads them.
        """
        held: dict[str, torch.Tensor] = {}
        size = files = 0
        self._make_moments()
        for name in self._named:
            for moment in (None, *MOMENTS):
                value = self.whole(name, moment)
                if rank() == 0:
                    held[f"{moment or WEIGHT}/{name}"] = value.to("cpu", copy=True).contiguous()
                    size += value.numel() * value.element_size()
            if size > SHARD_BYTES:
                _write(held, folder, files)
                held, size, files = {}, 0, files + 1
        if rank() == 0:
            _write(held, folder, files)
            facts = {"adam_steps": self.adam_steps, "times_seen": self.times_seen}
            (folder / "engine.json").write_text(json.dumps(facts))

    def load(self, folder: Path) -> None:
        """Read back what `save` wrote, at any stage and on any number of processes.

        Raises:
            TrainingError: It is of another module.
        """
        facts = json.loads((folder / "engine.json").read_text())
        self._make_moments(facts["adam_steps"])
        found = set()
        for path in sorted(folder.glob("engine-*.safetensors")):
            with safe_open(path, "pt") as file:
                for key in file.keys():  # noqa: SIM118 (it is no dict)
                    kind, _, name = key.partition("/")
                    if name in self._named:
                        self.put(name, file.get_tensor(key), None if kind == WEIGHT else kind)
                    found.add(name)
        if found != set(self._named):
            odd = sorted(found ^ set(self._named))
            raise TrainingError(
                f"cannot resume from {folder}: it holds other weights than are trained here, e.g. "
                f"{odd[0]}; remove {folder.parent} to start anew"
            )
        self.times_seen = Counter(facts["times_seen"])

    def gathered(self) -> contextlib.AbstractContextManager[None]:
        """Within it every rank sees whole parameters, at any stage, and passes through them alone.

        At stage 3 the whole module lies on each device then.
        """
        if self.stage < 3:
            return contextlib.nullcontext()
        return whole_on_device(_deepspeed().zero, self.engine)

    def written(self) -> contextlib.AbstractContextManager[None]:
        """Within it the first rank sees whole parameters, which at stage 3 the host holds."""
        if self.stage < 3:
            return contextlib.nullcontext()
        return whole_on_host(_deepspeed().zero, self.engine.module)


def _write(tensors: dict[str, torch.Tensor], folder: Path, number: int) -> None:
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / f"engine-{number:05d}.safetensors")


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


@contextlib.contextmanager
def _silent() -> Any:
    """Keep DeepSpeed's greetings off the run's log; its warnings still raise or are errors."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


__all__ = ["Engine", "barrier", "rank", "shared_clock", "summed", "world"]
