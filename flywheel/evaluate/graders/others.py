"""Judge and people, who compare two answers: asked, and put beside what scores say."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from flywheel.errors import EvaluationError
from flywheel.evaluate.graders.graders import BY_JUDGE, BY_PEOPLE, PAIRWISE, Asked
from flywheel.evaluate.graders.judge import judged_by_model, load_judge, measure_judge, too_few_read
from flywheel.evaluate.graders.people import judged_by_people, read_votes
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.versus import Answers

Outcomes = dict[str, list[float | None]]


def compared_by_others(
    answers: dict[str, Answers],
    asked: Sequence[Asked],
    pairs: pa.Table,
    settings: EvaluateSettings,
) -> tuple[dict[str, Answers], dict[str, Any]]:
    """The answers with who is preferred where only a comparison says, and what was found.

    Args:
        answers: Of every policy.
        asked: The prompts answered.
        pairs: Test split of preferences: what a judge is held against.
        settings: Who judges, and what people said.

    Returns:
        `judge`, null where no prompt is left to one; `people` by opponent; `no_say`: why somebody's
        word does not count, or is missing, for the gate to hold.

    Raises:
        EvaluationError: A prompt is left to a judge, and none is set.
    """
    by_judge, told, no_say = _judge(answers, asked, pairs, settings)
    votes = read_votes(settings)
    found, people = {}, {}
    for name, one in answers.items():
        if name == "policy":
            found[name] = one
            continue
        said, facts = judged_by_people(votes, answers["policy"], one, asked, settings)
        if facts:
            people[name] = facts
        lost = [
            said[at] if two.grader == BY_PEOPLE else by_judge[name][at] if by_judge else None
            for at, two in enumerate(asked)
        ]
        found[name] = replace(one, lost=lost)
    opponent = "champion" if "champion" in answers else "base"
    left = [
        at
        for at, one in enumerate(asked)
        if one.grader == BY_PEOPLE
        and answers["policy"].responses[at].text != answers[opponent].responses[at].text
    ]
    if left and all(found[opponent].lost[at] is None for at in left):
        no_say.append(
            f"{len(left)} prompts are left to people, who have judged none of these answers yet; "
            f"ask them ([people] pairs), land their votes with annotator_kind 'person', and "
            f"evaluate again"
        )
    if not any(one.grader in PAIRWISE for one in asked):
        found = answers
    return found, {"judge": told, "people": people, "no_say": no_say}


def _judge(
    answers: dict[str, Answers],
    asked: Sequence[Asked],
    pairs: pa.Table,
    settings: EvaluateSettings,
) -> tuple[Outcomes, dict[str, Any] | None, list[str]]:
    """Outcomes by opponent, what the judge is worth, and why it has no say where it has none."""
    left = [one.key for one in asked if one.grader == BY_JUDGE]
    if not left:
        return {}, None, []
    if not settings.judge:
        raise EvaluationError(
            f"prompt {left[0]} and {len(left) - 1} more are left to a judge, and none is set; name "
            f"a model in [evaluate] judge, or give these prompts another grader"
        )
    judge = load_judge(settings)
    told = measure_judge(judge, pairs.to_pylist(), settings)
    print(
        f"judge: agrees with people {told['agreement']}, {told['no_say'] or 'has a say'}",
        flush=True,
    )
    if told["no_say"]:
        return {}, told, [told["no_say"]]
    outcomes, bias = judged_by_model(judge, answers, asked, settings)
    no_say = []
    for name, facts in bias.items():
        if unread := too_few_read(facts):
            outcomes[name] = [None] * len(asked)  # what is left is no fair sample of the prompts
            no_say.append(f"judge {settings.judge} has no say on policy and {name}: {unread}")
    return outcomes, told | {"on_prompts": bias}, no_say
