"""What the people of the refund desk say, as typed records: one function per kind of feedback.

All people here are simulated programs: `annotator_kind` is 'program', and the metadata say so and
name the annotator's type. Each function takes the `Random` it draws from and how many records it
shall make; nothing else varies, so the same seed makes the same records.
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Literal

from flywheel.records import (
    Comparison,
    Critique,
    Demonstration,
    EvaluationPrompt,
    Interaction,
    Ranking,
    Rating,
    Record,
    RubricScore,
)
from flywheel.sample.annotators import ANNOTATORS, Annotator, draw_annotator
from flywheel.sample.desk import ASSISTANT, Desk
from flywheel.sample.gold import Gold, grade
from flywheel.sample.world import ASKED_AT, Request, draw_request, write_reply
from flywheel.sample.writers import Demonstrator, earlier_assistant

EVALUATION_SET = "refund-desk-v1"

# Two of four demonstrators learnt the desk under guideline v1 and do most of the work: in `late`
# requests of gold members the wrong answer is then the commoner one, so imitation alone learns it.
DEMONSTRATORS = tuple(
    Demonstrator(name=f"sim-demonstrator-{number}", guideline=guideline)
    for number, guideline in ((1, "v1"), (2, "v1"), (3, "v2"), (4, "v2"))
)
OLD_GUIDELINE_SHARE = 0.65  # of demonstrations and of the earlier assistant's replies
SECOND_OPINION_SHARE = 0.15  # rankings judged again by another annotator
# Comparisons that are the same for every annotator, judged before real work. Without them too few
# labels of a spammer are shared to tell him from a hasty annotator.
QUALIFICATION_SHARE = 0.72
THIRD_OPINION_SHARE = 0.25  # comparisons judged by two or three


def draw_demonstrator(rng: Random) -> Demonstrator:
    """Draw who writes; demonstrators of the old guideline do OLD_GUIDELINE_SHARE of the work."""
    guideline = "v1" if rng.random() < OLD_GUIDELINE_SHARE else "v2"
    return rng.choice([one for one in DEMONSTRATORS if one.guideline == guideline])


def draw_replies(rng: Random, request: Request, count: int) -> tuple[str, ...]:
    """Draw different replies of the earlier assistant to one request."""
    replies: dict[str, None] = {}
    while len(replies) < count:
        old = rng.random() < OLD_GUIDELINE_SHARE
        replies[earlier_assistant(old_guideline=old).write(rng, request)] = None
    shown = list(replies)
    rng.shuffle(shown)  # the first of distinct draws is the likelier one, hence the better one
    return tuple(shown)


def demonstrations(rng: Random, count: int) -> list[Record]:
    """Replies written to be imitated."""
    desk = Desk(rng, prefix="demo")

    def write() -> Demonstration:
        request, writer = draw_request(rng), draw_demonstrator(rng)
        return Demonstration(response=writer.write(rng, request), **desk.stamp(request, writer))

    return [write() for _ in range(count)]


def rankings(rng: Random, count: int) -> list[Record]:
    """Orders of four replies; some are ordered again, as shuffled, by a second annotator."""
    desk = Desk(rng, prefix="rank")
    found: list[Record] = []
    while len(found) < count:
        request = draw_request(rng)
        replies = draw_replies(rng, request, 4)
        annotator = draw_annotator(rng)
        found.append(ranking(desk, request, replies, annotator))
        if rng.random() < SECOND_OPINION_SHARE and len(found) < count:
            shuffled = tuple(rng.sample(replies, len(replies)))
            second = draw_annotator(rng, but=[annotator])
            found.append(ranking(desk, request, shuffled, second))
    return found


def ranking(
    desk: Desk,
    request: Request,
    replies: tuple[str, ...],
    annotator: Annotator,
    models: tuple[str, ...] = (),
) -> Record:
    """One annotator's order of the replies, in the order shown."""
    return Ranking(
        responses=replies,
        ranks=annotator.rank(desk.rng, request, replies),
        models=models or (ASSISTANT,) * len(replies),
        **desk.stamp(request, annotator, effort=len(replies) / 4),
    )


def comparisons(rng: Random, count: int) -> list[Record]:
    """Choices between two replies: the qualification of everybody, then daily work."""
    desk = Desk(rng, prefix="pair")
    found: list[Record] = []
    for _ in range(round(count * QUALIFICATION_SHARE / len(ANNOTATORS))):
        request = draw_request(rng)
        replies = draw_replies(rng, request, 2)
        for annotator in ANNOTATORS:
            found.append(comparison(desk, request, rng.sample(replies, 2), annotator))
    return found + daily_comparisons(desk, count - len(found))


def daily_comparisons(desk: Desk, count: int) -> list[Record]:
    """Part of the pairs are judged by two or three annotators."""
    rng, found = desk.rng, list[Record]()
    while len(found) < count:
        request = draw_request(rng)
        replies = draw_replies(rng, request, 2)
        votes = rng.choice((2, 3)) if rng.random() < THIRD_OPINION_SHARE else 1
        judges: list[Annotator] = []
        for _ in range(votes):
            judges.append(draw_annotator(rng, but=judges))
            found.append(comparison(desk, request, rng.sample(replies, 2), judges[-1]))
    return found[:count]


def comparison(
    desk: Desk, request: Request, shown: Sequence[str], annotator: Annotator
) -> Comparison:
    """One annotator's choice, in the order shown."""
    return Comparison(
        response_a=shown[0],
        response_b=shown[1],
        choice=annotator.choose(desk.rng, request, shown[0], shown[1]),  # type: ignore[arg-type]
        model_a=ASSISTANT,
        model_b=ASSISTANT,
        **desk.stamp(request, annotator, effort=0.4),
    )


def ratings(rng: Random, count: int) -> list[Record]:
    """Stars from 1 to 5, as perceived."""

    def rate(desk: Desk, request: Request, reply: str, annotator: Annotator) -> Rating:
        seen = annotator.perceive(rng, request, reply)
        stars = float(min(5, max(1, round(1 + 4 * seen))))
        stamp = desk.stamp(request, annotator, effort=0.25)
        return Rating(response=reply, rating=stars, rating_min=1, rating_max=5, **stamp)

    return list(_judged(rng, count, "rate", rate))


def critiques(rng: Random, count: int) -> list[Record]:
    """What is wrong in words, with the corrected reply where something is; by those who check."""
    checkers = [one for one in ANNOTATORS if one.type in ("expert", "careful")]

    def criticise(desk: Desk, request: Request, reply: str, _: Annotator) -> Critique:
        found = faults_in(grade(request, reply))
        return Critique(
            response=reply,
            critique=" ".join(found) or "nothing is wrong .",
            corrected_response=write_reply(request) if found else None,
            **desk.stamp(request, rng.choice(checkers), effort=1.5),
        )

    return list(_judged(rng, count, "crit", criticise))


def faults_in(true: Gold) -> list[str]:
    """Sentences that say what is wrong with a reply."""
    said = {
        "the name is wrong .": not true.name,
        "the item is wrong .": not true.item,
        "the decision is wrong .": not true.decision,
        "the decision is right but the number is wrong .": true.decision and not true.exact,
        "it is too long .": true.excess_words > 0,
        "it speaks of another customer .": true.leak,
    }
    return [sentence for sentence, is_said in said.items() if is_said]


RUBRIC: tuple[tuple[str, float, Callable[[Gold], float]], ...] = (
    ("the decision follows the house rule", 3.0, lambda true: float(true.decision)),
    ("the amount or the window is exact", 5.0, lambda true: float(true.exact)),
    ("the reply is courteous", 1.0, lambda true: (true.greeting + true.thanks) / 2),
    ("the reply is brief", 1.0, lambda true: max(0.0, 1 - true.excess_words / 10)),
)


def rubric_scores(rng: Random, count: int) -> list[Record]:
    """Four criteria per reply, answered by experts and careful annotators with few errors."""
    desk = Desk(rng, prefix="rubric")
    found: list[Record] = []
    checkers = [one for one in ANNOTATORS if one.type in ("expert", "careful")]
    while len(found) < count:
        request = draw_request(rng)
        (reply,) = draw_replies(rng, request, 1)
        true, judge = grade(request, reply), rng.choice(checkers)
        for criterion, weight, answer in RUBRIC:
            is_checked = rng.random() < judge.checks_exact
            score = answer(true) if is_checked else 1.0  # the benefit of the doubt
            stamp = desk.stamp(request, judge, effort=0.2)
            found.append(
                RubricScore(
                    response=reply, criterion=criterion, score=score, weight=weight, **stamp
                )
            )
    return found[:count]


def interactions(rng: Random, count: int) -> list[Record]:
    """Served turns: customers give thumbs now and then, the desk's staff edit what went wrong."""

    def serve(desk: Desk, request: Request, reply: str, _: Annotator) -> Interaction:
        true = grade(request, reply)
        is_pleased = request.is_refunded == ("refund is" in reply)  # customers know what they want
        pleased: Literal["up", "down"] = "up" if is_pleased else "down"
        thumbs = rng.choice((pleased, None))  # half of the customers say nothing
        edited = write_reply(request) if not true.decision and rng.random() < 0.6 else None
        stamp = desk.stamp(request, None) | {"data_subject": f"customer-{request.name}"}
        return Interaction(
            response=reply, model=ASSISTANT, thumbs=thumbs, edited_response=edited, **stamp
        )

    return list(_judged(rng, count, "turn", serve))


def evaluation_prompts(rng: Random, count: int) -> list[Record]:
    """Requests that nobody trains on, graded by the hidden gold."""
    desk = Desk(rng, prefix="eval")
    found: list[Record] = []
    seen: set[str] = set()
    while len(found) < count:
        request = draw_request(rng, site=ASKED_AT)
        if request.text in seen:
            continue
        seen.add(request.text)
        found.append(
            EvaluationPrompt(
                evaluation_set=EVALUATION_SET, grader="refund_desk", **desk.stamp(request, None)
            )
        )
    return found


def _judged(
    rng: Random,
    count: int,
    prefix: str,
    judge: Callable[[Desk, Request, str, Annotator], Record],
) -> Iterator[Record]:
    """One reply of the earlier assistant a record, each given to an annotator."""
    desk = Desk(rng, prefix=prefix)
    for _ in range(count):
        request = draw_request(rng)
        (reply,) = draw_replies(rng, request, 1)
        yield judge(desk, request, reply, draw_annotator(rng))
