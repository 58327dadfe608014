"""Low-rank adapters on every linear layer, merged again before anything is published."""

import contextlib
from collections.abc import Iterator
from typing import Any


def with_lora(model: Any, rank: int, seed: int) -> Any:
    """Freeze `model` and put adapters of `rank` into it; rank 0 leaves it as it is."""
    if not rank:
        return model
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(seed)
    model.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=_linear_names(model))
    model = inject_adapter_in_model(config, model)
    for name, weight in model.named_parameters():
        weight.requires_grad = "lora_" in name
    return model


def has_adapters(model: Any) -> bool:
    """Whether adapters are in the model."""
    return any("lora_" in name for name, _ in model.named_parameters())


def merged(model: Any) -> Any:
    """The model with its adapters added into its weights; full weights as they are."""
    if not has_adapters(model):
        return model
    from peft.tuners.lora import LoraLayer

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, LoraLayer)]
    for name, layer in layers:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    return model


def matrix_of(linear: Any) -> tuple[Any, Any] | None:
    """Weight and bias of a linear layer, the weight with its adapters added, as a copy.

    None where it is no such matrix: quantised, tied to data, or of adapters whose sum with a
    weight in bf16 would round most of them away.
    """
    import torch

    if type(linear) is torch.nn.Linear:
        return linear.weight, linear.bias
    from peft.tuners.lora.layer import Linear

    if type(linear) is not Linear or type(linear.base_layer) is not torch.nn.Linear:
        return None
    base, names = linear.base_layer, linear.active_adapters
    is_other = any(linear.use_dora.get(name) or linear.lora_bias.get(name) for name in names)
    if linear.merged or is_other or base.weight.dtype != torch.float32:
        return None
    weight = base.weight
    for name in () if linear.disable_adapters else names:
        weight = weight + linear.get_delta_weight(name)
    return weight, base.bias


@contextlib.contextmanager
def without_adapters(model: Any) -> Iterator[None]:
    """Within it the model is the one that the adapters were put into.

    peft's own switch also stops and starts their gradients, which DeepSpeed has hooked.
    """
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def _linear_names(model: Any) -> list[str]:
    """Every linear layer but the head, which is the embedding where the two are tied."""
    import torch

    head = getattr(model, "get_output_embeddings", lambda: None)()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]
