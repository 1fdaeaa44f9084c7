"""`edgeclaw backtest`: strategies on recorded markets, with the uncertainty of their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from agent.app.backtests import Backtested, BacktestPlan
    from agent.evaluation.judgement import Judgement
    from agent.research.parity import Parity
    from agent.research.report import Report

_DEFAULT = ("market_mid", "late_favourite")


def backtest(
    data: Annotated[
        list[str] | None,
        typer.Option(help="sample, or a folder or file of recorded books; may be repeated. Default: sample."),
    ] = None,
    trade_with: Annotated[
        list[str] | None, typer.Option(help="A strategy by name, agent among them; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write results, trades, figures and an HTML page to this folder.")
    ] = None,
    cycles: Annotated[int | None, typer.Option(min=1, help="Number of slots with an open market to replay.")] = None,
    check_lookahead: Annotated[
        bool,
        typer.Option("--check-lookahead", help="Check for look-ahead: truncated replays must place the same orders."),
    ] = False,
    parity: Annotated[
        str | None, typer.Option(help="Id (or prefix) of a recorded run: replay its trader and compare.")
    ] = None,
    include_read: Annotated[
        bool,
        typer.Option("--include-read", help="Include markets opened before the model's knowledge cutoff."),
    ] = False,
    engine: Annotated[
        str | None, typer.Option(help="Engine of the agent, as for `run`; scripted needs no model.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file over the profile of the data.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Replay recorded markets through the agent's own trading loop, execution and paper exchange, and report results.

    Profit is after fees, by market, with intervals, and deflated for the number of trials. The same data,
    code and configuration give the same result to the byte.
    """
    import asyncio

    from agent.app.backtests import BacktestPlan
    from agent.app.recordings import several
    from agent.cli import show
    from agent.config.load import load_config, profile_for
    from agent.config.paths import folder

    if parity is not None and (trade_with or out is not None or check_lookahead):
        raise typer.BadParameter("--parity compares one run: leave out --trade-with, --out and --check-lookahead")
    names, where = _named(trade_with), several(data or ())
    settings = load_config(config, {} if engine is None else {"edge.runtime": engine}, profile=profile_for(where))
    if out is not None:
        folder(out)
    screen = show.console()
    if parity is not None:
        _compare(screen, BacktestPlan(settings, where, (), cycles), parity, as_json=as_json)
        return
    with _stages(screen, quiet=as_json) as stage:
        plan = BacktestPlan(settings, where, names, cycles, include_read)
        done, made, leaks = asyncio.run(_worked(plan, stage, check=check_lookahead))
        kept = _kept(made, done, out, stage) if out is not None else []
    if as_json:
        from agent.research.record import told

        files = [str(p) for p in kept]
        show.as_json({"report": told(made), "lookahead": leaks, "files": files, "recalled_tokens": done.recalled})
    else:
        _tell(screen, made, leaks, kept)
        if done.recalled:
            said = f"{done.recalled:,} tokens were answered from the log instead of the model."
            screen.print(said, style=show.MUTED, markup=False)
    if leaks or done.failed:
        raise typer.Exit(1)


def _compare(screen: Console, plan: BacktestPlan, prefix: str, *, as_json: bool) -> None:
    """Compare the recorded run with a replay of its trader. Exit code 1 where they differ."""
    import asyncio

    from agent.app.backtests import once, strategies
    from agent.cli import show
    from agent.config.places import database_url
    from agent.reports.lookup import chosen_run
    from agent.research.parity import parity, trader_of
    from market.errors import Misconfigured
    from storage.store import open_store

    async def work(stage: Callable[[str], None]) -> Parity:
        async with open_store(database_url(plan.config), read_only=True) as store:
            run = await chosen_run(store, prefix)
            name = trader_of(run)
            if name not in ("agent", *strategies()):
                raise Misconfigured(
                    f"no strategy here matches the trader of run {run.id[:8]} ({run.identity.label}).",
                    next_step="Choose another run: edgeclaw log list --runs.",
                )
            stage(f"replaying {name}")
            async with once(plan, name) as here:
                stage("comparing")
                return await parity((store, run), here)

    with _stages(screen, quiet=as_json) as stage:
        found = asyncio.run(work(stage))
    if as_json:
        show.as_json({"exact": found.exact, "parity": found})
    else:
        _tell_parity(screen, found)
    if not found.exact:
        raise typer.Exit(1)


def _tell_parity(screen: Console, found: Parity) -> None:
    from agent.cli import show

    columns = ("equal", "differ", "only recorded", "only backtest")
    rows = show.table(f"Parity of run {found.there[:8]} with a backtest", "", *columns, right=columns)
    for c in found.compared:
        rows.add_row(c.kind, *(str(n) for n in (c.equal, c.differ, c.only_there, c.only_here)))
    screen.print()
    screen.print(rows)
    screen.print()
    for text in (*found.notes, *found.differences):
        screen.print(text, style=show.WARN, markup=False)
    if found.exact:
        screen.print("Exact: every decision, order and fill is the same.", style=show.GOOD)


def _named(asked: Sequence[str] | None) -> tuple[str, ...]:
    from agent.app.backtests import strategies

    known = ["agent", *strategies()]
    for name in asked or ():
        if name not in known:
            raise typer.BadParameter(f"--trade-with {name} is not one of {', '.join(known)}")
    return tuple(dict.fromkeys(asked or _DEFAULT))


async def _worked(
    plan: BacktestPlan, stage: Callable[[str], None], *, check: bool
) -> tuple[Backtested, Report, list[str] | None]:
    from agent.app.backtests import run_backtest
    from agent.config.places import database_url
    from agent.research.lookahead import leaks
    from agent.research.report import report
    from agent.trading.bus import LocalBus
    from storage.store import open_store

    done = await run_backtest(plan, LocalBus(), stage)
    stage("judging")
    async with open_store(database_url(plan.config), read_only=True) as store:
        made = await report(store, done)
        found = await leaks(plan, done, store, stage) if check else None
    return done, made, found


def _kept(made: Report, done: Backtested, out: Path, stage: Callable[[str], None]) -> list[Path]:
    from agent.reports.plots import drawable
    from agent.research.judging import Data
    from agent.research.record import write_backtest

    stage("drawing")
    return write_backtest(made, Data(done.feed, done.feed.recordings), out, figures=drawable())


@contextmanager
def _stages(screen: Console, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    if quiet:
        yield lambda _: None
    elif screen.is_terminal:
        with screen.status("starting") as status:
            yield lambda text: status.update(f"{text} ...")
    else:
        yield lambda text: screen.print(f"{text} ...", markup=False)


def _tell(screen: Console, made: Report, leaks: Sequence[str] | None, kept: Sequence[Path]) -> None:
    from agent.cli import show
    from agent.research.page import lead

    screen.print()
    screen.rule(f"[bold]backtest[/] · {lead(made)}", style=show.ACCENT)
    screen.print()
    _strategies(screen, made)
    for one in made.tried:
        if one.judgement is not None and one.judgement.markets:
            _groups(screen, one.name, one.judgement)
    if made.ladder:
        from agent.cli.ladder import print_ladder

        print_ladder(made.ladder, screen)
    for note in (*made.coverage.notes, *_missing(made)):
        screen.print(f"· {note}", style=show.MUTED, markup=False)
    if leaks is not None:
        screen.print()
        for leak in leaks:
            screen.print(leak, style=show.BAD, markup=False)
        if not leaks:
            screen.print("No look-ahead: truncated replays placed the same orders.", style=show.GOOD, markup=False)
    for path in kept[-1:]:
        screen.print(f"\nRead it: {path}", markup=False)


def _missing(made: Report) -> Iterator[str]:
    c = made.coverage
    if c.silent:
        yield f"{len(c.silent)} markets have no book."
    if c.unresolved:
        yield f"{len(c.unresolved)} markets have no known outcome; excluded from profit."


def _strategies(screen: Console, made: Report) -> None:
    from rich.markup import escape

    from agent.cli import show
    from agent.research.page import days, interval, share, verdict
    from strategies.score import FEWEST

    rows = show.table(
        "Results in dollars after fees",
        "strategy", "orders", "fills", "markets", "win rate", "fees", "PnL", "drawdown", "PnL at mid",
        right=("orders", "fills", "markets", "win rate", "fees", "PnL", "drawdown", "PnL at mid"),
    )  # fmt: skip
    sure = show.table(
        "Statistical significance",
        "strategy", "PnL per market [95 %]", "p-value", "deflated Sharpe", "days needed", "verdict",
        right=("PnL per market [95 %]", "p-value", "deflated Sharpe", "days needed"),
    )  # fmt: skip
    for one in made.tried:
        found = one.judgement
        if found is None:
            continue
        rows.add_row(
            escape(one.name),
            str(one.orders),
            str(found.fills),
            str(found.markets),
            share(found.won / found.markets if found.markets else None),
            f"{found.fees / 1e6:,.2f}",
            show.tinted(found.pnl),
            f"{found.drawdown / 1e6:,.2f}",
            "-" if found.overstated is None else show.dollars(found.pnl + found.overstated),
        )
        sure.add_row(
            escape(one.name),
            interval(found.per_market),
            show.number(found.by_chance, 3),
            share(found.deflated),
            days(found.days),
            verdict(found),
        )
    for shown in (rows, sure):
        screen.print(shown)
        screen.print()
    for one in made.tried:
        if one.failed:
            screen.print(one.failed, style=show.BAD, markup=False)
    trials = max((t.judgement.trials for t in made.tried if t.judgement), default=0)
    for said in (
        "PnL at mid: the same fills at the mid, without fees; not attainable.",
        "p-value: the probability of at least this profit if every mid was right.",
        f"deflated Sharpe: the probability that the Sharpe ratio beats the best of {trials} trials without skill.",
        "days needed: days of such trading until a test detects the observed gain; a dash where there is none.",
        f"With fewer than {FEWEST} markets, deflated Sharpe and days needed are not stated.",
    ):
        screen.print(said, style=show.MUTED, markup=False)
    screen.print()


def _groups(screen: Console, name: str, found: Judgement) -> None:
    from rich.markup import escape

    from agent.cli import show

    rows = show.table(
        f"{escape(name)}, by time to expiry",
        "",
        "fills",
        "markets",
        "fees",
        "PnL",
        right=("fills", "markets", "fees", "PnL"),
    )
    for group in found.by["time to expiry"]:
        rows.add_row(
            group.name, str(group.fills), str(group.markets), f"{group.fees / 1e6:,.2f}", show.tinted(group.pnl)
        )
    screen.print(rows)
    screen.print()
