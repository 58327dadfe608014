"""What a response is worth: a sum of named parts, each reported; a part that fails is no zero.

Parts: the score of a reward model, the answer of a verifier, the cost of not having ended, and
the cost of length. A response whose learned or verified part raises, or is None or NaN, has no
reward at all: it leaves baseline and batch, and is counted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.datasets.render import Rendered
from flywheel.records.message import Conversation
from flywheel.rollout import Response, RewardModel, verifier_of
from flywheel.train.config_reinforce import RewardedSettings


@dataclass(frozen=True, slots=True)
class Reward:
    """The worth of one response.

    Attributes:
        total: None where it could not be told.
        parts: What each part came to before its weight; None where it failed.
        shares: What each adds to the total.
    """

    total: float | None
    parts: dict[str, float | None]
    shares: dict[str, float]


class Rewards:
    """Judges responses by the parts that the settings name.

    A learned reward is read on the very tokens that were sampled: text rendered anew hides a
    missing end of turn, and special tokens amid the response. Only a reward model of other tokens
    than the policy's reads the text.

    Args:
        settings: Parts and weights.
        tokenizer: The policy's.

    Attributes:
        last_fault: What the verifier raised last, for an error to tell.
    """

    def __init__(self, settings: RewardedSettings, tokenizer: Any) -> None:
        self._settings = settings
        self._model = RewardModel.load(settings.reward_model) if settings.reward_model else None
        self._reads_tokens = (
            self._model is not None and self._model.tokenizer.get_vocab() == tokenizer.get_vocab()
        )
        self._verify = verifier_of(settings.verifier) if settings.verifier else None
        self.last_fault = ""

    @property
    def held_bytes(self) -> int:
        """Of the reward model's weights."""
        held = self._model.module.parameters() if self._model else ()
        return sum(weight.numel() * weight.element_size() for weight in held)

    def __call__(
        self,
        prompts: Sequence[Conversation],
        prompt_ids: Sequence[Sequence[int]],
        responses: Sequence[Response],
    ) -> list[Reward]:
        """Judge each response to its prompt, a conversation and the ids that were continued."""
        learned: list[float | None] = [None] * len(responses)
        if self._model is not None and self._reads_tokens:
            learned = self._model.score_rendered(
                [
                    Rendered([*ids, *one.token_ids], len(ids))
                    for ids, one in zip(prompt_ids, responses, strict=True)
                ]
            )
        elif self._model is not None:
            learned = self._model.score(
                prompts,
                [one.conversation for one in responses],
                max_tokens=self._settings.max_tokens,
            )
        return [
            self._judged(prompt, response, score)
            for prompt, response, score in zip(prompts, responses, learned, strict=True)
        ]

    def _judged(self, prompt: Conversation, response: Response, score: float | None) -> Reward:
        chosen = self._settings
        parts: dict[str, float | None] = {}
        weights = {"missing_end": -chosen.missing_end, "length": -1.0}
        if self._model is not None:
            parts["reward_model"], weights["reward_model"] = _number(score), chosen.reward_weight
        if self._verify is not None:
            parts["verifier"] = self._verified(prompt, response.text)
            weights["verifier"] = chosen.verifier_weight
        if chosen.missing_end:
            parts["missing_end"] = float(not response.ended)
        if chosen.overlong_tokens:
            parts["length"] = overlong(
                response.token_count, chosen.max_new_tokens, chosen.overlong_tokens
            )
        counted = {name: part for name, part in parts.items() if weights[name]}
        known = {name: part for name, part in counted.items() if part is not None}
        if len(known) < len(counted):
            return Reward(None, parts, {})
        shares = {name: weights[name] * part for name, part in known.items()}
        total, bound = sum(shares.values()), chosen.reward_clip
        return Reward(min(bound, max(-bound, total)) if bound else total, parts, shares)

    def _verified(self, prompt: Conversation, text: str) -> float | None:
        """The verifier's answer; None where it raised, whatever it raised: it is not our code."""
        assert self._verify is not None
        try:
            return _number(self._verify(prompt, text))
        except Exception as error:
            self.last_fault = f"{type(error).__name__}: {error}"
            return None


def overlong(tokens: int, longest: int, margin: int) -> float:
    """0 up to `margin` tokens before the longest allowed, then linear to 1 (DAPO eq. 13)."""
    return min(1.0, max(0.0, (tokens - (longest - margin)) / margin))


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    return float(value) if value is not None and math.isfinite(value) else None
