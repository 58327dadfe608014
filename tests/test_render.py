"""A conversation as tokens: where the loss is, how it ends, what is cut."""

from pathlib import Path
from typing import Any

import pytest
import torch

from flywheel.datasets.render import (
    PLAIN_TEMPLATE,
    Rendered,
    encode_all,
    render,
    render_all,
    render_prompt,
    render_prompts,
)
from flywheel.errors import SettingsError
from flywheel.models.load import load_causal, load_tokenizer, stop_ids_of
from flywheel.models.logps import ResponseLogps, pad, row_sums
from flywheel.records import Message
from flywheel.records.message import prompt_of, response_of
from tests.chat_templates import FAMILIES, FORGETFUL, Family, stops_of, tokenizer_of
from tests.models_for_tests import chatml, tiny


@pytest.fixture(scope="module", params=["words", "chatml"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    make = tiny if request.param == "words" else chatml
    return make(tmp_path_factory.mktemp(request.param))


def test_loss_is_on_the_response_and_its_end_and_on_nothing_else(folder: str) -> None:
    tokenizer = load_tokenizer(folder)
    stops = stop_ids_of(load_causal(folder), tokenizer)
    row = render(
        tokenizer, prompt_of("say red"), response_of("red it is ."), max_tokens=64, stop_ids=stops
    )
    assert row
    assert row.ids[: row.start] == render_prompt(tokenizer, prompt_of("say red"))
    carried = tokenizer.decode(row.ids[row.start :], skip_special_tokens=True).strip()
    assert carried == "red it is ."
    assert row.ids[-1] in stops


def test_an_earlier_turn_of_the_assistant_carries_no_loss(folder: str) -> None:
    tokenizer = load_tokenizer(folder)
    asked = (
        Message(role="user", content="say red"),
        Message(role="assistant", content="red it is ."),
        Message(role="user", content="say blue"),
    )
    row = render(
        tokenizer,
        asked,
        response_of("blue it is ."),
        max_tokens=64,
        stop_ids=[tokenizer.eos_token_id],
    )
    assert row
    assert "red" not in tokenizer.decode(row.ids[row.start :])


def test_what_a_tool_answered_carries_no_loss(folder: str) -> None:
    tokenizer = load_tokenizer(folder)
    stops = stop_ids_of(load_causal(folder), tokenizer)
    response = (
        Message(role="assistant", content="say red"),
        Message(role="tool", content="red it is ."),
        Message(role="assistant", content="thank you"),
        Message(role="tool", content="black"),  # nobody says anything after it
    )
    prompt = prompt_of("say blue")
    row = render(tokenizer, prompt, response, max_tokens=128, stop_ids=stops)
    assert row
    whole = tokenizer.apply_chat_template(
        [{"role": one.role, "content": one.content} for one in (*prompt, *response[:3])],
        tokenize=False,
    )
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert row.ids == ids[: len(row.ids)] and len(ids) - len(row.ids) <= 1  # a newline at most
    _, marks = pad([row], "cpu")
    said = [tokenizer.convert_ids_to_tokens(row.ids)[at] for at in marks[0].nonzero()[:, 0]]
    assert len(said) == row.response_tokens
    end = tokenizer.eos_token
    assert "".join(said).replace("Ġ", "") == f"sayred{end}thankyou{end}"


def test_spans_of_a_response_with_a_tool_are_those_counted_by_hand(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny(tmp_path))
    response = (
        Message(role="assistant", content="say red"),
        Message(role="tool", content="red it is ."),
        Message(role="assistant", content="thank you"),
    )
    # <bos> say blue <r> | say red <eos> | red it is . <r> | thank you <eos>
    row = render(
        tokenizer,
        prompt_of("say blue"),
        response,
        max_tokens=64,
        stop_ids=[tokenizer.eos_token_id],
    )
    assert row and (row.start, row.observed, len(row.ids)) == (4, ((7, 12),), 15)
    assert row.response_tokens == 6
    module = ResponseLogps(load_causal(str(tmp_path)))
    with torch.no_grad():
        logps = module(*pad([row], "cpu"))
        logits = module.causal(torch.tensor([row.ids])).logits[0].log_softmax(-1)
    by_hand = [logits[at - 1, row.ids[at]] for at in (4, 5, 6, 12, 13, 14)]
    assert torch.allclose(logps, torch.stack(by_hand), atol=1e-5)
    assert float(row_sums(logps, [row])[0]) == pytest.approx(float(sum(by_hand)), abs=1e-4)


def test_a_response_in_which_the_assistant_says_nothing_is_left_to_count(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny(tmp_path))
    response = (Message(role="tool", content="red"),)
    assert render(tokenizer, prompt_of("red"), response, max_tokens=16, stop_ids=[]) is None


def test_text_begins_once(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny(tmp_path))
    ids = render_prompt(tokenizer, prompt_of("say red"))
    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_long_prompt_loses_its_oldest_tokens_and_a_long_response_is_refused(
    tmp_path: Path,
) -> None:
    tokenizer = load_tokenizer(tiny(tmp_path))
    long = prompt_of("red " * 50 + "blue")
    row = render(
        tokenizer,
        long,
        response_of("red it is ."),
        max_tokens=16,
        stop_ids=[tokenizer.eos_token_id],
    )
    assert row and len(row.ids) == 16 and row.response_tokens == 5
    assert tokenizer.decode(row.ids[: row.start]).endswith("blue <r>")
    assert row.is_truncated
    answer = response_of("red " * 20)
    assert render(tokenizer, long, answer, max_tokens=16, stop_ids=[]) is None


@pytest.mark.parametrize(("max_tokens", "kept"), [(8, "<bos> blue <r>"), (6, "<bos>"), (5, None)])
def test_a_cut_prompt_still_begins_as_every_text_does(
    tmp_path: Path, max_tokens: int, kept: str | None
) -> None:
    tokenizer = load_tokenizer(tiny(tmp_path))
    row = render(
        tokenizer,
        prompt_of("red " * 50 + "blue"),
        response_of("red it is ."),  # five tokens with its end
        max_tokens=max_tokens,
        stop_ids=[tokenizer.eos_token_id],
    )
    # without one token of the prompt there is nothing to predict the first of the response from
    assert (row and tokenizer.decode(row.ids[: row.start])) == kept


def test_a_template_that_rewrites_the_prompt_is_refused(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny(tmp_path))
    tokenizer.chat_template = "{{ messages | length }}{{ messages[-1].content }}"
    with pytest.raises(SettingsError, match="prefix-preserving"):
        render(
            tokenizer,
            prompt_of("red"),
            response_of("blue"),
            max_tokens=16,
            stop_ids=[tokenizer.eos_token_id],
        )


def test_the_plain_template_is_prefix_preserving_over_turns(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny(tmp_path))
    tokenizer.chat_template = PLAIN_TEMPLATE
    talk = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    asked = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    answered = [*talk, {"role": "assistant", "content": "four"}]
    whole = tokenizer.apply_chat_template(answered, tokenize=False)
    assert whole.startswith(asked) and asked.endswith("Assistant: ")
    first = tokenizer.apply_chat_template(talk[:1], tokenize=False, add_generation_prompt=True)
    assert asked.startswith(first)


# ---- published chat templates -----------------------------------------------------------------

ASKED = (
    Message(role="user", content="say red"),
    Message(role="assistant", content="red it is ."),
    Message(role="user", content="say blue"),
)
SAID = "blue it is ."


@pytest.fixture(scope="module", params=FAMILIES)
def published(request: pytest.FixtureRequest) -> tuple[Family, Any, list[int]]:
    family = FAMILIES[request.param]
    tokenizer = tokenizer_of(family)
    return family, tokenizer, stops_of(family, tokenizer)


def carried(tokenizer: Any, row: Rendered) -> list[str]:
    """The decoded spans that carry loss, as `pad` marks them, one for each run of tokens."""
    _, marks = pad([row, Rendered([3] * (len(row.ids) + 7), 1)], "cpu")  # a longer row beside it
    spans: list[list[int]] = []
    for place, is_target in enumerate(marks[0].tolist()):
        if is_target and (not place or not marks[0, place - 1]):
            spans.append([])
        if is_target:
            spans[-1].append(row.ids[place])
    return [tokenizer.decode(span) for span in spans]


def test_published_templates_put_loss_on_the_assistants_words_and_their_end(
    published: tuple[Family, Any, list[int]],
) -> None:
    family, tokenizer, stops = published
    row = render(tokenizer, ASKED, response_of(SAID), max_tokens=999, stop_ids=stops)
    assert row and carried(tokenizer, row) == [SAID + family.end]
    assert row.ids[: row.start] == render_prompt(tokenizer, ASKED)
    assert row.ends == (len(row.ids) - 1,)
    talk = [{"role": one.role, "content": one.content} for one in (*ASKED, *response_of(SAID))]
    whole = tokenizer.apply_chat_template(talk, tokenize=False)
    text = tokenizer.decode(row.ids)
    assert whole.removeprefix(family.bos or "").startswith(text.removeprefix(family.bos or ""))
    assert whole.endswith(text[-40:] + whole[len(whole.rstrip()) :])


def test_published_templates_give_every_turn_of_a_response_its_end(
    published: tuple[Family, Any, list[int]],
) -> None:
    family, tokenizer, stops = published
    response = (
        Message(role="assistant", content="say green"),
        Message(role=family.between, content="red"),
        Message(role="assistant", content=SAID),
    )
    row = render(tokenizer, ASKED, response, max_tokens=999, stop_ids=stops)
    assert row and carried(tokenizer, row) == ["say green" + family.end, SAID + family.end]
    ((first, end),) = row.observed
    assert "red" in tokenizer.decode(row.ids[first:end])
    assert [row.ids[place] in stops for place in row.ends] == [True, True]


def test_ids_asked_for_alone_are_those_of_the_tokenizer(
    published: tuple[Family, Any, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tokenizer, _ = published
    words = [
        tokenizer.eos_token,
        "say red",
        "",
        "  say\n\nblue ",
        "r\u00e9d \u2603 it is",
        "no " * 99,
    ]
    plain = [tokenizer(one, add_special_tokens=False)["input_ids"] for one in words]
    tokenizer(words, truncation=True, max_length=2, padding=True)  # is not to last
    assert encode_all(tokenizer, words) == plain
    asked: list[Any] = []

    def own(self: Any, text: Any, **options: Any) -> dict[str, list[list[int]]]:
        asked.append(text)
        return {"input_ids": plain}

    monkeypatch.setattr(type(tokenizer), "_encode_plus", own)
    assert encode_all(tokenizer, words) == plain and asked == [words], "a way of its own is taken"


def test_a_text_begins_once_whether_template_or_tokenizer_begins_it(
    published: tuple[Family, Any, list[int]],
) -> None:
    family, tokenizer, stops = published
    row = render(tokenizer, ASKED, response_of(SAID), max_tokens=999, stop_ids=stops)
    assert row
    if family.bos:
        assert row.ids[0] == tokenizer.bos_token_id
        assert row.ids.count(tokenizer.bos_token_id) == 1
    else:
        assert tokenizer.decode(row.ids).startswith("<|im_start|>system")


def test_every_end_that_the_generation_config_names_ends_a_turn(
    published: tuple[Family, Any, list[int]],
) -> None:
    family, tokenizer, stops = published
    for stop in family.stops:
        tokenizer.chat_template = family.template.replace(family.end, stop)
        row = render(tokenizer, ASKED[2:], response_of(SAID), max_tokens=999, stop_ids=stops)
        if "eos_token" not in family.template:
            assert row and carried(tokenizer, row) == [SAID + stop]
    tokenizer.chat_template = family.template
    alone = render(
        tokenizer,
        ASKED,
        response_of(SAID),
        max_tokens=999,
        stop_ids=[tokenizer.eos_token_id],
    )
    assert alone and alone.ids[-1] == tokenizer.eos_token_id  # it ends, whatever is known


def test_no_limit_empties_a_row_or_takes_from_a_response(
    published: tuple[Family, Any, list[int]],
) -> None:
    family, tokenizer, stops = published
    whole = render(tokenizer, ASKED, response_of(SAID), max_tokens=999, stop_ids=stops)
    assert whole
    for most in range(1, len(whole.ids) + 2):
        row = render(tokenizer, ASKED, response_of(SAID), max_tokens=most, stop_ids=stops)
        assert (row is None) == (most <= whole.response_tokens)
        if row:
            assert row.ids[row.start :] == whole.ids[whole.start :]
            assert 0 < row.start <= whole.start and len(row.ids) <= most
            assert not family.bos or row.ids[0] == tokenizer.bos_token_id
            assert row.is_truncated == (most < len(whole.ids))


def test_a_template_that_forgets_what_was_thought_is_refused_over_turns() -> None:
    tokenizer = tokenizer_of(FAMILIES["qwen 2.5"])
    tokenizer.chat_template = FORGETFUL
    thought = Message(role="assistant", content="<think>hm</think>so")
    response = (thought, Message(role="tool", content="red"), thought)
    stops = [tokenizer.eos_token_id]
    assert render(tokenizer, ASKED, (thought,), max_tokens=999, stop_ids=stops)
    with pytest.raises(SettingsError, match="prefix-preserving"):
        render(tokenizer, ASKED, response, max_tokens=999, stop_ids=stops)


@pytest.mark.parametrize("name", ["mistral", "gemma"])
def test_a_conversation_that_a_template_refuses_is_told_in_its_words(name: str) -> None:
    tokenizer = tokenizer_of(FAMILIES[name])
    asked = (Message(role="system", content="be brief"), *ASKED)
    with pytest.raises(SettingsError, match=r"(alternate|not supported).*another chat_template"):
        render_prompt(tokenizer, asked)


def test_many_texts_are_rendered_as_each_alone_and_a_repeated_one_once(folder: str) -> None:
    tokenizer = load_tokenizer(folder)
    options: dict[str, Any] = {"max_tokens": 64, "stop_ids": [tokenizer.eos_token_id]}
    talk = (
        Message(role="assistant", content="say red"),
        Message(role="tool", content="red"),
        Message(role="assistant", content="red it is ."),
    )
    pairs = [
        (prompt_of("say red"), response_of("red it is .")),
        (prompt_of("say blue"), response_of("red it is .")),
        (prompt_of("say red"), talk),
        (prompt_of("say red " * 60), response_of("no")),  # loses its oldest tokens
        (prompt_of("say red"), response_of("no " * 80)),  # has no room
        (prompt_of("say red"), (Message(role="tool", content="red"),)),  # says nothing
        (prompt_of("say red"), response_of("red it is .")),
    ]
    prompts, responses = ([pair[side] for pair in pairs] for side in (0, 1))
    together = render_all(tokenizer, prompts, responses, **options)
    assert together == [render(tokenizer, *pair, **options) for pair in pairs]
    assert [row is None for row in together] == [False] * 4 + [True] * 2 + [False]
    assert together[0] is together[6]
    assert render_prompts(tokenizer, prompts) == [render_prompt(tokenizer, one) for one in prompts]
    assert render_all(tokenizer, [], [], **options) == render_prompts(tokenizer, []) == []


def test_of_many_conversations_the_one_that_a_template_refuses_is_told(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny(tmp_path))
    tokenizer.chat_template = (
        "{% for message in messages %}{% if message.role == 'system' %}"
        "{{ raise_exception('no system here') }}{% endif %}{{ message.content }} {% endfor %}"
    )
    refused = (Message(role="system", content="no"), Message(role="user", content="say red"))
    with pytest.raises(SettingsError, match="a conversation of system, user: no system here"):
        render_prompts(tokenizer, [prompt_of("say red"), refused])
