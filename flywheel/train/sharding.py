"""A module whose parameters are sharded over all processes (ZeRO-3), and whole again for a while.

Nothing here holds more than one whole parameter on a device, `whole_on_device` aside: a model may
be larger than that. Every process calls each of these at the same time.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from flywheel.process.worker import rank


def shard(zero: Any, module: torch.nn.Module, config: dict[str, Any], device: Any) -> None:
    """Shard the parameters of a module in the host's memory, one by one.

    DeepSpeed, given an ordinary module, moves it to the device as a whole before it shards it.
    All processes take the first one's values.

    Args:
        zero: `deepspeed.zero`.
        module: Nothing of it is sharded yet; its buffers go to the device whole.
        config: DeepSpeed's, which names the precision.
        device: Of this process.
    """
    if "bf16" in config:  # as DeepSpeed does: weights, but no buffers
        for weight in module.parameters():
            weight.data = weight.data.to(torch.bfloat16)
    zero.Init(module=module, config_dict_or_path=config, mem_efficient_linear=False)
    for owner in module.modules():
        for name, buffer in owner._buffers.items():
            if buffer is not None:
                owner._buffers[name] = buffer.to(device)


@contextlib.contextmanager
def whole_on_device(zero: Any, engine: Any) -> Iterator[None]:
    """Within it parameters are whole on every device, and passes go through them alone.

    A pass shards the parameters again, with all processes taking part: those that sample
    responses of different lengths would wait for each other for ever. So the hooks that do it are
    taken off, and put back.
    """
    offload = engine.optimizer.parameter_offload
    with zero.GatheredParameters(list(engine.module.parameters())):
        for parameter in engine.module.parameters():
            parameter.ds_active_sub_modules.clear()
        for hook in (*offload.forward_hooks, *offload.backward_hooks):
            hook.remove()
        offload.forward_hooks, offload.backward_hooks = [], []
        try:
            yield
        finally:
            offload._register_deepspeed_module(offload.module)


@contextlib.contextmanager
def whole_on_host(zero: Any, module: torch.nn.Module) -> Iterator[None]:
    """Within it the first process sees whole parameters in the host's memory, to be written."""
    weights = list(module.parameters())
    copies = []
    for weight in weights:
        with zero.GatheredParameters([weight]):
            if rank() == 0:
                copies.append(weight.detach().to("cpu", copy=True))
    if rank() != 0:
        yield
        return
    shards = [weight.data for weight in weights]
    for weight, copy in zip(weights, copies, strict=True):
        weight.data = copy
    try:
        yield
    finally:
        for weight, held in zip(weights, shards, strict=True):
            weight.data = held
