"""Tokenizers whose chat template is told of the tools that a prompt could be answered with.

A row without tools is rendered by the tokenizer itself. Where the template does not write tools,
or nobody can read them, a row is rendered without them too, for the caller to count: what the
policy is told when it is trained, it can be told when it is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from flywheel.datasets.render import Rendered, render_all, render_prompt
from flywheel.records.message import Conversation, dump, load
from flywheel.records.tools import load_tools


class WithTools:
    """A tokenizer that tells its chat template of tools, and is the tokenizer in all else."""

    def __init__(self, tokenizer: Any, tools: list[dict[str, Any]]) -> None:
        self._tokenizer, self._tools = tokenizer, tools

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, *texts: Any, **options: Any) -> Any:
        """Tokenise."""
        return self._tokenizer(*texts, **options)

    def apply_chat_template(self, turns: Any, **options: Any) -> Any:
        """The turns, and the tools, as text."""
        return self._tokenizer.apply_chat_template(turns, tools=self._tools, **options)


@dataclass(slots=True)
class ToolTokenizers:
    """The tokenizer that each row is rendered by.

    Attributes:
        untold_count: Rows asked for whose tools the model is not told of.
    """

    tokenizer: Any
    untold_count: int = 0
    _made: dict[str, Any] = field(default_factory=dict)  # None where there is no such tokenizer

    def of(self, row: dict[str, Any]) -> Any:
        """That of a row with a `prompt` and, where there are any, `tools`.

        Raises:
            SettingsError: The chat template refuses the conversation.
        """
        text = row.get("tools")
        if not text:
            return self.tokenizer
        if text not in self._made:
            self._made[text] = self._make(text, row["prompt"])
        made = self._made[text]
        self.untold_count += made is None
        return self.tokenizer if made is None else made

    def _make(self, text: str, prompt: str) -> Any:
        if (tools := load_tools(text)) == []:
            return self.tokenizer
        if tools is None:
            return None
        told = WithTools(self.tokenizer, tools)
        silent, written = (render_prompt(one, load(prompt)) for one in (self.tokenizer, told))
        return None if silent == written else told


def render_with_tools(
    tokenizer: Any,
    prompts: Sequence[Conversation],
    responses: Sequence[Conversation],
    tools: Sequence[str | None] = (),
    *,
    max_tokens: int,
    stop_ids: Sequence[int],
) -> list[Rendered | None]:
    """As `render_all`, the template told of the tools of each prompt; none given: none had any."""
    tokenizers, given = ToolTokenizers(tokenizer), tools or [None] * len(prompts)
    places: dict[Any, list[int]] = {}  # by tokenizer
    for at, (prompt, text) in enumerate(zip(prompts, given, strict=True)):
        told = tokenizers.of({"prompt": dump(prompt), "tools": text}) if text else tokenizer
        places.setdefault(told, []).append(at)
    found: list[Rendered | None] = [None] * len(prompts)
    for told, those in places.items():
        asked, said = ([side[at] for at in those] for side in (prompts, responses))
        rows = render_all(told, asked, said, max_tokens=max_tokens, stop_ids=stop_ids)
        for at, row in zip(those, rows, strict=True):
            found[at] = row
    return found
