"""Draw `docs/architecture.svg` from the imports of the code.

    make graph

Modules are squashed to rooms: the rooms of `agent/` on the floors of its layers contract (pyproject.toml), and below
them the other five folders, a box each. An arrow is an import. Arrows that follow from others are left out of the
picture, and stand in the tooltips of the boxes. The same imports give the same bytes; a test compares them.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import grimp

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "architecture.svg"
PACKAGES = ("agent", "backtest", "strategies", "tools", "storage", "market")
LABELS = (
    "entry points",
    "uses of whole runs",
    "composition root",
    "questions, proofs, pages",
    "around a run",
    "the trading loop",
    "learning and replay",
    "one decision, one account",
    "model, settings, evidence",
    "machine and tree search",
    "simulated worlds",
    "arithmetic and hands",
    "memory",
    "vocabulary",
)

WIDTH, LEFT, TOP, EDGE = 1120, 144, 104, 20
ROOM, LANE, APART, PORT = 212, 8, 14, 13
GAP, LINE = 44, 14.5
LETTER = 5.75

Arrow = tuple[str, str]


class Stop(NamedTuple):
    """A place on a floor: a room on its own floor, or the lane by which arrows to that room pass a higher one."""

    room: str
    floor: int


@dataclass(frozen=True)
class House:
    """Content of the picture. `floors` are rooms from the top, `arrows` all imports between rooms, `drawn` those that
    do not follow from others, `phrases` a sentence on each room, `parts` the modules of each folder below the agent."""

    floors: tuple[tuple[str, ...], ...]
    arrows: frozenset[Arrow]
    drawn: frozenset[Arrow]
    phrases: Mapping[str, str]
    parts: Mapping[str, tuple[str, ...]]

    @property
    def rooms(self) -> list[str]:
        return [room for floor in self.floors for room in floor]

    def floor_of(self, room: str) -> int:
        return next(i for i, floor in enumerate(self.floors) if room in floor)

    def __str__(self) -> str:
        return (
            f"{len(self.rooms)} rooms on {len(self.floors)} floors, {len(self.arrows)} arrows, {len(self.drawn)} drawn"
        )


def imports() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def house(graph: grimp.ImportGraph) -> House:
    """The rooms of a graph of imports. Raises ValueError for an import that goes up, or a module without a room."""
    floors = layers()
    height = {room: i for i, floor in enumerate(floors) for room in floor}
    arrows: set[Arrow] = set()
    for module in sorted(graph.modules - {"agent", "agent.__main__"}):
        for imported in graph.find_modules_directly_imported_by(module):
            above, below = _room(module, height), _room(imported, height)
            if above == below:
                continue
            if height[above] >= height[below]:
                raise ValueError(f"{module} imports {imported}, which does not stand below it: see `lint-imports`")
            arrows.add((above, below))
    parts = {name: _parts(graph, name) for name in PACKAGES[1:]}
    phrases = {room: _sentence(room) for room in height}
    return House(floors, frozenset(arrows), _reduced(frozenset(arrows)), phrases, parts)


def layers() -> tuple[tuple[str, ...], ...]:
    """The floors of the two layers contracts, the agent's rooms above the five folders."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {c["name"]: c for c in settings["tool"]["importlinter"]["contracts"]}
    listed = (
        contracts["Rooms of the agent depend one way"]["layers"] + contracts["Folders depend one way"]["layers"][1:]
    )
    return tuple(tuple(room.strip() for room in layer.split("|")) for layer in listed)


def _room(module: str, height: Mapping[str, int]) -> str:
    parts = module.split(".")
    room = ".".join(parts[:2]) if parts[0] == "agent" else parts[0]
    if room not in height:
        raise ValueError(f"{module} is in no room: give it one, or a floor in pyproject.toml")
    return room


def _reduced(arrows: frozenset[Arrow]) -> frozenset[Arrow]:
    """The transitive reduction: an arrow goes where a way of other arrows leads to the same room."""

    @cache
    def reached(room: str) -> frozenset[str]:
        return frozenset({b for a, b in arrows if a == room}.union(*(reached(b) for a, b in arrows if a == room)))

    return frozenset((a, b) for a, b in arrows if not any(b in reached(c) for s, c in arrows if s == a and c != b))


def _parts(graph: grimp.ImportGraph, package: str) -> tuple[str, ...]:
    children = {child: child.split(".")[1] for child in graph.find_children(package)}
    return tuple(sorted(f"{name}/" if graph.find_children(child) else name for child, name in children.items()))


def _sentence(room: str) -> str:
    """The first sentence of a package's or module's docstring."""
    path = ROOT.joinpath(*room.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    told = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return " ".join(told.split()).split(". ")[0].rstrip(".").replace("`", "")


# --- order and place: the rooms of a floor from left to right, so that few arrows cross and most go straight down


def _segments(shown: House) -> list[tuple[Stop, Stop]]:
    """The arrows cut at the floors that they pass. Arrows to the same room share a lane."""
    found: set[tuple[Stop, Stop]] = set()
    for above, below in shown.drawn:
        first, last = shown.floor_of(above), shown.floor_of(below)
        stops = [Stop(above, first), *(Stop(below, floor) for floor in range(first + 1, last + 1))]
        found.update(pairwise(stops))
    return sorted(found)


def _ordered(shown: House, segments: Sequence[tuple[Stop, Stop]]) -> list[list[Stop]]:
    """Every floor's stops from left to right: by the mean place of their neighbours, sweeping down and up, then by
    exchanging neighbours while that leaves fewer crossings."""
    stops = {Stop(room, i) for i, floor in enumerate(shown.floors) for room in floor} | {
        s for pair in segments for s in pair
    }
    rows = [sorted(s for s in stops if s.floor == i) for i in range(len(shown.floors))]
    best, fewest = [list(row) for row in rows], _crossings(rows, segments)
    for sweep in range(40):
        down = sweep % 2 == 0
        for i in range(len(rows)) if down else reversed(range(len(rows))):
            _by_neighbours(rows, i, segments, down=down)
        _exchanged(rows, segments)
        if (now := _crossings(rows, segments)) < fewest:
            best, fewest = [list(row) for row in rows], now
    return best


def _by_neighbours(rows: list[list[Stop]], i: int, segments: Sequence[tuple[Stop, Stop]], *, down: bool) -> None:
    place = {stop: k / max(1, len(row) - 1) for row in rows for k, stop in enumerate(row)}

    def wanted(stop: Stop) -> float:
        near = [place[a] for a, b in segments if b == stop] if down else [place[b] for a, b in segments if a == stop]
        return sum(near) / len(near) if near else place[stop]

    rows[i].sort(key=lambda stop: (wanted(stop), place[stop]))


def _exchanged(rows: list[list[Stop]], segments: Sequence[tuple[Stop, Stop]]) -> None:
    for row in rows:
        for k in range(len(row) - 1):
            before = _crossings(rows, segments)
            row[k], row[k + 1] = row[k + 1], row[k]
            if _crossings(rows, segments) >= before:
                row[k], row[k + 1] = row[k + 1], row[k]


def _crossings(rows: Sequence[Sequence[Stop]], segments: Sequence[tuple[Stop, Stop]]) -> int:
    place = {stop: k for row in rows for k, stop in enumerate(row)}
    by_floor: dict[int, list[tuple[int, int]]] = {}
    for a, b in segments:
        by_floor.setdefault(a.floor, []).append((place[a], place[b]))
    return sum(
        (p[0] - q[0]) * (p[1] - q[1]) < 0 for pairs in by_floor.values() for k, p in enumerate(pairs) for q in pairs[:k]
    )


def _widths(rows: Sequence[Sequence[Stop]], shown: House) -> dict[Stop, float]:
    """A lane is narrow, a room of the agent has its width, and the folders below share what the lanes leave."""
    widths = {}
    for row in rows:
        rooms = [s for s in row if s.room in shown.floors[s.floor]]
        left = WIDTH - LEFT - EDGE - (len(row) - len(rooms)) * LANE - (len(row) - 1) * APART
        for stop in row:
            wide = left / len(rooms) if stop.room in PACKAGES else ROOM
            widths[stop] = wide if stop in rooms else LANE
    return widths


def _placed(
    rows: Sequence[Sequence[Stop]], segments: Sequence[tuple[Stop, Stop]], widths: Mapping[Stop, float]
) -> dict[Stop, float]:
    """The middle of every stop, as near to its neighbours' as the order and the widths allow."""
    middle = (LEFT + WIDTH - EDGE) / 2
    place = dict.fromkeys(widths, middle)
    for row in rows:
        place.update(zip(row, _apart([middle] * len(row), [widths[s] for s in row]), strict=True))
    for sweep in range(60):
        for row in rows if sweep % 2 == 0 else list(reversed(rows)):
            wanted = []
            for stop in row:
                near = [place[a] for a, b in segments if b == stop] + [place[b] for a, b in segments if a == stop]
                wanted.append(sum(near) / len(near) if near else middle)
            place.update(zip(row, _apart(wanted, [widths[s] for s in row]), strict=True))
    return place


def _apart(
    wanted: Sequence[float], widths: Sequence[float], low: float = LEFT, high: float = WIDTH - EDGE, gap: float = APART
) -> list[float]:
    """The nearest places to those wanted, in the same order, at least their widths apart, between two bounds (isotonic
    least squares: neighbours that would overlap are pooled)."""
    offsets, edge = [], 0.0
    for width in widths:
        offsets.append(edge + width / 2)
        edge += width + gap
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        total, count = want - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            total, count = total + pools[-1][0], count + pools[-1][1]
            pools.pop()
        pools.append((total, count))
    most = max(low, high - (edge - gap))
    shifts = [min(max(total / count, low), most) for total, count in pools for _ in range(count)]
    return [shift + offset for shift, offset in zip(shifts, offsets, strict=True)]


# --- drawing


@dataclass(frozen=True)
class Layout:
    """Coordinates in pixels: stops by their middle and width, floors by their top and height."""

    segments: Sequence[tuple[Stop, Stop]]
    middles: Mapping[Stop, float]
    widths: Mapping[Stop, float]
    tops: Sequence[int]
    heights: Sequence[int]


def layout(shown: House) -> Layout:
    segments = _segments(shown)
    rows = _ordered(shown, segments)
    widths = _widths(rows, shown)
    tops, heights = _heights(shown, widths)
    return Layout(segments, _placed(rows, segments, widths), widths, tops, heights)


def svg(shown: House) -> str:
    """The picture, as text. Raises ValueError where a floor has no label."""
    if len(LABELS) != len(shown.floors):
        raise ValueError(f"{len(shown.floors)} floors, and {len(LABELS)} labels: name the floors in docs/graph.py")
    plan = layout(shown)
    height = plan.tops[-1] + plan.heights[-1] + 24
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title caption">',
        _STYLE,
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
        *_caption(shown),
        *_floors(plan),
        *_arrows(plan, shown),
        *(line for i, floor in enumerate(shown.floors) for room in floor for line in _box(Stop(room, i), plan, shown)),
        "</svg>",
    ]
    return "\n".join(drawn) + "\n"


def _caption(shown: House) -> list[str]:
    told = (
        f"{len(shown.rooms)} rooms on {len(shown.floors)} floors. An arrow is an import; imports only go down. "
        f"{len(shown.drawn)} of {len(shown.arrows)} arrows are drawn: an arrow is left out where a way of other arrows "
        "leads to the same room.",
        "Arrows to the same room share a way, in the colour of its floor. Under the five folders: their modules.",
    )
    lines = "".join(f'<tspan x="{EDGE}" y="{60 + 17 * i}">{line}</tspan>' for i, line in enumerate(told))
    return [
        f'<text class="head" id="title" x="{EDGE}" y="38">edgeclaw: rooms and imports</text>',
        f'<text class="told" id="caption">{lines}</text>',
    ]


def _heights(shown: House, widths: Mapping[Stop, float]) -> tuple[list[int], list[int]]:
    """Tops and heights of the floors: as high as the text in their rooms."""
    tops, heights, top = [], [], TOP
    for i, floor in enumerate(shown.floors):
        lines = max(len(_lines(shown, room, widths[Stop(room, i)])) for room in floor)
        tops.append(top)
        heights.append(round(34 + lines * LINE))
        top += heights[-1] + GAP
    return tops, heights


def _lines(shown: House, room: str, width: float) -> list[tuple[str, str]]:
    """Lines under a room's name: (class, line)."""
    phrase = _wrapped(shown.phrases[room].split(" "), " ", (width - 24) / LETTER)
    parts = _wrapped(list(shown.parts.get(room, ())), " · ", (width - 24) / LETTER)
    return [("told", line) for line in phrase] + [("part", line) for line in parts]


def _wrapped(words: Sequence[str], joint: str, most: float) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(joint) + len(word) <= most:
            lines[-1] += joint + word
        else:
            lines.append(word)
    return lines


def _floors(plan: Layout) -> Iterable[str]:
    agents = len(plan.tops) - len(PACKAGES) + 2  # the five folders stand on four floors
    width = WIDTH - 2 * EDGE + 16
    for i, (top, height) in enumerate(zip(plan.tops, plan.heights, strict=True)):
        yield f'<rect class="floor" x="{EDGE - 8}" y="{top - 8}" width="{width}" height="{height + 16}" rx="10"/>'
        if i < agents:
            yield f'<text class="number f{i}" x="{EDGE + 4}" y="{top + 22}">{agents - i}</text>'
        for k, line in enumerate(_wrapped(LABELS[i].split(" "), " ", 16)):
            yield f'<text class="label" x="{EDGE + 4}" y="{top + (40 if i < agents else 20) + 14 * k}">{line}</text>'


def _arrows(plan: Layout, shown: House) -> Iterable[str]:
    leaving = _ports(plan, {pair: plan.middles[pair[1]] for pair in plan.segments}, 0)
    coming = _ports(plan, leaving, 1)
    for pair in plan.segments:
        above, below = pair
        start, end = plan.tops[above.floor] + plan.heights[above.floor], plan.tops[below.floor]
        last = below.room in shown.floors[below.floor]
        x, y = round(leaving[pair]), round(coming[pair])
        bend = (end - start) * 11 // 20
        tail = "" if last else f"V{end + plan.heights[below.floor]}"
        way = f"M{x} {start}C{x} {start + bend} {y} {end - bend} {y} {end - (6 if last else 0)}{tail}"
        tint = shown.floor_of(below.room)
        yield f'<path class="way f{tint}" d="{way}"/>'
        if last:
            yield f'<path class="tip f{tint}" d="M{y - 4} {end - 8}L{y} {end - 1}L{y + 4} {end - 8}Z"/>'


def _ports(plan: Layout, towards: Mapping[tuple[Stop, Stop], float], end: int) -> dict[tuple[Stop, Stop], float]:
    """Points where each segment leaves (`end` 0) or meets (1) its stop: as near to the other end as the box is wide."""
    ports: dict[tuple[Stop, Stop], float] = {}
    for stop in sorted({pair[end] for pair in plan.segments}):
        here = sorted((pair for pair in plan.segments if pair[end] == stop), key=lambda pair: (towards[pair], pair))
        middle, width = plan.middles[stop], plan.widths[stop]
        if width == LANE:
            ports.update(dict.fromkeys(here, middle))
            continue
        low, high = middle - width / 2 + 14, middle + width / 2 - 14
        wanted = [min(max(towards[pair], low), high) for pair in here]
        ports.update(zip(here, _apart(wanted, [0.0] * len(here), low, high, PORT), strict=True))
    return ports


def _box(stop: Stop, plan: Layout, shown: House) -> Iterable[str]:
    top, width = plan.tops[stop.floor], plan.widths[stop]
    x = round(plan.middles[stop] - width / 2)
    name = stop.room.removeprefix("agent.") + ("/" if ROOT.joinpath(*stop.room.split(".")).is_dir() else ".py")
    uses = ", ".join(sorted(b.removeprefix("agent.") for a, b in shown.arrows if a == stop.room)) or "nothing of ours"
    yield f"<g><title>{stop.room} imports {uses}</title>"
    yield (
        f'<rect class="room f{stop.floor}" x="{x}" y="{top}" width="{round(width)}" '
        f'height="{plan.heights[stop.floor]}" rx="7"/>'
    )
    yield f'<text class="name" x="{x + 12}" y="{top + 21}">{name}</text>'
    for i, (kind, line) in enumerate(_lines(shown, stop.room, width)):
        yield f'<text class="{kind}" x="{x + 12}" y="{round(top + 37 + i * LINE)}">{escape(line, quote=False)}</text>'
    yield "</g>"


def _tints(lightness: int, saturation: int) -> str:
    hues = [round(275 - i * 245 / (len(LABELS) - 1)) for i in range(len(LABELS))]
    return " ".join(f".f{i} {{ --c: hsl({hue} {saturation}% {lightness}%); }}" for i, hue in enumerate(hues))


_STYLE = f"""<style>
text {{ font-family: system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; font-size: 11px; }}
.paper {{ fill: #ffffff; }} .floor {{ fill: #f4f6f9; }}
.head {{ font-size: 19px; font-weight: 650; fill: #17202b; }}
.told {{ fill: #526070; }} .part {{ fill: #7b8897; }}
.name {{ font-size: 13.5px; font-weight: 650; fill: #17202b; }}
.number {{ font-size: 17px; font-weight: 700; fill: var(--c); }} .label {{ fill: #526070; }}
.room {{ fill: #ffffff; stroke: var(--c); stroke-width: 1.4; }}
.way {{ fill: none; stroke: var(--c); stroke-width: 1.6; }} .tip {{ fill: var(--c); }}
{_tints(44, 52)}
@media (prefers-color-scheme: dark) {{
.paper {{ fill: #0e1319; }} .floor {{ fill: #161d26; }} .room {{ fill: #0e1319; }}
.head, .name {{ fill: #e8edf3; }} .told, .label {{ fill: #a3afbd; }} .part {{ fill: #8693a3; }}
{_tints(64, 58)}
}}
</style>"""


def main() -> None:
    shown = house(imports())
    TARGET.write_text(svg(shown), encoding="utf-8")
    print(shown)


if __name__ == "__main__":
    main()
