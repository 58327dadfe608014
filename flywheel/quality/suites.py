"""What is expected of the rows of each kind: names, descriptions and the rules themselves.

A rule looks at a column of landing, or at what `gate._frame` works out from one: a batch of
millions is judged in numbers, and Great Expectations would look at texts and times one by one.
Every rule names the rows that break it, so that they, and not the batch, go to quarantine. A
rule that is not critical is told and takes nothing away. Expectations skip nulls, which is
meant here: what must not be null is refused when a line is parsed.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flywheel.errors import SettingsError

VISIBLE = r"\S"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """`[quality]` of settings.toml: what is still plausible, and how much of the rest is borne.

    Attributes:
        most_seconds: On one record; more is milliseconds, or a page left open for days.
        most_usd: For one record; more is usually a price in cents.
        tolerated: Share of rows that may break a rule before its check fails.
        tolerated_by_rule: The same of one rule, by its name.
    """

    most_seconds: float = 24 * 3600.0
    most_usd: float = 1_000.0
    tolerated: float = 0.0
    tolerated_by_rule: Mapping[str, float] = field(default_factory=dict, compare=False)

    @classmethod
    def of_settings(cls, table: Mapping[str, Any]) -> "Thresholds":
        """The thresholds that a table of settings states.

        Raises:
            SettingsError: A share is none, or is that of a rule that there is not.
        """
        made = cls(**table)
        shares = {"tolerated": made.tolerated, **made.tolerated_by_rule}
        for name, share in shares.items():
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise SettingsError(
                    f"{name} of [quality] in settings.toml is a share from 0 to 1, got {share!r}"
                )
        known = {one.name for kind in OWN for one in expectations(kind)}
        if unknown := sorted(made.tolerated_by_rule.keys() - known):
            raise SettingsError(
                f"[quality.tolerated_by_rule] in settings.toml names {', '.join(unknown)}, which "
                f"is no rule; there are {', '.join(sorted(known))}"
            )
        return made

    def share_of(self, rule: str) -> float:
        """Share of rows that may break a rule before its check fails."""
        return self.tolerated_by_rule.get(rule, self.tolerated)


@dataclass(frozen=True, slots=True)
class Expectation:
    """One rule on one kind.

    Attributes:
        name: Name of the asset check, and of the reason in quarantine.
        build: Makes the Great Expectations object, from its module `expectations`.
        critical: Rows that break it are quarantined.
    """

    name: str
    description: str
    build: Callable[[Any, dict[str, Any]], Any]
    critical: bool = True


def _matches(column: str, pattern: str) -> Callable[[Any, dict[str, Any]], Any]:
    return lambda gxe, extra: gxe.ExpectColumnValuesToMatchRegex(
        column=column, regex=pattern, **extra
    )


def _between(column: str, low: Any, high: Any) -> Callable[[Any, dict[str, Any]], Any]:
    return lambda gxe, extra: gxe.ExpectColumnValuesToBeBetween(
        column=column, min_value=low, max_value=high, **extra
    )


def _says_something(column: str) -> Expectation:
    what = column.removesuffix("_text").replace("_", " ")
    return Expectation(
        f"{column.removesuffix('_text')}_says_something",
        f"The {what} holds more than white space.",
        _between(f"_{column}_speaks", 1, 1),
    )


def _shorter(column: str, most: int) -> Callable[[Any, dict[str, Any]], Any]:
    return _between(f"_{column}_length", None, most)


SCALE_HAS_WIDTH = Expectation(
    "scale_has_width",
    "The best and the worst rating of a scale differ; on another nothing can be told.",
    _between("_scale_width", 1e-9, None),
    critical=False,
)
COMMON = (
    _says_something("prompt_text"),
    Expectation(
        "not_from_the_future",
        "It was said before tomorrow; clocks and time zones may be wrong, but not by more.",
        _between("_days_ahead", None, 1),
    ),
    Expectation(
        "said_in_this_century",
        "It was said after 2000: an older date is a default of some export.",
        _between("_days_since_2000", 0, None),
    ),
)

OWN: dict[str, tuple[Expectation, ...]] = {
    "demonstration": (_says_something("response_text"),),
    "comparison": (
        _says_something("response_a_text"),
        _says_something("response_b_text"),
        Expectation(
            "sides_differ",
            "The two responses differ; a choice between equals is void, and a hint at its author.",
            lambda gxe, extra: gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A="_sides_differ", column_B="_zero", **extra
            ),
            critical=False,
        ),
    ),
    "ranking": (
        Expectation(
            "responses_say_something",
            "Every response of a ranking holds more than white space.",
            _between("_silent_count", 0, 0),
        ),
        Expectation(
            "best_rank_is_one",
            "The best response of a ranking has rank 1.",
            _between("_best_rank", 1, 1),
        ),
        Expectation(
            "ranks_tell_something",
            "At least two responses have different ranks.",
            _between("_worst_rank", 2, None),
            critical=False,
        ),
    ),
    "rating": (_says_something("response_text"), SCALE_HAS_WIDTH),
    "critique": (
        _says_something("response_text"),
        _says_something("critique"),
        _says_something("corrected_response_text"),
    ),
    "rubric_score": (_says_something("response_text"), _says_something("criterion")),
    "trajectory": (
        Expectation(
            "has_steps", "An attempt has at least one step.", _between("step_count", 1, None)
        ),
        Expectation(
            "task_is_named",
            "An attempt names its task, so that trials of one task can be told.",
            lambda gxe, extra: gxe.ExpectColumnValuesToNotBeNull(column="task_id", **extra),
            critical=False,
        ),
        *(
            Expectation(name, told, _between(f"_{column}", None, 0), critical)
            for name, column, told, critical in (
                (
                    "answers_name_a_call",
                    "foreign_answers",
                    "Each answer of a tool names a call of the same step or an earlier open one.",
                    True,
                ),
                (
                    "calls_are_answered",
                    "unanswered_calls",
                    "Each call is answered, or the attempt is marked cut off or says why it ended.",
                    False,
                ),
                (
                    "tools_are_declared",
                    "undeclared_tools",
                    "Only tools are called that the prompt declares, where it declares any.",
                    False,
                ),
                (
                    "turns_say_something",
                    "silent_turns",
                    "A turn that calls nothing says something.",
                    False,
                ),
                (
                    "ends_in_an_answer",
                    "open_ends",
                    "The last step is the agent's final answer, or says why it ended.",
                    False,
                ),
                (
                    "time_does_not_run_back",
                    "time_runs_back",
                    "Steps are in the order of their times, where the source gives times.",
                    False,
                ),
            )
        ),
    ),
    "step_rating": (
        SCALE_HAS_WIDTH,
        Expectation(
            "steps_say_something",
            "The steps up to the rated one hold more than white space.",
            _between("_steps_text_speaks", 1, 1),
        ),
    ),
    "interaction": (
        _says_something("response_text"),
        _says_something("edited_response_text"),
        Expectation(
            "edit_changes_something",
            "An edited response differs from the one served; where it does not, nobody edited.",
            _between("_edit_changes", 1, 1),
            critical=False,
        ),
    ),
    "evaluation_prompt": (
        Expectation(
            "grader_is_named",
            "A prompt names who grades a response to it.",
            _matches("grader", VISIBLE),
        ),
        Expectation(
            "reference_says_something",
            "A right answer, where there is one, holds more than white space.",
            _between("_reference_speaks", 1, 1),
            critical=False,
        ),
    ),
}


@functools.cache
def expectations(kind: str, thresholds: Thresholds | None = None) -> tuple[Expectation, ...]:
    """The suite of one kind."""
    limits = thresholds or Thresholds()
    plausible = (
        Expectation(
            "seconds_within_a_day",
            "At most a day, or most_seconds of [quality], was spent on a record; more is "
            "milliseconds, or a page left open for days.",
            _between("seconds", 0, limits.most_seconds),
        ),
        Expectation(
            "cost_is_plausible",
            "A record cost at most 1000 USD, or most_usd of [quality]; more is usually a price in "
            "cents.",
            _between("cost_usd", 0, limits.most_usd),
        ),
    )
    return (*plausible, *COMMON, *OWN[kind])
