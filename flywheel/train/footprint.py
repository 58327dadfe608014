"""Which ZeRO stage a run takes: the bytes that each process would hold, counted before it starts.

Sharding what fits only costs time, and what does not fit ends in the middle of a step. Counted
are weights, gradients and Adam's state (arXiv:1910.02054, section 3), and what reinforcement
holds whole beside them: a frozen start, a reward model, keys and values. Activations are not.
"""

from typing import Any

GRADIENT_BYTES = 4  # accumulated in fp32 whatever the weights are
ADAM_BYTES = 8  # two moments
MASTER_BYTES = 4  # the fp32 copy that stages 1 to 3 step, beside the weights, in fp32 runs too
STATE_FRAC = 0.7  # of a device's memory; the rest is for activations, logits and buckets


def bytes_per_process(
    stage: int, *, parameters: int, trainable: int, is_bf16: bool, offload: bool, processes: int
) -> float:
    """What one process holds on its device between a backward pass and the step.

    18 bytes a trained parameter in bf16 and 20 in fp32 before sharding, 16 at stage 0, which
    steps the weights themselves. Frozen ones, as under LoRA, are weights only.
    """
    weights = parameters * (2 if is_bf16 else 4)
    adam = trainable * (ADAM_BYTES + (MASTER_BYTES if stage else 0))
    return (
        weights / (processes if stage == 3 else 1)
        + trainable * GRADIENT_BYTES / (processes if stage >= 2 else 1)
        + (0 if offload else adam / (processes if stage >= 1 else 1))
    )


def cache_bytes(config: Any, *, rows: int, tokens: int, is_bf16: bool) -> int:
    """Keys and values of rows that are sampled at once, prompts counted for each answer.

    Args:
        config: Of a Hugging Face decoder.
        rows: Sampled at once.
        tokens: Of prompt and answer.
        is_bf16: Whether the policy's weights are.
    """
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    numbers = 2 * config.num_hidden_layers * key_heads * width
    return rows * tokens * numbers * (2 if is_bf16 else 4)


def choose_stage(
    *,
    parameters: int,
    trainable: int,
    is_bf16: bool,
    offload: bool,
    device_bytes: float,
    processes: int,
    beside_bytes: float = 0.0,
) -> tuple[int, str]:
    """The ZeRO stage, and the reason in one line.

    0 for a lone process in fp32, which has nobody to share with (and bf16 weights would take a
    wrong first step there, training.md 5.5); else 2; 3 where 2 does not fit.

    Args:
        parameters: Of the whole module.
        trainable: Those of them that are trained.
        is_bf16: Whether the weights are kept in bf16, with fp32 copies of the trained ones.
        offload: Whether Adam's state lies in the host's memory.
        device_bytes: Memory of one process' device.
        processes: Over all machines.
        beside_bytes: What each process holds whole beside the module, at any stage.
    """

    def needed(stage: int) -> float:
        return beside_bytes + bytes_per_process(
            stage,
            parameters=parameters,
            trainable=trainable,
            is_bf16=is_bf16,
            offload=offload,
            processes=processes,
        )

    room = STATE_FRAC * device_bytes
    if processes == 1 and not is_bf16 and not offload:
        stage, why = 0, "a lone process in fp32 has nobody to share with"
    elif needed(2) <= room or processes == 1:
        stage, why = 2, "Adam's state and gradients are shared, weights fit whole"
    else:
        stage, why = 3, f"at stage 2 it would be {gib(needed(2))}"
    if needed(stage) > room:
        why = (
            "more than fits beside activations: take more devices, lora_rank, or offload = true"
            if not offload
            else "more than fits beside activations: take more devices, or lora_rank"
        )
    beside = f", {gib(beside_bytes)} of it beside the module" if beside_bytes else ""
    return stage, (
        f"ZeRO stage {stage}, {'bf16' if is_bf16 else 'fp32'}: {parameters:,} parameters, "
        f"{trainable:,} trained, by {processes} process{'es' if processes > 1 else ''} hold "
        f"{gib(needed(stage))} of {gib(device_bytes)} each ({why}){beside}"
    )


def gib(count: float) -> str:
    """A number of bytes for a person to read."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
