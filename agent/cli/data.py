"""`edgeclaw data record|import|history|quality`: keep the market as it was, and see how well it was kept."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.backup import AsJson, File, backup, restore

if TYPE_CHECKING:
    from agent.app.recordings import Quality
    from agent.live.backfill import Filled
    from agent.live.recorder import Progress

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Record market data, import it, and check its quality."
)
Venue = Annotated[str | None, typer.Option("--venue", help="Address of a loopback venue instead of the real one.")]


@app.command(
    "record",
    short_help="Record the live market.",
    epilog="Example: edgeclaw data record ~/ticks --series btc-5m --minutes 60",
)
def record(
    folder: Annotated[Path, typer.Argument(help="Folder of the recording; an existing one is continued.")],
    series: Annotated[
        list[str] | None, typer.Option(help="Market series, as btc-5m; may be repeated. Default: venue.series.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Duration; default: until stopped.")] = None,
    config: File = None,
    venue: Venue = None,
    as_json: AsJson = False,
) -> None:
    """Keep every frame, book and reference price of the market as it is now, in Parquet partitions by day.

    Replay it: edgeclaw run --feed FOLDER. Needs no key. Stop it with Ctrl-C: what was heard is on disk then.
    """
    import asyncio

    from agent.app.live import must_trade
    from agent.cli import show
    from agent.config.load import load_config

    must_trade()
    from agent.live.recorder import record as keep

    asked = {"venue.loopback": venue, "venue.series": series or None}
    settings = load_config(config, {k: v for k, v in asked.items() if v is not None})
    screen = show.console()

    def told(progress: Progress) -> None:
        if not as_json:
            screen.print(_line(progress), end="\r" if screen.is_terminal else "\n", highlight=False)

    done = asyncio.run(keep(settings, folder, None if minutes is None else minutes * 60, told))
    if as_json:
        show.as_json({"folder": str(folder), **{n: getattr(done, n) for n in done.__slots__}})
    else:
        screen.print(_line(done), highlight=False)
        screen.print(f"Replay it: edgeclaw run --feed {folder}", style=show.MUTED, markup=False)


def _line(progress: Progress) -> str:
    return (
        f"{progress.frames:,} frames, {progress.books:,} books, {progress.prices:,} reference prices, "
        f"{progress.markets} markets, {progress.outcomes} outcomes, {progress.gaps} gaps"
    )


@app.command(
    "history",
    short_help="Back-fill price histories.",
    epilog="Example: edgeclaw data history btc-updown-5m-1795748100 --since 2026-11-27",
)
def history(
    slug: Annotated[list[str], typer.Argument(help="Slugs of markets.")],
    since: Annotated[datetime, typer.Option(help="Start (UTC).")],
    until: Annotated[datetime | None, typer.Option(help="End (UTC); default: now.")] = None,
    config: File = None,
    venue: Venue = None,
    as_json: AsJson = False,
) -> None:
    """Back-fill the venue's price history of markets into the database, as bars of a minute."""
    import asyncio

    from agent.app.live import must_trade
    from agent.cli import show
    from agent.config.load import load_config
    from agent.config.places import database_url

    must_trade()
    from agent.live.backfill import history as fill
    from market.clock import WallClock
    from storage.store import open_store

    settings = load_config(config, {} if venue is None else {"venue.loopback": venue})
    begins, ends = since.replace(tzinfo=UTC), WallClock().now() if until is None else until.replace(tzinfo=UTC)
    screen = show.console()

    def told(filled: Filled) -> None:
        if not as_json:
            screen.print(f"{filled.slug}: {filled.bars} bars, outcome {filled.outcome}", markup=False)

    async def scope() -> list[Filled]:
        async with open_store(database_url(settings)) as store:
            return await fill(settings, store, slug, begins, ends, told)

    done = asyncio.run(scope())
    if as_json:
        show.as_json(done)


@app.command(
    "import",
    short_help="Import order book tables.",
    epilog="Example: edgeclaw data import books.csv --markets markets.csv --map map.yaml --out ~/mine --dry-run",
)
def bring_in(
    books: Annotated[list[Path], typer.Argument(help="CSV or Parquet files of order books.")],
    markets: Annotated[Path, typer.Option(help="CSV or Parquet file with one row per market.")],
    mapping: Annotated[Path, typer.Option("--map", help="YAML file that maps the columns.")],
    out: Annotated[Path, typer.Option(help="New folder for the recording.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Validate without writing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check tables of order books against a map of their columns, and write them as a recording that replays.

    A few damaged rows are dropped and counted; more refuse the file, with the row and what is wrong with it.
    """
    from agent.app.recordings import import_tables
    from agent.cli import show

    screen = show.console()
    with screen.status("reading ...") if screen.is_terminal and not as_json else nullcontext() as status:

        def told(done: int, total: int) -> None:
            if status is not None:
                status.update(f"{done:,} of {total:,} books written")

        found = import_tables(books, markets, mapping, None if dry_run else out, told)
    if as_json:
        show.as_json(found)
        return
    screen.print(
        f"{found.markets:,} markets, {found.resolved:,} with an outcome, {found.books:,} books, "
        f"from {found.begins} to {found.ends}.",
        markup=False,
    )
    for note in found.notes:
        screen.print(f"· {note}", style=show.WARN, markup=False)
    after = f"Replay it: edgeclaw backtest --data {out}" if found.folder else "Nothing was written: a dry run."
    screen.print(after, style=show.MUTED, markup=False)


@app.command("quality", short_help="Quality report of a recording.", epilog="Example: edgeclaw data quality ~/ticks")
def quality(
    where: Annotated[str, typer.Argument(help="sample, or a folder or file of recorded books.")],
    as_json: AsJson = False,
) -> None:
    """Report gaps, repetitions, crossed books, clock skew and coverage of a recording. Exit 1 with findings."""
    import asyncio

    from agent.app.recordings import look_through
    from agent.cli import show

    found = asyncio.run(look_through(where))
    findings = found.findings()
    if as_json:
        show.as_json({"findings": findings, "covered": found.covered, "markets": found.markets, "gaps": found.gaps})
    else:
        _print_quality(where, found, findings)
    if findings:
        raise typer.Exit(1)


_NUMBERS = ("coverage", "longest gap", "books", "duplicates", "crossed", "one-sided")


def _print_quality(where: str, found: Quality, findings: tuple[str, ...]) -> None:
    from agent.cli import show

    title = f"{where}: {len(found.markets)} markets, {found.rows:,} books"
    rows = show.table(title, "market", *_NUMBERS, right=_NUMBERS)
    worst = sorted(found.markets, key=lambda m: (m.covered, m.slug))[:40]
    for m in worst:
        counts = (m.rows, m.repeated, m.crossed, m.one_sided)
        rows.add_row(m.slug, f"{m.covered:.0%}", f"{m.longest_gap:.1f} s", *(f"{n:,}" for n in counts))
    screen = show.console()
    screen.print(rows)
    if len(found.markets) > len(worst):
        screen.print(f"and {len(found.markets) - len(worst)} with better coverage", style=show.MUTED)
    if found.markets:
        median, slow = (sorted(values)[len(values) // 2] for values in _skews(found))
        screen.print(f"receive latency {median:.0f} ms, p99 {slow:.0f} ms", style=show.MUTED)
    for line in findings:
        screen.print(f"· {line}", style=show.WARN, markup=False, soft_wrap=True)
    if not findings:
        screen.print("No findings.", style=show.GOOD)


def _skews(found: Quality) -> tuple[list[float], list[float]]:
    """Medians and 99th percentiles of the clock skew over the markets."""
    return [m.skew_p50 for m in found.markets], [m.skew_p99 for m in found.markets]


app.command(
    "backup", short_help="Copy the database while it is in use.", epilog="Example: edgeclaw data backup ~/edgeclaw.bak"
)(backup)
app.command("restore", short_help="Put such a copy back.", epilog="Example: edgeclaw data restore ~/edgeclaw.bak")(
    restore
)
