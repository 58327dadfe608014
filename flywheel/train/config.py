"""Settings of each recipe: frozen dataclasses, every default with its reason.

Sizes are per optimizer step and over all devices, so that the number of devices changes the
speed of a run and not its result. `SAMPLE` holds what was measured to learn the sample world.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from flywheel.errors import SettingsError

# How a recipe divides its budget. What is left is for its steps.
HELD_OUT_FRAC = 0.1  # measuring on held-out rows, in DPO and KTO with their reference
REFERENCE_FRAC = 0.2  # the reference on train rows: a forward pass is a third of a step's work

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What every recipe has.

    Attributes:
        RATES: The recipe's own learning rates, of full weights and of LoRA. LoRA wants ten times
            as much at any rank ("LoRA Without Regret", Thinking Machines, 2025; and
            alignment-handbook's zephyr-7b-beta: 2e-5 and 2e-4 in SFT, 5e-7 and 5e-6 in DPO).
    """

    RATES: ClassVar[tuple[float, float]] = (2e-5, 2e-4)

    output: str  # folder of the checkpoint
    epochs: float = 1.0
    learning_rate: float = 0.0  # the peak; 0 takes the recipe's own, by lora_rank
    batch: int = 64  # elements (pages, demonstrations, prompts, pairs) per optimizer step
    micro_tokens: int = 8192  # padded tokens per backward; memory only, the result does not change
    max_tokens: int = 1024  # of prompt and response; longer prompts lose their oldest tokens
    warmup_steps: int = 20
    final_lr_frac: float = 0.1  # cosine to a tenth (arXiv:2203.02155, appendix C)
    weight_decay: float = 0.0
    adam_eps: float = 1e-8  # torch's; PPO wants 1e-5 (arXiv:2403.17031)
    clip: float = 1.0
    limit: int = 0  # elements at most, a seeded choice; 0 takes all
    held_out_limit: int = 500  # of the validation split: enough to tell a loss by
    budget_seconds: float = 0.0  # of all work on data; the schedule finishes in it; 0: no limit
    save_seconds: float = 60.0  # how much work a kill may cost
    lora_rank: int = 0  # 0 trains all weights
    zero_stage: int = -1  # 0 to 3; -1 chooses from size, precision, memory and devices
    offload: bool = False  # Adam's state in the host's memory; slower, so on request only
    precision: str = "auto"  # bf16 on a GPU; fp32 on a CPU, multiplied in bf16 where that pays
    checkpointing: bool = False  # activations again in the backward: a third more work, less memory
    threads: int = 0  # 0: one for tiny models (more only spin), all cores else
    seed: int = 0

    def __post_init__(self) -> None:
        if self.learning_rate == 0:
            full, lora = self.RATES
            object.__setattr__(self, "learning_rate", lora if self.lora_rank else full)
        for name in ("epochs", "learning_rate", "batch", "micro_tokens", "max_tokens"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be positive, got {getattr(self, name)}")
        if not -1 <= self.zero_stage <= 3:
            raise SettingsError(
                f"zero_stage must be 0 to 3, or -1 to choose; got {self.zero_stage}"
            )
        if self.precision not in PRECISIONS:
            raise SettingsError(
                f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}; fp16 "
                f"overflows without loss scaling, bf16 does not"
            )
        if self.zero_stage == 0 and (self.offload or self.precision == "bf16"):
            raise SettingsError(
                "zero_stage 0 has no offload, and with bf16 weights takes a wrong first step in "
                "DeepSpeed 0.19.8 (training.md, 5.5); use 1, 2 or 3"
            )

    def seconds_of(self, frac: float) -> float:
        """A share of the budget; infinite where there is none."""
        return frac * self.budget_seconds if self.budget_seconds else math.inf

    def for_steps(self, spent: float = 0.0) -> Self:
        """These settings with the budget that is left to the steps, `spent` seconds into it."""
        if not self.budget_seconds:
            return self
        left = self.seconds_of(1 - HELD_OUT_FRAC) - spent
        return replace(self, budget_seconds=max(left, 1e-3))  # 0 would be no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainSettings(RunSettings):
    """A small Llama from scratch on a corpus of pages."""

    RATES: ClassVar[tuple[float, float]] = (1e-2, 1e-2)  # d = 32; 2e-3 at d = 352; has no LoRA

    corpus: str  # Parquet with a column `text`, one page a row
    batch: int = 8  # small batches, many steps: what learns to copy in one pass
    hidden: int = 32
    layers: int = 2
    heads: int = 2
    feed_forward: int = 88
    rope_theta: float = 100.0  # requests are 60 tokens long
    max_positions: int = 256
    packing: bool = False  # short pages share a row: less padding, the same gradient


@dataclass(frozen=True, slots=True, kw_only=True)
class SftSettings(RunSettings):
    """Imitate demonstrations; loss on the response only."""

    model: str
    dataset: str
    epochs: float = 2.0  # arXiv:2411.15124
    batch: int = 32
    packing: bool = False  # short rows share one of the longest's length; the same gradient


SAMPLED = {"epochs": 2, "prompts": 32, "batch": 256, "max_new_tokens": 40, "missing_end": 0.2}
SAMPLE: dict[str, dict[str, Any]] = {
    "base": {},
    "sft": {"epochs": 5, "batch": 8, "learning_rate": 5e-3},
    "reward": {"epochs": 4, "batch": 16, "learning_rate": 4e-3, "weight_decay": 0.05},
    "step_reward": {"epochs": 4, "batch": 16, "learning_rate": 4e-3, "weight_decay": 0.05},
    "dpo": {"epochs": 1, "batch": 32, "learning_rate": 1e-3, "nll_weight": 0.05, "along": 6},
    "grpo": {**SAMPLED, "variant": "dr_grpo", "learning_rate": 4e-3, "kl_limit": 2.0},
    "kto": {"epochs": 4, "batch": 32, "learning_rate": 1e-3},
    "rloo": {**SAMPLED, "learning_rate": 4e-3, "kl_limit": 2.0},
    "ppo": {**SAMPLED, "samples": 2, "batch": 64, "learning_rate": 1e-3, "kl_limit": 2.0},
    "best_of": {"epochs": 2, "batch": 8, "learning_rate": 2e-3, "max_new_tokens": 40},
    "evaluate": {"max_new_tokens": 40},
    "collect": {"max_new_tokens": 40},
}
