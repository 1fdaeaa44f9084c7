"""Names and trade-off figure of settings: cost against gain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agent.reports.plots import AMBER, BLUE, GREEN, INK, QUIET, RULE, bare, house_style, saved
from agent.research.optimising import UNITS, Optimised, Setting, Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SCALE = {Target.COST: (1e6, "millionths of a dollar"), Target.LATENCY: (1e3, "milliseconds")}


def named(setting: Setting) -> str:
    """Changes of a setting, by the last parts of their keys."""
    said = (f"{key.split('.')[-1]} {_word(value)}" for key, value in sorted(setting.values.items()))
    return ", ".join(said) or "as at present"


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def amount(value: float, target: Target) -> str:
    """A target's mean in its unit."""
    if target is Target.COST:
        return f"${value:.8f}"
    return f"{value:,.0f}" if target is Target.TOKENS else f"{value:,.3f}"


def draw_tradeoff(found: Optimised, stem: Path) -> Path:
    """Write the figure as PNG and SVG; returns the path of the SVG."""
    with house_style():
        return saved(_figure(found), stem)


def _figure(found: Optimised) -> Figure:
    from matplotlib import pyplot as plt

    scale, unit = _SCALE.get(found.target, (1.0, UNITS[found.target]))
    figure, axis = plt.subplots(figsize=(9, 4.6), layout="constrained")
    bare(axis)
    axis.axhline(0, color=QUIET, lw=0.8)
    axis.axvline((1 - found.goal) * found.present.amount * scale, color=AMBER, lw=1.2, ls="--", label="the goal")
    axis.plot(*zip(*((s.amount * scale, _mean(s)) for s in found.tried), strict=True), "o", color=RULE, ms=5)
    axis.plot([s.amount * scale for s in found.front], [_mean(s) for s in found.front], color=BLUE, lw=1)
    for one in found.front:
        chosen = one == found.chosen
        _point(axis, one, scale, GREEN if chosen else BLUE, "chosen" if chosen else "")
    _point(axis, found.present, scale, INK, "at present")
    _point(axis, found.silent, scale, QUIET, "no search at all")
    axis.set_xlabel(f"{unit} per decision")
    axis.set_ylabel("log score gain, nats per decision")
    axis.legend(frameon=False, loc="best")
    figure.suptitle(f"{found.target.value.capitalize()} against log score, 95 % intervals", x=0.01, ha="left")
    return figure


def _point(axis: Axes, one: Setting, scale: float, colour: str, label: str) -> None:
    x, gain = one.amount * scale, one.gain
    if gain is not None:
        axis.plot([x, x], [gain.low, gain.high], color=colour, lw=4, alpha=0.28, solid_capstyle="round")
    axis.plot(x, _mean(one), "o", color=colour, ms=6, label=label or None)


def _mean(setting: Setting) -> float:
    return setting.gain.mean if setting.gain is not None else 0.0
