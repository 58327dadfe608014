"""What a page says of how far the reward model was followed, by the grader and by people."""

from flywheel.evaluate.report.pictures import people_picture, turn_picture
from flywheel.evaluate.report.tables import Told
from flywheel.evaluate.reward.overoptimisation import LEAST_POINTS

WAYS = {"best of n": "choosing the best of n", "run": "the challenger's own run"}


def following_told(policy: Told) -> str:
    """Pictures, and the turn in words."""
    aside = policy.get("put_aside") or {"told": 0, "here": 0}  # of an evaluation before there were
    told = {
        True: "<b>Yes: it lies past the turn.</b>",
        False: "No: it does not lie past the turn.",
        None: f"{why_unknown(policy)}, so that no turn of its own is known; the gate looks "
        f"at whether the proxy rose and the gold fell.",
    }[policy["is_past"]]
    if aside["here"] < aside["told"]:
        told += (
            f" Of {aside['told']} policies put aside along the challenger's run {aside['here']} "
            f"are still there."
        )
    if pool := policy["best_of_n"]:
        where = _where(pool["peak_ci"], f", with {pool['samples']} samples")
        told += (
            f" Choosing the best of n answers by the reward model is worth more and more up to a "
            f"point: on {pool['prompts']} prompts gold turns "
            f"{where}. The form d (a - b d) "
            f"fitted to it has a = {pool['alpha']:.3f} and b = {pool['beta']:.3f}."
        )
    if run := policy["run"]:
        told += (
            f" Along the run gold turns {_where(policy['turn']['peak_ci'])}; the form "
            f"d (a - b log d) has a = {run['alpha']:.3f} and b = {run['beta']:.3f}."
        )
    if way := policy["strayed"]:
        told += (
            f" The challenger strayed {way['root_nats']:.2f} root nats ({way['ci'][0]:.2f} to "
            f"{way['ci'][1]:.2f}); training strays further than choosing does for the same gain."
        )
    people = "".join(_by_people(one) for one in policy.get("by_people", ()))
    return f"{turn_picture(policy)}<p>{told}</p>{people_picture(policy)}{people}"


def why_unknown(policy: Told) -> str:
    """Why it is not known whether a challenger is past a turn, and which setting makes it known."""
    turn = policy.get("turn") or {}
    if turn.get("more"):  # of what was measured along the run alone
        return (
            f"Along the challenger's run {len(turn['points'])} measurements of gold are too few "
            f"for their noise; about {turn['more']} more would tell (lower measure_every, or put "
            f"more policies aside with along)"
        )
    if not (policy.get("put_aside") or {"told": 0})["told"]:
        return (
            f"Neither has the challenger's run measured a gold {LEAST_POINTS} times, nor were "
            f"policies put aside along it (set along = 6 in [dpo], [kto], [grpo], [rloo] or [ppo])"
        )
    return (
        "Policies were put aside along the challenger's run, but neither a gold nor enough of "
        "people's word places a turn on them"
    )


def _by_people(found: Told) -> str:
    """One way by people's word, or how much of it is missing."""
    told = (
        f"<p>By people's word, along {WAYS[found['kind']]}: {found['judgements']} judgements of "
        f"{found['annotators']} people on {found['prompts']} prompts"
    )
    if not found["enough"]:
        return f"{told}. {missing_told(found)}</p>"
    return (
        f"{told}. Their preference over the SFT policy turns {_where(found['peak_ci'])}; the form "
        f"fitted to it has a = {found['alpha']:.3f} and b = {found['beta']:.3f}.</p>"
    )


def missing_told(found: Told) -> str:
    """How much more people must say before anything is concluded."""
    people = found["people_missing"]
    parts = []
    if found["pairs_missing"]:
        parts.append(
            f"about {found['pairs_missing']} more pairs, on {found['prompts_missing']} more prompts"
        )
    if people:
        parts.append(f"judgements of {people} more {'people' if people > 1 else 'person'}")
    few = ""
    if found["prompts_missing"] > found["prompts_left"]:
        few = (
            f"; only {found['prompts_left']} prompts are left to ask about, so raise [evaluate] "
            f"best_of_prompts, too"
        )
    return (
        f"That is too little to place a turn: {' and '.join(parts)} are needed ([people] along)"
        f"{few}."
    )


def _where(ends: list[float | None], seen: str = "") -> str:
    low, high = ends
    return f"between {low:.2f} and {high:.2f} root nats" if high is not None else f"nowhere{seen}"
