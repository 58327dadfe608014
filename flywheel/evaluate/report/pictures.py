"""Curves of an evaluation as pictures: SVG by hand, which a page holds and a phone can shrink."""

from collections.abc import Sequence
from html import escape
from typing import Any

WIDE, TALL, LEFT, RIGHT, TOP, BOTTOM = 590, 300, 52, 16, 44, 44
GOLD, PROXY, OTHER, SOFT = "#2f7d4f", "#b36b00", "#3b6ea5", "#888"
Points = Sequence[tuple[float, float]]


class Frame:
    """Axes that numbers are placed on."""

    def __init__(
        self, title: str, across: str, up: str, xs: Sequence[float], ys: Sequence[float]
    ) -> None:
        self._x, self._y = _span(xs), _span(ys)
        self._title = title
        self._marks = [
            f'<text x="8" y="20" font-size="14" font-weight="600">{escape(title)}</text>',
            f'<text x="{WIDE / 2:.0f}" y="{TALL - 6}" text-anchor="middle" fill="{SOFT}">'
            f"{escape(across)}</text>",
            f'<text x="{LEFT - 44}" y="{TOP - 10}" fill="{SOFT}">{escape(up)}</text>',
        ]
        for at in _steps(self._x):
            x = self.x(at)
            word = f'y="{TALL - 26}" text-anchor="middle" fill="{SOFT}">{at:g}</text>'
            self._marks.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{TALL - BOTTOM}" stroke="#eee"/>'
                f'<text x="{x:.1f}" {word}'
            )
        for at in _steps(self._y):
            y = self.y(at)
            word = f'text-anchor="end" fill="{SOFT}">{at:g}</text>'
            self._marks.append(
                f'<line x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eee"/>'
                f'<text x="{LEFT - 8}" y="{y + 4:.1f}" {word}'
            )

    def x(self, value: float) -> float:
        """Where a number lies from the left."""
        low, high = self._x
        return LEFT + (WIDE - LEFT - RIGHT) * (value - low) / (high - low)

    def y(self, value: float) -> float:
        """Where it lies from the top."""
        low, high = self._y
        return TALL - BOTTOM - (TALL - TOP - BOTTOM) * (value - low) / (high - low)

    def line(self, points: Points, colour: str, name: str = "", dashes: str = "") -> None:
        """Join points; a name stands above the middle one."""
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self._marks.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'
        )
        if name and points:
            x, y = points[len(points) // 2]
            self._marks.append(
                f'<text x="{self.x(x):.1f}" y="{self.y(y) - 16:.1f}" text-anchor="middle" '
                f'fill="{colour}">{escape(name)}</text>'
            )

    def dot(
        self, x: float, y: float, colour: str, ends: Sequence[float] = (), name: str = ""
    ) -> None:
        """A point with its interval and what it is."""
        if ends:
            low, high = (self.y(one) for one in ends)
            self._marks.append(
                f'<line x1="{self.x(x):.1f}" x2="{self.x(x):.1f}" y1="{low:.1f}" y2="{high:.1f}" '
                f'stroke="{colour}" stroke-width="4" stroke-opacity=".35" stroke-linecap="round"/>'
            )
        self._marks.append(
            f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="4" fill="{colour}"/>'
        )
        if name:
            self._marks.append(
                f'<text x="{self.x(x):.1f}" y="{self.y(y) + 18:.1f}" text-anchor="middle" '
                f'fill="{colour}">{escape(name)}</text>'
            )

    def band(self, low: float, high: float, name: str) -> None:
        """A stretch of the way that is spoken of."""
        left, right = (min(max(self.x(one), LEFT), WIDE - RIGHT) for one in (low, high))
        self._marks.insert(
            0,
            f'<rect x="{left:.1f}" y="{TOP}" width="{max(right - left, 2):.1f}" '
            f'height="{TALL - TOP - BOTTOM}" fill="#fbe9d0"/><text x="{left + 4:.1f}" '
            f'y="{TALL - BOTTOM - 6}" fill="{PROXY}" font-size="11">{escape(name)}</text>',
        )

    def drawn(self) -> str:
        """The whole picture."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE}" height="{TALL}" '
            f'viewBox="0 0 {WIDE} {TALL}" font-family="system-ui,sans-serif" font-size="12" '
            f'role="img" aria-label="{escape(self._title)}"><rect width="{WIDE}" height="{TALL}" '
            f'fill="#fff"/>{"".join(self._marks)}</svg>'
        )


def turn_picture(policy: dict[str, Any]) -> str:
    """Gold and proxy over the way from the SFT policy: best of n, the run's curve, the challenger.

    Empty where neither was measured.
    """
    pool, way, run = policy["best_of_n"], policy["strayed"], policy["run"]
    best = pool["points"] if pool else []
    curve = sorted(policy["turn"]["points"]) if run else []
    if not best and not curve:
        return ""
    scores = policy["mean_score"]
    mine = [(way["root_nats"], scores["policy"])] if way and "policy" in scores else []
    xs = [0.0, *(one["root_nats"] for one in best), *(one[0] for one in [*curve, *mine])]
    ys = [one for point in best for one in (*point["ci"], point["proxy"])]
    ys += [one for _, *values in curve for one in values] + [gold for _, gold in mine]
    frame = Frame(
        "Worth of answers as the reward model is followed",
        "way from the SFT policy, in root nats",
        "mean score",
        xs,
        ys,
    )
    turn = policy["turn"] or pool
    if turn and turn["peak_ci"][1] is not None:
        low, high = turn["peak_ci"]
        frame.band(low, high, "the turn")
    frame.line(
        [(one["root_nats"], one["proxy"]) for one in best], PROXY, "best of n, as it says", "4 3"
    )
    frame.line([(one["root_nats"], one["gold"]) for one in best], GOLD, "best of n, in truth")
    for one in best:
        frame.dot(one["root_nats"], one["gold"], GOLD, one["ci"], str(one["n"]))
    frame.line([(d, gold) for d, _, gold in curve], OTHER, "the run, in truth")
    frame.line([(d, proxy) for d, proxy, _ in curve], PROXY, "the run, as it says", "1 3")
    for root, gold in mine:
        frame.dot(root, gold, OTHER, (), "challenger")
    return frame.drawn()


def people_picture(policy: dict[str, Any]) -> str:
    """How often people prefer what lies along each way over what it began with.

    Empty where they have not judged every place of any.
    """
    ways = [one for one in policy.get("by_people", ()) if "points" in one]
    if not ways:
        return ""
    points = [point for one in ways for point in one["points"]]
    frame = Frame(
        "What people prefer as the reward model is followed",
        "way from the SFT policy, in root nats",
        "preferred over it",
        [point["root_nats"] for point in points],
        [0.5, *(end for point in points for end in point["ci"])],
    )
    for one, colour in zip(ways, (GOLD, OTHER), strict=False):
        low, high = one["peak_ci"]
        if one["enough"] and high is not None:
            frame.band(low, high, f"the turn, {one['kind']}")
        drawn = sorted((point["root_nats"], point["gold"]) for point in one["points"])
        frame.line(drawn, colour, one["kind"], "" if one["enough"] else "4 3")
        for point in one["points"]:
            name = str(point["n"]) if "n" in point else ""
            frame.dot(point["root_nats"], point["gold"], colour, point["ci"], name)
    return frame.drawn()


def reliability_picture(calibration: dict[str, Any]) -> str:
    """How often the reward model is right, over how sure it is."""
    bins = calibration["bins"]
    frame = Frame(
        "Is the reward model as sure as it is right?",
        "probability that it states",
        "annotators agree",
        [0.5, 1.0],
        [0.4, 1.0, *(end for one in bins for end in one["ci"])],
    )
    frame.line([(0.5, 0.5), (1.0, 1.0)], SOFT, "as sure as right", "4 3")
    for one in bins:
        frame.dot(one["stated"], one["labelled"], OTHER, one["ci"])
    return frame.drawn()


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or 0.5
    return low - (room if low else 0), high + room


def _steps(span: tuple[float, float]) -> list[float]:
    """Four to eight round numbers within."""
    low, high = span
    size = 10.0**-3
    for factor in (2, 2.5, 2) * 12:
        if (high - low) / size <= 7:
            break
        size *= factor
    first = int(low / size) - 1
    return [round(at * size, 6) for at in range(first, first + 20) if low <= at * size <= high]
