"""`edgeclaw evidence ladder`: the gain of each part of the agent over the market's own price, for any stored runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from agent.evaluation.ladder import LadderRung
    from storage.log_reader import LogReader
    from storage.records import Run
    from strategies.score import Interval

_WIDTH = 33
_WIDE = 128
"""Columns of a terminal from which the gains are drawn, too."""


def ladder(
    runs: Annotated[
        list[str] | None, typer.Option("--run", help="Id (or prefix) of a run; may be repeated. Default: newest.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="A YAML file that names the database.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write figures, forecasts and an HTML page to this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score mid, diffusion, logistic, model, search, verification, correction and calibration on the same decisions,
    with placebos and intervals. Several runs are taken together. Asks no model."""
    from agent.cli import show
    from agent.cli.log import with_log
    from agent.evaluation.ladder_data import climb

    async def read(store: LogReader) -> tuple[list[Run], list[LadderRung]]:
        from agent.reports.lookup import chosen_run

        chosen = [await chosen_run(store, prefix) for prefix in runs] if runs else [await chosen_run(store, None)]
        return chosen, await climb(store, chosen)

    found, rungs = with_log(config, read)
    kept = _kept(found, rungs, config, out) if out is not None else []
    if as_json:
        show.as_json({"runs": [r.id for r in found], "ladder": rungs, "kept": [str(path) for path in kept]})
        return
    screen = show.console()
    for run in found:
        screen.print(f"run {run.id[:8]} · {run.about.data}", markup=False)
    print_ladder(rungs, screen)
    for path in kept:
        screen.print(f"Kept: {path}", markup=False, highlight=False)


def _kept(runs: Sequence[Run], rungs: Sequence[LadderRung], config: Path | None, out: Path) -> list[Path]:
    from agent.cli.log import with_log
    from agent.config import paths
    from agent.research.evidence import EvidenceReport, write_evidence
    from agent.research.forecasts import RecordedForecast, forecasts

    async def read(store: LogReader) -> list[RecordedForecast]:
        return [forecast for run in runs for forecast in await forecasts(store, run)]

    data = tuple(dict.fromkeys(run.about.data for run in runs))
    made = EvidenceReport(tuple(run.id for run in runs), data, tuple(rungs), tuple(with_log(config, read)))
    return write_evidence(made, paths.folder(out))


def print_ladder(rungs: Sequence[LadderRung], screen: Console) -> None:
    """Print a line a rung, with its gain over the market drawn to one scale."""
    from rich.markup import escape

    from agent.cli.show import MUTED, number, table

    wide = screen.width >= _WIDE
    columns = ("rung", "n", *(("windows", "Brier score") if wide else ()), "log score", "gain over mid [95 %]")
    picture = (f"{'worse ':>{_WIDTH // 2}}│ better",) if wide else ()
    title = "Evidence ladder: gain of each part over the market price"
    right = ("n", "windows", "Brier score", "log score", "tokens", "days needed")
    rows = table(title, *columns, *picture, "tokens", "days needed", right=right)
    reach = max((max(abs(r.gain.low), abs(r.gain.high)) for r in rungs if r.gain), default=0.0)
    for rung in rungs:
        gain = _interval(rung.gain) if rung.gain else "-"
        days = "-" if rung.days is None else "<1" if rung.days < 1 else f"{rung.days:,.0f}"
        detail = (str(rung.windows), number(rung.brier, 4)) if wide else ()
        line = (drawn(rung.gain, reach),) if wide else ()
        cells = (rung.name, str(rung.n), *detail, number(rung.log_score, 4), escape(gain), *line)
        rows.add_row(*cells, f"{rung.tokens:.0f}", days)
    screen.print(rows)
    for rung in rungs:
        if rung.note:
            screen.print(f"[{MUTED}]{rung.name}: {escape(rung.note)}[/]")
    screen.print(
        f"[{MUTED}]log score: mean negative log-likelihood, lower is better. Intervals: bootstrap over windows. days "
        "needed: days of such decisions until a verdict, if the gain is real. A gain whose interval contains 0, or "
        "that a placebo shows too, is no gain.[/]"
    )


def drawn(gain: Interval | None, reach: float) -> str:
    """An interval drawn around zero: ├──●──┤ on an axis that ends at `reach` on both sides."""
    cells = [" "] * _WIDTH
    middle = _WIDTH // 2
    cells[middle] = "│"
    if gain is not None and reach > 0:
        low, mean, high = (middle + round(x / reach * middle) for x in (gain.low, gain.mean, gain.high))
        cells[low : high + 1] = ["─"] * (high + 1 - low)
        if low < middle < high:
            cells[middle] = "┼"
        if high > low:
            cells[low], cells[high] = "├", "┤"
        cells[mean] = "●"
    return "".join(cells)


def _interval(gain: Interval) -> str:
    mean, low, high = (f"{x:+.4f}".replace("0.", ".", 1) for x in (gain.mean, gain.low, gain.high))
    return f"{mean} [{low}, {high}]"
