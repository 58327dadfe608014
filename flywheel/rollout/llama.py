"""Which models the lean decoder computes exactly as they do, and the matrices that it needs."""

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from flywheel.models.lora import matrix_of

KINDS = ("Llama", "Mistral", "Qwen2", "Qwen3")  # whose layers are read here line by line
STEADY_ROPE = ("default", "linear", "llama3", "yarn")  # whose angles depend on the position alone
FUSED_NUMBERS = 2**26  # up to here matrices with the same input are put into one, which is a copy


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer; a projection is a few matrices, each with its bias or None."""

    module: Any
    qkv: list[tuple[Tensor, Tensor | None]]
    gate_up: list[tuple[Tensor, Tensor | None]]
    out: tuple[Tensor, Tensor | None]
    down: tuple[Tensor, Tensor | None]


def layers_of(model: Any, longest: int) -> list[Layer] | None:
    """The layers of a model that computes what is computed here; None of any other.

    Args:
        model: A causal language model.
        longest: Tokens that a row may come to; a window that would forget some of them is other.
    """
    names = [f"{kind}ForCausalLM" for kind in KINDS]
    config = model.config
    windows = set(getattr(config, "layer_types", None) or ["full_attention"]) - {"full_attention"}
    window = getattr(config, "sliding_window", None)
    is_windowed = bool(windows) or (type(model).__name__ == "MistralForCausalLM" and window)
    if (
        type(model) not in [getattr(transformers, name) for name in names]
        or (is_windowed and not (window and window > longest))
        or config.rope_parameters.get("rope_type") not in STEADY_ROPE
        or config._attn_implementation not in ("sdpa", "eager")
        or not all(
            _is_plain(module, type(model).__module__)
            for module in model.modules()
            if module is not model.model.embed_tokens  # which is called, its hooks with it
        )
    ):
        return None
    is_small = sum(weight.numel() for weight in model.parameters()) <= FUSED_NUMBERS
    found = []
    for layer in model.model.layers[: config.num_hidden_layers]:
        attention, mlp = layer.self_attn, layer.mlp
        linears = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
        linears += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
        matrices = [matrix for linear in linears if (matrix := matrix_of(linear))]
        if len(matrices) < len(linears):
            return None
        qkv, out, gate_up, down = matrices[:3], matrices[3], matrices[4:6], matrices[6]
        if is_small:
            qkv, gate_up = _fused(qkv), _fused(gate_up)
        found.append(Layer(layer, qkv, gate_up, out, down))
    return found


def _is_plain(module: nn.Module, home: str) -> bool:
    """Whether a call of it runs its own `forward` only, of classes that are known here."""
    kind = type(module).__module__
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    known = kind == home or kind.startswith(("torch.nn.modules.", "peft.tuners.lora."))
    return not hooked and (known or kind == "transformers.activations")


def _fused(parts: list[Any]) -> list[tuple[Tensor, Tensor | None]]:
    weights, biases = zip(*parts, strict=True)
    if any((bias is None) != (biases[0] is None) for bias in biases):
        return parts
    return [(torch.cat(weights), None if biases[0] is None else torch.cat(biases))]
