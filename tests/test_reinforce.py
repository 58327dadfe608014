"""Reinforcement in one process: what it learns, what changes nothing, what is never a zero."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flywheel.datasets.render import Rendered, render_prompt
from flywheel.errors import SettingsError, TrainingError
from flywheel.models.load import load_causal, load_tokenizer
from flywheel.models.logps import ResponseLogps, pad
from flywheel.records.message import Conversation, prompt_of, text_of
from flywheel.rollout import Policy, Response, RewardModel, sample
from flywheel.train import best_of, grpo, ppo, rloo
from flywheel.train.asking import Asker
from flywheel.train.config_policy import RECIPES
from flywheel.train.config_reinforce import (
    BestOfSettings,
    GrpoSettings,
    OnPolicySettings,
    PpoSettings,
    RlooSettings,
)
from flywheel.train.on_policy import OnPolicy
from flywheel.train.rewards import Rewards, overlong
from flywheel.train.rollouts import Learner, Rollout, inputs
from tests.models_for_tests import COLOURS, demonstrations, freeze, preferences, reward_of, tiny
from tests.runs_for_tests import jobs

HERE = "tests.test_reinforce"
PROMPTS = [prompt_of(f"say {one}") for one in COLOURS]
RUNS: dict[str, Any] = {"grpo": grpo.run, "rloo": rloo.run, "ppo": ppo.run}


def names_it(prompt: Conversation, text: str) -> float:
    """1 where the first word is what the prompt asks for."""
    return float(text.split()[:1] == text_of(prompt).split()[1:2])


def always(prompt: Conversation, text: str) -> float:
    return 1.0


def chokes(prompt: Conversation, text: str) -> float | None:
    """Raises, answers nothing, or NaN, by the length of the response; else 2."""
    words = len(text.split())
    if words == 1:
        raise ValueError("one word")
    return {2: None, 3: float("nan")}.get(words, 2.0)


def knows_no_green(prompt: Conversation, text: str) -> float:
    return {"red": float(len(text))}.get(text_of(prompt).split()[1], float("nan"))


def breaks(prompt: Conversation, text: str) -> float:
    raise RuntimeError("out of order")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return preferences(tmp_path_factory.mktemp("data") / "preference")


def settings(kind: type[Any], base: str, dataset: str, folder: Path, **changes: Any) -> Any:
    chosen = {"verifier": f"{HERE}:names_it", "missing_end": 0.0, "max_new_tokens": 1,
              "max_tokens": 32, "warmup_steps": 1, "learning_rate": 2e-2}  # fmt: skip
    if issubclass(kind, OnPolicySettings):
        chosen |= {"prompts": 16, "batch": 128, "kl_beta": 0.0, "measure_every": 1000}
    return kind(**{**chosen, **changes}, model=base, dataset=dataset, output=str(folder / "policy"))


def chance_of_right(folder: str) -> float:
    """Exact chance of the right word, averaged over the prompts."""
    policy = Policy.load(folder)
    found = sample(policy, PROMPTS, samples=200, max_new_tokens=1, seed=9)
    return sum(
        names_it(prompt, one.text)
        for prompt, row in zip(PROMPTS, found, strict=True)
        for one in row
    ) / (200 * len(PROMPTS))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("grpo", {"epochs": 120.0}),
        ("grpo", {"epochs": 120.0, "variant": "dapo"}),
        ("rloo", {"epochs": 120.0, "samples": 8}),
        ("ppo", {"epochs": 1280.0, "prompts": 128}),
    ],
    ids=["grpo", "dapo", "rloo", "ppo"],
)
def test_a_bandit_is_solved(
    base: str, dataset: str, tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    assert chance_of_right(base) < 0.2
    # hot, so that each of the four right words is tried at all
    chosen = settings(RECIPES[name], base, dataset, tmp_path, temperature=2.0, **changes)
    result = RUNS[name](chosen, tmp_path)
    assert chance_of_right(result["checkpoint"]) >= 0.95
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert rows[-1]["reward_mean"] > 2 * rows[0]["reward_mean"]


def learner(kind: type[Any], base: str, dataset: str, folder: Path, **changes: Any) -> Learner:
    chosen = settings(kind, base, dataset, folder, max_new_tokens=6, **changes)
    critic = ppo.critic_of(chosen) if kind is PpoSettings else None
    return Learner.load(chosen, critic)


def source_of(one: Learner, credit: Any) -> OnPolicy:
    return OnPolicy(one, one.settings, credit)  # type: ignore[arg-type]


def gradients(one: Learner, objective: Any, elements: list[Any], cuts: list[int]) -> torch.Tensor:
    """The gradient of a step, back-propagated in micro-batches of the sizes given."""
    module, count = one.engine.engine.module, sum(objective.count(e) for e in elements)
    module.zero_grad()
    for size in cuts:
        batch, elements = elements[:size], elements[size:]
        total, _ = objective.loss(ModuleAsEngine(one), batch)
        (total / count).backward()
    assert not elements
    found = [w.grad for w in module.parameters() if w.requires_grad]
    return torch.cat([g.flatten() for g in found if g is not None]).clone()


class ModuleAsEngine:
    """The trained module where a loss asks for an engine: gradients stay where torch puts them."""

    def __init__(self, one: Learner) -> None:
        self._module, self.device = one.engine.engine.module, one.engine.device

    def __call__(self, *arguments: Any) -> Any:
        return self._module(*arguments)


@pytest.fixture(scope="module")
def rolled(
    base: str, dataset: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Learner, OnPolicy, list[Rollout], dict[str, float]]:
    """A first rollout batch of a policy with a value model, and what was reported of it."""
    one = learner(
        PpoSettings, base, dataset, tmp_path_factory.mktemp("rolled"),
        samples=2, prompts=8, batch=16, temperature=0.7, ptx_weight=0.5, kl_beta=0.1,
        missing_end=0.5, demonstrations=demonstrations(tmp_path_factory.mktemp("d") / "demo"),
    )  # fmt: skip
    source = source_of(one, ppo.token_credit(one.settings))  # type: ignore[arg-type]
    rollouts, facts = source.draw(0)
    return one, source, rollouts, facts


def test_before_the_first_update_every_ratio_is_1_and_there_is_no_divergence(
    rolled: tuple[Learner, OnPolicy, list[Rollout], dict[str, float]],
) -> None:
    one, _, rollouts, facts = rolled
    texts = [each.text for each in rollouts]
    logps, _, _ = one.engine(*inputs(texts, one.engine, 0.7))
    assert torch.equal(logps.detach(), torch.cat([each.old for each in rollouts]))
    assert facts["kl_k1_nats"] == facts["kl_k3_nats"] == facts["held_out_kl_nats"] == 0.0
    assert facts["sampler_gap"] == pytest.approx(1.0, abs=1e-5)  # the temperature is in both


def test_what_is_reported_of_a_rollout_batch(
    rolled: tuple[Learner, OnPolicy, list[Rollout], dict[str, float]],
) -> None:
    _, _, rollouts, facts = rolled
    cut = [len(one.old) == 6 and one.text.ids[-1] != 2 for one in rollouts]
    assert facts["ended_frac"] == pytest.approx(1 - sum(cut) / 16)
    assert facts["missing_end_mean"] == pytest.approx(sum(cut) / 16)
    assert facts["response_tokens"] == pytest.approx(sum(len(o.old) for o in rollouts) / 16)
    assert facts["reward_mean"] == pytest.approx(sum(o.score for o in rollouts) / 16)
    shares = [facts[f"{name}_share"] for name in ("verifier", "missing_end")]
    assert sum(shares) == pytest.approx(1.0)
    assert {"sample_seconds", "logps_seconds", "advantage_std", "kl_beta"} <= facts.keys()


def test_what_an_actor_says_is_the_policys_at_the_temperature_of_sampling(base: str) -> None:
    from flywheel.models.actor import Actor

    model = load_causal(base)
    rows = [Rendered([1, 5, 6, 7, 2], 2), Rendered([1, 5, 6, 7, 8, 9, 2], 3)]
    ids, is_target = pad(rows, "cpu")
    cool, hot = (Actor(model)(ids, is_target, torch.full((2,), heat)) for heat in (1.0, 2.0))
    assert torch.allclose(cool[0], ResponseLogps(model)(ids, is_target), atol=1e-6)
    logits = model(ids).logits[:, :-1][is_target[:, 1:]] / 2.0
    spread = torch.distributions.Categorical(logits=logits)
    assert torch.allclose(hot[0], spread.log_prob(ids[:, 1:][is_target[:, 1:]]), atol=1e-5)
    assert torch.allclose(hot[1], spread.entropy(), atol=1e-5) and not hot[1].requires_grad


def test_instructgpts_pull_is_the_formula_to_the_last_digits(
    rolled: tuple[Learner, OnPolicy, list[Rollout], dict[str, float]],
) -> None:
    one, _, rollouts, _ = rolled
    chosen = one.settings
    texts = ppo.pulls(one, chosen)[:5]  # type: ignore[arg-type]
    texts[0] = replace(texts[0], weight=3.0)
    objective = ppo.proximal(chosen)  # type: ignore[arg-type]
    mixed = [*rollouts, *ppo.weighed(rollouts, texts, 0.5)]
    found = gradients(one, objective, mixed, [4, 12, 1, 4])
    alone = gradients(one, objective, list(rollouts), [16])
    module = one.engine.engine.module
    module.zero_grad()
    rows = [each.text for each in texts]
    logps, _, values = module(*inputs(rows, one.engine, 1.0))
    weights = torch.cat([torch.full((r.text.response_tokens,), r.weight) for r in texts])
    (-(weights * logps).sum() / weights.sum() + 0.0 * values.sum()).backward()
    pull = torch.cat([w.grad.flatten() for w in module.parameters()])
    expected = alone + 0.5 * pull
    assert pull.norm() > 0.1 and (found - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("variant", ["grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "ppo"])
def test_no_cut_into_micro_batches_changes_a_gradient(
    rolled: tuple[Learner, OnPolicy, list[Rollout], dict[str, float]], variant: str
) -> None:
    one, source, rollouts, _ = rolled
    inputs_of = {"model": "m", "dataset": "d", "output": "o", "verifier": "m:f"}
    shared = {**inputs_of, "temperature": 0.7, "clip_low": 0.01, "clip_high": 0.01}
    objective: Any
    if variant == "rloo":
        objective = rloo.whole_responses(RlooSettings(**shared))
    elif variant == "ppo":
        objective = ppo.proximal(PpoSettings(**shared))
    else:
        objective = grpo.grouped(GrpoSettings(**shared, variant=variant, kl_beta=0.2), source)
    generator = torch.Generator().manual_seed(0)
    moved = [
        replace(each, old=each.old + 0.1 * torch.randn(len(each.old), generator=generator),
                reference=each.reference - 0.3)
        for each in rollouts
    ]  # fmt: skip
    whole = gradients(one, objective, list(moved), [16])
    for cuts in ([1] * 16, [4, 12], [7, 5, 3, 1]):
        found = gradients(one, objective, list(moved), cuts)
        assert (found - whole).norm() <= 1e-6 * whole.norm(), cuts


def test_samples_without_a_reward_leave_the_batch_and_are_counted(
    base: str, dataset: str, tmp_path: Path
) -> None:
    one = learner(GrpoSettings, base, dataset, tmp_path, verifier=f"{HERE}:chokes", prompts=16)
    asker = Asker(one, one.settings)  # type: ignore[arg-type]
    rollouts, facts = asker.batch()
    assert 0 < asker.counts["unscorable"] < 128
    assert len(rollouts) == 128 - asker.counts["unscorable"]
    assert facts["unscorable_frac"] == asker.counts["unscorable"] / 128
    # each scorable one says 2: had a failure been a 0, the mean would be lower
    assert facts["reward_mean"] == 2.0 and {each.score for each in rollouts} == {2.0}
    assert "one word" in one.rewards.last_fault


def test_where_nothing_can_be_scored_the_run_ends_with_what_the_verifier_raised(
    base: str, dataset: str, tmp_path: Path
) -> None:
    one = learner(GrpoSettings, base, dataset, tmp_path, verifier=f"{HERE}:breaks")
    with pytest.raises(TrainingError, match=r"none of 512 responses.*RuntimeError: out of order"):
        Asker(one, replace(one.settings, prompts=64)).batch()  # type: ignore[arg-type]


def test_groups_of_equal_rewards_are_kept_dropped_or_replaced(
    base: str, dataset: str, tmp_path: Path
) -> None:
    one = learner(GrpoSettings, base, dataset, tmp_path)
    kept, dropped, resampled = (
        Asker(one, replace(one.settings, equal_groups=mode))  # type: ignore[arg-type]
        for mode in ("keep", "drop", "resample")
    )
    whole, facts = kept.batch()
    equal = kept.counts["equal_groups"]
    assert len({each.group for each in whole}) == 16 and 0 < equal < 16
    assert facts["equal_groups_frac"] == equal / 16
    fewer, _ = dropped.batch()
    assert len({each.group for each in fewer}) == 16 - equal
    filled, more = resampled.batch()
    assert len({each.group for each in filled}) == 16 and more["rounds"] > 1
    for group in {each.group for each in filled}:
        assert len({each.score for each in filled if each.group == group}) > 1


def test_a_run_with_nothing_left_to_learn_ends_early_and_is_published(
    base: str, dataset: str, tmp_path: Path
) -> None:
    chosen = settings(
        GrpoSettings, base, dataset, tmp_path, verifier=f"{HERE}:always", equal_groups="drop"
    )
    result = grpo.run(replace(chosen, prompts=2), tmp_path)
    assert result["steps"] == 0 and "only groups of equal rewards" in result["stopped"]
    assert (tmp_path / "policy" / "manifest.json").exists()


def test_the_run_ends_where_held_out_responses_stray_too_far(
    base: str, dataset: str, tmp_path: Path
) -> None:
    chosen = settings(
        GrpoSettings, base, dataset, tmp_path, epochs=80.0, measure_every=1, kl_limit=0.2
    )
    result = grpo.run(chosen, tmp_path)
    nats = [one["held_out_kl_nats"] for one in result["held_out"]]
    assert 0 < result["steps"] < result["steps_planned"] and "over kl_limit" in result["stopped"]
    assert nats[0] == 0.0 and max(nats[:-1]) <= 0.2 < nats[-1] == result["validation_kl_nats"]


def test_patience_ends_a_run_whose_held_out_reward_stands_still(
    base: str, dataset: str, tmp_path: Path
) -> None:
    chosen = settings(
        GrpoSettings, base, dataset, tmp_path, epochs=80.0, measure_every=1, patience=2,
        verifier=f"{HERE}:always", lora_rank=2,
    )  # fmt: skip
    result = grpo.run(chosen, tmp_path)
    published = load_causal(result["checkpoint"]).state_dict()
    assert published.keys() == load_causal(base).state_dict().keys()  # no adapter is left
    assert result["steps"] == 2 and "2 measurements without" in result["stopped"]


def test_a_rule_to_stop_by_needs_held_out_prompts(base: str, dataset: str, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    rows = pq.read_table(Path(dataset) / "train.parquet").to_pylist()
    bare = freeze(tmp_path / "bare", train=rows, validation=[])
    with pytest.raises(SettingsError, match="prompts of the validation split"):
        grpo.run(settings(GrpoSettings, base, bare, tmp_path, kl_limit=1.0), tmp_path)


def test_a_run_resumed_between_rollout_batches_goes_on_to_the_same_weights(
    base: str, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flywheel.train import loop

    found, rate = [], loop.learning_rate
    for name in ("whole", "cut"):
        folder = tmp_path / name
        folder.mkdir()
        chosen = settings(
            PpoSettings, base, dataset, folder, epochs=12.0, samples=2, batch=16, save_seconds=0.0,
            epochs_per_rollout=2, kl_beta=0.1, kl_target=0.1, kl_horizon=10.0,
            normalise_reward=True, measure_every=1, max_new_tokens=3,
        )  # fmt: skip
        if name == "cut":  # amid the second of three rollout batches of four steps each
            monkeypatch.setattr(loop, "learning_rate", lambda s, step, share: (
                1 / 0 if step == 6 else rate(s, step, share)))  # fmt: skip
            with pytest.raises(ZeroDivisionError):
                ppo.run(chosen, folder)
            monkeypatch.undo()
        result = ppo.run(chosen, folder)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
        found.append((result, load_causal(result["checkpoint"]).state_dict(), rows))
    (_, whole, first), (resumed, after, second) = found
    assert resumed["resumed_at"] == 4 and resumed["steps"] == 12
    assert all(torch.equal(value, after[name]) for name, value in whole.items())
    assert resumed["held_out"] == found[0][0]["held_out"]
    assert [row["loss"] for row in first] == [row["loss"] for row in second]
    assert first[0]["kl_beta"] != first[-4]["kl_beta"]  # the controller has moved, and is state


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_processes_and_zero_stages_sample_and_learn_the_same(
    base: str, dataset: str, tmp_path: Path, stage: int
) -> None:
    from flywheel.process.launch import launch

    found = []
    for devices, zero in ((1, 0), (2, stage)):
        folder = tmp_path / str(devices)
        chosen = settings(
            PpoSettings, base, dataset, folder, epochs=8.0, samples=3, batch=17, kl_beta=0.1,
            max_new_tokens=4, zero_stage=zero, learning_rate=1e-3,
        )  # fmt: skip
        result = launch(
            "flywheel.train.ppo", chosen, folder, devices=devices, log=lambda line: None
        )
        assert (result["world"], result["zero_stage"]) == (devices, zero)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
        found.append((load_causal(result["checkpoint"]).state_dict(), rows))
    (alone, first), (shared, second) = found
    assert first[0]["reward_mean"] == second[0]["reward_mean"]
    assert first[0]["response_tokens"] == second[0]["response_tokens"]
    norms = [[row["grad_norm"] for row in rows] for rows in (first, second)]
    assert norms[1][0] == pytest.approx(norms[0][0], rel=1e-5)
    assert all(torch.allclose(value, shared[name], atol=1e-4) for name, value in alone.items())


@pytest.mark.parametrize("stage", [0, 3])
def test_ranks_sample_responses_of_different_lengths_and_one_may_have_none(
    base: str, dataset: str, tmp_path: Path, stage: int
) -> None:
    first, second = jobs("asking", tmp_path, base, dataset, stage)
    assert first == second and first[:2] == first[3:]
    assert len({len(tokens) for row in first for tokens in row}) > 1


def test_the_best_of_several_is_imitated(base: str, dataset: str, tmp_path: Path) -> None:
    chosen = settings(
        BestOfSettings, base, dataset, tmp_path, samples=200, keep="correct", epochs=60.0, batch=4,
        temperature=3.0,
    )  # fmt: skip
    result = best_of.run(chosen, tmp_path)
    assert chance_of_right(result["checkpoint"]) >= 0.95
    assert result["accepted_frac"] == result["accepted_count"] / (200 * len(COLOURS))
    assert result["best_of_samples"] == 200 and result["best_of_verifier"].endswith("names_it")
    assert result["best_of_kl_bound_nats"] == pytest.approx(math.log(200) - 0.995)
    assert best_of.run(chosen, tmp_path)["content_hash"] == result["content_hash"]


def test_the_bound_on_best_of_n_is_above_the_divergence_by_enumeration() -> None:
    chances = (0.1, 0.4, 0.2, 0.3)  # of four responses, from worst to best
    for samples in (1, 2, 5):
        best = [0.0] * 4
        for drawn in itertools.product(range(4), repeat=samples):
            best[max(drawn)] += math.prod(chances[one] for one in drawn)
        nats = sum(q * math.log(q / p) for q, p in zip(best, chances, strict=True))
        assert -1e-12 <= nats <= best_of.kl_bound(samples)
    many = [(n / 5000) ** 4 - ((n - 1) / 5000) ** 4 for n in range(1, 5001)]  # hardly any ties
    nats = sum(q * math.log(q * 5000) for q in many)
    assert best_of.kl_bound(4) == pytest.approx(nats, abs=1e-4)


def test_best_takes_the_highest_and_correct_takes_each_right_text_once() -> None:
    from flywheel.train.rewards import Reward

    def said(token: int, total: float | None) -> Any:
        return Response("", 1, True, 0.0, (token,), (0.0,)), Reward(total, {}, {})

    answers = [said(1, 0.2), said(2, None), said(3, 1.0), said(3, 1.0), said(4, 1.0)]
    chosen = BestOfSettings(model="m", dataset="d", output="o", verifier="m:f")
    assert best_of.picked(answers, chosen) == [2]
    assert best_of.picked(answers, replace(chosen, keep="correct")) == [2, 4]
    assert best_of.picked(answers[1:2], chosen) == []


def test_a_reward_is_the_sum_of_its_named_parts(base: str, dataset: str, tmp_path: Path) -> None:
    learned = reward_of(Path(base), tmp_path / "reward")
    chosen = settings(
        GrpoSettings, base, dataset, tmp_path, reward_model=learned, reward_weight=0.5,
        verifier_weight=2.0, missing_end=0.25, max_new_tokens=8, overlong_tokens=4,
    )  # fmt: skip
    tokenizer = load_tokenizer(base)
    response = Response("red it is", 6, False, 0.0, tuple(tokenizer("red it is")["input_ids"]))
    given = PROMPTS[:1], [render_prompt(tokenizer, PROMPTS[0])]
    (found,) = Rewards(chosen, tokenizer)(*given, [response])
    score = found.parts["reward_model"]
    assert score is not None and found.parts == {
        "reward_model": score, "verifier": 1.0, "missing_end": 1.0, "length": 0.5
    }  # fmt: skip
    assert found.total == pytest.approx(0.5 * score + 2.0 - 0.25 - 0.5)
    (bounded,) = Rewards(replace(chosen, reward_clip=0.1), tokenizer)(*given, [response])
    assert bounded.total == 0.1
    only = replace(chosen, verifier_weight=0.0, verifier=f"{HERE}:breaks")
    (unharmed,) = Rewards(only, tokenizer)(*given, [response])
    assert unharmed.total is not None and unharmed.parts["verifier"] is None
    assert [overlong(n, 8, 4) for n in (3, 4, 6, 8)] == [0, 0, 0.5, 1]


@pytest.mark.parametrize(
    ("kind", "changes", "told"),
    [
        (GrpoSettings, {"verifier": ""}, "nothing says what a response is worth"),
        (GrpoSettings, {"variant": "grop"}, "variant must be one of grpo"),
        (GrpoSettings, {"samples": 1}, "at least 2 samples"),
        (RlooSettings, {"kl_in": "loss"}, "KL into the reward"),
        (PpoSettings, {"ptx_weight": 1.0}, "needs demonstrations or corpus"),
        (PpoSettings, {"equal_groups": "redo"}, "must be one of keep, drop, resample"),
        (BestOfSettings, {"keep": "all"}, "keep must be best or correct"),
        (GrpoSettings, {"max_new_tokens": 32}, "below max_tokens"),
        (GrpoSettings, {"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    kind: type[Any], changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        settings(kind, "m", "d", Path("o"), **changes)


def test_a_learned_reward_reads_the_tokens_that_were_sampled(
    base: str, dataset: str, tmp_path: Path
) -> None:
    learned = reward_of(Path(base), tmp_path / "reward")
    chosen = settings(
        GrpoSettings, base, dataset, tmp_path, reward_model=learned, verifier_weight=0.0
    )
    tokenizer = load_tokenizer(base)
    rewards, prompt = Rewards(chosen, tokenizer), render_prompt(tokenizer, PROMPTS[0])
    said = tokenizer("red it is .")["input_ids"]
    ids = ([*said, tokenizer.eos_token_id], said, [said[0], tokenizer.bos_token_id, *said[1:]])
    answers = [Response("red it is .", len(own), True, 0.0, tuple(own)) for own in ids]
    given = [PROMPTS[0]] * 3, [prompt] * 3
    found = [one.total for one in rewards(*given, answers)]
    model = RewardModel.load(learned)
    assert found == model.score_rendered([Rendered([*prompt, *own], len(prompt)) for own in ids])
    assert len(set(found)) == 3  # the text is the same
    (whole,) = model.score([PROMPTS[0]], [answers[0].conversation])
    assert found[0] == pytest.approx(whole, abs=1e-6)


def test_a_round_without_a_score_is_no_end_while_other_rounds_have_some(
    base: str, dataset: str, tmp_path: Path
) -> None:
    chosen = settings(
        GrpoSettings, base, dataset, tmp_path, variant="dapo", prompts=4, batch=32,
        verifier=f"{HERE}:knows_no_green",
    )  # fmt: skip
    (tmp_path / "run").mkdir()
    result = grpo.run(chosen, tmp_path / "run")
    assert result["steps"] > 0 and result["unscorable_count"] > 0


def test_a_token_answers_for_the_nats_and_the_score_that_follow_it() -> None:
    chosen = PpoSettings(model="m", dataset="d", output="o", verifier="m:f", lam=1.0)
    strayed = (torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.0]))
    rollouts = [
        Rollout(
            text=Rendered([1, *range(2, 2 + len(nats))], 1), group=0, score=3.0, sampled=nats,
            old=nats, reference=torch.zeros_like(nats), values=torch.zeros_like(nats),
        )
        for nats in strayed
    ]  # fmt: skip
    returns = [found.tolist() for _, found in ppo.token_credit(chosen)(rollouts, 0.1)]
    assert returns[0] == pytest.approx([3 - 0.15, 3 - 0.1, 3 - 0.2])
    assert returns[1] == pytest.approx([3 - 0.1])


def test_a_nat_costs_the_same_however_far_the_scores_lie_apart() -> None:
    chosen = GrpoSettings(
        model="m", dataset="d", output="o", verifier="m:f", kl_in="reward", kl_beta=0.1
    )
    texts = Rendered([1, 2, 3], 1)
    rollouts = [
        Rollout(text=texts, group=0, score=1.0, sampled=torch.zeros(2),
                old=torch.full((2,), nats), reference=torch.zeros(2))
        for nats in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    credit = grpo.group_credit(chosen)
    found = [[float(own[0]) for own, _ in credit(rollouts, beta)] for beta in (0.1, 0.4)]
    assert found[0] == pytest.approx([0.1, 0.0, -0.1])
    assert found[1] == pytest.approx([0.4, 0.0, -0.4])


def test_a_variant_gives_its_papers_defaults_and_a_value_set_beside_it_holds() -> None:
    given = {"model": "m", "dataset": "d", "output": "o", "verifier": "m:f"}
    dapo, own = GrpoSettings(**given, variant="dapo"), GrpoSettings(**given, kl_beta=0.0)
    assert (dapo.clip_high, dapo.kl_beta, dapo.equal_groups) == (0.28, 0.0, "resample")
    assert GrpoSettings(**given).kl_beta == 0.04 and own.kl_beta == 0.0
    assert replace(dapo, seed=1).equal_groups == "resample"


@pytest.mark.parametrize("name", ["no_such:f", f"{HERE}:nothing", HERE, f"{HERE}:PROMPTS"])
def test_a_verifier_that_python_does_not_find_is_refused(name: str) -> None:
    from flywheel.train.rewards import verifier_of

    with pytest.raises(SettingsError, match="verifier"):
        verifier_of(name)


def test_without_adapters_the_policy_is_the_one_they_were_put_into(
    base: str, dataset: str, tmp_path: Path
) -> None:
    one = learner(GrpoSettings, base, dataset, tmp_path, lora_rank=2)
    with torch.no_grad():
        for name, weight in one.policy.model.named_parameters():
            if "lora_B" in name:
                weight.add_(0.5)
    rollouts, _ = Asker(one, one.settings).batch()  # type: ignore[arg-type]
    texts = [each.text for each in rollouts[:4]]
    start = torch.cat(one.reference(texts))
    plain = ResponseLogps(load_causal(base))(*pad(texts, "cpu"))
    assert torch.allclose(start, plain, atol=1e-5)
    assert not torch.allclose(torch.cat([facts[0] for facts in one.facts(texts)]), plain, atol=0.1)
