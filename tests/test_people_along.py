"""People as the gold of over-optimisation: asked blind, read back, and the turn that they give."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from assets.evaluation import turn_check
from assets.people import people_queue
from assets.resources import Home
from flywheel.collect.pairs import ask_people
from flywheel.errors import EvaluationError
from flywheel.evaluate.graders.graders import Asked
from flywheel.evaluate.graders.people import Votes, votes_of
from flywheel.evaluate.report.following import following_told
from flywheel.evaluate.reward.best_of_n import turn_of_best
from flywheel.evaluate.reward.by_people import LEAST_PEOPLE, WIDTH, by_people
from flywheel.evaluate.reward.curves import turn_at
from flywheel.evaluate.reward.overoptimisation import is_past
from flywheel.evaluate.reward.ways import Way, write_ways
from flywheel.lake import write_table
from flywheel.layout import Layout
from flywheel.promotion import GateSettings, decide
from flywheel.records.message import dump, prompt_of, response_of
from tests.test_gate import result
from tests.test_judge import settings_of
from tests.test_people import COUNT, evaluated

PLACES = [1, 2, 4, 8, 16, 32, 64]
PEOPLE = 8
TRUE = 1.0  # root nats at which people's preference turns
Row = dict[str, Any]


def way_of(prompts: int, *, kind: str = "best of n", groups: int = 0) -> Way:
    """A way whose answers all differ, over the divergences of the best of n."""
    numbers = np.array(PLACES)
    nats = np.log(numbers) - (numbers - 1) / numbers
    return Way(
        kind=kind,
        form="best_of_n" if kind == "best of n" else "reinforcement",
        places=PLACES,
        asked=[
            Asked(f"key{at}", f"g{at % (groups or prompts)}", prompt_of(f"question {at}"),
                  "people", None, "")
            for at in range(prompts)
        ],
        texts=[[f"place {n} says {at}" for at in range(prompts)] for n in PLACES],
        proxy=np.tile(np.sqrt(nats), (prompts, 1)),
        nats=np.tile(nats, (prompts, 1)),
    )  # fmt: skip


def preferred(root: float, bend: float = 1.2) -> float:
    """How often people prefer what lies so far along the way: most at `TRUE`, if it bends."""
    return 0.5 + (0.35 * (1 - bend * (root - TRUE) ** 2) if bend else 0.3 * root) * (root > 0)


def said_of(
    way: Way, prompts: int, *, people: int = PEOPLE, bend: float = 1.2, seed: int = 0
) -> Votes:
    """Votes of simulated people, each of a taste of his own, on the first so many prompts."""
    rng = np.random.default_rng(seed)
    tastes = rng.normal(0, 0.04, people)
    roots = np.sqrt(way.nats[0])
    rows = []
    for at in range(prompts):
        for place, root in enumerate(roots):
            if place:
                who = int(rng.integers(people))
                chance = min(max(preferred(float(root), bend) + tastes[who], 0.02), 0.98)
                rows.append(vote(len(rows), way, at, place, float(rng.random() < chance), who))
    return votes_of(rows)


def vote(number: int, way: Way, at: int, place: int, said: float, who: int | None) -> Row:
    return {
        "judgement_id": f"j{number}",
        "prompt_key": way.asked[at].key,
        "response_a": dump(response_of(way.texts[place][at])),
        "response_b": dump(response_of(way.texts[0][at])),
        "vote": said,
        "voter": None if who is None else f"person {who}",
        "annotator_kind": "person",
        "cost_usd": 0.1,
    }


def test_the_turn_of_peoples_preference_is_found_with_its_interval() -> None:
    way = way_of(240)
    held = []
    for seed in range(8):
        found = by_people(way, said_of(way, 240, seed=seed), settings_of(resamples=400))
        assert found["enough"] and found["annotators"] == PEOPLE
        low, high = found["peak_ci"]
        held.append(high is not None and low - 0.12 <= TRUE <= high + 0.12)  # places lie .2 apart
        rates = {one["n"]: one["gold"] for one in found["points"]}
        assert rates[1] == 0.5 and rates[4] > 0.7 and rates[64] < rates[4] - 0.1
    assert sum(held) >= 7
    assert found["alpha"] > 0 and found["beta"] > 0


def test_who_went_past_peoples_turn_is_shown_to_and_who_did_not_is_not() -> None:
    way = way_of(240)
    bent = by_people(way, said_of(way, 240), settings_of(resamples=400))
    assert is_past(turn_of_best(bent, 64)) and not is_past(turn_of_best(bent, 4))
    rising = by_people(way, said_of(way, 240, bend=0), settings_of(resamples=400))
    assert rising["enough"] and not is_past(turn_at(rising, -1))


def test_noise_alone_is_seldom_taken_for_a_turn() -> None:
    way = way_of(120)
    past = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rows = [
            vote(len(PLACES) * at + place, way, at, place, float(rng.random() < 0.6), at % PEOPLE)
            for at in range(120)
            for place in range(1, len(PLACES))
        ]
        found = by_people(way, votes_of(rows), settings_of(resamples=200))
        past += bool(is_past(turn_at(found, -1)))
    assert past <= 1


def test_too_few_labels_conclude_nothing_and_say_how_many_are_missing() -> None:
    way = way_of(300)
    few = by_people(way, said_of(way, 20), settings_of())
    assert not few["enough"] and few["prompts"] == 20
    widest = math.ceil((1.959964 * 0.5 / WIDTH) ** 2) - 20  # a coin's, where nothing is known yet
    assert few["prompts_missing"] == widest
    assert few["pairs_missing"] == widest * (len(PLACES) - 1)
    judged, more = 20, few
    for _ in range(4):  # what is missing is an estimate, and comes nearer
        judged += more["prompts_missing"]
        more = by_people(way, said_of(way, judged, people=40), settings_of())
    assert more["enough"] and not more["prompts_missing"] and not more["pairs_missing"]
    assert 20 + widest <= judged < 200
    nobody = by_people(way, votes_of([]), settings_of())
    assert not nobody["enough"] and nobody["people_missing"] == LEAST_PEOPLE
    assert nobody["judgements"] == 0 and "points" not in nobody


def test_one_persons_taste_is_not_that_of_people() -> None:
    way = way_of(200)
    for count, missing in ((1, 2), (2, 2), (4, 0)):  # by chance two are a little less than two
        found = by_people(way, said_of(way, 200, people=count), settings_of())
        assert found["people_missing"] == missing
        assert not missing or not found["enough"]
    rows = [row for row in _rows(said_of(way, 200, people=5))]
    unnamed = votes_of([row | {"voter": None} for row in rows])
    assert by_people(way, unnamed, settings_of())["annotators"] == 1


def test_names_beside_one_who_judges_nearly_all_are_not_people_enough() -> None:
    way = way_of(120, kind="run")

    def found(who: Callable[[int, int], int]) -> Row:
        rng = np.random.default_rng(0)
        rows = [
            vote(
                len(PLACES) * at + place, way, at, place, float(rng.random() < 0.6), who(at, place)
            )
            for at in range(120)
            for place in range(1, len(PLACES))
        ]
        return by_people(way, votes_of(rows), settings_of(resamples=200))

    alone = found(lambda at, place: place if at == 0 and place < 3 else 0)  # 718 of 720 votes
    assert alone["annotators"] == 3 and alone["people_missing"] == 2 and not alone["enough"]
    apart = found(lambda at, place: (place - 1) // 2)  # each hears places of his own
    assert apart["annotators"] == 3 and apart["people_missing"] == 2 and not apart["enough"]
    assert found(lambda at, place: at % 3)["people_missing"] == 0
    uneven = found(lambda at, place: at % 3 if at > 9 else 0)
    assert uneven["people_missing"] == 1, "three who judge unevenly say less than three"


def _rows(votes: Votes) -> list[Row]:
    return list({row["judgement_id"]: row for some in votes.values() for _, row in some}.values())


def test_near_repeats_and_one_persons_votes_are_no_further_evidence() -> None:
    def width(groups: int) -> float:
        way, rng = way_of(240, groups=groups), np.random.default_rng(1)
        of_group = rng.random(groups) < 0.6
        rows = [
            vote(at, way, at, place, float(of_group[at % groups]), at)
            for place in range(1, len(PLACES))
            for at in range(240)
        ]
        found = by_people(way, votes_of(rows), settings_of(resamples=1200))
        return max(one["ci"][1] - one["ci"][0] for one in found["points"])

    assert width(60) == pytest.approx(2 * width(240), rel=0.15)  # the root of a fourth
    rng = np.random.default_rng(0)
    way, tastes = way_of(240), rng.random(6) < 0.5
    rows = [
        vote(len(PLACES) * at + place, way, at, place, float(tastes[at % 6]), at % 6)
        for at in range(240)
        for place in range(1, len(PLACES))
    ]
    found = by_people(way, votes_of(rows), settings_of(resamples=400))
    assert not found["enough"], "six people who never agree say little, on however many prompts"


def test_answers_alike_are_ties_and_those_judged_stand_for_those_that_are_not() -> None:
    way = way_of(200)
    for at in range(100):
        way.texts[1][at] = way.texts[0][at]
    rows = [vote(at, way, at, 1, 1.0, at % 4) for at in range(100, 150)]
    rows += [
        vote(1000 * place + at, way, at, place, 1.0, at % 4)
        for place in range(2, len(PLACES))
        for at in range(150)
    ]
    found = by_people(way, votes_of(rows), settings_of())
    assert found["points"][1]["gold"] == pytest.approx(0.5 * 0.5 + 0.5 * 1.0)
    assert found["points"][2]["gold"] == 1.0


def test_several_votes_on_a_pair_share_its_weight() -> None:
    way = way_of(60)
    rows = [
        vote(1000 * place + at, way, at, place, 1.0, at % 4)
        for place in range(1, len(PLACES))
        for at in range(60)
    ]
    again = [
        row | {"judgement_id": f"{row['judgement_id']} {n}", "vote": 0.0, "voter": f"other {n}"}
        for row in rows[:30]  # of the first place
        for n in range(3)
    ]
    found = by_people(way, votes_of(rows + again), settings_of())
    assert found["points"][1]["gold"] == pytest.approx((30 * 0.25 + 30) / 60)


def test_pairs_go_out_blind_and_what_comes_back_is_counted(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    evaluated(layout)
    way = way_of(COUNT)
    for at in range(COUNT):  # the best of 32 and of 64 are often the best of 16
        way.texts[5][at] = way.texts[6][at] = way.texts[4][at]
    write_ways(layout.evaluation("g0002"), [way])
    facts = ask_people(layout, "g0002", pairs=10, along=10_000)
    assert facts["along"] == COUNT * 4 and facts["lines"] == 10 + COUNT * 4
    lines = [json.loads(line) for line in Path(facts["queue"]).read_text().splitlines()]
    assert len({line["queue_id"] for line in lines}) == len(lines)
    assert all(set(line) == {"queue_id", "prompt", "responses", "reason"} for line in lines)
    about = lines[10:]
    first = sum(line["responses"][0].startswith("place 1 ") for line in about)
    assert 0.3 < first / len(about) < 0.7
    rows = []
    for number, line in enumerate(about):
        key = f"key{line['prompt'][0]['content'].split()[1]}"
        a, b = line["responses"]
        told = {"judgement_id": f"j{number}", "prompt_key": key, "vote": 0.0 if "place 1 " in a
                else 1.0, "voter": f"person {number % 5}", "annotator_kind": "person",
                "cost_usd": None}  # fmt: skip
        rows.append(told | {"response_a": dump(response_of(a)), "response_b": dump(response_of(b))})
    found = by_people(way, votes_of(rows), settings_of())
    assert found["enough"] and found["judgements"] == len(about)
    assert [one["gold"] for one in found["points"]] == [0.5, *[1.0] * 6]
    few = ask_people(layout, "g0002", pairs=0, along=7)
    assert few["lines"] == few["along"] == 7
    assert all(line in about for line in lines_of(few))


def lines_of(facts: dict[str, Any]) -> list[Row]:
    return [json.loads(line) for line in Path(facts["queue"]).read_text().splitlines()]


def test_neither_its_name_nor_its_order_tells_how_far_along_an_answer_lies(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    evaluated(layout)
    write_ways(layout.evaluation("g0002"), [way_of(COUNT)])
    lines = lines_of(ask_people(layout, "g0002", pairs=0, along=10_000))

    def place(line: Row) -> int:
        return max(int(response.split()[1]) for response in line["responses"])

    for order in (lines, sorted(lines, key=lambda line: line["queue_id"])):
        of_prompt: dict[str, list[int]] = {}
        for line in order:
            of_prompt.setdefault(line["prompt"][0]["content"], []).append(place(line))
        assert all(sorted(one) == PLACES[1:] for one in of_prompt.values())
        rising = [one[k] < one[k + 1] for one in of_prompt.values() for k in range(len(one) - 1)]
        assert 0.35 < sum(rising) / len(rising) < 0.65
        beside = [a["prompt"] == b["prompt"] for a, b in itertools.pairwise(order)]
        assert sum(beside) / len(beside) < 0.1, "lines of all prompts are mixed"
    by_end = {line["queue_id"][-1] for line in lines if place(line) == PLACES[1]}
    assert len(by_end) > 10


def test_pairs_that_a_person_has_judged_are_not_asked_about_until_all_are(tmp_path: Path) -> None:
    layout, way = Layout(tmp_path), way_of(COUNT)
    evaluated(layout)
    write_ways(layout.evaluation("g0002"), [way])
    rows = [vote(at, way, at, place, 1.0, 1) for at in range(COUNT) for place in range(1, 4)]
    rows += [
        vote(0, way, at, 4, 1.0, 1) | {"annotator_kind": "program"} for at in range(COUNT)
    ]  # fmt: skip
    path = layout.run("people_judgements", "g0002") / "judgements.parquet"
    write_table(pa.Table.from_pylist(rows), path)
    facts = ask_people(layout, "g0002", pairs=0, along=10_000)
    assert (facts["along"], facts["judged"]) == (3 * COUNT, 3 * COUNT)
    asked = {max(int(one.split()[1]) for one in line["responses"]) for line in lines_of(facts)}
    assert asked == set(PLACES[4:])
    few = ask_people(layout, "g0002", pairs=0, along=10)
    assert few["along"] == 10 and all(line in lines_of(facts) for line in lines_of(few))
    rows = [vote(0, way, at, place, 1.0, 1) for at in range(COUNT) for place in range(1, 7)]
    write_table(pa.Table.from_pylist(rows), path)
    again = ask_people(layout, "g0002", pairs=0, along=10_000)
    assert again["along"] == again["judged"] == 6 * COUNT, "others may be asked about them"


@pytest.mark.parametrize("is_followed", [True, False])
def test_a_turn_asks_along_a_way_where_the_evaluation_followed_one(
    tmp_path: Path, is_followed: bool
) -> None:
    layout = Layout(tmp_path)
    evaluated(layout)
    (tmp_path / "settings.toml").write_text("[people]\npairs = 5\nalong = 7\n")
    write_ways(layout.evaluation("g0002"), [way_of(COUNT)] if is_followed else [])
    context = dg.build_asset_context(partition_key="g0002")
    told = people_queue(context, Home(root=str(tmp_path))).metadata
    assert told["along_the_ways"] == (7 if is_followed else 0)
    assert told["dagster/row_count"] == 5 + told["along_the_ways"]
    assert told["a_way_was_followed"] is is_followed and told["judged_before"] == 0


@pytest.mark.parametrize("is_past", [True, False, None])
def test_the_check_says_whether_anything_is_known_of_a_turn(is_past: bool | None) -> None:
    aside = {"told": 6, "here": 0}
    policy = dict.fromkeys(("turn", "best_of_n", "strayed", "run")) | {"by_people": []}
    told = turn_check(policy | {"is_past": is_past, "put_aside": aside})
    assert told.passed is (is_past is not True)
    assert told.metadata["known"].value is (is_past is not None)
    assert told.metadata["put_aside"].value == aside
    none = turn_check(policy | {"is_past": is_past, "put_aside": {"told": 0, "here": 0}})
    assert ("set along = 6 in [dpo]" in (none.description or "")) is (is_past is None)


def test_prompts_that_nobody_can_be_asked_about_are_not_left() -> None:
    way = way_of(40)
    for texts in way.texts[1:]:
        texts[:15] = way.texts[0][:15]
    votes = votes_of([vote(at, way, at, place, 1.0, 1) for at in (15, 16) for place in range(1, 7)])
    assert by_people(way, votes, settings_of())["prompts_left"] == 23


def test_where_no_way_was_followed_nobody_can_be_asked_about_one(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    evaluated(layout)
    with pytest.raises(EvaluationError, match="followed along no way"):
        ask_people(layout, "g0002", along=5)
    with pytest.raises(EvaluationError, match="-1 along the ways"):
        ask_people(layout, "g0002", along=-1)


def test_the_gate_and_the_page_tell_peoples_turn_or_what_is_missing() -> None:
    way = way_of(240, kind="run")
    found = by_people(way, said_of(way, 240), settings_of(resamples=400))
    found["turn"] = turn_at(found, -1)
    told = decide(result(by_people=[found]), GateSettings())
    assert told.decision == "REJECT" and "people's word turned at" in told.reasons[0]
    few = by_people(way, said_of(way, 20), settings_of()) | {"turn": None}
    assert decide(result(by_people=[few]), GateSettings()).decision == "PROMOTE"
    policy = {"best_of_n": None, "run": None, "strayed": None, "turn": None, "is_past": True}
    page = following_told(policy | {"by_people": [found]})
    assert "it lies past the turn" in page and "Their preference over the SFT policy turns" in page
    assert page.count("<svg") == 1 and f"{PEOPLE} people on 240 prompts" in page
    page = following_told(policy | {"by_people": [few], "is_past": None})
    assert f"about {few['pairs_missing']} more pairs, on {few['prompts_missing']} more" in page
    assert "only" not in page
    assert "nor were policies put aside" in page
    aside = {"put_aside": {"told": 6, "here": 6}}
    page = following_told(policy | aside | {"by_people": [few], "is_past": None})
    assert "nor were policies put aside" not in page and "still there" not in page
    assert "neither a gold nor enough of people's word places a turn" in page
    gone = {"put_aside": {"told": 6, "here": 0}}
    assert "Of 6 policies put aside along the challenger's run 0 are still there" in following_told(
        policy | gone | {"by_people": [found]}
    )
    short = by_people(way_of(30), said_of(way_of(30), 20), settings_of()) | {"turn": None}
    assert "only 10 prompts are left" in following_told(policy | {"by_people": [short]})
