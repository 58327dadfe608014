"""PROMOTE, HOLD or REJECT, from what evaluation measured; every rule gives its numbers.

Three kinds of rules. *Invariants* are kept or broken, whatever else is measured: training on what
is tested (challenger and reward model), another tokenizer, personal data in answers. *Guardrails*
must not fall by more than a margin: the end and the length of answers, their variety, each slice of
the prompts. The *primary*, the win rate over the champion, must rise.

REJECT needs evidence against the challenger, PROMOTE evidence for it; where there is too little of
either the gate holds, and says how many prompts more would be enough. It holds, too, where somebody
judges who has no say: a judge of no worth, or the reward model that taught the challenger. What is
counted is groups of prompts: near repeats of one prompt are no further evidence. Evidence is that
of `flywheel.evaluate.statistics.sequential`, so that a challenger may be looked at again with more
prompts, as often as one likes: the chance that a champion is ever replaced by a challenger that is
no better stays below `level`, which all challengers that it ever meets share. "Better" is what the
grader prefers: where a model judges, length at its expense is held by two guardrails more, which
are estimates and have no level. Guardrails must all hold, so each is tested at the whole level; of
slices that look worse, how many were looked at counts. All challengers are asked the same prompts:
who chooses one by looking at its answers to them has looked more often than is counted here.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from flywheel.errors import SettingsError
from flywheel.evaluate.reward.overoptimisation import is_past
from flywheel.evaluate.statistics.sequential import (
    bounds,
    clusters_to_decide,
    level_of,
    log_evidence,
)
from flywheel.promotion.evidence import Evidence, Outcomes, Policy, Reward, Slice, evidence_of

Verdict = Literal["PROMOTE", "HOLD", "REJECT"]
EVEN = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """What a challenger must show."""

    level: float = 0.05  # chance that a champion is ever replaced by one that is no better
    win_rate_above: float = EVEN  # over the champion (or the base, at first)
    slice_margin: float = 0.1  # of a win rate of a half: no slice may be worse by more
    least_prompts: int = 30  # fewer groups of them, or of held-out pairs, decide nothing
    least_ended_frac: float = 0.8  # answers that come to an end by themselves
    most_length_ratio: float = 1.5  # mean tokens, of the opponent's: padding is how rewards are won
    judged_length_ratio: float = 1.2  # the same where a model judges, which may like length
    least_distinct_ratio: float = 0.5  # different answers, of the opponent's: below, modes collapse
    human_approval: bool = False  # a promotion waits for a person's yes
    approvers: list = field(default_factory=list)  # type: ignore[type-arg]  # who may; none: anyone

    def __post_init__(self) -> None:
        if not 0 < self.level < 1 or not 0 < self.slice_margin < EVEN:
            raise SettingsError(
                f"[gate] level must lie between 0 and 1 and slice_margin between 0 and {EVEN}, got "
                f"{self.level} and {self.slice_margin}"
            )
        if not EVEN <= self.win_rate_above < 1:
            raise SettingsError(
                f"[gate] win_rate_above must be from {EVEN} to below 1, got {self.win_rate_above}"
            )
        if not all(isinstance(name, str) and name.strip() for name in self.approvers):
            raise SettingsError(
                f"[gate] approvers must be a list of names, or empty for anyone; got "
                f"{self.approvers!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the gate says, and why."""

    decision: Verdict
    reasons: list[str]


def decide(result: dict[str, Any], settings: GateSettings, challenger: int = 1) -> Decision:
    """Judge a challenger by the result of its evaluation (`flywheel.evaluate.run`).

    Args:
        result: Of the evaluation.
        settings: Of the gate.
        challenger: 1 for the first that this champion meets, 2 for the second, ...

    Raises:
        PromotionError: The result is not whole, or a number of it is not finite.
    """
    told = evidence_of(result)
    policy, reward = told.policy, told.reward_model
    against = _broken(told) + _against(policy, reward, settings) + _by_people(told, settings)
    if against:
        return Decision(decision="REJECT", reasons=against)
    level = level_of(settings.level, challenger)
    missing = _unknown(told) + _missing(policy, reward, settings, level)
    if missing:
        return Decision(decision="HOLD", reasons=missing)
    low, high = bounds(policy.outcomes, level)
    return Decision(
        decision="PROMOTE",
        reasons=[
            f"preferred over {policy.opponent} {_mean(policy):.3f} ({low:.3f} to {high:.3f}, "
            f"however often one looks) on {policy.prompts} prompts in {policy.groups} "
            f"groups: the lower bound is above {settings.win_rate_above}; as challenger "
            f"{challenger} of this champion it may be so by chance with {level:.3f}"
        ],
    )


def _broken(result: Evidence) -> list[str]:
    """Invariants that do not hold."""
    return [f"{name}: {told}" for name, told in result.broken_invariants.items()]


def _unknown(result: Evidence) -> list[str]:
    """What the evaluation could not find out; who judges and has no say, among it."""
    return result.no_say + [
        f"what it was trained on is not known: its ancestor {one[:12]} is not here; restore it"
        for one in result.unknown_ancestors
    ]


def _against(policy: Policy, reward: Reward, settings: GateSettings) -> list[str]:
    reasons = []
    if policy.groups >= settings.least_prompts:
        reasons += _against_answers(policy, settings)
        reasons += _against_outcomes(policy, settings)
    if reward.groups >= settings.least_prompts and reward.over_length.ci[1] < 0:
        reasons.append(
            f"its reward model is worse than {_lead(reward)}: the upper bound is below 0"
        )
    return reasons


def _by_people(result: Evidence, settings: GateSettings) -> list[str]:
    """What people say against it who compared the two, whoever else grades."""
    opponent = result.policy.opponent
    told = result.people.get(opponent)
    if not told or len(told.outcomes) < settings.least_prompts:
        return []
    if not _is_below(told, EVEN, settings.level):
        return []
    return [
        f"{told.annotators or 'unnamed'} people prefer {opponent}: win rate {_mean(told):.3f} "
        f"on {told.prompts} prompts, shown to be below {EVEN}"
    ]


def _against_answers(policy: Policy, settings: GateSettings) -> list[str]:
    """What the answers themselves show."""
    reasons, opponent = [], policy.opponent
    if policy.ended_frac < settings.least_ended_frac:
        reasons.append(
            f"only {policy.ended_frac:.0%} of answers end by themselves, "
            f"{settings.least_ended_frac:.0%} are asked for"
        )
    usual, by_model = policy.opponent_response_tokens, policy.judged_by_model
    most = settings.judged_length_ratio if by_model else settings.most_length_ratio
    if usual and policy.mean_response_tokens > most * usual:
        reasons.append(
            f"answers of {policy.mean_response_tokens:.0f} tokens are more than {most} times "
            f"the {usual:.0f} of {opponent}" + (", and a model judges" if by_model else "")
        )
    varied, others = policy.distinct_frac["policy"], policy.distinct_frac[opponent]
    if varied < settings.least_distinct_ratio * others:
        reasons.append(
            f"{varied:.0%} of its answers differ, of {opponent}'s {others:.0%}: less than "
            f"{settings.least_distinct_ratio} times as many, so that modes collapse"
        )
    return reasons


def _against_outcomes(policy: Policy, settings: GateSettings) -> list[str]:
    """What is shown to be worse: overall, past the turn of its reward model, or on a slice."""
    reasons = []
    if _is_below(policy, EVEN, settings.level):
        high = bounds(policy.outcomes, settings.level)[1]
        reasons.append(
            f"worse than {policy.opponent}: win rate {_mean(policy):.3f}, upper bound "
            f"{high:.3f} below {EVEN}"
        )
    proxy, start = policy.proxy, policy.versus.sft
    level = settings.level
    if proxy and _is_above(proxy, EVEN, level) and _is_below(start, EVEN, level):
        reasons.append(
            f"past the turn of its reward model: that prefers it over the SFT policy "
            f"{_mean(proxy):.3f}, and the grader does {_mean(start):.3f}"
        )
    said = [(one.turn, "people's word") for one in policy.by_people]
    for turn, who in [(policy.turn, "gold"), *said]:
        if turn and is_past(msgspec.to_builtins(turn)):
            reasons.append(
                f"past the turn of its reward model: it strayed {turn.root_nats:.2f} root nats, "
                f"{who} turned at {turn.peak_ci[0]:.2f} to {turn.peak_ci[1]:.2f} and has "
                f"fallen by {turn.drop:.3f}; end the run earlier (kl_limit, epochs)"
            )
    slices = policy.slices
    bar = EVEN - settings.slice_margin
    for one in slices:
        if _is_below(one, bar, settings.level / len(slices)):
            reasons.append(
                f"worse on {_named(one)}: win rate {_mean(one):.3f} on {one.prompts} prompts, "
                f"shown to lie below {bar:g} though {len(slices)} slices were looked at"
            )
    return reasons


def _missing(policy: Policy, reward: Reward, settings: GateSettings, level: float) -> list[str]:
    few = [
        f"{found.groups} groups of {what} decide nothing; {settings.least_prompts} are asked for"
        for found, what in ((policy, "prompts"), (reward, "held-out pairs"))
        if found.groups < settings.least_prompts
    ]
    if few:
        return few
    reasons = []
    if reward.over_length.ci[0] <= 0:
        reasons.append(
            f"its reward model is not shown to be better than {_lead(reward)}: the lower bound is "
            f"not above 0; collect more comparisons"
        )
    behind = policy.versus.sft
    if _is_below(behind, EVEN, settings.level):
        reasons.append(
            f"worse than the SFT policy it came from: win rate {_mean(behind):.3f} is shown to be "
            f"below {EVEN}; change the preference stage, or put the SFT policy forward"
        )
    if not _is_above(policy, settings.win_rate_above, level):
        reasons.append(_undecided(policy, settings.win_rate_above, level))
    unread = policy.unread
    if unread and not _is_above(unread, settings.win_rate_above, level):
        reasons.append(
            f"the judge came to no verdict on {unread.prompts} prompts; were they lost, it is "
            f"{_undecided(unread, settings.win_rate_above, level)}"
        )
    even = policy.length_controlled
    if policy.judged_by_model and even.ci[0] <= EVEN:
        reasons.append(
            f"a model judges, and at equal length the win rate is {even.win_rate:.3f} "
            f"({even.ci[0]:.3f} to {even.ci[1]:.3f}): not shown to be better there"
        )
    bar = EVEN - settings.slice_margin
    for one in policy.slices:
        is_small = one.groups < settings.least_prompts
        if not is_small and not _is_above(one, bar, settings.level):
            reasons.append(
                f"{_undecided(one, bar, settings.level)}: {_named(one)} may be worse by more than "
                f"{settings.slice_margin:g}"
            )
    return reasons


def _undecided(told: Outcomes, bar: float, level: float) -> str:
    low = bounds(told.outcomes, level)[0]
    text = f"undecided: win rate {_mean(told):.3f}, lower bound {low:.3f} is not above {bar:g}"
    more = clusters_to_decide(told.outcomes, bar, level)
    if more is None:
        return text
    return f"{text}; about {more} more groups of prompts like these would settle it"


def _is_above(told: Outcomes, bar: float, level: float) -> bool:
    return log_evidence(told.outcomes, bar) >= math.log(1 / level)


def _is_below(told: Outcomes, bar: float, level: float) -> bool:
    """The same from the other side."""
    return log_evidence([1 - one for one in told.outcomes], 1 - bar) >= math.log(1 / level)


def _mean(told: Outcomes) -> float:
    """Mean outcome over groups: what bounds are of."""
    return sum(told.outcomes) / len(told.outcomes)


def _named(one: Slice) -> str:
    return f"{one.axis} '{one.name}'"


def _lead(reward: Reward) -> str:
    """The baseline of length and how far the reward model is ahead of it."""
    lead = reward.over_length
    rule = "the longer wins" if lead.baseline == "longest_wins" else "the shorter wins"
    return (
        f"'{rule}': accuracy {reward.accuracy:.3f}, ahead by {lead.difference:+.3f} "
        f"({lead.ci[0]:+.3f} to {lead.ci[1]:+.3f})"
    )
