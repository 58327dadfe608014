"""What a page on an evaluation says in words."""

from html import escape
from typing import Any

READING = (
    "A bar is the 95 % interval, resampled over those groups; the dashed line is where nothing is "
    "to be seen. The standard error beside a number counts groups as well."
)
LIMITS = (
    "Prompts are those of the evaluation sets. What users ask tomorrow may be another thing.",
    "The grader is taken at its word: where it errs, every number errs with it.",
    "A slice is judged by itself; small ones are put together, and say little.",
    "Answers are drawn once for each prompt and seed; another seed gives other answers, within the "
    "intervals.",
    "A rating ties generations together by the prompts that they share; who is strong on other "
    "prompts is not seen.",
)
OUTCOMES = {  # of an action in the ledger: its colour on the page, and its words
    "PROMOTE": ("PROMOTE", "Promote: the challenger is shown to be better."),
    "HOLD": ("HOLD", "Hold: not enough is known to decide."),
    "REJECT": ("REJECT", "Reject: there is evidence against the challenger."),
    "APPROVE": ("PROMOTE", "Approved: a person said yes."),
    "DECLINE": ("REJECT", "Declined: a person said no."),
    "ADVANCE": ("PROMOTE", "Passed: it has gone through a stage."),
    "STOP": ("REJECT", "Stopped: it was taken off its stage and does not get the title."),
}
NEEDS_YES = "These weights come back by a person's yes alone, whatever the gate says of them."
ROLLED_BACK = {  # of a rollback since: whether it gave the title back to this one
    True: ("PROMOTE", "Given the title back: the champion after it was rolled back."),
    False: ("REJECT", "Rolled back: the title was taken from it."),
}


def verdict_told(decision: dict[str, Any] | None, policy: dict[str, Any]) -> str:
    """What was last said of the challenger, by whom and why, and where that leaves it.

    Before the gate has spoken, what stands in the way of guessing.
    """
    if decision is None:
        return (
            f"<div class=verdict><b>Not decided yet.</b> The gate has not spoken; the challenger "
            f"is preferred over the {escape(policy['opponent'])} {policy['win_rate']:.1%} of the "
            f"time ({policy['ci'][0]:.1%} to {policy['ci'][1]:.1%}).</div>"
        )
    colour, told = OUTCOMES[decision["decision"]]
    last, before = decision, ""
    if back := decision.get("rollback"):
        before = f" Before that: {told}"
        colour, told = ROLLED_BACK[back["is_given"]]
        last = back
    reasons = "".join(f"<li>{escape(one)}</li>" for one in last["reasons"])
    waits = " A person's yes is awaited." if decision.get("awaiting") else ""
    if decision.get("stage"):
        waits += f" It is on the stage '{escape(decision['stage'])}', without the title."
    if last.get("by", "gate") != "gate":
        waits += f" So said {escape(last['by'])}."
    if back and not back["is_given"]:
        waits += f" The champion was then {escape(back['champion'])}."
    if decision.get("needs_yes") and not decision.get("awaiting"):
        waits += f" {NEEDS_YES}"
    waits += before
    return f'<div class="verdict {colour}"><b>{told}</b>{waits}<ul>{reasons}</ul></div>'


def pairs_told(reward: dict[str, Any]) -> str:
    """The held-out pairs, what length alone would get, and how far annotators agree."""
    lead, ceiling = reward["over_length"], reward["annotator_ceiling"]
    rule = "the longer wins" if lead["baseline"] == "longest_wins" else "the shorter wins"
    told = (
        f"{reward['pairs']} held-out pairs are decided; {reward['undecided']} more are split "
        f"evenly and left out of accuracy. On the decided ones the reward model is "
        f"{lead['difference']:+.3f} ({lead['ci'][0]:+.3f} to {lead['ci'][1]:+.3f}) ahead of "
        f"'{rule}', the better of the two rules of length; chance is {reward['chance']:g}."
    )
    if reward["plurality_agreement"] is not None:
        low, high = reward["plurality_agreement_ci"]
        told += (
            f" It agrees with the plurality of votes on {reward['plurality_agreement']:.1%} "
            f"({low:.1%} to {high:.1%}) of the {reward['plurality_pairs']} pairs that have one; "
            f"{reward['plurality_undecided']} with votes have none."
        )
    if reward.get("annotator_accuracy") is not None:
        low, high = reward["over_annotators_ci"]
        told += (
            f" Set against the weighted vote of the others on {reward['annotator_accuracy_pairs']} "
            f"pairs, an annotator is right {reward['annotator_accuracy']:.1%} of the time and the "
            f"reward model in his place {reward['accuracy_in_their_place']:.1%} (a difference of "
            f"{reward['over_annotators']:+.3f}, {low:+.3f} to {high:+.3f}): his is the ceiling."
        )
    if ceiling is None:
        return f"{told} No pair was judged by two annotators, so their ceiling is not known."
    return (
        f"{told} On the {reward['annotator_ceiling_pairs']} pairs that two annotators or more "
        f"decided, evenly split ones included, one agrees with another {ceiling:.1%} of the time, "
        f"and the reward model with one {reward['agreement_with_one_annotator']:.1%}."
    )
