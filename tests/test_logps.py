"""Log-probabilities: one number per token, however the rows are laid out, cut or sampled."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from flywheel.datasets.render import Rendered, render_prompt
from flywheel.errors import SettingsError, TrainingError
from flywheel.models import logps as module_of
from flywheel.models.load import load_causal
from flywheel.models.logps import (
    ResponseLogps,
    check_head,
    check_packing,
    logits_of,
    pack,
    pad,
    pad_packs,
    row_sums,
)
from flywheel.records.message import prompt_of
from flywheel.rollout import Policy, sample
from flywheel.train.batches import micro_batches
from flywheel.train.config import RunSettings
from flywheel.train.data import Row
from flywheel.train.engine import Engine
from flywheel.train.sft import imitate
from tests.models_for_tests import COLOURS, chatml, tiny

HOT = 1.7
ROWS = [  # of several lengths, one with an observed span
    Rendered([1, 5, 6, 7, 2], 2),
    Rendered([1, 5, 6, 7, 8, 9, 5, 6, 2, 7, 9, 2], 3),
    Rendered([1, 9, 2], 1),
    Rendered([1, 8, 5, 7, 9, 6, 2], 2, observed=((4, 5),)),
]


def length_of(row: Rendered) -> int:
    return len(row.ids)


@pytest.fixture(scope="module", params=["words", "chatml"])
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Tied embeddings with a word tokenizer; grouped queries with a byte-level one in ChatML."""
    make = tiny if request.param == "words" else chatml
    return Policy.load(make(tmp_path_factory.mktemp(request.param)))


@pytest.fixture
def module(policy: Policy) -> Callable[..., Any]:
    return hot(policy.model)


def hot(model: Any) -> Callable[..., Any]:
    """Log-probabilities at a temperature that is not 1."""
    return partial(ResponseLogps(model), temperatures=torch.tensor([HOT]))


def unpadded(model: Any, row: Rendered) -> list[float]:
    """From plain logits of one row alone."""
    with torch.no_grad():
        logps = torch.log_softmax(model(torch.tensor([row.ids])).logits[0] / HOT, -1)
    hidden = {place for first, end in row.observed for place in range(first, end)}
    places = [place for place in range(row.start, len(row.ids)) if place not in hidden]
    return [float(logps[place - 1, row.ids[place]]) for place in places]


def test_padded_right_packed_and_cut_rows_give_what_each_gives_alone(
    policy: Policy, module: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = torch.tensor([one for row in ROWS for one in unpadded(policy.model, row)])
    packs = pack(ROWS, length_of)
    assert [len(one) for one in packs] == [1, 2, 1]  # 12, 7 + 5, 3 tokens
    order = [row for one in packs for row in one]
    packed_alone = torch.tensor([one for row in order for one in unpadded(policy.model, row)])
    with torch.no_grad():
        assert torch.allclose(module(*pad(ROWS, "cpu")), alone, atol=1e-5)
        packed = module(*pad_packs(packs, "cpu"))
        assert torch.allclose(packed, packed_alone, atol=1e-5)
        monkeypatch.setattr(module_of, "PIECE_LOGITS", 3 * policy.model.config.vocab_size)
        assert torch.allclose(module(*pad(ROWS, "cpu")), alone, atol=1e-5)


def test_padded_left_gives_what_each_gives_alone(policy: Policy) -> None:
    width = max(map(length_of, ROWS))
    ids = torch.tensor([[0] * (width - len(row.ids)) + row.ids for row in ROWS])
    mask = torch.tensor([[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in ROWS])
    with torch.no_grad():
        logits = policy.model(
            ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)
        ).logits
    for place, row in enumerate(ROWS):
        logps = torch.log_softmax(logits[place, width - len(row.ids) :] / HOT, -1)
        own = [float(logps[at - 1, row.ids[at]]) for at in range(row.start, len(row.ids))]
        seen = [at for first, end in row.observed for at in range(first, end)]
        own = [one for at, one in enumerate(own, row.start) if at not in seen]
        assert own == pytest.approx(unpadded(policy.model, row), abs=1e-5)


def test_the_sampler_reports_what_training_computes(
    policy: Policy, module: Callable[..., Any]
) -> None:
    prompts = [prompt_of(f"say {one}") for one in COLOURS] + [prompt_of("say red it is not .")]
    said = sample(policy, prompts, samples=3, temperature=HOT, max_new_tokens=12, seed=4)
    told, rows = [], []
    for prompt, answers in zip(prompts, said, strict=True):
        start = render_prompt(policy.tokenizer, prompt)
        for one in answers:
            rows.append(Rendered([*start, *one.token_ids], len(start)))
            told += one.logprobs
            plain = response_sum(policy.model, rows[-1])
            assert one.logprob == pytest.approx(plain, abs=1e-4)
    with torch.no_grad():
        found = module(*pad(rows, "cpu"))
    assert torch.allclose(found, torch.tensor(told), atol=1e-5)


def response_sum(model: Any, row: Rendered) -> float:
    with torch.no_grad():
        return float(ResponseLogps(model)(*pad([row], "cpu")).sum())


def test_in_bf16_ratios_to_the_sampler_stay_near_one(policy: Policy, tmp_path: Path) -> None:
    policy.model.save_pretrained(tmp_path)
    half = Policy(
        load_causal(str(tmp_path), dtype=torch.bfloat16), policy.tokenizer, policy.stop_ids
    )
    prompts = [prompt_of(f"say {one}") for one in COLOURS]
    said = sample(half, prompts, samples=8, temperature=HOT, max_new_tokens=12, seed=4)
    rows, told = [], []
    for prompt, answers in zip(prompts, said, strict=True):
        start = render_prompt(policy.tokenizer, prompt)
        rows += [Rendered([*start, *one.token_ids], len(start)) for one in answers]
        told += [logp for one in answers for logp in one.logprobs]
    with torch.no_grad():  # the trainer's weights are fp32, as DeepSpeed's masters are
        found = hot(policy.model)(*pad(rows, "cpu"))
    ratio = float((found - torch.tensor(told)).abs().exp().mean())
    print(f"bf16 sampler against fp32 training: mean exp|delta| {ratio:.4f}")
    assert 1 < ratio <= 1.05  # NeMo-RL's gate, docs/adding-new-models.md


def gradient(model: Any, inputs: tuple[Any, ...]) -> torch.Tensor:
    model.zero_grad()
    ResponseLogps(model)(*inputs).sum().backward()
    return torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])


def test_packing_changes_no_gradient(policy: Policy) -> None:
    padded = gradient(policy.model, pad(ROWS, "cpu"))
    packed = gradient(policy.model, pad_packs(pack(ROWS, length_of), "cpu"))
    alone = sum(gradient(policy.model, pad([row], "cpu")) for row in ROWS)
    for other in (packed, alone):
        assert (other - padded).norm() <= 1e-6 * padded.norm()


def test_sft_weighs_packed_rows_as_it_weighs_padded_ones(tmp_path: Path) -> None:
    model = load_causal(tiny(tmp_path))
    engine = Engine(ResponseLogps(model), RunSettings(output=""))
    rows = [Row(text, weight, ()) for text, weight in zip(ROWS, (1, 0.5, 2, 0.25), strict=True)]
    found = []
    for packing in (False, True):
        model.zero_grad()
        engine.backward(imitate(packing=packing).loss(engine, rows)[0], 1.0)
        gradients = [weight.grad.flatten() for weight in model.parameters()]
        found.append(torch.cat(gradients))
    assert (found[1] - found[0]).norm() <= 1e-6 * found[0].norm()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_packed_row_is_deaf_to_its_neighbour(policy: Policy, attention: str) -> None:
    policy.model.set_attn_implementation(attention)
    first, other, last = ROWS[0], Rendered([9, 9, 8, 7, 6], 2), ROWS[2]
    with torch.no_grad():
        module = ResponseLogps(policy.model)
        one, two = (module(*pad_packs([[before, last]], "cpu")) for before in (first, other))
    policy.model.set_attn_implementation("sdpa")
    assert torch.equal(one[3:], two[3:]) and not torch.equal(one[:3], two[:3])
    assert len(one) == 3 + 2  # and the first token of the second is no target of the first


def test_packed_micro_batches_hold_every_row_once_in_the_packs_that_the_loss_makes() -> None:
    sizes = [3, 9, 4, 4, 7, 1, 2, 2, 5]
    batches = micro_batches(sizes, lambda size: (1, size), 27, packing=True)
    assert batches == [[9, 7, 5, 4, 2], [4, 3, 2, 1]]
    # the loss packs a batch anew: 27 tokens for the first, without padding, and 12 for the other
    assert pack(batches[0], lambda size: size) == [[9], [7, 2], [5, 4]]
    assert pack(batches[1], lambda size: size) == [[4], [3, 1], [2]]


def test_a_model_that_mixes_packed_rows_is_refused() -> None:
    from transformers import BloomConfig, BloomForCausalLM

    bloom = BloomForCausalLM(BloomConfig(vocab_size=32, hidden_size=16, n_layer=1, n_head=2))
    with pytest.raises(SettingsError, match="packing: true, but Bloom"):
        check_packing(bloom)


def test_entropy_is_that_of_the_distribution_at_the_temperature(
    policy: Policy, module: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    logps, entropy = module(*pad(ROWS[:1], "cpu"), with_entropy=True)
    logits = policy.model(torch.tensor([ROWS[0].ids])).logits[0, 1:4] / HOT
    want = torch.distributions.Categorical(logits=logits).entropy()
    assert torch.allclose(entropy, want, atol=1e-5)
    assert logps.requires_grad and not entropy.requires_grad
    monkeypatch.setattr(module_of, "PIECE_LOGITS", policy.model.config.vocab_size)
    assert torch.allclose(module(*pad(ROWS[:1], "cpu"), with_entropy=True)[1], want, atol=1e-5)
    even = module_of.entropy(torch.tensor([[math.log(0.5), math.log(0.5), -math.inf]]))
    assert float(even) == pytest.approx(math.log(2))


def small(kind: str, **options: Any) -> Any:

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        **options,
    )
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


@pytest.mark.parametrize(
    ("kind", "options"),
    [("Gemma2", {"final_logit_softcapping": 0.02}), ("Cohere", {"logit_scale": 0.25})],
)
def test_capped_and_scaled_logits_are_those_of_the_model(
    kind: str, options: dict[str, float]
) -> None:
    model = small(kind, **options)
    ids = torch.tensor([[3, 5, 6, 7]])
    check_head(model)
    with torch.no_grad():
        hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        assert torch.allclose(logits_of(model, hidden), model(ids).logits, atol=1e-6)
        assert not torch.allclose(model.lm_head(hidden), model(ids).logits, atol=1e-3)


def test_logits_changed_in_an_unknown_way_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"Granite.* changes its logits after the head"):
        check_head(small("Granite", logits_scaling=8.0))


def test_a_row_longer_than_the_learned_positions_is_refused_and_others_are_not() -> None:
    sizes: dict[str, Any] = {"vocab_size": 40, "n_embd": 16, "n_layer": 1, "n_head": 2}
    learned = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, n_positions=8))
    turned = small("Gemma2", max_position_embeddings=8)
    long, short = Rendered([1, *[5] * 8], 2), Rendered([1, *[5] * 7], 2)
    with pytest.raises(TrainingError, match=r"9 tokens is longer than the 8 positions"):
        ResponseLogps(learned)(*pad([long], "cpu"))
    assert len(ResponseLogps(learned)(*pad([short], "cpu"))) == 6
    assert len(ResponseLogps(turned)(*pad([long], "cpu"))) == 7


def test_sums_go_row_by_row() -> None:
    assert row_sums(torch.arange(1.0, 10), ROWS[:1] + ROWS[2:]).tolist() == [6.0, 9.0, 30.0]
