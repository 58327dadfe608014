"""What no answer may do: rules of the user's own, each with an example that proves that it fires.

A rule forbids a pattern, requires one, or is a function of the user's own. Its example is an answer
that breaks it: a rule that lets its example pass would let everything pass, and is an error before
anything is judged by it.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flywheel.errors import EvaluationError, SettingsError
from flywheel.evaluate.graders.blame import blamed
from flywheel.process.content import code_of, content_of
from flywheel.process.launch import write_json
from flywheel.process.settings import build
from flywheel.records.message import Conversation, prompt_of

Check = Callable[[Conversation, str], bool]  # prompt, response -> whether it is fine


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One table `[rules.<name>]` of settings.toml; one of the first three is given."""

    forbid: str = ""  # a pattern that must not stand in an answer
    require: str = ""  # a pattern that must
    check: str = ""  # "module:function" of (prompt, response_text), true where the answer is fine
    example: str  # an answer that breaks it
    example_prompt: str = ""  # what that answers, where the function looks at it
    most_frac: float = 0.0  # of answers that may break it
    code: str = ""  # hash of the function's file, so that another function is another rule

    def __post_init__(self) -> None:
        if sum(map(bool, (self.forbid, self.require, self.check))) != 1:
            raise SettingsError("a rule has one of forbid, require and check; repair [rules]")
        if not 0 <= self.most_frac < 1:
            raise SettingsError(f"most_frac of a rule must be from 0 to below 1: {self.most_frac}")
        try:
            re.compile(self.forbid or self.require)
        except re.error as error:
            raise SettingsError(
                f"{self.forbid or self.require!r} is no pattern: {error}; repair [rules]"
            ) from error

    def holds(self, prompt: Conversation, text: str) -> bool:
        """Whether an answer keeps the rule.

        Raises:
            EvaluationError: The function failed.
        """
        if not self.check:
            return (re.search(self.forbid or self.require, text) is None) == bool(self.forbid)
        from flywheel.rollout import verifier_of  # loads torch, which who writes rules need not

        with blamed(
            f"the rule {self.check}", "an answer that it cannot judge is not fine: repair it"
        ):
            return bool(verifier_of(self.check)(prompt, text))


def write_rules(table: dict[str, Any], path: Path) -> None:
    """Put the rules of settings.toml where an evaluation reads them, with their functions' code.

    Raises:
        SettingsError: One is no rule.
    """
    rules = {}
    for name, given in table.items():
        if not isinstance(given, dict):
            raise SettingsError(f"[rules] has a table for each rule, found {name} = {given!r}")
        file = code_of(str(given.get("check", "")))
        rules[name] = asdict(build(Rule, given, code=content_of(file) if file else ""))
    write_json(path, rules)


def read_rules(path: str) -> dict[str, Rule]:
    """The rules of an evaluation, each proved to fire; none where no file is named.

    Raises:
        EvaluationError: A rule lets its example pass, or its function failed.
    """
    if not path:
        return {}
    rules = {name: Rule(**given) for name, given in json.loads(Path(path).read_text()).items()}
    for name, rule in rules.items():
        if rule.holds(prompt_of(rule.example_prompt), rule.example):
            raise EvaluationError(
                f"the rule {name} lets its own example pass, {rule.example[:80]!r}: it can catch "
                f"nothing; repair [rules.{name}]"
            )
    return rules
