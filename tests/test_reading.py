"""Texts read together: the numbers of each read alone by the model itself, and nothing twice."""

from random import Random
from typing import Any

import pytest
import torch

from flywheel.datasets.render import Rendered
from flywheel.models.reward import RewardHead, last_token
from flywheel.models.small import word_tokenizer
from flywheel.rollout import Policy, policy, reading, rendered_logprobs, reward
from flywheel.rollout.llama import layers_of
from tests.test_lean import LEAN, model_of


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """More only spin on models this small."""
    torch.set_num_threads(1)


def rows_that_share() -> list[Rendered]:
    """Prompts with several responses, one within another, one twice, and with a tool's turn."""
    rng = Random(3)
    rows = []
    for length in (1, 5, 12):
        prompt = [rng.randrange(40) for _ in range(length)]
        said = [[rng.randrange(40) for _ in range(rng.randint(1, 9))] for _ in range(4)]
        said += [said[0] + said[1], said[2]]
        rows += [Rendered(prompt + one, length) for one in said]
    ids = [rng.randrange(40) for _ in range(14)]
    rows.append(Rendered(ids, 3, observed=((6, 9),), ends=(5, 13)))
    rows.append(Rendered(ids[:8], 1))
    rng.shuffle(rows)
    return rows


@pytest.mark.parametrize("name", LEAN)
@pytest.mark.parametrize("budget", [1, 30, 4096])
def test_states_of_texts_that_begin_alike_are_those_of_each_alone(name: str, budget: int) -> None:
    kind, own = LEAN[name]
    decoder = model_of(kind, **own).model
    texts = [row.ids for row in rows_that_share()]
    places = [sorted({0, len(text) // 2, len(text) - 1}) for text in texts]
    layers = layers_of(decoder, 30)
    assert layers
    seen = []
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_budget", lambda *_: budget)
        for order, states in reading.states_at(decoder, layers, texts, places):
            alone = [decoder(torch.tensor([texts[at]])).last_hidden_state[0] for at in order]
            asked = [one[places[at]] for one, at in zip(alone, order, strict=True)]
            assert torch.allclose(states, torch.cat(asked), atol=1e-5, rtol=1e-5)
            seen += order
    assert sorted(seen) == list(range(len(texts)))


def test_a_beginning_that_several_texts_share_is_read_once() -> None:
    decoder = model_of("Llama").model
    prompt = list(range(3, 13))
    texts = [[*prompt, 20, 21], [*prompt, 20, 22], [*prompt, 30], [*prompt, 20, 21], [35, 36]]
    read: list[int] = []
    decoder.embed_tokens.register_forward_hook(lambda _, given, out: read.append(given[0].numel()))
    layers = layers_of(decoder, 20)
    assert layers
    list(reading.states_at(decoder, layers, texts, [[len(text) - 1] for text in texts]))
    assert sum(read) == len(prompt) + 4 + 2  # 20, 21, 22, 30; the other text


@pytest.mark.parametrize("name", LEAN)
def test_scores_and_log_probabilities_are_those_of_the_model_itself(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, own = LEAN[name]
    model = model_of(kind, **own)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.1)
    rows = rows_that_share()
    given: list[Any] = [*rows, None]
    head = RewardHead(model.model)
    mine = Policy(model, word_tokenizer([]), [2])
    scores, logps = reward._read(head, given, last_token), rendered_logprobs(mine, rows)
    monkeypatch.setattr(policy, "PIECE", 7)
    assert rendered_logprobs(mine, rows) == pytest.approx(logps, abs=1e-6)
    for module in (reward, policy):
        monkeypatch.setattr(module, "layers_of", lambda *_: None)
    told = reward._read(head, given, last_token)
    assert scores[-1] is None and told[-1] is None
    assert [one[0] for one in scores[:-1] if one] == pytest.approx(
        [one[0] for one in told[:-1] if one], abs=1e-5
    )
    assert logps == pytest.approx(rendered_logprobs(mine, rows), abs=1e-4)


def test_nothing_is_read_of_no_texts() -> None:
    model = model_of("Llama")
    assert rendered_logprobs(Policy(model, word_tokenizer([]), [2]), []) == []
    assert reward._read(RewardHead(model.model), [None], last_token) == [None]
