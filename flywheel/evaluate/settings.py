"""Settings of an evaluation, and of one by another tool."""

import math
from dataclasses import dataclass

from flywheel.errors import SettingsError

# How an evaluation divides its budget. What is left is for scoring what was sampled.
SAMPLING_FRAC = 0.27  # at each of two temperatures, shared by the policies
BEST_OF_FRAC = 0.06  # pools of samples for the best of n
ALONG_FRAC = 0.02  # policies along the challenger's run
PAIRS_FRAC = 0.15  # scoring held-out pairs
TRAPS_FRAC = 0.03  # scoring responses that were tampered with
DEMONSTRATIONS_FRAC = 0.1  # losses of held-out demonstrations, shared by the policies


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSettings:
    """What is compared, on what, and how much of it."""

    generation: str
    base: str  # folders or hub names of the policies
    sft: str
    policy: str  # the challenger
    reward_model: str
    champion: str = ""  # empty where there is none yet
    evaluation_dataset: str
    evaluation_sets: str = ""  # what its sets were entered as, JSON; empty: no set is named
    preference_dataset: str
    demonstration_dataset: str
    rating_dataset: str = ""  # looked through for evaluation prompts, as the other two
    judgements: str = ""  # what people said of pairs of answers, Parquet; empty: nobody was asked
    along: str = ""  # folder of policies put aside along the challenger's run; empty: none
    people_along: bool = False  # people judge how far to follow the reward: no other gold is needed
    judge: str = ""  # model that compares answers to prompts with the grader "judge"
    judge_url: str = ""  # OpenAI-compatible server that has it, up to /v1; empty: this process
    judge_tokenizer: str = ""  # folder or hub name, where the server has another name for it
    judge_pairs: int = 200  # that people judged, on which the judge is held against them
    judge_tokens: int = 512  # of a reply
    judge_least_agreement: float = 0.6  # lower bound with people; below, it has no say
    judge_most_fooled: float = 0.1  # share of pairs in which it may be talked into the worse answer
    rules: str = ""  # what no answer may do, JSON; empty: personal data alone is looked for
    most_personal_data_frac: float = 0.0  # of answers that may hold a person's data of their own
    prompt_limit: int = 600  # a win rate of 0.54 is told from 0.5 with about this many
    pair_limit: int = 5000
    demonstration_limit: int = 500
    trap_limit: int = 300  # held-out responses that are tampered with, ten ways each
    # The best of n takes 1,600 answers of the SFT policy beside the 3,600 to 4,200 of all policies.
    best_of_prompts: int = 100  # on which it is looked at; its interval widens as they get fewer
    best_of_samples: int = 16  # of each; below 2, it is not looked at
    temperature: float = 1.0  # what is trained; greedy answers are reported beside it
    max_new_tokens: int = 256
    max_tokens: int = 1024
    resamples: int = 2000  # of the bootstrap
    budget_seconds: float = 0.0  # of all work on data; less is measured where short; 0: no limit
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "prompt_limit",
            "pair_limit",
            "demonstration_limit",
            "max_new_tokens",
            "max_tokens",
            "resamples",
            "judge_pairs",
            "judge_tokens",
            "trap_limit",
            "best_of_prompts",
        ):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")

        if not 0.5 <= self.judge_least_agreement <= 1 or not 0 <= self.judge_most_fooled < 1:
            raise SettingsError(
                f"judge_least_agreement must be from 0.5, which a coin reaches, to 1, and "
                f"judge_most_fooled from 0 to below 1, got {self.judge_least_agreement:g} and "
                f"{self.judge_most_fooled:g}"
            )

    def seconds_of(self, frac: float) -> float:
        """A share of the budget; infinite where there is none."""
        return frac * self.budget_seconds if self.budget_seconds else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessSettings:
    """What the harness is asked to do."""

    model: str  # folder of a checkpoint
    tasks: str  # names, separated by commas
    include: str = ""  # folder with definitions of further tasks, YAML
    few_shot: int = -1  # examples in the prompt; -1: as the task says
    limit: int = 0  # samples of each task at most; 0: all of them
    chat: bool = True  # what is asked is put into the checkpoint's chat template
    batch: int = 8
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.names or self.few_shot < -1 or self.limit < 0 or self.batch < 1:
            raise SettingsError(
                f"the harness needs a task, few_shot of -1 or more, a limit of 0 or more and a "
                f"batch of 1 or more, got {self.tasks!r}, {self.few_shot}, {self.limit} and "
                f"{self.batch}"
            )

    @property
    def names(self) -> list[str]:
        """Names of the tasks."""
        return [name for one in self.tasks.split(",") if (name := one.strip())]
