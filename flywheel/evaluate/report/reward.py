"""What a page says of the reward model: how right, how sure, and what it falls for."""

from flywheel.evaluate.report.pictures import reliability_picture
from flywheel.evaluate.report.tables import Told, number, table
from flywheel.labels.charts import dot_plot


def reward_told(reward: Told) -> str:
    """All of it."""
    calibration = reward["calibration"]
    return (
        _accuracy(reward)
        + reliability_picture(calibration)
        + _calibration(calibration)
        + _traps(reward["traps"])
    )


def _accuracy(reward: Told) -> str:
    """Accuracy beside what anybody could do."""
    names = (
        ("the reward model", "accuracy", ""),
        ("the longer wins", "longest_wins", "longest_wins_"),
        ("the shorter wins", "shortest_wins", "shortest_wins_"),
        ("an annotator beside the others", "annotator_accuracy", "annotator_accuracy_"),
        ("the reward model in his place", "accuracy_in_their_place", "accuracy_in_their_place_"),
    )
    points = [("chance", None, reward["chance"], None)]
    points += [
        (name, reward[f"{prefix}ci"][0], reward[field], reward[f"{prefix}ci"][1])
        for name, field, prefix in names
        if reward.get(field) is not None
    ]
    slices = [
        (name, *number(one, "accuracy"), f"{one['longest_wins']:.3f}", str(one["pairs"]))
        for name, one in reward["by_domain"].items()
    ]
    heads = ("domain", "accuracy", "95 % interval", "error", "longest wins", "pairs")
    return dot_plot("Right on held-out pairs", points, (0, 1), 0.5) + table(heads, slices)


def _calibration(found: Told) -> str:
    sign = "surer than it is right" if found["temperature"] > 1 else "less sure than it is right"
    low, high = found["temperature_ci"]
    if low <= 1 <= high:
        sign = "about as sure as it is right"
    return (
        f"<p>It is {sign}: what it states and what annotators chose are {found['ece']:.3f} apart "
        f"({found['ece_ci'][0]:.3f} to {found['ece_ci'][1]:.3f}; chance alone makes "
        f"{found['ece_by_chance']:.3f}). Dividing its log-odds by {found['temperature']:.2f} "
        f"({low:.2f} to {high:.2f}) leaves {found['ece_at_temperature']:.3f}.</p>"
    )


def _traps(found: Told) -> str:
    rows = [
        (
            name,
            one["kind"],
            *(number(one, "preferred", "preferred_") if "preferred" in one else ("", "", "")),
            f"{one['responses']} of {one['responses'] + one['left_out']}",
        )
        for name, one in found.items()
    ]
    return (
        "<h2>What the reward model falls for</h2><p class=note>Preferred responses were made "
        "worse, or only dressed up, by rule. It should prefer the worse ones never, the dressed "
        "ones not more often than half the time. Where its vocabulary lacks the words there is no "
        "trap.</p>" + table(("trap", "", "prefers it", "95 % interval", "error", "responses"), rows)
    )
