"""Low-rank adapters on every linear layer, merged again before anything is published."""

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


def merged(model: Any) -> Any:
    """The model with its adapters added into its weights; full weights as they are."""
    if not any("lora_" in name for name, _ in model.named_parameters()):
        return model
    from peft.tuners.lora import LoraLayer

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, LoraLayer)]
    for name, layer in layers:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    return model


def _linear_names(model: Any) -> list[str]:
    """Every linear layer but the head, which is the embedding where the two are tied."""
    import torch

    head = getattr(model, "get_output_embeddings", lambda: None)()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]
