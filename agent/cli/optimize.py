"""`edgeclaw optimize edge-runtime`: a configuration that costs less and forecasts no worse."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from agent.research.optimising import Optimised, Setting
    from storage.records import Run
    from storage.store import Store

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Optimize settings for cost or latency.")


class Less(StrEnum):
    COST = "cost"
    LATENCY = "latency"
    TOKENS = "tokens"
    ENERGY = "energy"


@app.callback()
def _optimize() -> None:
    """Find settings that cost less."""


@app.command(
    "edge-runtime",
    short_help="Settings of the search and the engine.",
    epilog="Example: edgeclaw optimize edge-runtime --target cost --goal reduce-by 50%",
)
def edge_runtime(
    # The shell splits an unquoted `--goal reduce-by 50%`: the percentage arrives as an argument.
    amount: Annotated[str | None, typer.Argument(hidden=True)] = None,
    target: Annotated[Less, typer.Option(help="Quantity to reduce per decision.")] = Less.COST,
    goal: Annotated[str, typer.Option(help="Target reduction, as reduce-by 50%.")] = "reduce-by 50%",
    run: Annotated[str | None, typer.Option(help="Id (or prefix) of the run to optimize on; default: newest.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Number of settings to try.")] = 24,
    minutes: Annotated[float | None, typer.Option(min=0, help="Time limit for trying settings.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 7,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the chosen settings to --config; a backup is kept.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write all settings, the patch and a figure to this folder.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file over the profile of the run's data.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Think decisions of the log through again with other settings, and find one that saves as much as asked and
    forecasts no worse beyond chance. It is chosen on every other window and then tried on the windows between.

    Exit code 1 where there is none, or it did not hold there.
    """
    import os

    from agent.cli import show
    from agent.cli.log import with_store
    from agent.cli.sweep import progress
    from agent.config.load import load_config, nested
    from agent.reports.lookup import chosen_run
    from agent.research.optimising import Aim, Target, parsed_goal
    from market.errors import Misconfigured

    if apply and config is None:
        raise Misconfigured("--apply needs the file to write to.", next_step="Name it: --config FILE")
    seconds = None if minutes is None else minutes * 60
    aim = Aim(Target(target.value), parsed_goal(f"{goal} {amount or ''}"), trials, seconds, seed)
    screen = show.console()

    async def look(store: Store) -> tuple[Optimised, bool]:
        from agent.research.trials import optimised, other_settings

        of = await chosen_run(store, run)
        asked = load_config(config, profile=_profile(of))
        with progress(screen, "settings", trials, quiet=as_json) as heard:
            found = await optimised(store, of, asked, aim, len(os.sched_getaffinity(0)), heard)
        return found, other_settings(of, asked)

    found, other = with_store(config, look)
    kept = _keep(found, out) if out is not None else []
    written = _write(config, nested(found.chosen.values)) if apply and config and found.chosen and found.met else ""
    if as_json:
        show.as_json({"met": found.met, "kept": [str(path) for path in kept], "written": written, "result": found})
    else:
        _tell(screen, found, other=other)
        for line in (*(f"Kept: {path}" for path in kept), written):
            if line:
                screen.print(line, markup=False)
    if not found.met:
        raise typer.Exit(1)


def _profile(run: Run) -> str:
    from agent.config.load import profile_for

    return "" if run.about.account else profile_for(run.about.data)


def _write(file: Path, values: dict[str, object]) -> str:
    """Merge the patch into the owner's file; returns the result in a sentence."""
    from agent.install.settings import WriteSettings

    step = WriteSettings(file, values)
    said = step.describe()
    step.run(lambda _: None)
    return f"Done: {said}"


def _keep(found: Optimised, folder: Path) -> list[Path]:
    """Write all settings as JSON, the patch as YAML and the figure."""
    import json

    import yaml

    from agent.config import paths
    from agent.config.load import nested
    from agent.reports.plots import drawable
    from agent.research.tradeoff import draw_tradeoff
    from storage.canonical import plain

    paths.folder(folder)
    kept = [folder / "optimize.json"]
    kept[0].write_text(json.dumps(plain(found), indent=2) + "\n", encoding="utf-8")
    if found.chosen is not None:
        kept.append(folder / "patch.yaml")
        kept[-1].write_text(yaml.safe_dump(nested(found.chosen.values), sort_keys=False), encoding="utf-8")
    return [*kept, draw_tradeoff(found, folder / "tradeoff")] if drawable() else kept


def _tell(screen: Console, found: Optimised, *, other: bool) -> None:
    from agent.cli import show

    screen.print()
    screen.rule(
        f"[bold]{found.target.value} of a decision[/] · {len(found.tried)} settings on {found.present.decisions} "
        f"decisions of {found.present.windows} windows, {found.seconds:,.0f} s",
        style=show.ACCENT,
    )
    screen.print()
    rows = _table(found, "Pareto front of settings, cheapest first")
    for one in found.front:
        _row(rows, one, found, "● " if one == found.chosen else "")
    _row(rows, found.silent, found, "", "no search at all")
    screen.print(rows)
    if found.confirmed is not None and found.confirmed.decisions:
        screen.print()
        rows = _table(found, f"Chosen setting on {found.confirmed.windows} held-out windows")
        _row(rows, found.confirmed, found, "● ")
        screen.print(rows)
    screen.print()
    colour = show.GOOD if found.met else show.WARN
    screen.print(f"[{colour}]{found.why}[/]")
    screen.print(
        f"[{show.MUTED}]gain: log score against the present settings, in nats per decision; below zero is worse. A "
        "loss smaller than the width of the interval cannot be detected with so few windows.[/]"
    )
    if not found.silent.worse:
        screen.print(
            f"[{show.MUTED}]Without any search the forecasts are not significantly worse on these data, either.[/]"
        )
    if other:
        screen.print(
            f"[{show.MUTED}]The run was made with another configuration; all figures are of this configuration, by "
            "replay of the recorded inputs.[/]"
        )


def _table(found: Optimised, title: str) -> Table:
    from agent.cli import show
    from agent.research.optimising import UNITS

    unit = UNITS[found.target]
    return show.table(
        title, "setting", unit, "saved [95 %]", "gain [95 %]", "orders", right=(unit, "saved [95 %]", "orders")
    )


def _row(rows: Table, one: Setting, found: Optimised, mark: str, name: str = "") -> None:
    from rich.markup import escape

    from agent.research.tradeoff import amount, named

    less, gain = one.less, one.gain
    rows.add_row(
        escape(mark + (name or named(one))),
        amount(one.amount, found.target),
        escape(f"{less.mean:.0%} [{less.low:.0%}, {less.high:.0%}]") if less else "-",
        escape(f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]") if gain else "-",
        str(one.ordered),
    )
