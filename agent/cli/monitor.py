"""`edgeclaw monitor edge-runtime`: performance of the model on this machine, once or live."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from agent.config.schema import Config
    from agent.reports.monitoring import Monitored

monitor_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Monitor inference on this box.")


@monitor_app.callback()
def _monitor() -> None:
    """Monitor inference on this box."""


@monitor_app.command(
    "edge-runtime",
    short_help="Speed, cost and verification rate of the model.",
    epilog="Example: edgeclaw monitor edge-runtime --watch",
)
def edge_runtime(
    run: Annotated[str | None, typer.Option(help="Id (or prefix) of a run; default: newest.")] = None,
    last: Annotated[int, typer.Option(min=1, help="Number of newest decisions to cover.")] = 288,
    watch: Annotated[bool, typer.Option(help="Refresh until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Refresh interval in seconds.")] = 2.0,
    config: Annotated[Path | None, typer.Option(help="A YAML file over the defaults.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch one object per line.")] = False,
) -> None:
    """Tokens per second, latency, cost per decision and per month, cache hits, and the share of verified claims. Reads
    the log only: it works beside a running agent."""
    import asyncio

    from agent.config.load import load_config

    asyncio.run(_looked(load_config(config), run, last, every if watch else None, as_json=as_json))


async def _looked(config: Config, run: str | None, last: int, every: float | None, *, as_json: bool) -> None:
    import asyncio
    import json
    import sys

    from rich.live import Live

    from agent.cli import show
    from storage.canonical import plain

    found = await _found(config, run, last)
    if every is None:
        if as_json:
            show.as_json(found)
        else:
            show.console().print(panel(found))
        return
    screen = show.console()
    with Live(panel(found), console=screen, auto_refresh=False, screen=screen.is_terminal and not as_json) as live:
        while True:
            if as_json:
                sys.stdout.write(json.dumps(plain(found)) + "\n")
                sys.stdout.flush()
            else:
                live.update(panel(found), refresh=True)
            await asyncio.sleep(every)
            found = await _found(config, run, last)


async def _found(config: Config, run: str | None, last: int) -> Monitored:
    from agent.config.places import database_url
    from agent.reports.lookup import chosen_run
    from agent.reports.monitoring import monitored
    from storage.log_reader import open_log

    async with open_log(database_url(config)) as store:
        return await monitored(store, config, await chosen_run(store, run), last)


def panel(seen: Monitored) -> Panel:
    """The monitoring page as one renderable."""
    from rich.console import Group, RenderableType
    from rich.markup import escape
    from rich.panel import Panel
    from rich.text import Text

    from agent.cli.show import ACCENT, BAD, MUTED

    parts: list[RenderableType] = [_head(seen), Text(), _phases(seen), Text(), _latencies(seen), Text(), _month(seen)]
    if seen.health is not None and not seen.health.well:
        parts += [Text(), *(Text(complaint, style=f"bold {BAD}") for complaint in seen.health.complaints)]
    newest = f"{seen.newest:%Y-%m-%d %H:%M:%S} UTC" if seen.newest else "nothing yet"
    return Panel(
        Group(*parts),
        title=f"[bold]edge-runtime[/] · run {seen.run_id[:8]} · {escape(seen.data)}",
        title_align="left",
        subtitle=f"[{MUTED}]last {seen.decisions} decisions · newest {newest}[/]",
        subtitle_align="right",
        border_style=ACCENT,
        padding=(1, 2),
        width=100,
    )


def _head(seen: Monitored) -> Table:
    from rich.table import Table

    from agent.cli.show import BAD, GOOD, MUTED, number

    asked = seen.cost.asked
    cells = {
        "state": _state(seen),
        "tokens/s": number(seen.tokens_per_second, 0),
        "cached": _percent(seen.cached),
        "verified": _percent(seen.verified),
        "model asked": f"{asked} of {seen.decisions}",
        "orders": str(seen.funnel.traded),
        "$/decision": f"${seen.cost.dollars:.7f}",
    }
    tint = {"healthy": GOOD, "unhealthy": BAD}.get(cells["state"], MUTED)
    grid = Table.grid(padding=(0, 3))
    grid.add_row(*(f"[{MUTED}]{name}[/]" for name in cells))
    grid.add_row(*(f"[bold {tint if name == 'state' else ''}]{value}[/]" for name, value in cells.items()))
    return grid


def _state(seen: Monitored) -> str:
    if seen.health is not None:
        return "healthy" if seen.health.well else "unhealthy"
    return "not finished" if seen.running else "finished"


def _phases(seen: Monitored) -> Table:
    from agent.cli.show import ACCENT, MUTED, bar, number, table

    rows = table("Tokens by phase", "", "tokens", "", "tokens/s", "J/token", right=("tokens", "tokens/s", "J/token"))
    whole = max(sum(p.tokens for p in seen.cost.phases), 1)
    for phase in seen.cost.phases:
        rows.add_row(
            phase.phase,
            f"{phase.tokens:,}",
            f"[{ACCENT if phase.tokens else MUTED}]{bar(phase.tokens / whole, 28)}[/]",
            number(phase.tokens_per_second, 0),
            number(phase.joules_per_token, 3),
        )
    return rows


def _latencies(seen: Monitored) -> Table:
    from agent.cli.show import number, table

    rows = table("Latency, milliseconds", "", "n", "p50", "p99", right=("n", "p50", "p99"))
    for line in seen.latencies:
        rows.add_row(line.name, str(line.n), number(line.p50, 1), number(line.p99, 1))
    return rows


def _month(seen: Monitored) -> Text:
    from rich.text import Text

    from agent.cli.show import BAD, GOOD, MUTED, bar

    month = seen.cost.month
    share = month.total / month.goal
    tint = GOOD if share <= 1 else BAD
    line = Text("Projected month  ", style=MUTED)
    line.append(f"${month.total:,.4f}", style=f"bold {tint}").append(f" of ${month.goal:g}  ", style=MUTED)
    return line.append(bar(share, 28), style=tint).append(f"\n{'; '.join(month.assumes)}.", style=MUTED)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
