"""Who scores an answer: a program that knows, or a model or people where no program does.

A grader scores or raises; none returns zero because something failed. Programs are those of
`PROGRAMS` and, as "my_package.checks:passes", any function of the user's own: it is given the
prompt, the words of the response and, if it takes a third, the reference. It runs in this process
as it is: code that a response holds must not be run by it without a sandbox of its own. The graders
of `PAIRWISE` give no answer a score: they say which of two is better (`judge.py`, `people.py`).
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flywheel.errors import EvaluationError
from flywheel.evaluate.graders.blame import blamed
from flywheel.evaluate.graders.numbers import is_marked, number_in
from flywheel.records.message import Conversation, text_of
from flywheel.rollout import Response, RewardModel, verifier_of
from flywheel.sample.gold import gold

BY_REWARD = "reward_model"
BY_JUDGE = "judge"
BY_PEOPLE = "people"
PAIRWISE = (BY_JUDGE, BY_PEOPLE)


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt to be tested on.

    Attributes:
        key: Key of the prompt.
        group: Group of prompts that nearly repeat it; what intervals are clustered by.
        grader: Name of who scores a response.
        reference: The right answer, where the grader needs one.
        domain: Slice it belongs to; empty where none was given.
        source: Where it was landed from; another slice.
        record_uids: Landed records behind it, which nothing may have been trained on.
        stands_in: It is a held-out demonstration's, because no evaluation prompt has landed.
        evaluation_set: Name of the set that asks it; empty where it stands in.
        has_say: Its grader's word on the challenger is evidence; see `taught.py`.
    """

    key: str
    group: str
    prompt: Conversation
    grader: str
    reference: str | None
    domain: str
    source: str = ""
    record_uids: tuple[str, ...] = ()
    stands_in: bool = False
    evaluation_set: str = ""
    has_say: bool = True


def refund_desk(asked: Asked, response: Response) -> float:
    """The hidden gold of the sample world, from -1 to 1."""
    return gold(text_of(asked.prompt), response.text, ended=response.ended).score


def numeric_answer(asked: Asked, response: Response) -> float:
    """1 where the number that the response answers with is the reference's.

    That is the first number behind the last mark (`numbers.py`). Where neither response nor
    reference has a mark, it is the last number of a response that ended: one that was cut off has
    not answered. Where the reference has one, a response without a mark has not answered either.
    """
    if asked.reference is None:
        raise EvaluationError(f"numeric_answer needs a reference, prompt {asked.key} has none")
    wanted = number_in(asked.reference)
    if wanted is None:
        raise EvaluationError(f"the reference of prompt {asked.key} holds no number")
    if not is_marked(response.text) and (is_marked(asked.reference) or not response.ended):
        return 0.0
    return float(number_in(response.text) == wanted)


def exact(asked: Asked, response: Response) -> float:
    """1 where the answer is the reference, white space at the ends aside."""
    if asked.reference is None:
        raise EvaluationError(f"exact needs a reference, prompt {asked.key} has none")
    return float(response.text.strip() == asked.reference.strip())


PROGRAMS: dict[str, Callable[[Asked, Response], float]] = {
    "refund_desk": refund_desk,
    "numeric_answer": numeric_answer,
    "exact": exact,
}


def checked(asked: Asked, response: Response) -> float:
    """What a function of the user's own says.

    Raises:
        EvaluationError: There is no such function, or it raises, or says no number.
    """
    with blamed(
        f"grader {asked.grader} on prompt {asked.key}",
        "an answer that it cannot grade is no 0: repair it, or let it say what that is worth",
    ):
        check = verifier_of(asked.grader)
        given = (asked.prompt, response.text, asked.reference)[: _parameters(check)]
        score = float(check(*given))
    if not math.isfinite(score):
        raise EvaluationError(f"grader {asked.grader} said {score} on prompt {asked.key}")
    return score


def _parameters(check: Callable[..., float]) -> int:
    """How many of prompt, response and reference a function takes: two or three."""
    taken = inspect.signature(check).parameters.values()
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return 3 if sum(one.kind in places for one in taken) > 2 else 2


def score_all(
    asked: Sequence[Asked],
    responses: Sequence[Response],
    reward: RewardModel,
    max_tokens: int = 1024,
) -> list[float]:
    """Score each answer by its prompt's grader; NaN where that looks at two answers at once.

    Raises:
        EvaluationError: A grader is unknown, or cannot score what it is given.
    """
    by_reward = [place for place, one in enumerate(asked) if one.grader == BY_REWARD]
    rewards = dict(
        zip(
            by_reward,
            reward.score(
                [asked[place].prompt for place in by_reward],
                [responses[place].conversation for place in by_reward],
                max_tokens=max_tokens,
            ),
            strict=True,
        )
    )
    scores = []
    for place, (one, response) in enumerate(zip(asked, responses, strict=True)):
        if one.grader == BY_REWARD:
            score = rewards[place]
            if score is None:
                raise EvaluationError(
                    f"an answer to prompt {one.key} is too long for the reward model; lower "
                    f"max_new_tokens or raise max_tokens"
                )
        elif one.grader in PROGRAMS:
            score = PROGRAMS[one.grader](one, response)
        elif ":" in one.grader:
            score = checked(one, response)
        elif one.grader in PAIRWISE:
            score = math.nan  # there is none
        else:
            raise EvaluationError(
                f"no grader {one.grader!r} (prompt {one.key}); there are "
                f"{', '.join([*PROGRAMS, BY_REWARD, *PAIRWISE])}, and functions 'module:function'"
            )
        scores.append(score)
    return scores
