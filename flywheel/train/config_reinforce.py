"""Settings of the recipes that learn from what the policy samples; every default with its reason.

There is no top-p and no top-k: the log-probabilities of a truncated sampler are not those of the
policy, and the ratios that all of these rest on would be biased by the mass cut off.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from flywheel.errors import SettingsError
from flywheel.train.config import RunSettings

EQUAL_GROUPS = ("keep", "drop", "resample")


def within(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a setting that is not in low..high."""
    if not low <= value <= high:
        bounds = f"{low:g} to {high:g}" if high < math.inf else f"at least {low:g}"
        raise SettingsError(f"{name} must be {bounds}, got {value}")


def check_along(count: int) -> None:
    """Refuse fewer than no policies put aside."""
    if count < 0:
        raise SettingsError(f"along counts policies, 0 or more, got {count}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardedSettings(RunSettings):
    """What is asked, how it is answered, and what an answer is worth; an element is a response.

    A reward is the sum of its parts. One whose part fails is no reward: the response leaves
    baseline and batch, and is counted.
    """

    RATES: ClassVar[tuple[float, float]] = (1e-6, 1e-5)  # TRL's for GRPO and RLOO; arXiv:2503.14476

    model: str
    dataset: str  # its prompts are asked
    reward_model: str = ""  # folder; empty: no learned reward
    reward_weight: float = 1.0  # 0 only reports the score
    verifier: str = ""  # "module:function", called with (prompt: Conversation, response_text: str)
    verifier_weight: float = 1.0  # 0 only reports its answer, e.g. of a gold that must not teach
    missing_end: float = 1.0  # cost of a response that did not end (-1 in arXiv:2403.17031)
    overlong_tokens: int = 0  # the last so many cost up to 1, linearly (arXiv:2503.14476 eq. 13)
    reward_clip: float = 0.0  # bound on the sum of parts, either side; 0 sets none
    normalise_reward: bool = False  # divide by the running deviation; group-relative ones need not
    samples: int = 8  # responses a prompt (TRL)
    temperature: float = 1.0  # of sampling, and of the log-probabilities trained on
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        # not super(): a dataclass with slots is another class than the one super() remembers
        RunSettings.__post_init__(self)
        if not (self.reward_model and self.reward_weight) and not (
            self.verifier and self.verifier_weight
        ):
            raise SettingsError(
                "nothing says what a response is worth; give reward_model, a folder, or verifier, "
                "a 'module:function', with a weight that is not 0"
            )
        if self.temperature <= 0 or self.samples < 1 or self.max_new_tokens < 1:
            raise SettingsError(
                f"temperature must be above 0, samples and max_new_tokens at least 1; got "
                f"{self.temperature}, {self.samples}, {self.max_new_tokens}"
            )
        if not 0 <= self.overlong_tokens < self.max_new_tokens < self.max_tokens:
            raise SettingsError(
                f"overlong_tokens must be below max_new_tokens, and that below max_tokens, which "
                f"holds prompt and response; got {self.overlong_tokens}, {self.max_new_tokens}, "
                f"{self.max_tokens}"
            )
        within("missing_end", self.missing_end, 0)
        within("reward_clip", self.reward_clip, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnPolicySettings(RewardedSettings):
    """What every recipe that learns while it samples has.

    Sizes count responses: `prompts * samples` are a rollout batch, `batch` an optimizer step.
    """

    batch: int = 512  # arXiv:2503.14476; at the default sizes one step a rollout batch
    prompts: int = 64  # a rollout batch
    epochs_per_rollout: int = 1  # more strays from the policy that sampled (arXiv:2203.02155, C.4)
    held_out_limit: int = 100  # prompts of the validation split, each sampled once a measurement
    kl_beta: float = 0.0  # cost of a nat from the starting policy
    kl_in: str = "reward"  # k1 in the reward has the exact gradient; "loss" adds a term to the loss
    kl_estimator: str = "k3"  # of the term in the loss: "k3" or "k2", corrected for the ratio
    kl_target: float = 0.0  # nats a response to steer kl_beta by; 0 keeps it (arXiv:1909.08593: 6)
    kl_horizon: float = 10_000.0  # responses (arXiv:1909.08593)
    clip_low: float = 0.2  # arXiv:1707.06347
    clip_high: float = 0.2  # ibid.
    equal_groups: str = "keep"  # those whose rewards are all equal: keep, drop or resample
    measure_every: int = 10  # rollout batches between two measurements on held-out prompts
    kl_limit: float = 0.0  # nats a held-out response at which the run ends; 0 sets none
    patience: int = 0  # measurements without a better held-out reward until it ends; 0: no end
    along: int = 0  # policies put aside on the way, each as large as the last; 6 place a turn

    def __post_init__(self) -> None:
        RewardedSettings.__post_init__(self)
        for name, known in (
            ("equal_groups", EQUAL_GROUPS),
            ("kl_in", ("reward", "loss")),
            ("kl_estimator", ("k2", "k3")),
        ):
            if getattr(self, name) not in known:
                raise SettingsError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        if self.prompts < 1 or self.epochs_per_rollout < 1 or self.measure_every < 1:
            raise SettingsError("prompts, epochs_per_rollout and measure_every must be at least 1")
        for name in ("kl_beta", "kl_target", "kl_limit", "patience", "clip_high"):
            within(name, getattr(self, name), 0)
        within("clip_low", self.clip_low, 0, 1)
        check_along(self.along)
        if self.kl_target and not self.kl_beta:
            raise SettingsError(
                f"kl_target {self.kl_target} steers kl_beta by factors, and from 0 nothing comes; "
                f"give a kl_beta to start from"
            )


VARIANTS: dict[str, dict[str, Any]] = {
    "grpo": {"kl_beta": 0.04},  # arXiv:2402.03300
    "dr_grpo": {},
    "dapo": {"clip_high": 0.28, "equal_groups": "resample"},  # arXiv:2503.14476
    "gspo": {"clip_low": 3e-4, "clip_high": 4e-4},  # arXiv:2507.18071
    "cispo": {"clip_high": 4.0},  # ratios up to 5 (arXiv:2506.13585)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoSettings(OnPolicySettings):
    """Advantages relative to the other responses to a prompt; no value model.

    `variant` gives the defaults of the paper it names; a value set beside it holds.
    """

    variant: str = "grpo"  # grpo, dr_grpo, dapo, gspo or cispo
    kl_in: str = "loss"  # arXiv:2402.03300, here with the ratio that makes its gradient right
    kl_beta: float = -1.0  # -1 takes the variant's
    clip_low: float = -1.0  # -1 takes the variant's
    clip_high: float = -1.0  # -1 takes the variant's
    equal_groups: str = ""  # empty takes the variant's
    overlong_tokens: int = -1  # -1 takes the variant's: for dapo a fifth of max_new_tokens, else 0

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise SettingsError(
                f"variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}"
            )
        plain = {"kl_beta": 0.0, "clip_low": 0.2, "clip_high": 0.2, "equal_groups": "keep"}
        for name, value in {**plain, **VARIANTS[self.variant]}.items():
            if getattr(self, name) in (-1.0, ""):
                object.__setattr__(self, name, value)
        if self.overlong_tokens == -1:
            margin = self.max_new_tokens // 5 if self.variant == "dapo" else 0
            object.__setattr__(self, "overlong_tokens", margin)
        OnPolicySettings.__post_init__(self)
        if self.samples < 2:
            raise SettingsError("a group needs at least 2 samples a prompt; raise samples")


@dataclass(frozen=True, slots=True, kw_only=True)
class RlooSettings(OnPolicySettings):
    """REINFORCE with the other responses' mean as baseline; the ratio is of whole responses."""

    samples: int = 4  # 2 to 4 in arXiv:2402.14740
    kl_beta: float = 0.05  # TRL

    def __post_init__(self) -> None:
        OnPolicySettings.__post_init__(self)
        if self.samples < 2:
            raise SettingsError("a baseline needs at least 2 samples a prompt; raise samples")
        if self.kl_in != "reward":
            raise SettingsError("rloo takes the KL into the reward; leave kl_in alone")


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoSettings(OnPolicySettings):
    """A value model beside the policy; optionally InstructGPT's pull towards demonstrations."""

    RATES: ClassVar[tuple[float, float]] = (3e-6, 3e-5)  # arXiv:2403.17031

    samples: int = 1  # more prompts, not more samples: the baseline is learnt
    prompts: int = 512  # arXiv:2203.02155, appendix C.4
    batch: int = 64  # ibid.
    kl_beta: float = 0.05  # arXiv:2403.17031; 0.02 in arXiv:2203.02155
    gamma: float = 1.0  # a response is short: nothing is discounted (both)
    lam: float = 0.95  # arXiv:2403.17031
    value_clip: float = 0.2  # ibid.
    value_weight: float = 0.1  # ibid.; scales the value model's gradient below the common clip
    dual_clip: float = 0.0  # 3 in arXiv:1912.09729
    adam_eps: float = 1e-5  # smaller makes early steps far more aggressive (arXiv:2403.17031)
    demonstrations: str = ""  # dataset that ptx_weight pulls towards
    corpus: str = ""  # or pages: Parquet with a column `text`
    ptx_weight: float = 0.0  # 27.8 in arXiv:2203.02155, whose reduction it does not tell; off
    ptx_batch: int = 64  # demonstrations or pages an optimizer step

    def __post_init__(self) -> None:
        OnPolicySettings.__post_init__(self)
        if self.kl_in != "reward":
            raise SettingsError("ppo takes the KL into the reward; leave kl_in alone")
        for name in ("gamma", "lam"):
            within(name, getattr(self, name), 0, 1)
        for name in ("value_clip", "value_weight", "ptx_weight"):
            within(name, getattr(self, name), 0)
        if self.dual_clip and self.dual_clip <= 1:
            raise SettingsError(f"dual_clip must be above 1, or 0 for none; got {self.dual_clip}")
        if self.ptx_batch < 1:
            raise SettingsError(f"ptx_batch must be at least 1, got {self.ptx_batch}")
        if self.ptx_weight and not (self.demonstrations or self.corpus):
            raise SettingsError("ptx_weight needs demonstrations or corpus to pull towards")


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfSettings(RewardedSettings):
    """Imitate the best of several responses to each prompt; no policy gradient."""

    RATES: ClassVar[tuple[float, float]] = (2e-5, 2e-4)  # as in supervised fine-tuning

    epochs: float = 2.0  # ibid.
    batch: int = 32  # ibid.
    samples: int = 16  # a quarter of the nats of n = 64: log n - (n - 1) / n (arXiv:2401.01879)
    keep: str = "best"  # of each prompt, or "correct": all whose reward reaches `threshold`
    threshold: float = 1.0  # a verifier's full mark

    def __post_init__(self) -> None:
        RewardedSettings.__post_init__(self)
        if self.keep not in ("best", "correct"):
            raise SettingsError(f"keep must be best or correct, got {self.keep!r}")
