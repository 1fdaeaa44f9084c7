"""Figures of the benchmark: accuracy against tokens and against FLOPs, and the arms side by side. Needs the extra
`research`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.reports.plots import AMBER, BLUE, GREEN, INK, PINK, QUIET, RED, RULE, SKY, bare, house_style, saved
from agent.search_benchmark.results import MAIN, Curve, Line, Spot, TaskResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLES: dict[str, tuple[str, str]] = {
    "best-first": (BLUE, "-"),
    "beam": (SKY, "-"),
    "dvts": (GREEN, "-"),
    "best-of-n": (RED, "--"),
    "self-consistency": (AMBER, "--"),
    "greedy": ("#6b7280", ":"),
    "larger, greedy": (PINK, "-."),
}
"""A colour for each arm, and a line style for each kind."""
_GAP = 0.055
"""Minimum distance between two names, as a fraction of the axis."""
_ROLES = {"search": BLUE, "baseline": AMBER, "placebo": "#9aa1ab", "larger": PINK}


def draw_benchmark(results: Sequence[TaskResult], folder: Path) -> list[Path]:
    """Write the figures as PNG and SVG; returns the paths of the SVGs."""
    with house_style():
        return [
            saved(_curves(results, "tokens"), folder / "accuracy_by_tokens"),
            saved(_curves(results, "flops"), folder / "accuracy_by_flops"),
            saved(_bars(results), folder / "arms"),
        ]


def _curves(results: Sequence[TaskResult], by: str) -> Figure:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(results), figsize=(4.6 * len(results), 4.3), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, result in zip(axes[0], results, strict=True):
        bare(axis)
        shown = [(c.arm, points) for c in result.curves if c.arm in _STYLES and (points := _points(c, by))]
        ends = [_curve(axis, arm, points) for arm, points in shown]
        axis.axhline(result.guessing, color=QUIET, lw=0.8, ls=(0, (1, 3)))
        axis.set_title(result.title, loc="left", fontweight="bold", fontsize=11)
        axis.set_xscale("log")
        axis.set_ylim(-0.02, 1.02)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        _ticks(axis, by, result)
        _named(axis, ends)
    what = "tokens through the model" if by == "tokens" else "GFLOPs (2 x parameters x tokens)"
    figure.supxlabel(f"{what}, per question", fontsize=9.5, color=INK)
    title = "Accuracy within a token budget" if by == "tokens" else "Accuracy by compute"
    note = "bands: 95 % over questions  ·  dotted: uniform guessing" if len(results) > 1 else ""
    figure.suptitle(title, x=0.01, ha="left", fontsize=13)
    figure.text(0.995, 0.985, note, ha="right", va="top", fontsize=8.5, color=QUIET)
    return figure


def _points(curve: Curve, by: str) -> list[tuple[float, Spot]]:
    if by == "tokens":
        return [(float(s.budget), s) for s in curve.spots]
    return [(s.flops, s) for s in curve.spots if s.flops]


def _curve(axis: Axes, arm: str, points: Sequence[tuple[float, Spot]]) -> tuple[float, float, str]:
    colour, style = _STYLES[arm]
    x = [at for at, _ in points]
    y = [s.accuracy.mean for _, s in points]
    wide = 2.6 if arm == MAIN else 1.5
    axis.plot(x, y, style, color=colour, lw=wide, marker="o", ms=3.2, zorder=4 if arm == MAIN else 3)
    if arm in (MAIN, "best-of-n", "larger, greedy"):
        low, high = [s.accuracy.low for _, s in points], [s.accuracy.high for _, s in points]
        axis.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
    return x[-1], y[-1], arm


def _named(axis: Axes, ends: Sequence[tuple[float, float, str]]) -> None:
    """A name beside the end of each line, pushed apart where names would overlap, and kept inside the axis."""
    ordered = sorted(ends, key=lambda e: e[1])
    heights: list[float] = []
    for _, y, _ in ordered:
        heights.append(max(y, heights[-1] + _GAP) if heights else y)
    for at in reversed(range(len(heights))):
        heights[at] = min(heights[at], 1.0 if at + 1 == len(heights) else heights[at + 1] - _GAP)
    for (x, y, arm), height in zip(ordered, heights, strict=True):
        axis.annotate(
            arm,
            (x, y),
            xytext=(1.05, height),
            textcoords=("axes fraction", "data"),
            va="center",
            color=_STYLES[arm][0],
            fontsize=8.5,
            fontweight="bold" if arm == MAIN else "normal",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": _STYLES[arm][0],
                "lw": 0.6,
                "alpha": 0.5,
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )


def _ticks(axis: Axes, by: str, result: TaskResult) -> None:
    if by == "tokens":
        ticks = [float(s.budget) for s in result.curves[0].spots]
        names = [f"{t:.0f}" for t in ticks]
    else:
        low, high = axis.get_xlim()
        ticks = [g * 1e9 for g in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low <= g * 1e9 <= high]
        names = [f"{t / 1e9:.0f}" for t in ticks]
    axis.set_xticks(ticks, names)
    axis.minorticks_off()


def _bars(results: Sequence[TaskResult]) -> Figure:
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    names = [line.arm for line in results[0].lines]
    figure, axes = plt.subplots(
        1, len(results), figsize=(1.8 + 3.6 * len(results), 0.8 + 0.3 * len(names)), squeeze=False, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for axis, result in zip(axes[0], results, strict=True):
        bare(axis)
        axis.grid(visible=False, axis="y")
        axis.grid(axis="x", color=RULE, lw=0.8)
        for row, line in enumerate(result.lines):
            _bar(axis, row, line)
        axis.set_yticks(range(len(names)), names, color=INK)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.08)
        axis.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axis.set_title(result.title, loc="left", fontweight="bold", fontsize=11)
    colours = [Line2D([], [], color=c, marker="o", ls="", label=r) for r, c in _ROLES.items()]
    figure.legend(handles=colours, loc="outside lower center", ncols=len(colours), frameon=False)
    figure.suptitle("Accuracy at the main budget, 95 % intervals", x=0.01, ha="left", fontsize=13)
    return figure


def _bar(axis: Axes, row: int, line: Line) -> None:
    colour, a = _ROLES[line.role], line.accuracy
    axis.plot([a.low, a.high], [row, row], color=colour, lw=5, alpha=0.28, solid_capstyle="round")
    axis.plot(a.mean, row, "o", color=colour, ms=6)
    axis.annotate(
        f"{100 * a.mean:.0f}", (a.high, row), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8
    )
