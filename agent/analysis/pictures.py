"""Charts of tables that define one. Needs the extra `research`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agent.analysis.analysis import Analysed
from agent.reports.plots import BLUE, bare, house_style, saved
from tools.analysis.table import Cell, Chart, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELS = 12


def draw_findings(made: Analysed, folder: Path) -> dict[int, Path]:
    """Draw each finding's chart; returns the SVG paths by the finding's index."""
    with house_style():
        return {
            at: saved(_figure(finding.table, finding.table.chart), folder / f"finding_{at + 1}")
            for at, finding in enumerate(made.findings)
            if finding.table.chart is not None
        }


def _figure(table: Table, chart: Chart) -> Figure:
    from matplotlib import pyplot as plt

    names = [str(c) if c is not None else "no value" for c in table.column(chart.x)]
    values = [_height(c) for c in table.column(chart.y)]
    figure, axis = plt.subplots(figsize=(9, 3.4), layout="constrained")
    bare(axis)
    at = range(len(names))
    if chart.shape == "bar":
        axis.bar(at, values, color=BLUE, width=0.7)
    else:
        axis.plot(at, values, color=BLUE, lw=1.8)
        axis.fill_between(at, values, color=BLUE, alpha=0.12, lw=0)
    step = max(1, -(-len(names) // _LABELS))
    axis.set_xticks(list(at)[::step], [n[:16] for n in names[::step]], rotation=0 if step == 1 else 20)
    axis.set_ylabel(chart.y)
    figure.suptitle(table.title, x=0.01, ha="left")
    return figure


def _height(cell: Cell) -> float:
    return float(cell) if isinstance(cell, int | float) else 0.0
