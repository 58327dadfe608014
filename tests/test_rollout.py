"""Sampling and scoring: equal to the reference implementation, reproducible, stopped in time."""

from pathlib import Path

import pytest
import torch

from flywheel.datasets.render import Rendered, render_prompt
from flywheel.errors import SettingsError
from flywheel.models.load import load_backbone
from flywheel.models.logps import ResponseLogps, pad
from flywheel.models.reward import RewardHead, save_reward
from flywheel.records.message import prompt_of
from flywheel.rollout import Policy, RewardModel, response_nll, sample
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


def test_reported_log_probabilities_are_those_of_a_forward_pass(policy: Policy) -> None:
    (answer,) = sample(policy, PROMPTS[:1], max_new_tokens=8, seed=3, temperature=1.3)[0]
    assert answer.logprob < 0
    start = render_prompt(policy.tokenizer, PROMPTS[0])
    again = sample(policy, PROMPTS[:1], max_new_tokens=8, seed=3, temperature=1.3)[0][0]
    assert again == answer
    # greedy: the tokens can be read back from the text exactly, one sampled token at a time
    greedy = sample(policy, PROMPTS[:1], max_new_tokens=1, temperature=0)[0][0]
    logits = policy.model(torch.tensor([start])).logits[0, -1]
    assert greedy.logprob == pytest.approx(float(torch.log_softmax(logits, -1).max()), abs=1e-4)


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
