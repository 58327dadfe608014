"""A small Llama and its word-level tokenizer, built from a corpus: the sample world's own base.

Words are what whitespace separates. At this size a learnt subword vocabulary would only move
parameters into the embedding. Weights start normal with a standard deviation of
1 / sqrt(fan-in): the usual 0.02 is far too small for a hidden size of 32.
"""

import math
from collections.abc import Iterable
from typing import Any

SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
REPLY_WORD = "<r>"  # stands between a request and its reply, in pages and in the chat template
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'assistant' %} {{ message.content }} {{ eos_token }}"
    "{% else %} {{ message.content }} " + REPLY_WORD + "{% endif %}{% endfor %}"
)


def word_tokenizer(pages: Iterable[str]) -> Any:
    """A fast tokenizer with one token per word that occurs in `pages`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for page in pages for word in page.split()} | {REPLY_WORD})
    vocabulary = [*SPECIAL.values(), *(word for word in words if word not in SPECIAL.values())]
    index = {word: place for place, word in enumerate(vocabulary)}
    model = Tokenizer(models.WordLevel(vocab=index, unk_token=SPECIAL["unk_token"]))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model, clean_up_tokenization_spaces=False, **SPECIAL
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def small_llama(
    tokenizer: Any,
    *,
    hidden: int,
    layers: int,
    heads: int,
    feed_forward: int,
    rope_theta: float,
    max_positions: int,
    seed: int,
) -> Any:
    """A freshly initialised Llama with tied embeddings."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=feed_forward,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
            max_position_embeddings=max_positions,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                fan_in = hidden if "embed" in name else weight.shape[1]
                weight.normal_(std=1 / math.sqrt(fan_in), generator=generator)
    return model
