"""Sampling and scoring: equal to the reference implementation, reproducible, stopped in time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flywheel.datasets.render import Rendered, render_prompt
from flywheel.errors import SettingsError
from flywheel.models.load import load_backbone
from flywheel.models.logps import ResponseLogps, pad
from flywheel.models.reward import RewardHead, save_reward
from flywheel.models.small import word_tokenizer
from flywheel.records.message import prompt_of
from flywheel.rollout import Policy, RewardModel, response_nll, sample, sample_ids
from flywheel.train.engine_config import checkpoint_activations
from tests.models_for_tests import COLOURS, chatml, tiny

PROMPTS = [prompt_of(f"say {one}") for one in COLOURS] + [prompt_of("say red it is not .")]


@pytest.fixture(scope="module", params=["words", "chatml"])
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    make = tiny if request.param == "words" else chatml
    return Policy.load(make(tmp_path_factory.mktemp(request.param)))


def test_greedy_equals_generate_token_for_token(policy: Policy) -> None:
    answers = sample(policy, PROMPTS, temperature=0, max_new_tokens=12)
    for prompt, (answer,) in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([render_prompt(policy.tokenizer, prompt)])
        whole = policy.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )
        told = whole[0, ids.shape[1] :].tolist()
        assert answer.token_count == len(told)
        stops = set(policy.stop_ids)
        kept = told[:-1] if told[-1] in stops else told
        assert answer.text == policy.tokenizer.decode(kept, skip_special_tokens=True).strip()


def test_an_answer_does_not_depend_on_the_rows_beside_it(policy: Policy) -> None:
    together = sample(policy, PROMPTS, samples=3, max_new_tokens=10, seed=5)
    apart = sample(policy, PROMPTS, samples=3, max_new_tokens=10, seed=5, batch=2)
    assert [[one.text for one in row] for row in together] == [
        [one.text for one in row] for row in apart
    ]


def test_another_seed_answers_otherwise(policy: Policy) -> None:
    one, other = (sample(policy, PROMPTS, max_new_tokens=10, seed=seed) for seed in (1, 2))
    assert [row[0].text for row in one] != [row[0].text for row in other]


def test_sampling_frequencies_follow_the_distribution(policy: Policy) -> None:
    start = render_prompt(policy.tokenizer, PROMPTS[0])
    with torch.no_grad():
        shares = torch.softmax(policy.model(torch.tensor([start])).logits[0, -1], -1)
    drawn = sample(policy, PROMPTS[:1], samples=4000, max_new_tokens=1, batch=4000)[0]
    entropy = float(-(shares * shares.log()).sum())
    assert -sum(one.logprob for one in drawn) / 4000 == pytest.approx(entropy, abs=0.05)


def test_log_probabilities_are_those_that_the_model_gives_each_target(policy: Policy) -> None:
    row = Rendered([1, 5, 6, 7, 8, 9, 5, 6, 2], 3, observed=((5, 6),))
    with torch.no_grad():
        found = ResponseLogps(policy.model)(*pad([row], "cpu"))
        given = torch.log_softmax(policy.model(torch.tensor([row.ids])).logits[0].double(), -1)
    wanted = [float(given[place - 1, row.ids[place]]) for place in (3, 4, 6, 7, 8)]
    assert found.tolist() == pytest.approx(wanted, abs=1e-5)


def test_padding_on_the_right_changes_no_log_probability(policy: Policy) -> None:
    short, long = Rendered([1, 5, 6, 7, 2], 2), Rendered([1, 5, 6, 7, 8, 9, 5, 6, 2], 3)
    module = ResponseLogps(policy.model)
    with torch.no_grad():
        both = module(*pad([short, long], "cpu"))
        apart = torch.cat([module(*pad([row], "cpu")) for row in (short, long)])
    assert torch.allclose(both, apart, atol=1e-5)


def test_a_response_that_does_not_fit_is_none_and_not_zero(policy: Policy) -> None:
    from flywheel.records.message import response_of

    found = response_nll(
        policy, PROMPTS[:2], [response_of("red " * 50), response_of("red")], max_tokens=12
    )
    assert found[0] is None and found[1] is not None and found[1][0] > 0


def test_numbers_out_of_range_are_refused(policy: Policy) -> None:
    with pytest.raises(SettingsError, match="temperature"):
        sample(policy, PROMPTS, temperature=-1)


def test_every_token_is_reported_with_its_own_log_probability(policy: Policy) -> None:
    for temperature in (0.0, 0.7, 1.0):
        (answer,) = sample(policy, PROMPTS[:1], max_new_tokens=8, seed=3, temperature=temperature)[
            0
        ]
        assert len(answer.token_ids) == len(answer.logprobs) == answer.token_count
        start = render_prompt(policy.tokenizer, PROMPTS[0])
        with torch.no_grad():
            logits = policy.model(torch.tensor([[*start, *answer.token_ids]])).logits[0]
        logits = logits[len(start) - 1 : -1]
        for heat, told in ((temperature or 1, sum(answer.logprobs)), (1, answer.logprob)):
            logps = torch.log_softmax(logits / heat, -1)
            own = logps.gather(-1, torch.tensor(answer.token_ids)[:, None])
            assert told == pytest.approx(float(own.sum()), abs=1e-4)
        kept = answer.token_ids[:-1] if answer.ended else answer.token_ids
        assert answer.text == policy.tokenizer.decode(kept, skip_special_tokens=True).strip()


def test_rows_that_end_leave_and_the_others_go_on_unchanged(policy: Policy) -> None:
    ends = replace(policy, stop_ids=list(range(3, policy.model.config.vocab_size, 4)))
    many = sample(ends, PROMPTS, samples=4, max_new_tokens=20, seed=2)
    lengths = {one.token_count for row in many for one in row}
    assert len(lengths) > 4
    for one in (one for row in many for one in row):
        assert [token in ends.stop_ids for token in one.token_ids] == [False] * (
            one.token_count - 1
        ) + [one.ended]
        assert one.ended or one.token_count == 20
    again = sample(ends, PROMPTS, samples=4, max_new_tokens=20, seed=2, batch=7)
    for row, other in zip(many, again, strict=True):
        assert [one.token_ids for one in row] == [one.token_ids for one in other]
        for one, same in zip(row, other, strict=True):
            assert one.logprobs == pytest.approx(same.logprobs, abs=1e-5)


def test_a_cache_that_has_to_grow_changes_nothing(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flywheel.rollout import decoder

    options: dict[str, Any] = {"samples": 2, "max_new_tokens": 15, "seed": 1}
    whole = sample(policy, PROMPTS, **options)
    monkeypatch.setattr(decoder, "GROWTH", 4)
    assert [[one.token_ids for one in row] for row in sample(policy, PROMPTS, **options)] == [
        [one.token_ids for one in row] for row in whole
    ]


def test_an_answer_ends_where_the_positions_do_and_a_prompt_beyond_them_is_refused(
    tmp_path: Path,
) -> None:
    policy = replace(Policy.load(tiny(tmp_path)), stop_ids=[])  # 64 positions, and no end
    near, short = sample_ids(policy, [[5] * 60, [5] * 3], max_new_tokens=10, batch=2)
    assert (near[0].token_count, near[0].ended) == (4, False)
    assert (short[0].token_count, short[0].ended) == (10, False)
    with pytest.raises(SettingsError, match=r"64 tokens leaves no room .* has 64 positions"):
        sample_ids(policy, [[5] * 64], max_new_tokens=10)


@pytest.mark.parametrize("cut", [{"top_p": 0.9}, {"top_k": 20}])
def test_a_cut_distribution_is_refused_with_the_reason(policy: Policy, cut: dict) -> None:
    with pytest.raises(SettingsError, match="log-probabilities are then not the policy's"):
        sample(policy, PROMPTS, **cut)


def test_a_model_in_training_samples_the_same_and_goes_on_training(tmp_path: Path) -> None:
    policy = Policy.load(tiny(tmp_path))
    plain = sample(policy, PROMPTS, max_new_tokens=6)
    checkpoint_activations(policy.model)
    for layer in policy.model.model.layers:  # were it not switched off
        layer.self_attn.attention_dropout = 0.5
    assert sample(policy, PROMPTS, max_new_tokens=6) == plain
    assert policy.model.training


OTHERS = {
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "Qwen2": {},
    "Gemma2": {"sliding_window": 4, "head_dim": 8},  # narrower than any answer: their own cache
    "Gemma3": {"sliding_window": 512, "head_dim": 8},
    "Mistral": {"sliding_window": 6},
    "Bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},  # no positions: ALiBi
    "Falcon": {"alibi": True},  # makes them of a flat mask
    "Cohere": {},
    "GPTNeoX": {"max_position_embeddings": 64},
}
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}


@pytest.mark.parametrize("kind", OTHERS)
def test_greedy_equals_generate_for_models_of_many_kinds(kind: str) -> None:
    import transformers

    torch.manual_seed(0)
    own = OTHERS[kind]
    shape = {} if kind in ("GPT2", "Bloom") else SIZES | HEADS
    name = f"{kind}TextConfig" if kind == "Gemma3" else f"{kind}Config"
    config = getattr(transformers, name)(vocab_size=40, eos_token_id=2, **{**shape, **own})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:  # far enough apart that no rounding decides
                weight.normal_(std=1.0)
    prompts = [[7, 9, 8], [5, 6, 7, 8, 9, 10, 11], [12, 5, 3, 4], [30, 31, 6, 7, 8]]
    policy = Policy(model, word_tokenizer([]), [2])
    answers = sample_ids(policy, prompts, temperature=0, max_new_tokens=12)
    for prompt, (answer,) in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt])
        told = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=2,
            pad_token_id=0,
        )
        assert list(answer.token_ids) == told[0, len(prompt) :].tolist()


def test_a_score_is_read_at_the_last_real_token_and_shifted(tmp_path: Path) -> None:
    from flywheel.models.load import load_tokenizer
    from flywheel.records.message import response_of

    base = chatml(tmp_path / "base")  # pad is EOS here: the place must come from lengths
    module = RewardHead(load_backbone(base), seed=1)
    save_reward(module, tmp_path / "reward", shift=0.25, stop_ids=[2])
    load_tokenizer(base).save_pretrained(tmp_path / "reward")
    reward = RewardModel.load(str(tmp_path / "reward"))
    answers = [response_of("red it is ."), response_of("no , it is not . no , it is not .")]
    together = reward.score(PROMPTS[:2], answers)
    apart = [reward.score([p], [a])[0] for p, a in zip(PROMPTS[:2], answers, strict=True)]
    assert together == pytest.approx(apart, abs=1e-5)
    ids = torch.tensor([[1, 5, 6]])
    raw = module.backbone(ids).last_hidden_state[0, -1] @ module.head.weight[0] + module.head.bias
    assert float(module(ids, torch.tensor([[0, 2]]))) == pytest.approx(float(raw), abs=1e-6)
    read: list[int] = []
    reward.module.head.register_forward_hook(lambda _, given, scores: read.append(len(given[0])))
    again = reward.score([*PROMPTS[:2], PROMPTS[0]], [*answers, answers[0]])
    assert again[:2] == together and again[2] == again[0] and sum(read) == 2  # and not 3 texts
