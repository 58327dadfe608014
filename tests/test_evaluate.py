"""Evaluation: graders that refuse, groups and baselines, one run from datasets to report."""

import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.datasets.manifest import read_split
from flywheel.erasure.frozen import SAID
from flywheel.errors import EvaluationError, LaunchError, SettingsError
from flywheel.evaluate.graders.graders import (
    Asked,
    checked,
    exact,
    numeric_answer,
    refund_desk,
    score_all,
)
from flywheel.evaluate.sets.registry import enter_sets
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.lake import EVALUATION
from flywheel.layout import Layout
from flywheel.process.content import model_hash
from flywheel.process.launch import launch
from flywheel.records.message import dump, prompt_of, response_of
from flywheel.rollout import Response
from tests.models_for_tests import COLOURS, freeze, reward_of, tiny


def asked(grader: str, reference: str | None = None, prompt: str = "how much?") -> Asked:
    return Asked("k", "g", prompt_of(prompt), grader, reference, "")


def said(text: str, *, ended: bool = True) -> Response:
    return Response(text, len(text.split()), ended, -1.0)


@pytest.mark.parametrize(
    ("text", "reference", "score"),
    [
        ("so 3 * 4 = 12\n#### 12", "#### 12", 1.0),
        ("it is 1,200 dollars", "1200", 1.0),
        ("#### -3.50", "-3.5", 1.0),
        ("12 and then 13", "12", 0.0),
        ("that is 20-12", "12", 1.0),
        ("that is -12", "12", 0.0),
        ("nothing", "12", 0.0),
        ("he pays 3 * 4\nA: 12", "A: 12", 1.0),
        ("he pays 3 * 4 = 12", "A: 12", 0.0),  # the reference asks for a mark
        ("12\nA: 13", "12", 0.0),
        ("A: 12 apples of 20", "12", 1.0),
        ("A: none of the 12", "12", 1.0),
        ("A:", "12", 0.0),
        ("A: $70,000", "A: 70000", 1.0),
        ("A: 12.0", "12", 1.0),
        ("A: 1/2", ".5", 1.0),
        ("A: 1/0", "12", 0.0),
        ("A: -$5", "-5", 1.0),
        (r"so \boxed{12} of 13", "12", 1.0),
        ("**Answer:** 12", "12", 1.0),
        ("The answer is 12, not 13", "12", 1.0),
        ("at 7 A: 12", "7", 0.0),  # a mark begins its line
        ("#### 11\nno:\n#### 12", "12", 1.0),
    ],
)
def test_the_last_number_is_the_answer(text: str, reference: str, score: float) -> None:
    assert numeric_answer(asked("numeric_answer", reference), said(text)) == score


def test_an_answer_that_was_cut_off_counts_only_behind_a_mark() -> None:
    one = asked("numeric_answer", "12")
    assert numeric_answer(one, said("5 + 7 = 12", ended=False)) == 0.0
    assert numeric_answer(one, said("#### 12", ended=False)) == 1.0


GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k"
SOLUTIONS, TRAIN = GSM8K / "example_model_solutions.jsonl", GSM8K / "train.jsonl"


@pytest.mark.skipif(not SOLUTIONS.exists(), reason=f"{SOLUTIONS} is not here")
def test_published_labels_of_model_solutions_are_those_of_the_grader() -> None:
    disagreed = []
    rows = [json.loads(line) for line in SOLUTIONS.read_text().splitlines()]
    for row in rows:
        for name, told in row.items():
            if isinstance(told, dict):
                one = asked("numeric_answer", row["ground_truth"])
                found = numeric_answer(one, said(told["solution"]))
                if bool(found) != told["is_correct"]:
                    disagreed.append((row["question"][:60], name, told["solution"][-60:]))
    assert len(rows) == 1319 and not disagreed


@pytest.mark.skipif(not TRAIN.exists(), reason=f"{TRAIN} is not here")
def test_every_published_answer_is_right_beside_itself_and_wrong_beside_the_next() -> None:
    answers = [json.loads(line)["answer"] for line in TRAIN.read_text().splitlines()]
    assert len(answers) == 7473
    for one, other in itertools.pairwise(answers):
        wanted = one.rpartition("####")[2].strip()
        same = wanted.replace(",", "") == other.rpartition("####")[2].strip().replace(",", "")
        assert numeric_answer(asked("numeric_answer", one), said(one)) == 1.0
        assert numeric_answer(asked("numeric_answer", wanted), said(one)) == 1.0
        assert numeric_answer(asked("numeric_answer", one), said(other)) == float(same)


CHECKS = """
def shorter(prompt, response): return float(len(response) < 5)
def is_it(prompt, response, reference): return float(response == reference + prompt[0].content)
def breaks(prompt, response): raise KeyError("no key")
def says_nothing(prompt, response): return float("nan")
"""


def test_a_function_of_ones_own_grades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_checks_of_a_test.py").write_text(CHECKS)
    name = "own_checks_of_a_test:"
    assert checked(asked(name + "shorter"), said("four")) == 1.0
    assert checked(asked(name + "shorter"), said("five!")) == 0.0
    assert checked(asked(name + "is_it", "x"), said("xhow much?")) == 1.0
    for function, message in (("breaks", "KeyError: 'no key'; an answer"), ("says_nothing", "nan")):
        with pytest.raises(EvaluationError, match=message):
            checked(asked(name + function), said("four"))
    with pytest.raises(SettingsError, match="no verifier"):
        checked(asked(name + "missing"), said("four"))


def test_exact_forgives_white_space_only() -> None:
    assert exact(asked("exact", "Oslo"), said(" Oslo\n")) == 1.0
    assert exact(asked("exact", "Oslo"), said("oslo")) == 0.0


def test_the_desk_grades_its_own_requests() -> None:
    prompt = (
        "#chat bought one sealed bike for $ 4 8 , 0 5 days ago . "
        "cid paid $ 4 0 . basic . i am bob ."
    )
    right = "dear bob , your bike refund is $ 4 8 . thank you ."
    assert refund_desk(asked("refund_desk", prompt=prompt), said(right)) == pytest.approx(1.0)
    assert refund_desk(asked("refund_desk", prompt=prompt), said("no .")) < 0.2


def test_a_grader_that_cannot_grade_raises(tmp_path: Path) -> None:
    from flywheel.rollout import RewardModel

    tiny(tmp_path / "base")
    reward = RewardModel.load(reward_of(tmp_path / "base", tmp_path / "reward"))
    for one, message in (
        (asked("numeric_answer"), "needs a reference"),
        (asked("numeric_answer", "none"), "holds no number"),
        (asked("exact"), "needs a reference"),
        (asked("refund_desk"), "own requests only"),
        (asked("oracle"), "no grader 'oracle'"),
    ):
        with pytest.raises(EvaluationError, match=message):
            score_all([one], [said("12")], reward)


def datasets(folder: Path, **changes: Any) -> dict[str, str]:
    evil = "<script>alert(1)</script>"
    prompts = [
        {
            "prompt": dump(prompt_of(f"say {one} {evil if one == 'red' else ''}")),
            "prompt_key": one,
            "group_id": one[0],  # blue and black repeat each other, nearly
            "grader": "exact",
            "reference": f"{one} it is .",
            "domain": "colours",
            "source": "test",
        }
        for one in COLOURS
    ]
    pairs = [
        {
            "prompt": dump(prompt_of(f"say {one}")),
            "prompt_key": one,
            "group_id": one,
            "response_a": dump(response_of(f"{one} it is .")),
            "response_b": dump(response_of("no")),
            "probability_a": 0.9,
            "votes_a": 2,
            "votes_b": 0,
            "ties": 0,
            "tested_votes": 2,
            "tested_votes_right": 2,
            "tested_votes_for_a": 2,
            "domain": None,
        }
        for one in COLOURS
    ]
    torn = {"votes_a": 1, "votes_b": 1, "tested_votes_right": 0, "tested_votes_for_a": 1}
    pairs.append({**pairs[0], "probability_a": 0.5, **torn})
    demonstrations = [
        {
            "prompt": dump(prompt_of(f"say {one}")),
            "response": dump(response_of(f"{one} it is .")),
            "prompt_key": one,
            "group_id": one,
            "domain": None,
            "source": "test",
        }
        for one in COLOURS
    ]
    return {
        "evaluation_dataset": freeze(folder / "evaluation", test=prompts),
        "preference_dataset": freeze(folder / "preference", test=pairs),
        "demonstration_dataset": freeze(folder / "demonstration", test=demonstrations),
    }


def read_pairs(found: dict[str, str]) -> list[dict[str, Any]]:
    return read_split(Path(found["preference_dataset"]), "test").to_pylist()


def evaluated(folder: Path, **inputs: str) -> dict[str, Any]:
    base = tiny(folder / "base")
    settings = EvaluateSettings(
        generation="g0001",
        base=base,
        sft=tiny(folder / "sft", seed=1),
        policy=tiny(folder / "policy", seed=2),
        champion=tiny(folder / "champion", seed=3),
        reward_model=reward_of(folder / "base", folder / "reward"),
        max_new_tokens=6,
        resamples=200,
        **inputs,
    )
    return launch("flywheel.evaluate.run", settings, folder / "run", log=lambda line: None)


def _columns(path: Path) -> list[str]:
    return list(pq.read_schema(path).names)


def test_one_evaluation_from_datasets_to_report(tmp_path: Path) -> None:
    result = evaluated(tmp_path, **datasets(tmp_path))
    reward, policy = result["reward_model"], result["policy"]
    assert reward["pairs"] == 4 and reward["longest_wins"] == 1.0
    assert reward["shortest_wins"] == 0.0
    assert reward["over_length"]["baseline"] == "longest_wins"
    assert reward["over_length"]["difference"] == reward["accuracy"] - 1.0
    assert reward["annotator_ceiling"] == 4 / 5  # four pairs 2:0, one 1:1
    assert reward["annotator_ceiling_pairs"] == 5
    assert reward["agreement_with_one_annotator"] == (reward["accuracy"] * 4 + 0.5) / 5
    assert (reward["annotator_accuracy"], reward["annotator_accuracy_votes"]) == (4 / 5, 10)
    assert reward["accuracy_in_their_place"] == (reward["accuracy"] * 4 + 0.5) / 5
    assert (reward["undecided"], reward["too_long"]) == (1, 0)
    assert (reward["plurality_pairs"], reward["plurality_undecided"]) == (4, 1)
    assert reward["plurality_agreement"] == reward["accuracy"]
    assert policy["opponent"] == "champion" and policy["prompts"] == 4 and policy["groups"] == 3
    assert set(policy["versus"]) == {"base", "sft", "champion"}
    assert policy["grader"] == "exact" and not result["simulated"]
    assert result["demonstrations"]["rows"] == 4
    page = (tmp_path / "run" / "report.html").read_text()
    assert "&lt;script&gt;alert" in page and "<script>" not in page
    assert "agrees with the plurality of votes" in page
    assert "an annotator is right 80.0% of the time" in page
    assert "Not decided yet" in page and "What the reward model falls for" in page
    for table in ("measurements", "outcomes"):
        (path,) = (tmp_path / "run" / table).glob("*.parquet")
        found = pq.read_table(path)
        assert found.schema == EVALUATION[table] and found.num_rows
    assert "split evenly" in page and "one agrees with another 80.0%" in page
    assert "Held-out demonstrations" in page and "simulated" not in page
    keyed = [one for one in (tmp_path / "run").rglob("*.parquet") if "prompt_key" in _columns(one)]
    said = {one.name for one in keyed if one.parent.name != "outcomes"}
    assert said == set(SAID), "an erasure must know each file that holds answers to prompts"
    assert not {"prompt", "response", "start"} & set(EVALUATION["outcomes"].names)
    for name in ("base", "sft", "policy", "champion"):
        assert result[f"{name}_content_hash"] == model_hash(str(tmp_path / name))
    assert result["reward_model_content_hash"] == model_hash(str(tmp_path / "reward"))
    (tmp_path / "run" / "report.html").unlink()
    assert evaluated(tmp_path, **datasets(tmp_path))["policy"] == policy
    assert (tmp_path / "run" / "report.html").read_text() == page  # written again


def test_every_set_is_told_with_its_version_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    found = datasets(tmp_path)
    rows = read_split(Path(found["evaluation_dataset"]), "test").to_pylist()
    for row in rows:
        row["evaluation_set"] = "warm" if row["prompt_key"] == "red" else "cold"
    found["evaluation_dataset"] = freeze(tmp_path / "sets", test=rows)
    entered = [one.identity for one in enter_sets(Layout(tmp_path / "home"), rows, "g0001")]
    sets = tmp_path / "sets.json"
    sets.write_text(json.dumps(entered))
    result = evaluated(tmp_path, **found, evaluation_sets=str(sets))
    cold, warm = result["evaluation_sets"]
    assert {one: cold[one] for one in entered[0]} == entered[0] and warm["name"] == "warm"
    assert (cold["asked"], cold["prompts"], cold["groups"]) == (3, 3, 2) and warm["asked"] == 1
    whole = result["policy"]["mean_score"]["policy"]
    assert cold["mean_score"]["policy"] * 3 + warm["mean_score"]["policy"] == whole * 4
    assert cold["opponent"] == "champion" and cold["ci"][0] <= cold["win_rate"] <= cold["ci"][1]
    sets.write_text(json.dumps([entered[0] | {"content_hash": "0" * 64}, entered[1]]))
    with pytest.raises(LaunchError, match="evaluation set 'cold' has content"):
        evaluated(tmp_path, **found, evaluation_sets=str(sets))


def test_a_model_is_known_by_its_manifest_or_else_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    by_files = model_hash(str(tmp_path))
    (tmp_path / "manifest.json").write_text('{"content_hash": "a"}')
    assert model_hash(str(tmp_path)) == "a" != by_files
    assert model_hash("some/model") == "hub:some/model"


def test_a_small_policy_is_read_once_and_anew_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flywheel.evaluate import policies

    folder = tiny(tmp_path / "one")
    first = policies.loaded(folder)
    assert policies.loaded(folder) is first
    tiny(tmp_path / "one", seed=1)
    changed = policies.loaded(folder)
    assert changed is not first
    policies.let_go()
    assert policies.loaded(folder) is not changed
    monkeypatch.setattr(policies, "HELD_BYTES", 1000)
    assert policies.loaded(folder) is not policies.loaded(folder), "one that is not small"


def unset(**inputs: Any) -> EvaluateSettings:
    models = dict.fromkeys(("base", "sft", "policy", "reward_model"), "")
    data = dict.fromkeys(("evaluation_dataset", "preference_dataset", "demonstration_dataset"), "")
    return EvaluateSettings(generation="g0001", **{**models, **data, **inputs})


def test_the_loss_of_demonstrations_is_all_nats_over_all_tokens(tmp_path: Path) -> None:
    from flywheel.evaluate.demonstrations import demonstration_loss
    from flywheel.evaluate.kept import Keep
    from flywheel.process.content import model_hash
    from flywheel.rollout import Policy, response_nll

    replies = ["no", "red it is .", "no , it is not . dear thank you"]
    rows = [
        {"prompt": dump(prompt_of("say red")), "response": dump(response_of(one)), "group_id": one}
        for one in replies
    ]
    models = {name: tiny(tmp_path / name, seed=1) for name in ("base", "sft", "policy")}
    told = response_nll(
        Policy.load(models["base"]),
        [prompt_of("say red")] * 3,
        [response_of(one) for one in replies],
    )
    nats, tokens = (sum(values) for values in zip(*(one for one in told if one), strict=True))

    def measured(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        dataset = freeze(tmp_path / name, test=rows)
        settings = unset(**models, demonstration_dataset=dataset)
        hashes = {f"{name}_content_hash": model_hash(model) for name, model in models.items()}
        keep = Keep(settings=settings, run_dir=tmp_path, device="cpu", hashes=hashes)
        found = demonstration_loss(settings, keep)
        assert found
        assert found == demonstration_loss(settings, keep), "as kept"
        return found

    apart = measured("apart", rows)
    assert apart["sft"] == apart["base"] == pytest.approx(nats / tokens)
    assert (apart["rows"], apart["tokens"], apart["groups"]) == (3, tokens, 3)
    assert apart["base_ci"][0] < apart["base"] < apart["base_ci"][1]
    assert apart["policy_minus_base_ci"] == [0.0, 0.0]
    together = measured("together", [{**row, "group_id": "one"} for row in rows])
    assert together["groups"] == 1 and together["base"] == apart["base"]


def test_a_reward_model_is_held_against_the_better_rule_of_length(tmp_path: Path) -> None:
    from flywheel.evaluate.reward.accuracy import measure_reward
    from flywheel.rollout import RewardModel

    tiny(tmp_path / "base")
    reward = RewardModel.load(reward_of(tmp_path / "base", tmp_path / "reward"))

    def measured(copies: int, *, near_repeats: bool) -> dict[str, Any]:
        pairs = [
            {
                "prompt": dump(prompt_of(f"say {COLOURS[number % 4]}")),
                "response_a": dump(response_of("no" if number % 3 else "no , it")),
                "response_b": dump(response_of(f"{COLOURS[number % 4]} it is .")),
                "group_id": f"{number} {0 if near_repeats else copy}",
                "probability_a": 0.9 if number % 10 < 7 else 0.1,  # a is the shorter
                "votes_a": 1,
                "votes_b": 0,
                "ties": 0,
                "domain": None,
            }
            for number in range(40)
            for copy in range(copies)
        ]
        return measure_reward(pa.Table.from_pylist(pairs), reward, unset())

    once = measured(1, near_repeats=False)
    lead = once["over_length"]
    assert (once["longest_wins"], once["shortest_wins"]) == (0.3, 0.7)
    assert lead["baseline"] == "shortest_wins"
    assert lead["difference"] == pytest.approx(once["accuracy"] - 0.7)
    assert lead["ci"][0] < lead["difference"] <= lead["ci"][1]
    assert once["annotator_ceiling"] is None
    together, apart = measured(5, near_repeats=True), measured(5, near_repeats=False)
    assert together["over_length"]["ci"] == pytest.approx(lead["ci"])
    width = {name: one["ci"][1] - one["ci"][0] for name, one in (("t", together), ("a", apart))}
    assert width["t"] > 1.8 * width["a"]


def test_the_plurality_of_votes_and_the_slices_by_domain_by_hand() -> None:
    from flywheel.evaluate.reward.accuracy import Judged, _by_domain, _plurality

    options: dict[str, Any] = {"resamples": 200, "seed": 0}

    def judged(a: int, b: int, ties: int, scored: float) -> Judged:
        row = {"votes_a": a, "votes_b": b, "ties": ties, "group_id": f"{a} {b} {ties}"}
        return Judged(row | {"probability_a": 0.9, "domain": "desk"}, scored, 0.0)

    shared = [judged(1, 1, 0, 1.0), judged(2, 1, 2, 1.0), judged(1, 0, 2, 1.0)]
    silent = judged(0, 0, 0, 1.0)
    told = [judged(2, 1, 0, 1.0), judged(1, 0, 0, 1.0), judged(0, 1, 0, 1.0), judged(1, 3, 2, 0.5)]
    found = _plurality([*told, *shared, silent], options)
    assert found["plurality_agreement"] == (1 + 1 + 0 + 0.5) / 4
    assert (found["plurality_pairs"], found["plurality_undecided"]) == (4, 3)
    assert found["plurality_agreement_ci"][0] < 0.625 < found["plurality_agreement_ci"][1]
    assert _plurality([silent], options)["plurality_agreement"] is None

    few = _by_domain(told, options)
    assert few == {}  # smaller slices say nothing
    desk = _by_domain([judged(n, 0, 0, float(n % 4 > 0)) for n in range(20)], options)["desk"]
    assert (desk["accuracy"], desk["pairs"], desk["longest_wins"]) == (0.75, 20, 0.0)
    assert desk["ci"][0] < 0.75 < desk["ci"][1]


def test_an_annotator_and_the_model_are_set_against_the_same_votes_of_the_others() -> None:
    """Three votes for a, a, b: without one a the others are split, which tests nobody."""
    from flywheel.evaluate.reward.accuracy import Judged, _others

    options: dict[str, Any] = {"resamples": 200, "seed": 0}

    def judged(name: str, tested: int | None, right: int, for_a: int, scored: float) -> Judged:
        votes = {"tested_votes": tested, "tested_votes_right": right, "tested_votes_for_a": for_a}
        return Judged({"group_id": name} | votes, scored, 0.0)

    alone = [judged("lone", 0, 0, 0, 1.0), judged("new", None, 0, 0, 1.0), Judged({}, 1.0, 0.0)]
    told = [judged("torn", 1, 0, 1, 1.0), judged("one", 3, 3, 3, 0.0), judged("half", 2, 1, 1, 0.5)]
    found = _others([*alone, *told], options)
    assert found["annotator_accuracy"] == (0 + 1 + 0.5) / 3
    assert found["accuracy_in_their_place"] == (1 + 0 + 0.5) / 3
    assert found["over_annotators"] == pytest.approx(0)
    assert (found["annotator_accuracy_pairs"], found["annotator_accuracy_votes"]) == (3, 6)
    assert found["over_annotators_ci"][0] < 0 < found["over_annotators_ci"][1]
    assert _others(alone, options)["annotator_accuracy"] is None


def test_the_ceiling_of_a_split_counts_its_tested_votes(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from flywheel.datasets.ceiling import annotator_ceiling

    rows = [{"tested_votes": 3, "tested_votes_right": 2}, {"tested_votes": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "validation.parquet")
    pq.write_table(pa.table({"votes_a": [1]}), tmp_path / "test.parquet")  # an older dataset
    assert annotator_ceiling(tmp_path, "validation") == (2 / 3, 3)
    assert annotator_ceiling(tmp_path, "test") == annotator_ceiling(tmp_path, "train") == (None, 0)


def test_near_repeats_of_one_prompt_count_as_one_prompt() -> None:
    from flywheel.evaluate.versus import Answers, compare

    def compared(prompts: int, repeats: int) -> dict[str, Any]:
        prompt = prompt_of("?")
        put = [
            Asked(f"{one} {repeat}", str(one), prompt, "exact", "", "")
            for one in range(prompts)
            for repeat in range(repeats)
        ]
        mine = [float(int(one.group) % 5 < 3) for one in put]
        answers = {
            name: Answers([said("no")] * len(put), scores)
            for name, scores in (("policy", mine), ("base", [0.5] * len(put)))
        }
        return compare(answers, put, unset())

    once, five = compared(40, 1), compared(40, 5)
    assert (five["prompts"], five["groups"], five["win_rate"]) == (200, 40, 0.6)
    assert five["ci"] == pytest.approx(once["ci"])


def test_without_evaluation_prompts_the_reward_model_grades_and_it_is_said(tmp_path: Path) -> None:
    found = datasets(tmp_path)
    found["evaluation_dataset"] = freeze(tmp_path / "none", test=[])
    pairs = [{**row, "source": "sample-desk"} for row in read_pairs(found)]
    found["preference_dataset"] = freeze(tmp_path / "simulated", test=pairs)
    result = evaluated(tmp_path, **found)
    assert result["policy"]["grader"] == "reward_model"
    assert result["simulated"]  # the prompts are not, those who judged are
    page = (tmp_path / "run" / "report.html").read_text()
    assert "graded by reward_model" in page and "annotators of this world are simulated" in page


def test_no_held_out_pair_is_an_error_that_says_what_to_land(tmp_path: Path) -> None:
    from flywheel.errors import LaunchError

    found = datasets(tmp_path)
    found["preference_dataset"] = freeze(tmp_path / "none", test=[])
    with pytest.raises(LaunchError, match="land more comparisons"):
        evaluated(tmp_path, **found)
