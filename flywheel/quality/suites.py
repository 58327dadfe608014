"""What is expected of the rows of each kind: names, descriptions and the rules themselves.

A rule looks at a column of landing, or at what `gate._frame` works out from one: a batch of
millions is judged in numbers, and Great Expectations would look at texts and times one by one.
Every rule names the rows that break it, so that they, and not the batch, go to quarantine. A
rule that is not critical is told and takes nothing away. Expectations skip nulls, which is
meant here: what must not be null is refused when a line is parsed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_SECONDS = 24 * 3600.0  # for one record: more is milliseconds, or a page left open for days
MOST_USD = 1_000.0  # for one record: more is a price in cents
VISIBLE = r"\S"


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


COMMON = (
    _says_something("prompt_text"),
    Expectation(
        "seconds_within_a_day",
        "At most a day was spent on a record; more is milliseconds, or a page left open for days.",
        _between("seconds", 0, MOST_SECONDS),
    ),
    Expectation(
        "cost_is_plausible",
        f"A record cost at most {MOST_USD:.0f} USD; more is usually a price in cents.",
        _between("cost_usd", 0, MOST_USD),
    ),
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
    "rating": (_says_something("response_text"),),
    "critique": (
        _says_something("response_text"),
        _says_something("critique"),
        _says_something("corrected_response_text"),
    ),
    "rubric_score": (_says_something("response_text"),),
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
        Expectation(
            "steps_say_something",
            "The steps up to the rated one hold more than white space.",
            _between("_steps_text_speaks", 1, 1),
        ),
    ),
    "interaction": (
        _says_something("response_text"),
        _says_something("edited_response_text"),
    ),
    "evaluation_prompt": (
        Expectation(
            "grader_is_named",
            "A prompt names who grades a response to it.",
            _matches("grader", VISIBLE),
        ),
    ),
}


def expectations(kind: str) -> tuple[Expectation, ...]:
    """The suite of one kind."""
    return (*COMMON, *OWN[kind])
