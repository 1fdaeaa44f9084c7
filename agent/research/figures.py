"""The figures of a backtest. Needs the extra `research`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.evaluation.judgement import JudgedTrade, Judgement
from agent.reports.plots import AMBER, BLUE, GREEN, INK, PINK, QUIET, RED, RULE, SKY, bare, house_style, saved
from agent.research.forecasts import RecordedForecast
from agent.research.judging import Data, JudgedRun
from agent.research.report import Report
from market.columns import NOBODY, Int32
from market.types import UNIT, Outcome, Side
from strategies.score import brier, reliability, risk_by_coverage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (BLUE, RED, GREEN, AMBER, PINK, SKY)
_POINTS = 1500
"""Maximum number of points drawn of a path."""


def draw_backtest(made: Report, data: Data, folder: Path) -> list[Path]:
    """Write the figures as PNG and SVG; returns the paths of the SVGs, none without trades and forecasts."""
    judged = [(t, t.judgement) for t in made.tried if t.judgement is not None and t.judgement.markets]
    scored = [f for f in made.forecasts if f.scored]
    with house_style():
        drawn = [saved(forecast_figure(scored), folder / "forecasts")] if scored else []
        if not judged:
            return drawn
        drawn += [
            saved(_equity(judged), folder / "equity"),
            saved(_expiry(judged), folder / "pnl_by_time_to_expiry"),
            saved(_at_mid(judged), folder / "mid_against_book"),
        ]
        for one, market_id in _worth_a_look(judged):
            drawn.append(saved(_path(one, market_id, data), folder / f"market_{market_id[:10]}"))
    return drawn


def _equity(judged: Sequence[tuple[JudgedRun, Judgement]]) -> Figure:
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, figsize=(10, 5.4), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    for (one, found), colour in zip(judged, _cycled(len(judged)), strict=True):
        at = [p.at for p in found.equity]
        above.step(at, [p.total / UNIT for p in found.equity], where="post", color=colour, lw=1.6, label=one.name)
        below.fill_between(at, [-p.drawdown / UNIT for p in found.equity], step="post", color=colour, alpha=0.35, lw=0)
    for axis in (above, below):
        bare(axis)
        axis.axhline(0, color=QUIET, lw=0.8)
    above.set_ylabel("dollars after fees")
    below.set_ylabel("drawdown")
    above.legend(frameon=False, loc="upper left")
    below.tick_params(axis="x", labelrotation=0)
    figure.suptitle("Equity after each market, and drawdown", x=0.01, ha="left", fontsize=13)
    return figure


def _cycled(count: int) -> list[str]:
    return [_COLOURS[n % len(_COLOURS)] for n in range(count)]


def _expiry(judged: Sequence[tuple[JudgedRun, Judgement]]) -> Figure:
    from matplotlib import pyplot as plt

    names = sorted({g.name for _, found in judged for g in found.by["time to expiry"]})
    figure, axis = plt.subplots(figsize=(10, 3.6), layout="constrained")
    bare(axis)
    wide = 0.8 / len(judged)
    for number, ((one, found), colour) in enumerate(zip(judged, _cycled(len(judged)), strict=True)):
        groups = {g.name: g for g in found.by["time to expiry"]}
        for at, name in enumerate(names):
            if (group := groups.get(name)) is None:
                continue
            x = at - 0.4 + wide * (number + 0.5)
            axis.bar(x, group.pnl / UNIT, wide * 0.92, color=colour, label=one.name if at == 0 else None)
            axis.annotate(
                f"n {group.fills}", (x, group.pnl / UNIT), xytext=(0, 4 if group.pnl >= 0 else -11),
                textcoords="offset points", ha="center", fontsize=8, color=QUIET,
            )  # fmt: skip
    axis.axhline(0, color=QUIET, lw=0.8)
    axis.margins(y=0.15)
    axis.set_xticks(range(len(names)), [n.strip() for n in names])
    axis.set_ylabel("dollars after fees")
    _legend(axis, [one.name for one, _ in judged])
    figure.suptitle("Profit by time to expiry of the fill", x=0.01, ha="left", fontsize=13)
    return figure


def _legend(axis: Axes, names: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=c, label=n) for n, c in zip(names, _cycled(len(names)), strict=True)]
    axis.legend(handles=patches, frameon=False, loc="best")


def _at_mid(judged: Sequence[tuple[JudgedRun, Judgement]]) -> Figure:
    """Two bars per strategy: PnL of the fills from the book with fees, and of the same fills at the mid without."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(10, 1.2 + 0.7 * len(judged)), layout="constrained")
    bare(axis)
    axis.grid(visible=False, axis="y")
    for row, (_, found) in enumerate(judged):
        mid = found.pnl + (found.overstated or 0)
        for shift, value, colour in ((-0.18, found.pnl, BLUE), (0.18, mid, "#c9ced6")):
            axis.barh(row + shift, value / UNIT, 0.32, color=colour)
            axis.annotate(
                f"{value / UNIT:+,.2f}", (value / UNIT, row + shift), xytext=(5 if value >= 0 else -5, 0),
                textcoords="offset points", va="center", ha="left" if value >= 0 else "right", fontsize=8,
            )  # fmt: skip
    axis.axvline(0, color=QUIET, lw=0.8)
    axis.margins(x=0.18)
    axis.set_yticks(range(len(judged)), [one.name for one, _ in judged], color=INK)
    axis.invert_yaxis()
    axis.set_xlabel("dollars")
    figure.suptitle(
        "PnL at book prices after fees (blue), and at the mid without fees (grey)",
        x=0.01, ha="left", fontsize=13,
    )  # fmt: skip
    return figure


def forecast_figure(scored: Sequence[RecordedForecast]) -> Figure:
    """Reliability diagram, and risk-coverage curve of the surest forecasts, for the agent and for the market."""
    from matplotlib import pyplot as plt

    figure, (true, risk) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    paid = [f.paid or 0.0 for f in scored]
    for name, colour, shift, values in (
        ("market", QUIET, -0.006, [f.mid or 0.0 for f in scored]),
        ("agent", BLUE, 0.006, [f.probability or 0.0 for f in scored]),
    ):
        bins = reliability(values, paid)
        # Shifted a little, so that the two series do not hide each other.
        x, share = np.array([b.forecast for b in bins]) + shift, np.array([b.share for b in bins])
        error = np.array([[b.share - b.low for b in bins], [b.high - b.share for b in bins]]).clip(0)
        sizes = 12 + 120 * np.array([b.n for b in bins]) / len(scored)
        true.errorbar(x, share, error, fmt="none", ecolor=colour, elinewidth=1, alpha=0.6)
        true.scatter(x, share, s=sizes, color=colour, label=name, zorder=3)
        curve = risk_by_coverage(brier(values, paid), [abs(v - 0.5) for v in values])
        risk.plot([100 * c for c, _ in curve], [r for _, r in curve], color=colour, lw=1.6, label=name)
    true.plot([0, 1], [0, 1], color=RULE, lw=1.2, zorder=0)
    for axis, across, up in (
        (true, "forecast probability of YES", "observed frequency of YES"),
        (risk, "coverage: most confident % of decisions", "Brier score"),
    ):
        bare(axis)
        axis.set_xlabel(across)
        axis.set_ylabel(up)
        axis.legend(frameon=False, loc="best")
    risk.set_ylim(0)
    figure.suptitle("Reliability diagram, and Brier score by coverage", x=0.01, ha="left", fontsize=13)
    return figure


def _worth_a_look(judged: Sequence[tuple[JudgedRun, Judgement]]) -> list[tuple[JudgedRun, str]]:
    """The best and the worst market of the strategy that traded most."""
    one, found = max(judged, key=lambda j: j[1].fills)
    ordered = sorted(found.equity, key=lambda p: (p.pnl, p.market_id))
    return [(one, p.market_id) for p in dict.fromkeys((ordered[-1], ordered[0]))]


def _path(one: JudgedRun, market_id: str, data: Data) -> Figure:
    from matplotlib import dates
    from matplotlib import pyplot as plt

    recording = next(r for r in data.recordings if r.market.id == market_id)
    rows = np.unique(np.linspace(0, len(recording) - 1, min(len(recording), _POINTS)).astype(np.int64))
    at = recording.received[rows].astype("datetime64[ms]")
    figure, axis = plt.subplots(figsize=(10, 3.8), layout="constrained")
    bare(axis)
    bid, ask = _dollars(recording.bids.best[rows]), _dollars(recording.asks.best[rows])
    axis.fill_between(at, bid, ask, step="post", color=QUIET, alpha=0.25, lw=0)
    axis.step(at, (bid + ask) / 2, where="post", color=INK, lw=1)
    trades = [t for t in one.trades if t.fill.market_id == market_id]
    for buys, colour, marker in ((True, GREEN, "^"), (False, RED, "v")):
        own = [t for t in trades if _buys_yes(t) is buys]
        when = np.array([t.fill.at.replace(tzinfo=None) for t in own], "datetime64[ms]")
        said = "bought YES or sold NO" if buys else "bought NO or sold YES"
        axis.scatter(when, [_yes_price(t) for t in own], s=46, color=colour, marker=marker, zorder=5, label=said)
    profit = sum(t.pnl or 0 for t in trades) / UNIT
    axis.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))  # type: ignore[no-untyped-call]
    axis.set_ylim(-0.02, 1.02)
    axis.set_ylabel("price of YES")
    axis.legend(frameon=False, loc="upper left", fontsize=8.5)
    axis.set_title(f"{recording.market.slug}: {one.name} {profit:+,.2f} dollars", loc="left", fontsize=11)
    return figure


def _dollars(prices: Int32) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    found = prices.astype(np.float64) / UNIT
    found[prices == NOBODY] = np.nan
    return found


def _buys_yes(trade: JudgedTrade) -> bool:
    return (trade.fill.side is Side.BUY) is (trade.fill.outcome is Outcome.YES)


def _yes_price(trade: JudgedTrade) -> float:
    price = float(trade.fill.price)
    return price if trade.fill.outcome is Outcome.YES else 1 - price
