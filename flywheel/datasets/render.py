"""A conversation as tokens, and which of them carry loss.

Prompt and response are rendered by the tokenizer's chat template as text, then tokenised apart,
so that what training sees before the response is, token for token, what a sampler is given. The
template must be prefix-preserving: the text of prompt and response begins with the text of the
prompt alone.

The end-of-turn token stands inside the loss (a policy that never learns it never stops), and
nothing after it does. Where a response has several turns, only those of the assistant carry loss:
what a tool answered is observed, not learnt. A text begins once: the template writes the
begin-of-text token, or, where it leaves that to the tokenizer (Zephyr's does), it is put in front.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from jinja2.exceptions import TemplateError

from flywheel.errors import SettingsError
from flywheel.records.message import Conversation, dump

K = TypeVar("K")
Answered = tuple[list[int], list[tuple[int, int]], list[int]]  # ids, observed spans, ends of turns

# Where a tokenizer that only wraps a fast one has its ways from. It is asked for ids without their
# places in the text, which nobody needs and which take longer than the ids.
FAST = ("transformers.tokenization_utils_base", "transformers.tokenization_utils_tokenizers")

# For models that bring no template of their own: base models, mostly.
PLAIN_TEMPLATE = (
    "{{ bos_token or '' }}{% for message in messages %}"
    "{% if message.role == 'assistant' %}{{ message.content }}{{ eos_token }}\n"
    "{% else %}{{ message.role | capitalize }}: {{ message.content }}\n{% endif %}"
    "{% if loop.last and add_generation_prompt or not loop.last and "
    "loop.nextitem.role == 'assistant' %}Assistant: {% endif %}{% endfor %}"
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids of prompt and response; the loss is on `ids[start:]` without what was observed.

    Attributes:
        is_truncated: Whether the prompt lost tokens, for the caller to count.
        observed: Spans (first, end) after `start` that the policy did not write: results of
            tools, and what the template puts around them.
        ends: Places of the last token of each turn of the assistant after `start`.
    """

    ids: list[int]
    start: int
    is_truncated: bool = False
    observed: tuple[tuple[int, int], ...] = ()
    ends: tuple[int, ...] = ()

    @property
    def response_tokens(self) -> int:
        """Number of tokens that carry loss."""
        return len(self.ids) - self.start - sum(end - first for first, end in self.observed)


def render_prompt(tokenizer: Any, prompt: Conversation) -> list[int]:
    """Token ids that a sampler continues.

    Raises:
        SettingsError: The chat template refuses the conversation.
    """
    return render_prompts(tokenizer, [prompt])[0]


def render_prompts(tokenizer: Any, prompts: Sequence[Conversation]) -> list[list[int]]:
    """As `render_prompt`, of many: tokenised together, and each that comes again only once."""
    names = [dump(prompt) for prompt in prompts]
    texts = _texts(tokenizer, dict(zip(names, prompts, strict=True)), add_generation_prompt=True)
    ids = dict(zip(texts, _begun(tokenizer, list(texts.values())), strict=True))
    return [ids[name] for name in names]


def render(
    tokenizer: Any,
    prompt: Conversation,
    response: Conversation,
    *,
    max_tokens: int,
    stop_ids: Sequence[int],
) -> Rendered | None:
    """Render a prompt with its response.

    A response of several turns carries loss on those of the assistant, each with its end, and is
    over with the last of them. A prompt that is too long loses its oldest tokens after the
    begin-of-text token, never the response; None where the response leaves no room in
    `max_tokens` for one token of the prompt, or has no turn of the assistant, for the caller to
    count.

    Raises:
        SettingsError: The chat template is not prefix-preserving, or refuses the conversation.
    """
    before = _text(tokenizer, prompt, add_generation_prompt=True)
    answered = _turns(tokenizer, prompt, response, before, stop_ids)
    return _behind(_begun(tokenizer, [before])[0], *answered, max_tokens, tokenizer.bos_token_id)


def render_all(
    tokenizer: Any,
    prompts: Sequence[Conversation],
    responses: Sequence[Conversation],
    *,
    max_tokens: int,
    stop_ids: Sequence[int],
) -> list[Rendered | None]:
    """As `render`, of many, for a fraction of the time.

    Responses of one turn, which most are, are tokenised together. A prompt, and a prompt with its
    response, that comes again is rendered once; the same `Rendered` then stands at all its places.
    """
    names = [(dump(p), dump(r)) for p, r in zip(prompts, responses, strict=True)]
    pairs = dict(zip(names, zip(prompts, responses, strict=True), strict=True))
    befores = _texts(
        tokenizer,
        {name: prompt for (name, _), (prompt, _) in pairs.items()},
        add_generation_prompt=True,
    )
    given = dict(zip(befores, _begun(tokenizer, list(befores.values())), strict=True))
    plain = {
        name: (*prompt, *response)
        for name, (prompt, response) in pairs.items()
        if [turn.role for turn in response] == ["assistant"]
    }
    wholes = _texts(tokenizer, plain, add_generation_prompt=False)
    said = [_after(befores[name[0]], whole) for name, whole in wholes.items()]
    turns = dict(zip(wholes, encode_all(tokenizer, said), strict=True))
    end, begin = tokenizer.eos_token_id, tokenizer.bos_token_id
    found: dict[tuple[str, str], Rendered | None] = {}
    for name, (prompt, response) in pairs.items():
        if name in turns:
            own = _to_its_end(turns[name], stop_ids, end)
            answered: Answered = own, [], [len(own) - 1]
        else:
            answered = _turns(tokenizer, prompt, response, befores[name[0]], stop_ids)
        found[name] = _behind(given[name[0]], *answered, max_tokens, begin)
    return [found[name] for name in names]


def page_of(tokenizer: Any, page: str, max_tokens: int) -> Rendered | None:
    """A page to imitate from its first token to the end of text; None where it is too long."""
    ids = [*_encode(tokenizer, page), tokenizer.eos_token_id]
    begin = tokenizer.bos_token_id
    ids = ids if begin is None else [begin, *ids]
    return Rendered(ids=ids, start=1) if 2 <= len(ids) <= max_tokens else None


def _behind(
    given: list[int],
    answer: list[int],
    observed: Sequence[tuple[int, int]],
    ends: Sequence[int],
    max_tokens: int,
    begin: int | None,
) -> Rendered | None:
    """An answer behind its prompt, which is cut to what room there is; None where there is none."""
    room = max_tokens - len(answer)
    if not answer or room < 1:
        return None
    kept = _newest(given, room, begin)
    return Rendered(
        ids=kept + answer,
        start=len(kept),
        is_truncated=len(kept) < len(given),
        observed=tuple((len(kept) + first, len(kept) + end) for first, end in observed),
        ends=tuple(len(kept) + end for end in ends),
    )


def _to_its_end(turn: list[int], stop_ids: Sequence[int], end: int) -> list[int]:
    """Ids of a turn up to its last end of turn, which is put there where it has none."""
    ends = [at for at, token in enumerate(turn) if token in stop_ids]
    return turn[: ends[-1] + 1] if ends else [*turn, end]


def _turns(
    tokenizer: Any,
    prompt: Conversation,
    response: Conversation,
    before: str,
    stop_ids: Sequence[int],
) -> Answered:
    """Ids from the end of `before` to the assistant's last end of turn; the spans among them that
    it did not write; the place of each end of turn."""
    ids: list[int] = []
    observed: list[tuple[int, int]] = []
    last: list[int] = []
    rest, written = list[int](), before  # of the turn before: ids after its end, and all its text
    for place in (at for at, turn in enumerate(response) if turn.role == "assistant"):
        said = (*prompt, *response[:place])
        asked = _text(tokenizer, said, add_generation_prompt=True) if place else before
        whole = _text(tokenizer, (*said, response[place]), add_generation_prompt=False)
        between = rest + _encode(tokenizer, _after(written, asked))
        if between:
            observed.append((len(ids), len(ids) + len(between)))
        turn = _encode(tokenizer, _after(asked, whole))
        own = _to_its_end(turn, stop_ids, tokenizer.eos_token_id)
        ids += between + own
        last.append(len(ids) - 1)
        rest, written = turn[len(own) :], whole
    return ids, observed, last


def _after(before: str, whole: str) -> str:
    """What `whole` adds to `before`."""
    if not whole.startswith(before):
        raise SettingsError(
            "the chat template renders a conversation differently once its next turn is there "
            f"({before[-60:]!r} against {whole[: len(before)][-60:]!r}), so the loss could not "
            "be placed; give the model a prefix-preserving chat_template"
        )
    return whole[len(before) :]


def _newest(ids: list[int], room: int, begin: int | None) -> list[int]:
    """The last `room` ids; a text that began with `begin` still does."""
    if len(ids) <= room:
        return ids
    first = ids[:1] if ids[0] == begin else []
    rest = room - len(first)
    return first + (ids[-rest:] if rest else [])


def _text(tokenizer: Any, conversation: Conversation, *, add_generation_prompt: bool) -> str:
    turns = [_as_dict(message) for message in conversation]
    try:
        text = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except TemplateError as error:
        raise SettingsError(
            f"the chat template refuses a conversation of {', '.join(t['role'] for t in turns)}: "
            f"{error}; leave such conversations out, or give the model another chat_template"
        ) from error
    return str(text)


def _as_dict(message: Any) -> dict[str, Any]:
    turn = {"content": "", **msgspec.to_builtins(message)}
    if message.tool_calls:
        turn["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.role == "developer":
        turn["role"] = "system"  # older templates know no other name for it
    return turn


def _texts(
    tokenizer: Any, conversations: dict[K, Conversation], *, add_generation_prompt: bool
) -> dict[K, str]:
    """Conversations as text, by name."""
    if not conversations:
        return {}
    turns = [[_as_dict(one) for one in said] for said in conversations.values()]
    try:
        texts = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except TemplateError:  # alone, the one that it refuses is told
        return {
            name: _text(tokenizer, said, add_generation_prompt=add_generation_prompt)
            for name, said in conversations.items()
        }
    return dict(zip(conversations, texts, strict=True))


def _begun(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of texts from their beginnings on."""
    found, begin = encode_all(tokenizer, texts), tokenizer.bos_token_id
    if begin is None or all(ids[:1] == [begin] for ids in found):
        return found
    if begin not in tokenizer("")["input_ids"]:
        return found
    return [ids if ids[:1] == [begin] else [begin, *ids] for ids in found]


def _encode(tokenizer: Any, text: str) -> list[int]:
    return encode_all(tokenizer, [text])[0]


def encode_all(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of texts, without what a tokenizer puts before or behind a text."""
    if not texts:
        return []
    options: dict[str, Any] = {"add_special_tokens": False}
    ways = (getattr(type(tokenizer), name, None) for name in ("__call__", "_encode_plus"))
    if tuple(getattr(one, "__module__", "") for one in ways) != FAST:
        return list(tokenizer(list(texts), **options)["input_ids"])
    tokenizer("", **options)  # from here on it neither cuts nor pads
    found = tokenizer.backend_tokenizer.encode_batch_fast(list(texts), **options)
    return [one.ids for one in found]
