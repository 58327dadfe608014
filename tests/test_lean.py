"""The lean decoder: the same numbers as the model itself, and taken only where it is the model."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers

from flywheel.models.lora import with_lora
from flywheel.models.small import word_tokenizer
from flywheel.rollout import Policy, Response, lean, llama, sample_ids, sampler
from flywheel.rollout.decoder import Decoder
from flywheel.rollout.lean import LeanDecoder
from flywheel.rollout.llama import layers_of
from flywheel.train.engine_config import checkpoint_activations

LONG = 48
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "vocab_size": 40}
GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
SCALED = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 2.0, "low_freq_factor": 1.0}
SCALED |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}
LEAN: dict[str, tuple[str, dict[str, Any]]] = {
    "grouped": ("Llama", {}),
    "one key head": ("Llama", {"num_key_value_heads": 1}),
    "biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "tied": ("Llama", {"tie_word_embeddings": True}),
    "scaled positions": ("Llama", {"rope_parameters": SCALED}),
    "some biases": ("Qwen2", {}),
    "normed heads": ("Qwen3", {"head_dim": 8}),
    "wide window": ("Mistral", {"sliding_window": LONG + 1}),
}
PROMPTS = [[7], [5, 6, 7, 8, 9, 10, 11], [12, 5, 3, 4], [30, 31, 6, 7, 8], [5, 6, 7] * 6]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """More only spin on models this small."""
    torch.set_num_threads(1)


def model_of(kind: str, **own: Any) -> Any:
    """A random one, its numbers far enough apart that no rounding decides."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**(SIZES | GROUPED | own))
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=1.0 if weight.ndim == 2 else 0.3)
    return model


def policy_of(model: Any, stops: list[int] | None = None) -> Policy:
    return Policy(model, word_tokenizer([]), [2] if stops is None else stops)


@contextmanager
def only(kind: type, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within it the other decoder is out of reach, and sampling with it an error."""
    with monkeypatch.context() as patch:
        if kind is Decoder:
            patch.setattr(sampler, "layers_of", lambda *_: None)
        else:
            patch.setattr(sampler, "Decoder", None)
        yield


def same(found: list[list[Response]], other: list[list[Response]], near: float = 1e-4) -> None:
    for row, twin in zip(found, other, strict=True):
        assert [one.token_ids for one in row] == [one.token_ids for one in twin]
        for one, again in zip(row, twin, strict=True):
            assert one.logprobs == pytest.approx(again.logprobs, abs=near)


def logps_of(model: Any, prompt: list[int], answer: Response) -> list[float]:
    """What the model itself gives the tokens of an answer."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *answer.token_ids]])).logits[0].float()
    given = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
    return given.gather(-1, torch.tensor(answer.token_ids)[:, None])[:, 0].tolist()


@pytest.mark.parametrize("name", LEAN)
def test_greedy_equals_generate_token_for_token(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, own = LEAN[name]
    model = model_of(kind, **own)
    with only(LeanDecoder, monkeypatch):
        answers = sample_ids(policy_of(model), PROMPTS, temperature=0, max_new_tokens=20)
    for prompt, (answer,) in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([prompt])
        told = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=20,
            do_sample=False,
            eos_token_id=2,
            pad_token_id=0,
        )
        assert list(answer.token_ids) == told[0, len(prompt) :].tolist()
        assert answer.logprobs == pytest.approx(logps_of(model, prompt, answer), abs=1e-3)


@pytest.mark.parametrize("name", LEAN)
def test_both_decoders_say_the_same_of_shared_prompts_with_rows_that_leave(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, own = LEAN[name]
    model = model_of(kind, **own)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.1)  # flatter, or one token is all that is ever said
    policy = policy_of(model, list(range(2, 40, 6)))
    prompts = [*PROMPTS, PROMPTS[1]]  # one of them twice, so that not all have as many rows
    for samples in (1, 5):
        options: dict[str, Any] = {"samples": samples, "max_new_tokens": 25, "seed": 4}
        with only(LeanDecoder, monkeypatch):
            found = sample_ids(policy, prompts, **options)
            same(found, sample_ids(policy, prompts, batch=7, **options))
        with only(Decoder, monkeypatch):
            same(found, sample_ids(policy, prompts, **options))
        assert len({one.token_count for row in found for one in row}) > 2


def test_a_buffer_that_has_to_grow_and_matrices_left_apart_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = policy_of(model_of("Qwen2"), [])
    whole = sample_ids(policy, PROMPTS, samples=2, max_new_tokens=15)
    monkeypatch.setattr(lean, "GROWTH", 4)
    monkeypatch.setattr(llama, "FUSED_NUMBERS", 0)
    with only(LeanDecoder, monkeypatch):
        same(whole, sample_ids(policy, PROMPTS, samples=2, max_new_tokens=15))


def test_a_policy_in_training_is_sampled_with_the_weights_that_it_has_now() -> None:
    model = model_of("Llama")
    options: dict[str, Any] = {"temperature": 0, "max_new_tokens": 8}
    before = sample_ids(policy_of(model), PROMPTS, **options)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight))
    after = sample_ids(policy_of(model), PROMPTS, **options)
    assert before != after
    for prompt, (answer,) in zip(PROMPTS, after, strict=True):
        assert answer.logprobs == pytest.approx(logps_of(model, prompt, answer), abs=1e-3)


def test_adapters_are_added_for_sampling_and_stay_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("Qwen2")
    plain = sample_ids(policy_of(model), PROMPTS, temperature=0, max_new_tokens=8)
    model = with_lora(model, 2, seed=0).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_()
    weights = {name: weight.clone() for name, weight in model.named_parameters()}
    with only(LeanDecoder, monkeypatch):
        found = sample_ids(policy_of(model), PROMPTS, temperature=0, max_new_tokens=8)
    assert found != plain
    for prompt, (answer,) in zip(PROMPTS, found, strict=True):
        assert answer.logprobs == pytest.approx(logps_of(model, prompt, answer), abs=1e-3)
    assert all(torch.equal(weights[name], weight) for name, weight in model.named_parameters())


def test_in_bf16_both_decoders_are_as_near_to_the_model_in_fp32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of("Qwen3", head_dim=8)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0.3 if weight.ndim == 2 else 1.0)
            weight.copy_(weight.bfloat16())
    halved = copy.deepcopy(model).bfloat16()
    gaps = []
    for kind in (LeanDecoder, Decoder):
        with only(kind, monkeypatch):
            found = sample_ids(policy_of(halved, []), PROMPTS, samples=8, max_new_tokens=20, seed=1)
        pairs = [(p, one) for p, row in zip(PROMPTS, found, strict=True) for one in row]
        told = torch.tensor([list(one.logprobs) for _, one in pairs])
        for exact in (model, halved):
            wanted = torch.tensor([logps_of(exact, *pair) for pair in pairs])
            gaps.append(float((told - wanted).abs().mean()))
    assert 0 < gaps[0] < 1.1 * gaps[2]  # from fp32
    assert 0 < gaps[1] < 0.005  # from the pass that trains, in bf16 as well


def test_what_is_computed_otherwise_is_left_to_the_other_decoder() -> None:
    model = model_of("Llama")
    assert layers_of(model, LONG)
    checkpoint_activations(model)
    assert layers_of(model, LONG)
    hook = model.model.layers[1].mlp.register_forward_hook(lambda *_: None)
    assert layers_of(model, LONG) is None
    hook.remove()
    assert layers_of(model, LONG)
    model.model.layers[0].mlp.forward = lambda x: x
    assert layers_of(model, LONG) is None
    assert layers_of(model_of("Mistral", sliding_window=LONG), LONG) is None
    dynamic = {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0}
    assert layers_of(model_of("Llama", rope_parameters=dynamic), LONG) is None
    halves = with_lora(model_of("Llama").bfloat16(), 2, seed=0)
    assert layers_of(halves, LONG) is None
    for kind, own in (("GPTNeoX", {}), ("Gemma2", {"head_dim": 8}), ("Cohere", {})):
        assert layers_of(model_of(kind, **own), LONG) is None
    gpt2 = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2)
    assert layers_of(transformers.GPT2LMHeadModel(gpt2), LONG) is None


def test_a_prompt_is_kept_once_for_all_its_answers() -> None:
    model = model_of("Llama")
    given = [row for row in PROMPTS for _ in range(8)]
    layers = layers_of(model, LONG)
    assert layers
    with torch.no_grad():
        decoder = LeanDecoder(model, layers, given, 8)
        logits = decoder.read()
    assert decoder._kept.shape[2] == len(PROMPTS) and len(logits) == len(given)
    assert math.isclose(float(logits[0].sum()), float(logits[7].sum()), rel_tol=1e-5)
