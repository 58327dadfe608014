"""Reward models: what their losses are by hand and beside TRL's, and what changes nothing."""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean, pstdev
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from flywheel.datasets.manifest import read_split
from flywheel.datasets.render import Rendered
from flywheel.errors import ManifestError, SettingsError, ShapeError
from flywheel.models.load import load_backbone, load_tokenizer
from flywheel.models.reward import RewardHead, load_reward
from flywheel.process.settings import build
from flywheel.records.message import dump, prompt_of, response_of
from flywheel.rollout import RewardModel
from flywheel.train.config_reward import RewardSettings
from flywheel.train.data import Group, Pair, Reader
from flywheel.train.loop import Objective
from flywheel.train.losses import preference_loss
from flywheel.train.reward import (
    bradley_terry,
    judged,
    plackett_luce,
    ranks_of,
    run,
    scores,
    texts_of,
)
from flywheel.train.reward_losses import off_centre, plackett_luce_loss
from tests.models_for_tests import (
    COLOURS,
    chatml,
    freeze,
    preferences,
    reward_of,
    tiny,
)

TEXTS = [Rendered([1, 5 + n, 6, 7 + n, *[8] * n, 2], 2) for n in range(4)]
EVERY_PAIR = list(itertools.combinations(range(4), 2))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("base"))


def settings(**changes: Any) -> RewardSettings:
    return RewardSettings(**{"model": "m", "dataset": "d", "output": "o", **changes})


class Plain(RewardHead):
    """A reward model outside any engine: what an objective calls, and where its inputs go."""

    device = "cpu"


class Given:
    """Scores that were given, whatever is asked."""

    device = "cpu"

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def __call__(self, ids: Tensor, places: Tensor) -> Tensor:
        return self.scores


@pytest.fixture(scope="module")
def engine(base: str) -> Plain:
    return Plain(load_backbone(base)).double()


def grouped(labels: dict[tuple[int, int], float], weight: float = 1.0) -> Group:
    pairs = [Pair(a, b, p, weight) for (a, b), p in labels.items()]
    return Group(TEXTS[: 1 + max(map(max, labels))], pairs, ("r",))


def gradient(engine: Plain, objective: Objective[Group], groups: Sequence[Group]) -> Tensor:
    engine.zero_grad()
    loss, _ = objective.loss(engine, groups)
    loss.backward()
    return torch.cat([one.grad.flatten() for one in engine.parameters()])


RANKED = grouped({pair: 1.0 for pair in EVERY_PAIR})  # 0 > 1 > 2 > 3
SOFT = grouped({(0, 1): 0.9, (0, 2): 0.7, (1, 2): 0.5, (2, 3): 0.2})  # two pairs unjudged
OBJECTIVES = {
    "bradley_terry": bradley_terry(),
    "with margin and centring": bradley_terry(0.7, 0.01),
    "plackett_luce": plackett_luce(),
    "plackett_luce centred": plackett_luce(0.01),
}


def test_k_wise_is_the_mean_over_pairs_each_in_a_forward_of_its_own(engine: Plain) -> None:
    alone = [Group([TEXTS[a], TEXTS[b]], [Pair(0, 1, 1.0, 1.0)], ()) for a, b in EVERY_PAIR]
    with torch.no_grad():
        together = float(bradley_terry().loss(engine, [RANKED])[0])
        apart = [float(bradley_terry().loss(engine, [one])[0]) for one in alone]
    assert together == pytest.approx(sum(apart) / 6, rel=1e-6)
    whole = gradient(engine, bradley_terry(), [RANKED])
    pieces = sum(gradient(engine, bradley_terry(), [one]) for one in alone) / 6
    assert float((whole - pieces).norm() / whole.norm()) <= 1e-6


def test_the_weights_of_a_prompt_add_up_to_one_and_say_what_its_pairs_count(
    engine: Plain,
) -> None:
    pairs = {(0, 1): 1.0, (0, 2): 1.0, (1, 2): 1.0}
    with torch.no_grad():
        light, heavy = (
            float(bradley_terry().loss(engine, [grouped(pairs, weight)])[0]) for weight in (0.5, 7)
        )
        uneven = Group(TEXTS[:3], [Pair(0, 1, 1.0, 4.0), Pair(0, 2, 1.0, 1.0)], ())
        one, two = (
            float(bradley_terry().loss(engine, [grouped({p: 1.0})])[0]) for p in list(pairs)[:2]
        )
        mixed = float(bradley_terry().loss(engine, [uneven])[0])
    assert light == pytest.approx(heavy, rel=1e-12)
    assert mixed == pytest.approx((4 * one + two) / 5, rel=1e-6)


def test_a_prompt_counts_by_the_weight_of_its_labels(base: str, tmp_path: Path) -> None:
    rows = read_split(Path(preferences(tmp_path / "even")), "train").to_pylist()
    keys = list(dict.fromkeys(row["prompt_key"] for row in rows))
    for row in rows:
        row["weight"] = 3.0 if row["prompt_key"] == keys[0] else 0.5
    tokenizer = load_tokenizer(base)
    folder = freeze(tmp_path / "uneven", train=rows)
    groups = Reader(folder, tokenizer, [tokenizer.eos_token_id], 64).groups(
        "train", max_responses=9
    )
    of_each = [row["prompt_key"] for row in rows].count
    shares = [of_each(key) * (0.5 if at else 3.0) for at, key in enumerate(keys)]
    assert [group.share for group in groups] == shares
    assert sum(map(bradley_terry().count, groups)) == sum(shares)


@pytest.mark.parametrize("dtype", ["autocast", "weights"])
def test_scores_are_told_apart_in_bf16(base: str, dtype: str) -> None:
    head = RewardHead(load_backbone(base))
    with torch.no_grad():
        head.head.bias.fill_(5.0)
        head.head.weight.mul_(0.1)
    if dtype == "weights":
        head = head.bfloat16()
    ids = torch.randint(4, 12, (256, 6), generator=torch.Generator().manual_seed(0))
    places = torch.tensor([[row, 5] for row in range(256)])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == "autocast"):
        scores = head(ids, places)
    assert scores.dtype == torch.float32 and len(scores.unique()) > 200


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_order_of_the_responses_changes_loss_or_gradient(engine: Plain, name: str) -> None:
    order = [2, 0, 3, 1]
    for group in (RANKED, SOFT):
        at = {old: new for new, old in enumerate(order)}
        pairs = [Pair(at[p.b], at[p.a], 1 - p.probability, p.weight) for p in group.pairs[::-1]]
        turned = Group([TEXTS[old] for old in order], pairs, ())
        before, after = (gradient(engine, OBJECTIVES[name], [one]) for one in (group, turned))
        assert float((before - after).norm() / before.norm()) <= 1e-6


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_cut_into_micro_batches_changes_the_gradient(engine: Plain, name: str) -> None:
    groups = [RANKED, SOFT, grouped({(0, 1): 0.5}), grouped({(0, 1): 1.0, (0, 2): 0.6})]
    whole = gradient(engine, OBJECTIVES[name], groups)
    for cut in (1, 2, 3):
        parts = [groups[at : at + cut] for at in range(0, len(groups), cut)]
        pieces = sum(gradient(engine, OBJECTIVES[name], part) for part in parts)
        assert float((whole - pieces).norm() / whole.norm()) <= 1e-6, cut


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_response_goes_forward_once(engine: Plain, name: str) -> None:
    rows: list[int] = []
    hook = engine.backbone.register_forward_hook(
        lambda module, inputs, options, output: rows.append(len(options["input_ids"])),
        with_kwargs=True,
    )
    OBJECTIVES[name].loss(engine, [RANKED, SOFT])
    hook.remove()
    assert sum(rows) == 8


def test_a_margin_is_what_a_certain_pair_must_lead_by_and_a_tie_wants_none() -> None:
    lead, wanted = 0.3, 2.0
    engine = Given(torch.tensor([lead, 0.0]))
    at = {
        p: float(bradley_terry(wanted).loss(engine, [grouped({(0, 1): p})])[0])
        for p in (1.0, 0.0, 0.5, 0.75)
    }
    assert at[1.0] == pytest.approx(math.log(1 + math.exp(wanted - lead)))
    assert at[0.0] == pytest.approx(math.log(1 + math.exp(wanted + lead)))
    assert at[0.5] == pytest.approx(
        0.5 * (math.log(1 + math.exp(-lead)) + math.log(1 + math.exp(lead)))
    )
    gap = lead - wanted / 2
    assert at[0.75] == pytest.approx(
        0.75 * math.log(1 + math.exp(-gap)) + 0.25 * math.log(1 + math.exp(gap))
    )


def test_centring_pulls_the_mean_to_nought_and_leaves_the_gap() -> None:
    scores = torch.tensor([5.0, 3.0], requires_grad=True)
    optimizer = torch.optim.SGD([scores], lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        off_centre(scores[:1], scores[1:], torch.ones(1)).backward()
        optimizer.step()
    assert float(scores.detach().mean()) == pytest.approx(0.0, abs=1e-6)
    assert float((scores[0] - scores[1]).detach()) == pytest.approx(2.0, abs=1e-5)


def test_soft_ties_pull_to_equal_and_dropped_ones_are_counted(base: str, tmp_path: Path) -> None:
    dataset = preferences(tmp_path / "p", certain=0.5)
    readers = [Reader(dataset, load_tokenizer(base), [2], 64) for _ in range(2)]
    kept = readers[0].groups("train", max_responses=9)
    assert len(kept) == 4 and readers[0].dropped == {}
    assert readers[1].groups("train", max_responses=9, with_ties=False) == []
    assert readers[1].dropped == {"tied pair": 16}
    margin = torch.tensor([2.0, -2.0], requires_grad=True)
    preference_loss(margin, torch.full((2,), 0.5), torch.ones(2)).backward()
    assert margin.grad is not None and margin.grad[0] > 0 > margin.grad[1]


# ---- Plackett-Luce ----------------------------------------------------------------------------


def ranked(
    scores: Sequence[float], ranks: Sequence[float], owners: Sequence[int] | None = None
) -> float:
    four = (scores, ranks, owners or [0] * len(scores), [1.0] * len(scores))
    return float(plackett_luce_loss(*(torch.tensor(one, dtype=torch.float64) for one in four)))


def test_two_responses_in_order_are_bradley_terry(engine: Plain) -> None:
    assert ranked([1.3, 0.2], [1, 2]) == pytest.approx(-math.log(1 / (1 + math.exp(-1.1))))
    pair = [grouped({(0, 1): 1.0}), grouped({(0, 1): 0.0})]
    one, other = (
        gradient(engine, objective, pair) for objective in (bradley_terry(), plackett_luce())
    )
    assert float((one - other).norm() / one.norm()) <= 1e-6


def test_an_order_is_as_likely_as_drawing_its_responses_one_by_one() -> None:
    scores = [0.4, -1.1, 2.0, 0.9]
    left, likely = [math.exp(one) for one in scores], 1.0
    for place in range(4):
        likely *= left[place] / sum(left[place:])
    assert ranked(scores, [1, 2, 3, 4]) == pytest.approx(-math.log(likely), rel=1e-12)
    every = itertools.permutations(range(4))
    assert sum(math.exp(-ranked(scores, order)) for order in every) == pytest.approx(1.0)
    assert ranked([7.0] * 4, [1, 2, 3, 4]) == pytest.approx(math.log(math.factorial(4)))


def test_tied_responses_are_each_drawn_from_all_that_are_left() -> None:
    scores = [0.4, -1.1, 2.0, 0.9]
    first, second, third, last = (math.exp(one) for one in scores)
    rest = second + third + last
    by_hand = first / (first + rest) * second / rest * third / rest * last / last
    assert ranked(scores, [1, 2, 2, 3]) == pytest.approx(-math.log(by_hand), rel=1e-12)
    assert ranked([1.0, 1.0], [1, 1]) == pytest.approx(math.log(4))


def test_gradients_of_an_order_are_those_of_finite_differences() -> None:
    scores = torch.tensor([0.4, -1.1, 2.0, 0.9, 0.1, 0.3], dtype=torch.float64, requires_grad=True)
    ranks, owners = torch.tensor([1, 2, 2, 3, 2, 1]), torch.tensor([0, 0, 0, 0, 1, 1])
    weights = torch.tensor([1, 1, 1, 1, 0.5, 0.5])
    assert torch.autograd.gradcheck(
        lambda one: plackett_luce_loss(one, ranks, owners, weights), scores
    )


def test_rankings_do_not_see_each_other() -> None:
    both = ranked([1.0, 2.0, 9.0, -9.0], [1, 2, 1, 2], [0, 0, 1, 1])
    assert both == pytest.approx(ranked([1.0, 2.0], [1, 2]) + ranked([9.0, -9.0], [1, 2]))
    with pytest.raises(ShapeError, match=r"one shape \(R,\)"):
        plackett_luce_loss(torch.zeros(2), torch.zeros(3), torch.zeros(2), torch.zeros(2))


def test_responses_are_ordered_by_expected_wins_where_every_pair_was_judged() -> None:
    assert ranks_of(RANKED) == [-3.0, -2.0, -1.0, -0.0]
    assert ranks_of(SOFT) is None
    circle = grouped({(0, 1): 0.8, (1, 2): 0.8, (0, 2): 0.2})
    assert ranks_of(circle) == [-1.0, -1.0, -1.0]
    assert ranks_of(grouped({(0, 1): 0.9, (0, 2): 0.5, (1, 2): 0.6})) == [-1.4, -0.7, -0.9]


def test_prompts_without_an_order_are_learnt_by_pairs(engine: Plain) -> None:
    by_pair = gradient(engine, bradley_terry(), [SOFT])
    assert torch.allclose(gradient(engine, plackett_luce(), [SOFT]), by_pair)
    both = gradient(engine, plackett_luce(), [SOFT, RANKED])
    apart = by_pair + gradient(engine, plackett_luce(), [RANKED])
    assert torch.allclose(both, apart, atol=1e-12)


def test_an_order_counts_once_as_a_comparison_does(engine: Plain) -> None:
    ranking = replace(RANKED, share=len(RANKED.texts) / 2)  # as its pairs weigh together
    with torch.no_grad():
        rewards = scores(engine, texts_of([ranking])).tolist()
        found = float(plackett_luce().loss(engine, [ranking])[0])
    ranks = ranks_of(ranking)
    best_first = sorted(range(len(rewards)), key=lambda one: (ranks or [])[one])
    found_apart = sum(
        math.log(sum(math.exp(rewards[other]) for other in best_first[at:])) - rewards[one]
        for at, one in enumerate(best_first)
    )
    assert found == pytest.approx(found_apart, rel=1e-6)


def test_a_piece_of_a_prompt_counts_for_its_share(engine: Plain) -> None:
    piece = replace(RANKED, share=0.25)
    for objective in OBJECTIVES.values():
        with torch.no_grad():
            whole, part = (float(objective.loss(engine, [one])[0]) for one in (RANKED, piece))
        assert part == pytest.approx(whole / 4, rel=1e-6)
        assert objective.count(piece) == 0.25


# ---- beside TRL -------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.0, 0.8])
@pytest.mark.parametrize("centering", [0.0, 0.01])
def test_pairs_give_the_loss_and_the_gradient_of_trl(margin: float, centering: float) -> None:
    trl = pytest.importorskip("trl")
    torch.manual_seed(0)
    ours = torch.randn(12, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    pairs = [Group(TEXTS[:2], [Pair(0, 1, 1.0, 1.0)], ()) for _ in range(6)]
    loss = bradley_terry(margin, centering).loss(Given(ours), pairs)[0] / 6
    accelerator = SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False),
        args=SimpleNamespace(center_rewards_coefficient=centering or None),
        accelerator=accelerator,
        _metrics={"eval": trl.trainer.reward_trainer.defaultdict(list)},
        _total_train_tokens=0,
    )
    inputs = {"margin": torch.full((6,), margin)} if margin else {}
    logits = torch.cat([theirs[0::2], theirs[1::2]])[:, None]  # all chosen, then all rejected
    published = trl.RewardTrainer.compute_loss(
        trainer, lambda **_: SimpleNamespace(logits=logits), inputs
    )
    assert loss.item() == pytest.approx(published.item(), abs=1e-6)
    loss.backward()
    published.backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)


# ---- the recipe -------------------------------------------------------------------------------


def test_a_score_is_read_at_the_last_real_token_where_padding_is_an_end_of_turn(
    tmp_path: Path,
) -> None:
    base = chatml(tmp_path)  # pad is EOS
    module = Plain(load_backbone(base), seed=1).eval()
    texts = [Rendered([1, 5, 6, 2], 2), Rendered([1, 5, 2, 2, 2], 2), Rendered([1, 2], 1)]
    ends = torch.full((3, 5), 2)  # padded with an end of turn, as a caller might
    for row, text in enumerate(texts):
        ends[row, : len(text.ids)] = torch.tensor(text.ids)
    with torch.no_grad():
        found = scores(module, texts)
        alone = [module.backbone(torch.tensor([one.ids])).last_hidden_state[0, -1] for one in texts]
        padded = module(ends, torch.tensor([[0, 3], [1, 4], [2, 1]]))
        by_hand = torch.stack(alone) @ module.head.weight[0] + module.head.bias
    assert torch.allclose(found, by_hand, atol=1e-5)
    assert torch.allclose(found, padded, atol=1e-5)


@pytest.mark.parametrize("unit_std", [False, True])
def test_published_scores_of_demonstrations_average_nought(
    base: str, tmp_path: Path, unit_std: bool
) -> None:
    prompts = [prompt_of(f"say {one}") for one in COLOURS]
    answers = [response_of(f"dear {one} thank you") for one in COLOURS]  # that nobody compared
    rows = [
        {"prompt": dump(p), "response": dump(r), "weight": 1.0, "record_uids": ["d"]}
        for p, r in zip(prompts, answers, strict=True)
    ]
    chosen = settings(
        model=base,
        dataset=preferences(tmp_path / "preference"),
        demonstrations=freeze(tmp_path / "demonstration", train=rows, validation=rows),
        output=str(tmp_path / "reward"),
        batch=4,
        learning_rate=5e-3,
        unit_std=unit_std,
    )
    result = run(chosen, tmp_path)
    reward = RewardModel.load(result["checkpoint"])
    found = reward.score(prompts, answers)
    told = [one for one in found if one is not None]
    assert fmean(told) == pytest.approx(0.0, abs=1e-5)
    assert pstdev(told) == pytest.approx(1.0 if unit_std else result["deviation"], rel=1e-3)
    assert json.loads((tmp_path / "reward" / "manifest.json").read_text())["datasets"].keys() == {
        "preference",
        "demonstration",
    }


def test_a_reward_model_without_a_scale_is_read_as_it_was_written(
    base: str, tmp_path: Path
) -> None:
    folder = Path(reward_of(Path(base), tmp_path / "reward"))
    facts = json.loads((folder / "reward.json").read_text())
    (folder / "reward.json").write_text(
        json.dumps({"shift": facts["shift"], "stop_ids": facts["stop_ids"]})
    )
    assert RewardModel.load(str(folder)).scale == 1.0
    with pytest.raises(ManifestError, match="holds a reward_model where a step_reward_model"):
        load_reward(str(folder), "step_reward_model")


WORTH = {"red": 2, "green": 1, "blue": -1, "black": -2}


def planted(rng: Random, count: int, flipped: float) -> list[dict[str, Any]]:
    """Pairs of four words; the one of greater worth is preferred, but for a share of flips."""
    rows: list[dict[str, Any]] = []
    while len(rows) < count:
        sides = [rng.choices(list(WORTH), k=4) for _ in range(2)]
        a, b = (sum(WORTH[word] for word in side) for side in sides)
        if a != b:
            name, (first, second) = str(len(rows)), (" ".join(side) for side in sides)
            rows.append(
                {"prompt_key": name, "prompt": dump(prompt_of("say")), "record_uids": [name]}
                | {"response_a": dump(response_of(first)), "response_a_key": f"a{name}"}
                | {"response_b": dump(response_of(second)), "response_b_key": f"b{name}"}
                | {"probability_a": float((a > b) != (rng.random() < flipped)), "weight": 1.0}
            )
    return rows


def test_a_planted_preference_is_learnt_through_a_fifth_of_flipped_labels(
    base: str, tmp_path: Path
) -> None:
    rng = Random(0)
    chosen = settings(
        model=base,
        dataset=freeze(
            tmp_path / "p", train=planted(rng, 2400, 0.2), validation=planted(rng, 400, 0.0)
        ),
        output=str(tmp_path / "reward"),
        epochs=5.0,
        learning_rate=2e-2,
        micro_tokens=10**6,
    )
    result = run(chosen, tmp_path)
    assert result["validation_accuracy_frac"] >= 0.95  # of clean labels
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()][-20:]
    # of flipped ones a fifth stays wrong, unless they are learnt by heart
    assert fmean(row["accuracy_frac"] for row in rows) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"loss": "elo"}, "loss is one of bradley_terry, plackett_luce"),
        ({"ties": "kept"}, "ties one of soft, dropped"),
        ({"margin": -1.0}, "margin and centering must be 0"),
        ({"margin": 1.0, "loss": "plackett_luce"}, "plackett_luce knows none"),
        ({"unit_std": True}, "unit_std needs demonstrations"),
        ({"batch": 0}, "batch must be positive"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict, said: str) -> None:
    inputs = {"model": "m", "dataset": "d", "output": "o"}
    with pytest.raises(SettingsError, match=said):
        build(RewardSettings, wrong, **inputs)
    assert judged(build(RewardSettings, {"loss": "plackett_luce"}, **inputs)).count(RANKED) == 1.0
