"""PROMOTE, HOLD or REJECT, from what evaluation measured; every rule gives its numbers.

REJECT needs evidence against the challenger, PROMOTE evidence for it; where there is too little of
it, or the interval says neither, the gate holds and says how many prompts would have been enough.
What is counted is groups of prompts: near repeats of one prompt are no further evidence.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["PROMOTE", "HOLD", "REJECT"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """What a challenger must show."""

    win_rate_above: float = 0.5  # lower bound against the champion (or the base, at first)
    least_prompts: int = 30  # fewer groups of them, or of held-out pairs, decide nothing
    least_ended_frac: float = 0.8  # answers that come to an end by themselves
    most_length_ratio: float = (
        1.5  # mean tokens, of the opponent's: longer is how rewards are hacked
    )
    human_approval: bool = False  # a promotion waits for a person's yes


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the gate says, and why."""

    decision: Verdict
    reasons: list[str]


def decide(result: dict[str, Any], settings: GateSettings) -> Decision:
    """Judge a challenger by the result of its evaluation (`flywheel.evaluate.run`)."""
    policy, reward = result["policy"], result["reward_model"]
    against = _against(policy, reward, settings)
    if against:
        return Decision(decision="REJECT", reasons=against)
    missing = _missing(policy, reward, settings)
    if missing:
        return Decision(decision="HOLD", reasons=missing)
    low = policy["ci"][0]
    return Decision(
        decision="PROMOTE",
        reasons=[
            f"preferred over {policy['opponent']} {policy['win_rate']:.3f} "
            f"({policy['ci'][0]:.3f} to {policy['ci'][1]:.3f}) on {policy['prompts']} prompts: "
            f"the lower bound {low:.3f} is above {settings.win_rate_above}"
        ],
    )


def _against(
    policy: dict[str, Any], reward: dict[str, Any] | None, settings: GateSettings
) -> list[str]:
    reasons = []
    if policy["groups"] >= settings.least_prompts:
        reasons += _against_policy(policy, settings)
    if reward and reward["groups"] >= settings.least_prompts and reward["over_length"]["ci"][1] < 0:
        reasons.append(
            f"its reward model is worse than {_lead(reward)}: the upper bound is below 0"
        )
    return reasons


def _against_policy(policy: dict[str, Any], settings: GateSettings) -> list[str]:
    reasons = []
    if policy["ci"][1] < 0.5:
        reasons.append(
            f"worse than {policy['opponent']}: win rate {policy['win_rate']:.3f}, upper bound "
            f"{policy['ci'][1]:.3f} below 0.5"
        )
    if policy["ended_frac"] < settings.least_ended_frac:
        reasons.append(
            f"only {policy['ended_frac']:.0%} of answers end by themselves, "
            f"{settings.least_ended_frac:.0%} are asked for"
        )
    usual = policy.get("opponent_response_tokens")
    if usual and policy["mean_response_tokens"] > settings.most_length_ratio * usual:
        reasons.append(
            f"answers of {policy['mean_response_tokens']:.0f} tokens are more than "
            f"{settings.most_length_ratio} times the {usual:.0f} of {policy['opponent']}"
        )
    return reasons


def _missing(
    policy: dict[str, Any], reward: dict[str, Any] | None, settings: GateSettings
) -> list[str]:
    few = [
        f"{found['groups']} groups of {what} decide nothing; {settings.least_prompts} are asked for"
        for found, what in ((policy, "prompts"), (reward, "held-out pairs"))
        if found and found["groups"] < settings.least_prompts
    ]
    if few:
        return few
    reasons = []
    if reward and reward["over_length"]["ci"][0] <= 0:
        reasons.append(
            f"its reward model is not shown to be better than {_lead(reward)}: the lower bound is "
            f"not above 0; collect more comparisons"
        )
    behind = (policy.get("versus") or {}).get("sft")
    if behind and behind["ci"][1] < 0.5:
        reasons.append(
            f"worse than the SFT policy it came from: win rate {behind['win_rate']:.3f}, upper "
            f"bound {behind['ci'][1]:.3f} below 0.5; change the preference stage, or put the SFT "
            f"policy forward"
        )
    if policy["ci"][0] <= settings.win_rate_above:
        reasons.append(_undecided(policy, settings.win_rate_above))
    return reasons


def _undecided(policy: dict[str, Any], bar: float) -> str:
    low, prompts = policy["ci"][0], policy["groups"]
    effect = policy["win_rate"] - bar
    told = (
        f"undecided against {policy['opponent']}: win rate {policy['win_rate']:.3f}, lower bound "
        f"{low:.3f} is not above {bar}"
    )
    if effect > 0.005:
        half = policy["win_rate"] - low
        told += f"; about {math.ceil(prompts * (half / effect) ** 2)} prompts would settle it"
    return told


def _lead(reward: dict[str, Any]) -> str:
    """The baseline of length and how far the reward model is ahead of it."""
    lead = reward["over_length"]
    rule = "the longer wins" if lead["baseline"] == "longest_wins" else "the shorter wins"
    return (
        f"'{rule}': accuracy {reward['accuracy']:.3f}, ahead by {lead['difference']:+.3f} "
        f"({lead['ci'][0]:+.3f} to {lead['ci'][1]:+.3f})"
    )
