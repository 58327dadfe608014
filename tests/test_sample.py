"""The sample world: its rule, its hidden gold, its people, and that a seed fixes all of it."""

from dataclasses import replace
from itertools import combinations
from random import Random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import EvaluationError
from flywheel.sample.annotators import ANNOTATORS, draw_annotator, ranks_of
from flywheel.sample.corpus import WRITER_SHARES, pages
from flywheel.sample.feedback import DEMONSTRATORS, draw_demonstrator, draw_replies
from flywheel.sample.gold import gold, grade
from flywheel.sample.tools import Environment, trajectories
from flywheel.sample.world import DOMAINS, Request, draw_request, read_request, write_reply
from flywheel.sample.writers import HABITS, Demonstrator, write_page_reply

KIM = Request(
    name="kim",
    item="desk",
    price=11,
    days=32,
    is_opened=True,
    membership="gold",
    other="gus",
    other_price=79,
)
SEEDS = st.integers(0, 10**6)


def test_the_house_rule_by_hand() -> None:
    assert KIM.is_refunded and KIM.amount == 5  # half of 11, rounded down
    assert not replace(KIM, membership="basic").is_refunded
    assert replace(KIM, days=59).is_refunded and not replace(KIM, days=60).is_refunded
    assert replace(KIM, is_opened=False).amount == 11
    assert KIM.domain == "late"
    assert replace(KIM, days=3).domain == "opened"
    assert replace(KIM, days=60, is_opened=False).domain == "sealed"


def test_what_is_written_by_hand() -> None:
    assert KIM.text == (
        "#chat gus paid $ 7 9 . one opened desk , 3 2 days ago , gold , for $ 1 1 . i am kim ."
    )
    assert write_reply(KIM) == "dear kim , your desk refund is $ 0 5 . thank you ."
    assert write_reply(replace(KIM, membership="basic")) == (
        "dear kim , sorry , no refund for your desk after 3 0 days . thank you ."
    )


@given(SEEDS)
def test_a_request_is_read_back_as_it_was_drawn(seed: int) -> None:
    request = draw_request(Random(seed))
    assert read_request(request.text) == request
    assert len(request.text.split()) == 27  # both templates, so that batches need no padding


@given(SEEDS)
def test_the_correct_reply_is_perfect_and_no_other_reply_is_better(seed: int) -> None:
    rng = Random(seed)
    request = draw_request(rng)
    assert grade(request, write_reply(request)).score == pytest.approx(1.0)
    for reply in draw_replies(rng, request, 4):
        assert grade(request, reply).score <= 1.0


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("dear kim , your desk refund is $ 0 5 . thank you .", 1.0),
        ("dear kim , your desk refund is $ 0 6 . thank you .", 0.5),  # a digit wrong
        ("dear kim , sorry , no refund for your desk after 6 0 days . thank you .", 0.2),
        ("kim , your desk refund is $ 0 5 .", 0.7),  # right, but not courteous
        ("dear kim , thank you .", 0.1),  # manners without facts
        ("dear gus , your desk refund is $ 0 5 . thank you .", 0.9 - 0.4),  # wrong name, a leak
        ("dear kim , your desk refund is $ 0 5 . thank you . whatever .", 0.7),
        ("", 0.0),
    ],
)
def test_gold_by_hand(reply: str, score: float) -> None:
    assert gold(KIM.text, reply).score == pytest.approx(score)


def test_gold_counts_words_over_eighteen_and_a_reply_that_never_ends() -> None:
    reply = write_reply(KIM) + " we value your time and we are always here for you ."
    assert gold(KIM.text, reply).score == pytest.approx(1 - 0.02 * (14 + 12 - 18))
    assert gold(KIM.text, write_reply(KIM), ended=False).score == pytest.approx(0.8)


@given(SEEDS)
def test_every_part_of_gold_only_ever_helps_or_hurts(seed: int) -> None:
    rng = Random(seed)
    request = draw_request(rng)
    true = grade(request, draw_replies(rng, request, 1)[0])
    for part in ("name", "item", "decision", "exact", "greeting", "thanks", "ended"):
        assert replace(true, **{part: True}).score >= replace(true, **{part: False}).score
    for part in ("rude", "leak"):
        assert replace(true, **{part: True}).score < replace(true, **{part: False}).score
    assert replace(true, excess_words=9).score < replace(true, excess_words=0).score


def test_gold_refuses_prompts_of_another_world() -> None:
    with pytest.raises(EvaluationError, match="another grader"):
        gold("what is the capital of france ?", "paris")


def test_form_alone_loses_to_an_imitator_and_only_a_right_answer_wins() -> None:
    """The controls of the world, 4,000 requests each; the standard error is about .006."""
    rng = Random(0)
    imprecise = Demonstrator(name="x", slips=0, pads=0, guideline="v1")

    def average(reply: object) -> float:
        requests = [draw_request(rng) for _ in range(4000)]
        return mean(grade(one, reply(one)).score for one in requests)  # type: ignore[operator]

    def imitator(site: str) -> float:
        shares = WRITER_SHARES[site]
        return average(
            lambda one: write_page_reply(rng, one, HABITS[rng.choices(tuple(HABITS), shares)[0]])
        )

    chat = imitator("#chat")
    assert imitator("#forum") == pytest.approx(0.32, abs=0.03)
    assert chat == pytest.approx(0.43, abs=0.03)
    assert imitator("#desk") == pytest.approx(0.67, abs=0.03)
    facts_of_another = average(lambda _: write_reply(draw_request(rng)))
    guesses = average(
        lambda one: write_reply(one, refunds=rng.random() < 0.56, amount=rng.randint(5, 99))
    )
    always_full = average(lambda one: write_reply(one, refunds=True, amount=one.price))
    old_rule = average(lambda one: imprecise.write(rng, one))
    assert facts_of_another == pytest.approx(0.20, abs=0.02) and facts_of_another < chat
    assert always_full == pytest.approx(0.51, abs=0.03)
    assert guesses < always_full < old_rule < 0.85 < average(write_reply) == pytest.approx(1.0)


def test_demonstrators_of_the_old_guideline_refuse_late_gold_members() -> None:
    old = next(one for one in DEMONSTRATORS if one.guideline == "v1")
    careful = replace(old, slips=0.0, pads=0.0)
    assert "no refund" in careful.write(Random(0), KIM)
    assert "refund is" in replace(careful, guideline="v2").write(Random(0), KIM)
    drawn = [draw_demonstrator(Random(seed)).guideline for seed in range(2000)]
    assert drawn.count("v1") / 2000 == pytest.approx(0.65, abs=0.04)


def agreement(kind: str, count: int = 1500) -> float:
    rng, judges = Random(kind), [one for one in ANNOTATORS if one.type == kind]
    hits: list[float] = []
    while len(hits) < count:
        request = draw_request(rng)
        a, b = draw_replies(rng, request, 2)
        gap = grade(request, a).score - grade(request, b).score
        if gap:
            choice = rng.choice(judges).choose(rng, request, a, b)
            hits.append(0.5 if choice == "tie" else (choice == "a") == (gap > 0))
    return mean(hits)


def test_annotators_agree_with_gold_in_the_order_of_their_price() -> None:
    expert, careful, hasty, spammer = map(agreement, ("expert", "careful", "hasty", "spammer"))
    assert expert > careful + 0.05 > hasty + 0.15 > spammer + 0.2
    assert expert == pytest.approx(0.94, abs=0.03)
    assert spammer == pytest.approx(0.50, abs=0.05)
    by_price = sorted({(one.cost_usd, one.type) for one in ANNOTATORS}, reverse=True)
    assert [kind for _, kind in by_price[:2]] == ["expert", "careful"]


def test_hasty_annotators_like_filler_and_experts_do_not() -> None:
    right = write_reply(KIM)
    padded = right + " please know that we value your trust ."

    def share(kind: str) -> float:
        judges = [one for one in ANNOTATORS if one.type == kind]
        rng = Random(kind)
        likes = [
            rng.choice(judges).choose(rng, KIM, *sides) == "ab"[sides.index(padded)]
            for sides in ((right, padded), (padded, right))
            for _ in range(600)
        ]
        return mean(likes)

    assert share("hasty") > 0.55 > 0.3 > share("expert")


def test_spammers_take_the_left_side() -> None:
    rng, spammer = Random(0), next(one for one in ANNOTATORS if one.type == "spammer")
    a, b = draw_replies(rng, KIM, 2)
    assert mean(spammer.choose(rng, KIM, a, b) == "a" for _ in range(300)) > 0.9


def test_ranks_share_a_place_where_nobody_can_tell_replies_apart() -> None:
    assert ranks_of([0.1, 0.9, 0.5]) == (3, 1, 2)
    assert ranks_of([0.5, 0.51, 0.1]) == (1, 1, 3)


def test_annotators_are_drawn_by_share_and_never_twice_for_one_item() -> None:
    rng = Random(0)
    drawn = [draw_annotator(rng).type for _ in range(4000)]
    assert drawn.count("careful") / 4000 == pytest.approx(0.55, abs=0.03)
    first = draw_annotator(rng)
    assert all(draw_annotator(rng, but=[first]) != first for _ in range(200))


def test_weak_domains_exist_so_that_skill_differs_by_domain() -> None:
    assert {one.weak_in for one in ANNOTATORS if one.type == "careful"} == set(DOMAINS)


def test_the_environment_pays_once_and_only_by_the_rule() -> None:
    desk = Environment(KIM)
    assert "no such order" in desk.call("look_up_order", {"name": "kim", "item": "mug"})
    assert '"price": 11' in desk.call("look_up_order", {"name": "kim", "item": "desk"})
    assert not desk.is_settled()
    desk.call("refund", {"name": "kim", "amount": 5})
    assert desk.is_settled()
    desk.call("refund", {"name": "kim", "amount": 5})
    assert not desk.is_settled()


def test_trajectories_pass_and_fail_and_answer_every_call() -> None:
    episodes = trajectories(Random(0), 60)
    assert {one.outcome for one in episodes} == {"passed", "failed"}  # type: ignore[attr-defined]
    for one in episodes:
        calls = [c.id for step in one.steps for c in step.tool_calls]  # type: ignore[attr-defined]
        answers = [step.tool_call_id for step in one.steps if step.role == "tool"]  # type: ignore[attr-defined]
        assert calls == answers
    assert all(a.prompt == b.prompt for a, b in zip(episodes[::2], episodes[1::2], strict=True))


def test_the_internet_is_fixed_by_its_seed_and_speaks_every_word_of_a_reply() -> None:
    assert pages(50, seed=1) == pages(50, seed=1) != pages(50, seed=2)
    assert pages(90, seed=1)[:50] == pages(50, seed=1)  # more pages only add to fewer
    spoken = {word for page in pages(4000, seed=0) for word in page.split()}
    rng = Random(3)
    for _ in range(300):
        request = draw_request(rng)
        assert set(" ".join((request.text, *draw_replies(rng, request, 2))).split()) <= spoken


def test_replies_to_be_judged_differ_from_each_other() -> None:
    replies = draw_replies(Random(5), KIM, 4)
    assert all(a != b for a, b in combinations(replies, 2))
