"""Chat templates as published, each with a small tokenizer that has its special tokens."""

from dataclasses import dataclass
from typing import Any

LLAMA_3 = (  # meta-llama/Meta-Llama-3-8B-Instruct
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
    "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim "
    "+ '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant"
    "<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN_2_5 = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- message.content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""  # noqa: E501  (Qwen/Qwen2.5-7B-Instruct)
MISTRAL = (  # mistralai/Mistral-7B-Instruct-v0.1
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != "
    "(loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate "
    "user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token + ' ' }}{% else %}{{ raise_exception('Only user and "
    "assistant roles are supported!') }}{% endif %}{% endfor %}"
)
ZEPHYR = (  # HuggingFaceH4/zephyr-7b-beta: the tokenizer, not the template, begins the text
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + "
    "message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' "
    "+ message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and "
    "add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
GEMMA = (  # google/gemma-2b-it
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not "
    "supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != "
    "(loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate "
    "user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}"
    "{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
FORGETFUL = (  # as of models that think: what was thought is gone once the turn is over
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.role == "
    "'assistant' and not loop.last %}{{ message.content.split('</think>')[-1] }}{% else %}"
    "{{ message.content }}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}"
    "<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Family:
    """How the models of a family write a conversation.

    Attributes:
        end: What ends a turn of the assistant.
        eos: The tokenizer's end of sequence.
        stops: All that its generation config stops at.
        bos: What its texts begin with, once; none of Qwen's do.
        others: Special tokens beside these.
        between: Role that may speak between two turns of the assistant.
    """

    template: str
    end: str
    eos: str
    stops: tuple[str, ...]
    bos: str | None
    others: tuple[str, ...]
    between: str


FAMILIES = {
    "llama 3": Family(
        LLAMA_3,
        "<|eot_id|>",
        "<|end_of_text|>",
        ("<|end_of_text|>", "<|eot_id|>"),
        "<|begin_of_text|>",
        ("<|start_header_id|>", "<|end_header_id|>"),
        "tool",
    ),
    "qwen 2.5": Family(
        QWEN_2_5,
        "<|im_end|>",
        "<|im_end|>",
        ("<|im_end|>", "<|endoftext|>"),
        None,
        ("<|im_start|>",),
        "tool",
    ),
    "mistral": Family(MISTRAL, "</s>", "</s>", ("</s>",), "<s>", ("[INST]", "[/INST]"), "user"),
    "zephyr": Family(ZEPHYR, "</s>", "</s>", ("</s>",), "<s>", (), "user"),
    "gemma": Family(
        GEMMA,
        "<end_of_turn>",
        "<eos>",
        ("<eos>", "<end_of_turn>"),
        "<bos>",
        ("<start_of_turn>",),
        "user",
    ),
}


def tokenizer_of(family: Family) -> Any:
    """A byte-level tokenizer that, like the published ones, begins a text unless told not to."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    special = [*dict.fromkeys(filter(None, (family.bos, family.eos, *family.stops)))]
    special += family.others
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["say red it is ."], vocab_size=256 + 20, special_tokens=special)
    if family.bos:
        number = trained.token_to_id(family.bos)
        trained._tokenizer.post_processor = TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[(family.bos, number)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        bos_token=family.bos,
        eos_token=family.eos,
        pad_token=family.eos,  # harmless, and common
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = family.template
    return tokenizer


def stops_of(family: Family, tokenizer: Any) -> list[int]:
    """Every id that ends a turn."""
    return [tokenizer.convert_tokens_to_ids(one) for one in family.stops]
