"""When a run that learns from its own rollouts should end: what held-out prompts say.

Each prompt is answered once, with the same noise every time. The run ends where those responses
stray more than `kl_limit` nats from the starting policy, or where `patience` measurements in a
row brought no reward above the best by more than its standard error. Only prompts of the
validation split decide, and only what is known without a gold: a learned reward goes on rising
where the true one falls, so that it is the distance, not the score, that protects against
over-optimisation (arXiv:2210.10760).
"""

import math
import statistics
from typing import Any

from flywheel.errors import SettingsError
from flywheel.train.asking import HELD_OUT_NOISE, mean, noise_of, rollout_of, seen, unscorable
from flywheel.train.config_reinforce import OnPolicySettings
from flywheel.train.kl import k3
from flywheel.train.rollouts import Learner


class HeldOut:
    """Measures on held-out prompts, and says whether to go on.

    Attributes:
        measured: Every measurement, in order, with the step that it was taken before.

    Raises:
        SettingsError: There is a rule to stop by, and no prompt to measure on.
    """

    def __init__(self, learner: Learner, settings: OnPolicySettings) -> None:
        self._learner, self._settings = learner, settings
        self.prompts = learner.prompts("validation", settings.held_out_limit)
        self.measured: list[dict[str, float]] = []
        if (settings.kl_limit or settings.patience) and not self.prompts:
            raise SettingsError(
                f"kl_limit and patience are judged on prompts of the validation split, and "
                f"{settings.dataset} has none; set both to 0, or land more feedback"
            )

    def measure(self, step: int) -> dict[str, float]:
        """Reward, and divergence from the start, of one response to each prompt.

        The divergence is the sum over tokens of k3, in nats a response: never negative, and of
        the expected value of the sum of log-ratios.

        Raises:
            TrainingError: No response could be scored.
        """
        if not self.prompts:
            return {}
        seeds = [noise_of(self._settings.seed, HELD_OUT_NOISE, n) for n in range(len(self.prompts))]
        answers = [row[0] for row in self._learner.answers(self.prompts, seeds, 1)]
        pairs = zip(self.prompts, answers, strict=True)
        found = [one for prompt, answer in pairs if (one := rollout_of(0, prompt, answer))]
        if not found:
            raise unscorable(self._learner, len(answers))
        texts, scores = [one.text for one in found], [one.score for one in found]
        both = zip(self._learner.facts(texts), self._learner.reference(texts), strict=True)
        nats = mean(float(k3(own - start).sum()) for (own, _, _), start in both)
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        facts = {
            "held_out_reward": mean(scores),
            "held_out_reward_se": spread / math.sqrt(len(scores)),
            "held_out_kl_nats": nats,
            "held_out_kl_root": math.sqrt(max(0.0, nats)),
            **seen(answers, "held_out_"),
        }
        self.measured.append({"step": step, **facts})
        return facts

    def verdict(self) -> str:
        """Why to stop, by what was measured; empty: go on."""
        limit, patience = self._settings.kl_limit, self._settings.patience
        nats = self.measured[-1]["held_out_kl_nats"] if self.measured else 0.0
        if limit and nats > limit:
            return f"held-out responses stray {nats:.3g} nats from the start, over kl_limit {limit}"
        rewards = [one["held_out_reward"] for one in self.measured]
        if patience and len(rewards) > patience:
            best = max(range(len(rewards) - patience), key=rewards.__getitem__)
            bar = rewards[best] + self.measured[best]["held_out_reward_se"]
            if max(rewards[-patience:]) <= bar:
                return f"{patience} measurements without a held-out reward above {bar:.4g}"
        return ""

    def report(self, step: int) -> dict[str, Any]:
        """A last measurement, and all of them, for a run's result."""
        is_fresh = bool(self.measured) and self.measured[-1]["step"] == step
        last = self.measured[-1] if is_fresh else self.measure(step)
        return {
            "validation_reward": last.get("held_out_reward"),
            "validation_kl_nats": last.get("held_out_kl_nats"),
            "held_out": self.measured,
        }
