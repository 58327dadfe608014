"""Hugging Face folders and hub names into models and tokenizers."""

from pathlib import Path
from typing import Any

from flywheel.datasets.render import PLAIN_TEMPLATE
from flywheel.errors import ManifestError, SettingsError


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model; one without a chat template gets the plain one."""
    from transformers import AutoTokenizer

    tokenizer = _loaded(AutoTokenizer, name)
    if not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_TEMPLATE
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # harmless: masks come from lengths, never ids
    return tokenizer


def load_causal(name: str, *, dtype: Any = None) -> Any:
    """A causal language model in training precision, without dropout."""
    import torch
    from transformers import AutoModelForCausalLM

    model = _loaded(AutoModelForCausalLM, name, dtype=dtype or torch.float32)
    return without_dropout(model)


def load_backbone(name: str) -> Any:
    """The decoder of a causal language model without its head."""
    import torch
    from transformers import AutoModel

    return without_dropout(_loaded(AutoModel, name, dtype=torch.float32))


def without_dropout(model: Any) -> Any:
    """Switch dropout off: policy, reference and old-policy passes must agree."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for name in ("attention_dropout", "hidden_dropout", "resid_pdrop", "attn_pdrop", "embd_pdrop"):
        if getattr(model.config, name, 0):
            setattr(model.config, name, 0.0)
    return model


def stop_ids_of(model: Any, tokenizer: Any) -> list[int]:
    """Every id that ends a turn: the tokenizer's and those of the generation config."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return sorted({one for one in (*ids, tokenizer.eos_token_id) if one is not None})


def _loaded(kind: Any, name: str, **options: Any) -> Any:
    from transformers.utils import logging

    logging.disable_progress_bar()  # a run's log is read by people
    folder = Path(name)
    if folder.is_absolute() and not (folder / "config.json").exists():
        raise ManifestError(f"no model in {name}: it was not trained yet, or was moved away")
    try:
        return kind.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"cannot load {name}: {str(error).splitlines()[0]}; give a folder in Hugging Face "
            f"format, or a hub name that this machine can reach"
        ) from error
