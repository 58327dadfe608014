"""Whose word on a challenger is no evidence: the reward model that taught it, or chose for it.

That is known by content: GRPO, RLOO and PPO name the reward model that they were given among the
parents in their manifest, whatever weight it had, and best of n the one that chose what it
imitates; what an ancestor was taught by has taught the challenger. DPO and KTO learn from
preferences and name none: whether the reward model that judges them was fitted to the same
preferences is another matter, which is not looked at here.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flywheel.evaluate.graders.graders import BY_REWARD, Asked
from flywheel.evaluate.invariants import ancestors
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.process.content import model_hash


def without_its_teacher(
    asked: Sequence[Asked], settings: EvaluateSettings
) -> tuple[list[Asked], list[str]]:
    """The prompts, those without a say marked that a teacher of the challenger would judge.

    Returns:
        The prompts; and why their outcomes do not count, for the gate to hold, where there are any.
    """
    mine = [one for one in asked if one.grader == BY_REWARD]
    judge = model_hash(settings.reward_model)
    if not mine or judge not in ancestors(Path(settings.policy)):
        return list(asked), []
    reason = (
        f"{len(mine)} of {len(asked)} prompts are judged by the reward model {judge[:12]}, which "
        f"the challenger was trained on or chosen by: its word is no evidence; land "
        f"evaluation prompts with another grader, or ask people (grader 'people')"
    )
    return [replace(one, has_say=one.grader != BY_REWARD) for one in asked], [reason]
