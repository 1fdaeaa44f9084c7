"""Pictures of a decision as SVG text: the tree, the build-up of the belief, the price. Colours are the style sheet's.

Pure: numbers in, text out. Everything a picture shows stands as text beside it, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from storage.decisions import RecordedClaim, RecordedEvidence, RecordedNode

_ROW, _COLUMN, _BOX, _TALL, _EDGE = 30, 190, 168, 24, 12
_BARS = 28


@dataclass(frozen=True, slots=True)
class BeliefStep:
    """One rung of what a probability was built from."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a time of a price path; `kind` is decision, fill or close."""

    at: float
    kind: str
    says: str


def svg(width: float, height: float, says: str, body: str, name: str, role: str = "img") -> str:
    """A picture with a sentence for who cannot see it; one with links in it is a `group`."""
    return (
        f'<svg class="{name}" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="{role}" '
        f'aria-label="{escape(says)}">{body}</svg>'
    )


def label_of(claim: RecordedClaim) -> str:
    """A claim in as few words as it takes."""
    if claim.rung == "decision":
        return f"→ {claim.bucket}"
    return short_label(claim.feature, claim.bucket, claim.effect)


def short_label(feature: str, bucket: str, effect: str) -> str:
    """A claim of an effect in as few words as it takes."""
    arrow = {"up": " ↑", "down": " ↓"}.get(effect, "")
    return f"{feature} {bucket}{arrow}"


def tree(nodes: Sequence[RecordedNode], picked: frozenset[str]) -> str:
    """The search tree from left to right; each node leads to its details. `picked` are hashes of the chosen path."""
    places = _placed(nodes)
    depth = max((node.depth for node in nodes), default=0)
    height = _ROW * max((1 + y for _, y in places.values()), default=1) + 2 * _EDGE
    links = "".join(_link(node, places, picked) for node in nodes if node.parent)
    boxes = "".join(_box(node, places, picked) for node in nodes)
    says = f"Search tree: {len(nodes)} claims on {depth} rungs"
    return svg(_COLUMN * depth + 2 * _EDGE, height, says, f"{links}{boxes}", "tree", "group")


def _placed(nodes: Sequence[RecordedNode]) -> dict[str, tuple[float, float]]:
    """Column and row of each node: leaves one below the other, a parent in the middle of its children."""
    children: dict[str, list[str]] = {}
    for node in nodes:
        children.setdefault(node.parent, []).append(node.hash)
    rows: dict[str, float] = {}
    free = 0

    def place(name: str) -> float:
        nonlocal free
        below = [place(child) for child in children.get(name, ())]
        if not below:
            rows[name] = float(free)
            free += 1
        else:
            rows[name] = (below[0] + below[-1]) / 2
        return rows[name]

    for root in children.get("", ()):
        place(root)
    return {node.hash: (node.depth - 1.0, rows[node.hash]) for node in nodes}


def _link(node: RecordedNode, places: Mapping[str, tuple[float, float]], picked: frozenset[str]) -> str:
    (x0, y0), (x1, y1) = (_corner(places[name]) for name in (node.parent, node.hash))
    x0, y0, y1 = x0 + _BOX, y0 + _TALL / 2, y1 + _TALL / 2
    half = (x0 + x1) / 2
    kind = "link picked" if node.hash in picked else "link"
    return f'<path class="{kind}" d="M{x0:.1f} {y0:.1f} C{half:.1f} {y0:.1f} {half:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"/>'


def _box(node: RecordedNode, places: Mapping[str, tuple[float, float]], picked: frozenset[str]) -> str:
    x, y = _corner(places[node.hash])
    kind = f"node {node.verdict}{' picked' if node.hash in picked else ''}"
    text = escape(label_of(node.claim))
    return (
        f'<a href="#n{node.hash[:12]}"><g class="{kind}"><title>{text}: {node.verdict}, value '
        f'{node.value:.2f}</title><rect x="{x:.1f}" y="{y:.1f}" width="{_BOX}" height="{_TALL}" rx="6"/>'
        f'<text x="{x + 9:.1f}" y="{y + 16:.1f}">{text}</text></g></a>'
    )


def _corner(place: tuple[float, float]) -> tuple[float, float]:
    return _EDGE + place[0] * _COLUMN, _EDGE + place[1] * _ROW


def waterfall(steps: Sequence[BeliefStep]) -> str:
    """Waterfall chart of the belief build-up, from the market's probability to the agent's."""
    if not steps:
        return ""
    low, high = min(s.value for s in steps), max(s.value for s in steps)
    room = max(high - low, 0.01)
    low, high = max(0.0, low - 0.25 * room), min(1.0, high + 0.25 * room)
    left, width, line = 160.0, 380.0, 30.0

    def x(value: float) -> float:
        return left + width * (value - low) / (high - low)

    parts = []
    before = steps[0].value
    for number, step in enumerate(steps):
        y, (a, b) = 14 + number * line, sorted((x(before), x(step.value)))
        change = step.value - before
        kind = "same" if abs(change) < 5e-5 else "up" if change > 0 else "down"
        shown = f"{step.value:.4f}" if number == 0 else f"{step.value:.4f} ({change:+.4f})"
        parts.append(
            f'<text class="name" x="{left - 12:.1f}" y="{y + 13:.1f}">{escape(step.name)}</text>'
            f'<rect class="{kind}" x="{a:.1f}" y="{y:.1f}" width="{max(b - a, 2.5):.1f}" height="18" rx="3"/>'
            f'<text class="value" x="{b + 8:.1f}" y="{y + 13:.1f}">{shown}</text>'
        )
        if number + 1 < len(steps):
            here = x(step.value)
            parts.append(f'<path class="link" d="M{here:.1f} {y + 18:.1f} V{y + line:.1f}"/>')
        before = step.value
    says = f"Belief build-up from a mid of {steps[0].value:.3f} to {steps[-1].value:.3f}"
    return svg(left + width + 150, 14 + line * len(steps), says, "".join(parts), "waterfall")


def path(points: Sequence[tuple[float, float, float]], marks: Sequence[Mark]) -> str:
    """Best bid and ask over time, with what happened. `points` are (seconds, bid, ask), in order of time."""
    if len(points) < 2:
        return ""
    width, height, left, top = 700.0, 196.0, 44.0, 18.0
    # At least a second wide: a single instant has no scale.
    begins, ends = points[0][0], max(points[-1][0], *(m.at for m in marks), points[0][0] + 1)
    low, high = min(p[1] for p in points), max(p[2] for p in points)
    room = max(high - low, 0.02)
    low, high = max(0.0, low - 0.1 * room), min(1.0, high + 0.1 * room)

    def x(at: float) -> float:
        return left + (width - left - 24) * (at - begins) / (ends - begins)

    def y(value: float) -> float:
        return top + (height - top - 26) * (high - value) / (high - low)

    band = " ".join(f"{x(at):.1f},{y(ask):.1f}" for at, _, ask in points)
    band += " " + " ".join(f"{x(at):.1f},{y(bid):.1f}" for at, bid, _ in reversed(points))
    middle = " ".join(f"{x(at):.1f},{y((bid + ask) / 2):.1f}" for at, bid, ask in points)
    grid = "".join(
        f'<path class="rule" d="M{left} {y(v):.1f} H{width - 8}"/><text class="tick" x="{left - 6}" y="{y(v) + 4:.1f}">'
        f"{v:.2f}</text>"
        for v in (low, (low + high) / 2, high)
    )
    flags = "".join(_flag(m, x(m.at), top, height) for m in marks)
    says = f"Price of Up from {points[0][1]:.2f} to {points[-1][1]:.2f} over {ends - begins:.0f} seconds"
    body = f'{grid}<polygon class="band" points="{band}"/><polyline class="mid" points="{middle}"/>{flags}'
    return svg(width, height, says, body, "path")


def _flag(mark: Mark, x: float, top: float, height: float) -> str:
    """A line at its time; fills are named above the picture, so that they do not cover the decision's name."""
    place = top - 2 if mark.kind == "fill" else height - 10
    return (
        f'<g class="mark {mark.kind}"><title>{escape(mark.says)}</title>'
        f'<path d="M{x:.1f} {top:.0f} V{height - 26:.0f}"/>'
        f'<text x="{x:.1f}" y="{place:.0f}">{escape(mark.kind)}</text></g>'
    )


def evidence(found: RecordedEvidence) -> str:
    """Chart of a claim's historical rate against the market's base rate. A histogram of the share that would have paid
    had the mids been right, each window by itself; the share that did pay; and below them the posterior with its
    interval."""
    if not found.support:
        return ""
    k, base, rate = found.support, found.base_rate, found.rate
    chance = chances(k, base)
    # The tolerance keeps outcomes exactly as far away, which rounding would drop.
    as_far = sum(p for wins, p in chance.items() if abs(wins / k - base) > abs(rate - base) - 1e-9)
    # Lower bars would not be visible, and their range would squeeze the rest.
    least = 1e-3 * max(chance.values())
    likely = {wins: p for wins, p in chance.items() if p > least}
    ends = ((min(likely) - 0.5) / k, (max(likely) + 0.5) / k, base, rate, found.low, found.high)
    begins, finish, floor = min(ends), max(ends), 36.0

    def x(p: float) -> float:
        return 4 + 192 * (min(max(p, begins), finish) - begins) / (finish - begins)

    low, high, here = (x(p) for p in (found.low, found.high, found.posterior))
    says = (
        f"Observed rate {rate:.3f} in {k} windows against a base rate of {base:.3f}: p-value {as_far:.2g}; "
        f"posterior {found.posterior:.3f} from {found.low:.3f} to "
        f"{found.high:.3f}"
    )
    body = (
        f"<title>{escape(says)}</title>"
        f'<path class="chance" d="{_histogram(likely, k, x, floor)}"/><path class="rule" d="M2 {floor:.0f} H198"/>'
        f'<path class="null" d="M{x(base):.1f} 4 V{floor:.0f}"/><path class="paid" d="M{x(rate):.1f} 0 V{floor:.0f}"/>'
        f'<path class="interval" d="M{low:.1f} 44 H{high:.1f}"/><circle class="here" cx="{here:.1f}" cy="44" r="4"/>'
    )
    return svg(200, 50, says, body, "evidence")


def _histogram(chance: Mapping[int, float], k: int, x: Callable[[float], float], floor: float) -> str:
    """Bars on a line at height `floor`, each over as many numbers of windows as keep it visible."""
    step = -(-len(chance) // _BARS)
    heights = {first: sum(chance.get(w, 0.0) for w in range(first, first + step)) for first in list(chance)[::step]}
    top = max(heights.values())
    bars = []
    for first, height in heights.items():
        left, right = x((first - 0.5) / k), x((first + step - 0.5) / k)
        bars.append(f"M{left:.1f} {floor:.0f}v{-30 * height / top:.1f}h{max(right - left - 0.8, 0.8):.1f}V{floor:.0f}z")
    return "".join(bars)


def chances(k: int, base: float) -> dict[int, float]:
    """The chance of each number of `k` windows to pay, where each pays with probability `base`; those that are eight
    standard deviations away and farther are left out."""
    centre, far = k * base, 8 * (k * base * (1 - base)) ** 0.5 + 8
    return {wins: _binomial(k, wins, base) for wins in range(max(0, int(centre - far)), min(k, int(centre + far)) + 1)}


def _binomial(k: int, wins: int, p: float) -> float:
    # By logarithms: the binomial coefficient of a thousand windows is no float.
    ways = math.lgamma(k + 1) - math.lgamma(wins + 1) - math.lgamma(k - wins + 1)
    return math.exp(ways + wins * math.log(p) + (k - wins) * math.log(1 - p))


def bars(rows: Sequence[tuple[str, float]]) -> str:
    """Shares by name, the largest first."""
    top = max((value for _, value in rows), default=0.0) or 1.0
    parts = [
        f'<text class="name" x="150" y="{14 + 24 * n}">{escape(name)}</text>'
        f'<rect class="bar" x="160" y="{2 + 24 * n}" width="{max(300 * value / top, 2):.1f}" height="16" rx="3"/>'
        f'<text class="value" x="{168 + 300 * value / top:.1f}" y="{14 + 24 * n}">{value:,.0f}</text>'
        for n, (name, value) in enumerate(rows)
    ]
    return svg(540, 24 * len(rows) + 4, ", ".join(f"{n} {v:,.0f}" for n, v in rows), "".join(parts), "bars")


def reliability(rows: Sequence[tuple[float, float, int]]) -> str:
    """Forecast against outcome: (mean forecast, share that paid, how many), on the line where both are equal."""
    parts = ['<path class="rule" d="M40 210 L240 10"/><path class="axis" d="M40 10 V210 H240"/>']
    most = max((n for _, _, n in rows), default=1)
    for forecast, paid, count in rows:
        radius = 3 + 7 * (count / most) ** 0.5
        parts.append(
            f'<circle class="here" cx="{40 + 200 * forecast:.1f}" cy="{210 - 200 * paid:.1f}" r="{radius:.1f}">'
            f"<title>{count} forecasts of {forecast:.2f}: observed frequency {paid:.2f}</title></circle>"
        )
    parts.append('<text class="tick" x="36" y="16">1</text><text class="tick" x="36" y="214">0</text>')
    parts.append('<text class="name" x="240" y="230">forecast P(Up)</text>')
    parts.append('<text class="start" x="48" y="15">observed frequency</text>')
    return svg(260, 236, "Reliability diagram: observed frequency of Up by forecast", "".join(parts), "reliability")
