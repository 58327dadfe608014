"""Who scores an answer: a program that knows, or the reward model where no program does.

A grader scores or raises; none returns zero because something failed.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flywheel.errors import EvaluationError
from flywheel.records.message import Conversation, text_of
from flywheel.rollout import Response, RewardModel
from flywheel.sample.gold import gold

NUMBER = re.compile(r"(?:(?<!\d)-)?\d[\d,]*(?:\.\d+)?")  # in 20-12 the minus is no sign
BY_REWARD = "reward_model"


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
        evaluation_set: Name and version of the set it belongs to; empty where it stands in.
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


def refund_desk(asked: Asked, response: Response) -> float:
    """The hidden gold of the sample world, from -1 to 1."""
    return gold(text_of(asked.prompt), response.text, ended=response.ended).score


def numeric_answer(asked: Asked, response: Response) -> float:
    """1 where the number after `####`, or else the last number, is the reference's."""
    if asked.reference is None:
        raise EvaluationError(f"numeric_answer needs a reference, prompt {asked.key} has none")
    wanted = _last_number(asked.reference)
    if wanted is None:
        raise EvaluationError(f"the reference of prompt {asked.key} holds no number")
    return float(_last_number(response.text) == wanted)


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


def score_all(
    asked: Sequence[Asked],
    responses: Sequence[Response],
    reward: RewardModel,
    max_tokens: int = 1024,
) -> list[float]:
    """Score each answer by its prompt's grader.

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
        else:
            raise EvaluationError(
                f"no grader {one.grader!r} (prompt {one.key}); there are "
                f"{', '.join([*PROGRAMS, BY_REWARD])}"
            )
        scores.append(score)
    return scores


def _last_number(text: str) -> float | None:
    _, mark, after = text.rpartition("####")
    found = NUMBER.findall(after if mark else text)
    return float(found[0 if mark else -1].replace(",", "")) if found else None
