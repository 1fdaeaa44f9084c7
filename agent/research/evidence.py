"""Evidence page of any runs: the ladder, calibration, the surest forecasts, and the cost of a gain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from agent.evaluation.ladder import LadderRung
from agent.reports import html as pages
from agent.reports.plots import BLUE, GREEN, INK, QUIET, RED, bare, drawable, house_style, saved
from agent.research.figures import forecast_figure
from agent.research.forecasts import RecordedForecast
from agent.research.page import ladder_table
from storage.canonical import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class EvidenceReport:
    """Content of the page: names of runs and of their data, the ladder over all of them, and their decisions."""

    runs: tuple[str, ...]
    data: tuple[str, ...]
    ladder: tuple[LadderRung, ...]
    forecasts: tuple[RecordedForecast, ...]


def write_evidence(made: EvidenceReport, folder: Path) -> list[Path]:
    """Write `evidence.json`, the figures where they can be drawn, and `evidence.html`; returns the files, the page
    last."""
    told, page = folder / "evidence.json", folder / "evidence.html"
    told.write_text(json.dumps(plain({"runs": made.runs, "ladder": made.ladder}), indent=2) + "\n", encoding="utf-8")
    drawn = draw_evidence(made, folder) if drawable() else []
    page.write_text(html(made, drawn), encoding="utf-8")
    return [told, *drawn, page]


def html(made: EvidenceReport, figures: Sequence[Path]) -> str:
    """The page with the SVG figures inside it."""
    body = [ladder_table(made.ladder), *map(pages.figure, figures), f"<p class=quiet>{escape(_fine_print(made))}</p>"]
    return pages.html_page("Evidence", _lead(made), "".join(body))


def _lead(made: EvidenceReport) -> str:
    scored = [f for f in made.forecasts if f.scored]
    windows = len({f.market for f in scored})
    return (
        f"{', '.join(made.data)}: {len(made.forecasts):,} decisions of {len(made.runs)} "
        f"run{'s' if len(made.runs) > 1 else ''}, {len(scored):,} of them in {windows:,} settled markets."
    )


def _fine_print(made: EvidenceReport) -> str:
    return (
        f"Runs {', '.join(made.runs)}. Intervals: bootstrap over windows. A gain whose interval contains 0, or that a "
        "placebo shows, too, is no gain. Days needed: days of such decisions until a verdict, if the observed gain is "
        "real."
    )


def draw_evidence(made: EvidenceReport, folder: Path) -> list[Path]:
    """Write the figures as PNG and SVG; returns the paths of the SVGs."""
    scored = [f for f in made.forecasts if f.scored]
    gained = [rung for rung in made.ladder if rung.gain is not None]
    with house_style():
        drawn = [saved(_gains(gained), folder / "ladder")] if gained else []
        drawn += [saved(forecast_figure(scored), folder / "forecasts")] if scored else []
        spent = [rung for rung in gained if rung.tokens]
        drawn += [saved(_cost(spent), folder / "cost")] if spent else []
        waiting = [rung for rung in gained if rung.days is not None]
        drawn += [saved(_days(waiting), folder / "days")] if waiting else []
    return drawn


def _gains(rungs: Sequence[LadderRung]) -> Figure:
    """Each rung's gain over the mid with its interval, from the bottom of the ladder down the page."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(10, 1 + 0.42 * len(rungs)), layout="constrained")
    bare(axis)
    axis.grid(visible=False, axis="y")
    axis.axvline(0, color=QUIET, lw=0.8)
    for row, rung in enumerate(rungs):
        gain = rung.gain
        if gain is None:
            continue
        colour = QUIET if rung.name.startswith("placebo") else _colour(gain.low, gain.high)
        axis.plot([gain.low, gain.high], [row, row], color=colour, lw=5, alpha=0.3, solid_capstyle="round")
        axis.plot(gain.mean, row, "o", color=colour, ms=6)
    axis.set_yticks(range(len(rungs)), [rung.name for rung in rungs], color=INK)
    axis.invert_yaxis()
    axis.set_xlabel("log score gain over the mid, nats per decision (right is better)")
    figure.suptitle(
        "Evidence ladder: gain of each part over the market price, 95 % intervals", x=0.01, ha="left", fontsize=13
    )
    return figure


def _colour(low: float, high: float) -> str:
    return GREEN if low > 0 else RED if high < 0 else BLUE


def _cost(rungs: Sequence[LadderRung]) -> Figure:
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(10, 4), layout="constrained")
    bare(axis)
    places: dict[tuple[float, float], list[str]] = {}
    for rung in rungs:
        places.setdefault((rung.tokens, rung.log_score or 0.0), []).append(rung.name)
    for at, names in places.items():
        axis.plot(*at, "o", color=QUIET if names[0].startswith("placebo") else BLUE, ms=6)
        axis.annotate(", ".join(names), at, xytext=(0, 7), textcoords="offset points", fontsize=8, ha="center")
    axis.margins(x=0.18, y=0.2)
    axis.set_xlabel("tokens per decision")
    axis.set_ylabel("log score, nats (lower is better)")
    figure.suptitle("Log score against tokens", x=0.01, ha="left", fontsize=13)
    return figure


def _days(rungs: Sequence[LadderRung]) -> Figure:
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(10, 1 + 0.42 * len(rungs)), layout="constrained")
    bare(axis)
    axis.grid(visible=False, axis="y")
    days = [rung.days or 0.0 for rung in rungs]
    axis.barh(range(len(rungs)), days, 0.5, color=BLUE)
    for row, value in enumerate(days):
        said = "less than one" if value < 1 else f"{value:,.0f}"
        axis.annotate(said, (value, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
    axis.margins(x=0.15)
    axis.set_yticks(range(len(rungs)), [rung.name for rung in rungs], color=INK)
    axis.invert_yaxis()
    axis.set_xlabel("days needed")
    figure.suptitle("Days needed for a verdict, if the observed gain is real", x=0.01, ha="left", fontsize=13)
    return figure
