"""SFT and DPO beside TRL's own trainers: the same model and tokens, the loss and every gradient."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from flywheel.datasets.render import Rendered
from flywheel.models.load import load_causal, load_tokenizer
from flywheel.models.logps import ResponseLogps
from flywheel.train.config import SftSettings
from flywheel.train.config_policy import DpoSettings
from flywheel.train.data import Group, Pair, Row
from flywheel.train.dpo import Judged, preferred
from flywheel.train.engine import Engine
from flywheel.train.sft import imitate
from tests.models_for_tests import tiny

trl = pytest.importorskip("trl")

BETA, NOISE = 0.3, 0.2
PROMPTS = [[1, 4], [1, 5, 6, 7], [1, 8]]
CHOSEN = [[5, 6, 2], [7, 8, 9, 5, 2], [6, 2]]
REJECTED = [[9, 8, 7, 6, 2], [5, 2], [4, 9, 2]]
REFERENCE = [(-7.0, -9.0), (-12.0, -4.0), (-5.0, -6.5)]
OFFLINE: dict[str, Any] = {"use_cpu": True, "bf16": False, "report_to": []}
Found = tuple[float, dict[str, Tensor]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("base"))


def ours(base: str, settings: Any, objective: Any, elements: Sequence[Any], count: float) -> Found:
    """The loss of the whole batch and its gradients, through the engine that trains."""
    causal = load_causal(base)
    engine = Engine(ResponseLogps(causal), settings)
    total, _ = objective.loss(engine, elements)
    engine.backward(total, count)
    return float(total.detach()) / count, gradients(causal)


def published(trainer: Any, batch: dict[str, Any]) -> Found:
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return float(loss.detach()), gradients(trainer.model)


def gradients(causal: torch.nn.Module) -> dict[str, Tensor]:
    return {
        name: weight.grad.clone()
        for name, weight in causal.named_parameters()
        if weight.grad is not None
    }


def assert_equal(mine: Found, theirs: Found) -> None:
    assert mine[0] == pytest.approx(theirs[0], abs=2e-6)
    assert mine[1] and mine[1].keys() == theirs[1].keys()
    largest = max(float(one.abs().max()) for one in theirs[1].values())
    for name, gradient in mine[1].items():
        assert torch.allclose(gradient, theirs[1][name], rtol=0, atol=2e-6 * largest), name


# ---- SFT --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imitator(base: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from datasets import Dataset

    return trl.SFTTrainer(
        load_causal(base),
        args=trl.SFTConfig(
            output_dir=str(tmp_path_factory.mktemp("trl")), gradient_checkpointing=False, **OFFLINE
        ),
        train_dataset=Dataset.from_list([{"prompt": "say", "completion": "red it"}] * 2),
        processing_class=load_tokenizer(base),
    )


@pytest.mark.parametrize("packing", [False, True])
def test_imitation_has_trls_loss_and_gradient(base: str, imitator: Any, packing: bool) -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    settings = SftSettings(model=base, dataset="", output="", zero_stage=0, packing=packing)
    rows = [
        Row(Rendered(prompt + response, len(prompt)), 1.0, ())
        for prompt, response in zip(PROMPTS, CHOSEN, strict=True)
    ]
    tokens = sum(len(response) for response in CHOSEN)
    mine = ours(base, settings, imitate(packing=packing), rows, tokens)
    batch = DataCollatorForLanguageModeling(pad_token_id=0)(
        [
            {"input_ids": prompt + response, "labels": [-100] * len(prompt) + response}
            for prompt, response in zip(PROMPTS, CHOSEN, strict=True)
        ]
    )
    assert_equal(mine, published(imitator, dict(batch)))


# ---- DPO --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chooser(base: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from datasets import Dataset

    rows = [{"prompt": "say", "chosen": "red it", "rejected": "blue it"}] * 2
    return trl.DPOTrainer(
        load_causal(base),
        args=trl.DPOConfig(
            output_dir=str(tmp_path_factory.mktemp("trl")),
            precompute_ref_log_probs=True,
            gradient_checkpointing=False,
            **OFFLINE,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(base),
    )


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("sigmoid", "sigmoid"),
        ("robust", "robust"),
        ("ipo", "ipo"),
        ("hinge", "hinge"),
        ("length_normalised", "sigmoid_norm"),
    ],
)
def test_choosing_has_trls_loss_and_gradient(
    base: str, chooser: Any, name: str, theirs: str
) -> None:
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    chosen = {"label_smoothing": NOISE} if name == "robust" else {}
    settings = DpoSettings(
        model=base, dataset="", output="", zero_stage=0, loss=name, beta=BETA, **chosen
    )
    pairs = [
        Judged(
            Group([Rendered(p + c, len(p)), Rendered(p + r, len(p))], [Pair(0, 1, 1.0, 1.0)], ()),
            reference,
        )
        for p, c, r, reference in zip(PROMPTS, CHOSEN, REJECTED, REFERENCE, strict=True)
    ]
    mine = ours(base, settings, preferred(settings), pairs, len(pairs))
    batch = DataCollatorForPreference(pad_token_id=0)(
        [
            {
                "prompt_ids": p,
                "chosen_ids": c,
                "rejected_ids": r,
                "ref_chosen_logps": reference[0],
                "ref_rejected_logps": reference[1],
            }
            for p, c, r, reference in zip(PROMPTS, CHOSEN, REJECTED, REFERENCE, strict=True)
        ]
    )
    chooser.loss_types, chooser.loss_weights, chooser.beta = [theirs], [1.0], BETA
    chooser.label_smoothing = chosen.get("label_smoothing", 0.0)
    assert_equal(mine, published(chooser, batch))
