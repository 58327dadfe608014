"""Planted bugs, each of which a named test must catch: what the battery is worth.

A mutant is one line of the training room changed into a mistake that trainers are known to have
shipped (training.md, chapter 2). The package is copied, the line is changed, the named test runs on
the copy and has to fail. That every line is still there is checked in the fast run.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]


class Mutant(NamedTuple):
    bug: str
    file: str
    line: str
    becomes: str
    killed_by: str


MUTANTS = [
    Mutant(
        "the denominator is counted per micro-batch",
        "flywheel/train/loop.py",
        "engine.backward(loss * weight, count)",
        "engine.backward(loss * weight, sum(map(objective.count, batch)))",
        "test_invariance.py::test_no_cut_changes_a_gradient",
    ),
    Mutant(
        "gradients are averaged over ranks and divided by the count of all of them",
        "flywheel/train/engine.py",
        "world() * loss_sum / count",
        "loss_sum / count",
        "test_train.py::test_processes_and_zero_stages_change_only_the_speed",
    ),
    Mutant(
        "the loss mask is off by one",
        "flywheel/models/logps.py",
        "before = is_target[:, 1:]",
        "before = is_target[:, :-1]",
        "test_rollout.py::test_log_probabilities_are_those_that_the_model_gives_each_target",
    ),
    Mutant(
        "softmax twice",
        "flywheel/models/logps.py",
        "torch.log_softmax(logits, dim=-1)",
        "torch.log_softmax(torch.softmax(logits, dim=-1), dim=-1)",
        "test_rollout.py::test_log_probabilities_are_those_that_the_model_gives_each_target",
    ),
    Mutant(
        "the end of the turn carries no loss",
        "flywheel/datasets/render.py",
        "turn[: ends[-1] + 1] if ends",
        "turn[: ends[-1]] if ends",
        "test_render.py::test_loss_is_on_the_response_and_its_end_and_on_nothing_else",
    ),
    Mutant(
        "what a tool answered is learnt",
        "flywheel/datasets/render.py",
        "observed.append((len(ids), len(ids) + len(between)))",
        "pass",
        "test_render.py::test_what_a_tool_answered_carries_no_loss",
    ),
    Mutant(
        "the score is read at the padding",
        "flywheel/models/reward.py",
        "hidden[places[:, 0], places[:, 1]]",
        "hidden[places[:, 0], -1]",
        "test_rollout.py::test_a_score_is_read_at_the_last_real_token_and_shifted",
    ),
    Mutant(
        "the label is turned round",
        "flywheel/train/losses.py",
        "F.binary_cross_entropy_with_logits(margins, probabilities, ",
        "F.binary_cross_entropy_with_logits(margins, 1 - probabilities, ",
        "test_losses.py::test_certain_labels_give_bradley_terry",
    ),
    Mutant(
        "the reference is forgotten",
        "flywheel/train/preference_losses.py",
        "return (a.policy - a.reference) - (b.policy - b.reference)",
        "return a.policy - b.policy",
        "test_preference.py::test_a_policy_that_is_its_reference_pays_log_2",
    ),
    Mutant(
        "IPO sums what its authors average",
        "flywheel/train/preference_losses.py",
        "(a.policy - a.reference) / a.lengths - (b.policy - b.reference) / b.lengths",
        "(a.policy - a.reference) - (b.policy - b.reference)",
        "test_beside_trl.py::test_choosing_has_trls_loss_and_gradient",
    ),
    Mutant(
        "a prompt with many pairs counts as many prompts",
        "flywheel/train/reward.py",
        "weights.append(group.share * pair.weight / mass)",
        "weights.append(pair.weight)",
        "test_train.py::test_all_pairs_of_a_prompt_weigh_as_one",
    ),
    Mutant(
        "a resumed run starts its data from the first row",
        "flywheel/train/source.py",
        "start = step * self._batch",
        "self._calls = getattr(self, '_calls', -1) + 1; start = self._calls * self._batch",
        "test_resume.py::test_a_killed_run_goes_on_to_the_same_weights_records_and_rows",
    ),
    Mutant(
        "a torn checkpoint is loaded",
        "flywheel/train/state.py",
        "            verify(path)\n",
        "            pass\n",
        "test_resume.py::test_a_damaged_save_is_skipped_for_the_one_before",
    ),
    Mutant(
        "rows draw their random numbers by their place in the batch",
        "flywheel/rollout/sampler.py",
        "numbers = torch.from_numpy(noise[places])",
        "numbers = torch.from_numpy(noise[: len(places)])",
        "test_rollout.py::test_an_answer_does_not_depend_on_the_rows_beside_it",
    ),
    Mutant(
        "only the tokenizer's end of turn is known",
        "flywheel/models/load.py",
        "for one in (*ids, tokenizer.eos_token_id)",
        "for one in (tokenizer.eos_token_id,)",
        "test_train.py::test_a_published_reward_model_scores_as_it_did_in_training",
    ),
    Mutant(
        "dropout stays on",
        "flywheel/models/load.py",
        "            module.p = 0.0\n",
        "            pass\n",
        "test_train.py::test_dropout_is_off_in_every_pass",
    ),
    Mutant(
        "a rank that repeats a micro-batch counts it again",
        "flywheel/train/loop.py",
        "weights + [0.0] * short",
        "weights + [1.0] * short",
        "test_invariance.py::test_two_processes_take_the_step_of_one",
    ),
    Mutant(
        "the temperature of sampling is forgotten",
        "flywheel/models/logps.py",
        ".float() / heat[:, None]",
        ".float()",
        "test_logps.py::test_the_sampler_reports_what_training_computes",
    ),
    Mutant(
        "the clip is optimistic",
        "flywheel/train/policy_losses.py",
        "losses = torch.maximum(-advantages * ratios,",
        "losses = torch.minimum(-advantages * ratios,",
        "test_policy_losses.py::test_the_clip_is_pessimistic_on_both_sides",
    ),
    Mutant(
        "a response is in its own baseline",
        "flywheel/train/advantages.py",
        "others = (sums[places] - scores) / (count - 1).clamp(min=1)",
        "others = sums[places] / count",
        "test_advantages.py::test_leave_one_out_compares_each_with_the_mean_of_the_others",
    ),
    Mutant(
        "a later reward does not count for a token",
        "flywheel/train/ppo.py",
        "gamma=settings.gamma,",
        "gamma=0.0,",
        "test_reinforce.py::test_a_token_answers_for_the_nats_and_the_score_that_follow_it",
    ),
    Mutant(
        "the divergence is of the other sign",
        "flywheel/train/kl.py",
        "return (-x).exp() - 1 + x",
        "return x.exp() - 1 - x",
        "test_kl.py::test_values_are_exact_in_expectation_and_k3_is_never_negative",
    ),
    Mutant(
        "the reference drifts with the policy",
        "flywheel/train/rollouts.py",
        "frozen = Actor(copy.deepcopy(model)).requires_grad_(False)",
        "frozen = Actor(model)",
        "test_reinforce.py::test_the_run_ends_where_held_out_responses_stray_too_far",
    ),
    Mutant(
        "what cannot be scored is worth nothing",
        "flywheel/train/rewards.py",
        "            return None\n",
        "            return 0.0\n",
        "test_reinforce.py::test_samples_without_a_reward_leave_the_batch_and_are_counted",
    ),
    Mutant(
        "the reward is read on the text, not on what was sampled",
        "flywheel/train/rewards.py",
        "if self._model is not None and self._reads_tokens:",
        "if False:",
        "test_reinforce.py::test_a_learned_reward_reads_the_tokens_that_were_sampled",
    ),
    Mutant(
        "thumbs down are liked",
        "flywheel/train/preference_losses.py",
        "signs = is_desirable.to(ratios.dtype) * 2 - 1",
        "signs = torch.ones_like(ratios)",
        "test_kto.py::test_the_loss_is_the_published_formula",
    ),
    Mutant(
        "the weights of annotators cancel",
        "flywheel/train/data.py",
        "share=sum(pair.weight for pair in pairs)",
        "share=1.0",
        "test_reward.py::test_a_prompt_counts_by_the_weight_of_its_labels",
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug)
def test_the_line_of_every_mutant_is_there_once(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.line) == 1
    name, test = mutant.killed_by.split("::")
    assert f"def {test}(" in (ROOT / "tests" / name).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug)
def test_a_planted_bug_is_caught_by_the_test_named_for_it(mutant: Mutant, tmp_path: Path) -> None:
    for name in ("flywheel", "assets", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / mutant.file
    path.write_text(path.read_text().replace(mutant.line, mutant.becomes))
    command = [sys.executable, "-m", "pytest", "-x", "-m", "", f"tests/{mutant.killed_by}"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "failed" in done.stdout.splitlines()[-1]
