"""`edgeclaw sweep`: many settings of one strategy, and the deflated result of the best."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from agent.research.sweep import Opened, Swept

_SHOWN = 10


def sweep(
    space: Annotated[Path, typer.Argument(help="YAML file with the strategy and its parameter space.")],
    data: Annotated[str, typer.Option(help="sample, or a folder or file of recorded books.")] = "sample",
    trials: Annotated[int, typer.Option(min=1, help="Number of points to try.")] = 50,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; default: one per core.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers share files and database.")
    ] = None,
    holdout: Annotated[float, typer.Option(min=0, max=0.8, help="Share of the newest markets held out.")] = 0.2,
    open_holdout: Annotated[
        bool, typer.Option("--open-holdout", help="Evaluate the best point on the hold-out markets. Do it once.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 7,
    storage: Annotated[
        str | None, typer.Option(help="URL of Optuna's database; default: sweeps.db in the home folder.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file over the profile of the data.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Try settings of a strategy on a recording, in parallel, and say how much of the best result is choice.

    A sweep that was stopped goes on where it was. The answer is the same however many processes work on it.
    """
    import os
    from dataclasses import replace

    from agent.app.backtests import rehearsal, strategies
    from agent.app.recordings import SAMPLE
    from agent.cli import show
    from agent.config.load import load_config, profile_for
    from agent.config.paths import home
    from agent.research import sweep as swept
    from agent.research.space import read_space
    from storage.sweeps import default_url

    profile = profile_for(data)
    on = rehearsal(load_config(config, {}, profile=profile), data)
    chosen = read_space(space, strategies())
    points = chosen.points(trials, seed)
    # Absolute, because the workers of a scheduler have other working directories.
    where = None if config is None else str(config.absolute())
    place = data if data == SAMPLE else str(Path(data).expanduser().absolute())
    task = swept.SweepTask(data=place, config=where, profile=profile, space=str(space.absolute()), holdout=holdout)
    url = storage or default_url(home())
    study = swept.opened_study(url, on, chosen, points, holdout)
    screen = show.console()
    with progress(screen, "trials", len(points), quiet=as_json) as told:
        if scheduler is not None:
            swept.run_elsewhere(task, study, chosen, points, scheduler, told)
        else:
            swept.run(task, study, chosen, points, workers or os.cpu_count() or 1, told)
    made = swept.judge(study, chosen, points, on, task)
    if open_holdout and made.tried and made.held_out:
        made = replace(made, opened=swept.open_holdout(study, url, chosen, made.tried[0].point, on, task))
    if as_json:
        show.as_json(replace(made, tried=made.tried[:_SHOWN]))
    else:
        _tell(screen, made)
    if made.failed:
        raise typer.Exit(1)


@contextmanager
def progress(screen: Console, what: str, count: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Progress bar for the number of points done."""
    if quiet or not screen.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn as Bar
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), Bar(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bars:
        line = bars.add_task(what, total=count)
        yield lambda done: bars.update(line, completed=done)


def _tell(screen: Console, made: Swept) -> None:
    from agent.cli import show
    from agent.research.page import dollars, interval, share

    screen.print()
    screen.rule(
        f"[bold]sweep of {made.strategy}[/] · {len(made.tried)} of {made.size:,} points on {made.markets} markets, "
        f"{made.held_out} held out",
        style=show.ACCENT,
    )
    screen.print()
    names = list(made.tried[0].point) if made.tried else []
    rows = show.table("Best points, in dollars after fees", *names, "PnL per market", right=(*names, "PnL per market"))
    for one in made.tried[:_SHOWN]:
        rows.add_row(*(one.point[n] for n in names), dollars(one.mean))
    screen.print(rows)
    screen.print()
    facts = show.table("Selection bias", "", "")
    facts.add_row("deflated Sharpe ratio", share(made.deflated))
    facts.add_row("probability of backtest overfitting", share(made.overfitting))
    facts.add_row("walk-forward PnL per market [95 %]", interval(made.forward.per_market))
    facts.add_row("hold-out PnL per market [95 %]", _opened(made.opened))
    screen.print(facts)
    for sentence in made.failed:
        screen.print(sentence, style=show.BAD, markup=False)


def _opened(opened: Opened | None) -> str:
    from agent.research.page import interval

    if opened is None:
        return "not opened: --open-holdout, once"
    again = (
        f"; opened {opened.times} times, so no longer out of sample"
        if opened.times > 1
        else "; opened for the first time"
    )
    return f"{interval(opened.per_market)} on {opened.markets} markets{again}"
