"""Which models are computed here exactly as they compute themselves, and one of their layers.

Dimension key
    R   tokens, of one row or of many
    H   heads of keys; each serves N heads of queries of D numbers
    d   width of the states between layers
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from flywheel.models.lora import matrix_of

KINDS = ("Llama", "Mistral", "Qwen2", "Qwen3")  # whose layers are read here line by line
STEADY_ROPE = ("default", "linear", "llama3", "yarn")  # whose angles depend on the position alone
FUSED_NUMBERS = 2**26  # up to here matrices with the same input are put into one, which is a copy


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer; a projection is a few matrices, each with its bias or None.

    Attributes:
        heads: Of keys, H.
        groups: Heads of queries to each head of keys, N.
        size: Numbers of a head, D.
    """

    module: Any
    qkv: list[tuple[Tensor, Tensor | None]]
    gate_up: list[tuple[Tensor, Tensor | None]]
    out: tuple[Tensor, Tensor | None]
    down: tuple[Tensor, Tensor | None]
    heads: int
    groups: int
    size: int

    def queries_keys_values(
        self, states: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(R, heads, D) of each, turned by their positions, of states (R, d)."""
        attention = self.module.self_attn
        heads = _project(norm(states, self.module.input_layernorm), self.qkv)
        heads = heads.view(len(states), -1, self.size)
        count = self.heads * self.groups
        turned = heads[:, : count + self.heads]
        if hasattr(attention, "q_norm"):
            parts = turned[:, :count], turned[:, count:]
            norms = attention.q_norm, attention.k_norm
            turned = torch.cat([norm(*both) for both in zip(parts, norms, strict=True)], 1)
        turned = torch.addcmul(turned * cos, turned.roll(self.size // 2, -1), sin)
        return turned[:, :count], turned[:, count:], heads[:, count + self.heads :]

    def after(self, states: Tensor, found: Tensor) -> Tensor:
        """The states behind a layer whose attention found `found` (R, H N D)."""
        states = _add(states, found, *self.out)
        inner = _project(norm(states, self.module.post_attention_layernorm), self.gate_up)
        gate, up = inner.chunk(2, -1)
        return _add(states, self.module.mlp.act_fn(gate) * up, *self.down)


def layers_of(model: Any, longest: int) -> list[Layer] | None:
    """The layers of a model that computes what is computed here; None of any other.

    Args:
        model: A causal language model, or its decoder alone.
        longest: Tokens that a row may come to; a window that would forget some of them is other.
    """
    names = [f"{kind}{part}" for kind in KINDS for part in ("ForCausalLM", "Model")]
    config, decoder = model.config, getattr(model, "model", model)
    windows = set(getattr(config, "layer_types", None) or ["full_attention"]) - {"full_attention"}
    window = getattr(config, "sliding_window", None)
    is_windowed = bool(windows) or (type(model).__name__.startswith("Mistral") and window)
    if (
        type(model) not in [getattr(transformers, name) for name in names]
        or (is_windowed and not (window and window > longest))
        or config.rope_parameters.get("rope_type") not in STEADY_ROPE
        or config._attn_implementation not in ("sdpa", "eager")
        or not all(
            _is_plain(module, type(model).__module__)
            for module in model.modules()
            if module is not decoder.embed_tokens  # which is called, its hooks with it
        )
    ):
        return None
    is_small = sum(weight.numel() for weight in model.parameters()) <= FUSED_NUMBERS
    found = []
    for layer in decoder.layers[: config.num_hidden_layers]:
        attention, mlp = layer.self_attn, layer.mlp
        linears = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
        linears += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
        matrices = [matrix for linear in linears if (matrix := matrix_of(linear))]
        if len(matrices) < len(linears):
            return None
        qkv, out, gate_up, down = matrices[:3], matrices[3], matrices[4:6], matrices[6]
        if is_small:
            qkv, gate_up = _fused(qkv), _fused(gate_up)
        size, groups = attention.head_dim, attention.num_key_value_groups
        heads = attention.k_proj.out_features // size
        found.append(Layer(layer, qkv, gate_up, out, down, heads, groups, size))
    return found


def angles(decoder: Any, count: int) -> tuple[Tensor, Tensor]:
    """(count, D) cosines and sines of the first positions, the sines as `addcmul` takes them."""
    weight = decoder.embed_tokens.weight
    cos, sin = decoder.rotary_emb(weight[:0], torch.arange(count, device=weight.device)[None])
    half = sin.shape[-1] // 2
    return cos[0], torch.cat((-sin[0, :, :half], sin[0, :, half:]), -1)


def norm(states: Tensor, module: Any) -> Tensor:
    """The module computes the same in five operations; in bf16 it rounds elsewhere than torch."""
    if states.dtype != torch.float32:
        return module(states)
    return F.rms_norm(states, module.weight.shape, module.weight, module.variance_epsilon)


def _project(states: Tensor, parts: list[tuple[Tensor, Tensor | None]]) -> Tensor:
    found = [F.linear(states, *part) for part in parts]
    return found[0] if len(found) == 1 else torch.cat(found, -1)


def _add(states: Tensor, inner: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return torch.addmm(states, inner, weight.t())
    return states + F.linear(inner, weight, bias)


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
