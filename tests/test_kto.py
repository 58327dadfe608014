"""KTO: its published loss, TRL's on the same model and text, the step's z0, weights, data."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from flywheel.datasets.manifest import read_split
from flywheel.datasets.render import Rendered
from flywheel.errors import SettingsError, TrainingError
from flywheel.models.load import load_causal, load_tokenizer
from flywheel.models.logps import ResponseLogps, pad
from flywheel.train import kto as recipe
from flywheel.train.config_policy import KtoSettings
from flywheel.train.data import needed
from flywheel.train.engine import Engine
from flywheel.train.kto import Centred, Rated, lambdas, valued
from flywheel.train.preference_losses import kto
from flywheel.train.ratings import Rating, RatingReader, strangers
from tests.models_for_tests import COLOURS, freeze, thumbs, tiny

RATIOS = torch.tensor([1.5, -0.7, 0.2, -2.0], dtype=torch.float64)
GOOD = torch.tensor([True, True, False, False])
Z0 = torch.tensor(0.4, dtype=torch.float64)
PROMPTS = [[1, 4], [1, 5, 6, 7], [1, 8], [1, 9, 4]]
RESPONSES = [[5, 6, 2], [7, 8, 9, 5, 2], [6, 2], [10, 11, 4, 2]]
REFERENCE = [(-7.0, -15.0), (-12.0, -8.0), (-5.0, -14.0), (-9.5, -12.0)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def engine(base: str) -> Engine:
    return Engine(ResponseLogps(load_causal(base)), settings(model=base, zero_stage=0))


def settings(**chosen: Any) -> KtoSettings:
    return KtoSettings(**{"model": "", "ratings": "", "output": ""} | chosen)


def rated() -> list[Rated]:
    """Two liked and two not, each straying to the response before its own, as in TRL."""
    return [
        Rated(
            Rating(
                text=Rendered(prompt + RESPONSES[place], len(prompt)),
                stray=Rendered(prompt + RESPONSES[place - 1], len(prompt)),
                is_desirable=place % 2 == 0,
                weight=1.0,
                record_uids=(f"t-{place}",),
            ),
            REFERENCE[place],
        )
        for place, prompt in enumerate(PROMPTS)
    ]


def counted(desirable: float, undesirable: float) -> list[Rated]:
    (one, *_) = (row.rating for row in rated())
    return [
        Rated(Rating(one.text, one.stray, good, weight, ()), (0.0, 0.0))
        for good, weight in ((True, desirable), (False, undesirable))
    ]


# ---------------------------------------------------------------- the loss


def test_the_loss_is_the_published_formula() -> None:
    beta = 0.3
    gains = 1 - torch.sigmoid(beta * (RATIOS[:2] - Z0))
    falls = 1 - torch.sigmoid(beta * (Z0 - RATIOS[2:]))
    assert torch.allclose(kto(RATIOS, GOOD, Z0, beta), torch.cat([gains, falls]), atol=1e-12)


def test_values_by_hand() -> None:
    # log-ratio 2 over z0 1 at beta 1: 1 - sigmoid(1); disliked: sigmoid(1)
    two = torch.tensor([2.0, 2.0], dtype=torch.float64)
    found = kto(two, torch.tensor([True, False]), torch.tensor(1.0), 1.0)
    assert found.tolist() == pytest.approx([1 / (1 + math.e), math.e / (1 + math.e)])


def test_a_policy_that_is_its_reference_loses_a_half_of_everything() -> None:
    assert kto(torch.zeros(4), GOOD, torch.zeros(()), 0.1).tolist() == [0.5] * 4


def test_the_gradient_is_that_of_the_value_and_raises_what_was_liked() -> None:
    ratios = RATIOS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda r: kto(r, GOOD, Z0, 0.3), (ratios,))
    (slope,) = torch.autograd.grad(kto(ratios, GOOD, Z0, 0.3).sum(), ratios)
    assert (slope[GOOD] < 0).all() and (slope[~GOOD] > 0).all()


def test_far_from_z0_the_loss_saturates_and_stays_finite() -> None:
    ratios = torch.tensor([1e4, -1e4, 1e4, -1e4], requires_grad=True)
    losses = kto(ratios, GOOD, torch.tensor(0.0), 1.0)
    (slope,) = torch.autograd.grad(losses.sum(), ratios)
    assert losses.tolist() == [0.0, 1.0, 1.0, 0.0] and slope.tolist() == [0.0] * 4


# ---------------------------------------------------------------- z0 of a step


def test_z0_is_of_the_whole_step_whatever_the_micro_batches(base: str, engine: Engine) -> None:
    module = ResponseLogps(load_causal(base))
    ratios = [
        float(module(*pad([one.rating.stray], "cpu")).detach().sum()) - one.reference[1]
        for one in rated()
    ]
    expected = sum(ratios) / len(ratios)
    assert expected > 0
    for micro_tokens in (1, 20, 8192):
        source = Centred(engine, rated(), settings(batch=4, micro_tokens=micro_tokens))
        chosen, told = source.draw(0)
        assert {one.z0 for one in chosen} == {told["z0_nats"]}
        assert told["z0_nats"] == pytest.approx(expected, abs=1e-5)
        assert {one.rating.record_uids for one in chosen} == {(f"t-{p}",) for p in range(4)}


def test_z0_is_never_below_0(engine: Engine) -> None:
    flattered = [Rated(one.rating, (one.reference[0], 0.0)) for one in rated()]
    assert Centred(engine, flattered, settings(batch=4)).draw(0)[1] == {"z0_nats": 0.0}


def test_no_gradient_passes_through_z0(base: str) -> None:
    engine = Engine(ResponseLogps(load_causal(base)), settings(model=base, zero_stage=0))
    weights = list(engine.engine.module.parameters())
    chosen, told = Centred(engine, rated(), settings(batch=4)).draw(0)
    assert told["z0_nats"] > 0 and all(weight.grad is None for weight in weights)
    engine.backward(valued(0.3, {True: 1.0, False: 1.0}).loss(engine, chosen)[0], 1.0)
    plain = ResponseLogps(load_causal(base))
    for one in chosen:
        ratio = plain(*pad([one.rating.text], "cpu")).sum() - one.reference[0]
        sign = 1 if one.rating.is_desirable else -1
        torch.sigmoid(-0.3 * sign * (ratio - told["z0_nats"])).backward()
    for weight, other in zip(weights, plain.parameters(), strict=True):
        assert torch.allclose(weight.grad, other.grad, atol=1e-6)


# ---------------------------------------------------------------- the same model and text as TRL


def test_trl_finds_the_same_loss_and_z0_on_the_same_model_and_text(
    base: str, engine: Engine, tmp_path: Path
) -> None:
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

    rows = [{"prompt": "say", "completion": "red it", "label": label} for label in (True, False)]
    peer = KTOTrainer(
        load_causal(base),
        args=KTOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            report_to=[],
            precompute_ref_log_probs=True,
            gradient_checkpointing=False,
            per_device_train_batch_size=2,
            beta=0.3,
            desirable_weight=1.2,
            undesirable_weight=0.7,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(base),
    )
    batch = DataCollatorForUnpairedPreference(pad_token_id=0)(
        [
            {
                "prompt_ids": prompt,
                "completion_ids": RESPONSES[place],
                "KL_completion_ids": RESPONSES[place - 1],
                "label": place % 2 == 0,
                "ref_logps": REFERENCE[place][0],
                "ref_KL_logps": REFERENCE[place][1],
            }
            for place, prompt in enumerate(PROMPTS)
        ]
    )
    theirs = float(peer.compute_loss(peer.model, batch).detach())
    chosen, told = Centred(engine, rated(), settings(batch=4)).draw(0)
    objective = valued(0.3, {True: 1.2, False: 0.7})
    ours = objective.loss(engine, chosen)[0].detach()
    assert float(ours) / sum(map(objective.count, chosen)) == pytest.approx(theirs, abs=2e-6)
    assert told["z0_nats"] == pytest.approx(peer._metrics["eval"]["kl"][-1], abs=1e-5)


# ---------------------------------------------------------------- weights of the two sides


@pytest.mark.parametrize(
    ("counts", "chosen", "expected"),
    [
        ((10, 10), {}, (1.0, 1.0)),
        ((12, 10), {}, (1.0, 1.0)),  # 1.2 lies within 1 and 4/3
        ((10, 40), {}, (4.0, 1.0)),
        ((40, 10), {}, (1.0, 3.0)),
        ((10, 40), {"lambda_undesirable": 0.5}, (2.0, 0.5)),
        ((10, 40), {"lambda_desirable": 2.0}, (2.0, 0.5)),
        ((40, 10), {"lambda_desirable": 2.0}, (2.0, 6.0)),
        ((40, 10), {"lambda_undesirable": 1.0}, (1 / 3, 1.0)),
        ((40, 10), {"lambda_desirable": 1.0, "lambda_undesirable": 1.0}, (1.0, 1.0)),
    ],
)
def test_what_is_not_chosen_keeps_the_two_sides_in_balance(
    counts: tuple[float, float], chosen: dict[str, float], expected: tuple[float, float]
) -> None:
    found = lambdas(counted(*counts), settings(**chosen))
    assert (found[True], found[False]) == pytest.approx(expected)
    if len(chosen) < 2:
        assert 1 - 1e-12 <= found[True] * counts[0] / (found[False] * counts[1]) <= 4 / 3 + 1e-12


def test_thumbs_that_all_point_one_way_are_refused() -> None:
    liked = [one for one in rated() if one.rating.is_desirable]
    with pytest.raises(TrainingError, match=r"of 2 ratings of 'thumbs' all are desirable"):
        lambdas(liked, settings())


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"beta": 0.0}, "beta must be positive"),
        ({"threshold": 3.0}, "threshold is a share of full marks"),
        ({"lambda_desirable": -1.0}, "or 0 to be chosen from the counts"),
        ({"batch": 0}, "batch must be positive"),
    ],
)
def test_settings_that_say_nothing_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(**chosen)


# ---------------------------------------------------------------- data


def test_everyone_strays_to_another_prompt() -> None:
    prompts = ["a"] * 5 + ["b"] * 2 + ["c"]
    found = strangers(prompts, seed=0)
    assert all(prompts[place] != prompts[other] for place, other in enumerate(found))
    assert found == strangers(prompts, seed=0)
    apart = [str(place) for place in range(50)]
    assert sorted(strangers(apart, seed=1)) == list(range(50)) != strangers(apart, seed=1)


def test_ratings_are_read_with_strays_and_what_says_nothing_is_counted(
    base: str, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(base)
    reader = RatingReader(thumbs(tmp_path / "rating"), tokenizer, [tokenizer.eos_token_id], 64)
    found = reader.ratings("train", criterion="thumbs", threshold=0.5, seed=0)
    assert len(found) == 8 * len(COLOURS) and reader.dropped == {"another criterion": 16}
    said = {(one.is_desirable, tokenizer.decode(one.text.ids[one.text.start :])) for one in found}
    assert {text for good, text in said if not good} == {"no , it is not . <eos>"}
    own = {tuple(one.text.ids) for one in found}
    for one in found:
        prompt = one.text.ids[: one.text.start]
        assert one.stray.ids[: one.stray.start] == prompt
        assert one.stray.response_tokens in (5, 7)  # "red it is ." or "no , it is not ."
    assert any(tuple(one.stray.ids) not in own for one in found)  # red is said of blue
    reader = RatingReader(thumbs(tmp_path / "again"), tokenizer, [tokenizer.eos_token_id], 64)
    assert not reader.ratings("train", criterion="rating", threshold=0.5, seed=0)
    assert reader.dropped["neither desirable nor undesirable"] == 16
    assert len(reader.ratings("train", criterion="rating", threshold=0.4, seed=0)) == 16


def test_ratings_of_a_single_prompt_are_refused_with_the_reason(base: str, tmp_path: Path) -> None:
    rows = read_split(Path(thumbs(tmp_path / "some")), "train").to_pylist()
    red = freeze(tmp_path / "red", train=[row for row in rows if row["prompt_key"] == "red"])
    tokenizer = load_tokenizer(base)
    reader = RatingReader(red, tokenizer, [tokenizer.eos_token_id], 64)
    found = reader.ratings("train", criterion="thumbs", threshold=0.5, seed=0)
    with pytest.raises(TrainingError, match="no other prompt to stray to"):
        needed(found, reader, "rating of thumbs")


def test_thumbs_are_learnt_and_the_checkpoint_names_them(base: str, tmp_path: Path) -> None:
    chosen = settings(
        model=base,
        ratings=thumbs(tmp_path / "rating"),
        output=str(tmp_path / "policy"),
        epochs=8.0,
        batch=8,
        learning_rate=5e-3,
        warmup_steps=2,
        beta=0.3,
    )
    (tmp_path / "run").mkdir()
    result = recipe.run(chosen, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert rows[0]["loss"] == pytest.approx(0.5, abs=1e-5) and rows[0]["z0_nats"] < 1e-4
    assert rows[-1]["loss"] < 0.4 and rows[-1]["desirable_nats"] > rows[-1]["undesirable_nats"] + 1
    assert result["validation_accuracy_frac"] == 1.0 and result["validation_loss"] < 0.4
    assert (result["ratings"], result["validation_ratings"]) == (32, 8)
    manifest = json.loads((tmp_path / "policy" / "manifest.json").read_text())
    assert manifest["kind"] == "policy" and manifest["datasets"] == {"rating": "0" * 64}
    assert manifest["records"]["count"] == 8


def test_without_held_out_ratings_the_result_holds_null(base: str, tmp_path: Path) -> None:
    rows = read_split(Path(thumbs(tmp_path / "some")), "train").to_pylist()
    chosen = settings(
        model=base,
        ratings=freeze(tmp_path / "rating", train=rows, validation=rows[2:3]),
        output=str(tmp_path / "policy"),
    )
    (tmp_path / "run").mkdir()
    result = recipe.run(chosen, tmp_path / "run")
    assert result["validation_ratings"] == 0
    assert result["validation_loss"] is result["validation_accuracy_frac"] is None
