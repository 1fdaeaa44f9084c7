"""`edgeclaw halt|resume|status`: the kill switch, and the accounts' status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agent.live.status import AccountStatus, TradingStatus
    from tools.halts import KillSwitch

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option(help="Reason, kept in the history of halts.")]
Config = Annotated[Path | None, typer.Option(help="A YAML file that names the database.")]
_BY = "the command line"


def _switch() -> KillSwitch:
    from agent.config.paths import home
    from tools.halts import KillSwitch

    return KillSwitch(home())


def halt(reason: Reason = "asked to by a person", as_json: AsJson = False) -> None:
    """Stop trading now, and keep it stopped across restarts. A running agent cancels its orders within a second;
    positions are kept, and settle as they do."""
    from agent.cli import show
    from market.clock import WallClock

    switch = _switch()
    standing = switch.read()
    halted = switch.throw(reason, _BY, WallClock().now())
    if as_json:
        show.as_json({"halted": halted, "file": str(switch.file), "was_halted": standing is not None})
        return
    show.console().print(f"{halted.sentence()}", markup=False, soft_wrap=True)
    show.console().print("Allow it again: edgeclaw resume --reason TEXT", style=show.MUTED, markup=False)


def resume(
    reason: Annotated[str, typer.Option(help="Reason for resuming, kept in the history of halts.")],
    margin: Annotated[
        str, typer.Option(help="Dollars of further loss after which a limit that is reached halts again, as 25.")
    ] = "",
    reset_limits: Annotated[
        bool, typer.Option("--reset-limits", help="Count losses so far no more, towards any limit.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Allow trading again. Losses go on counting: where a loss limit is reached, state a margin or reset the limits.
    Exit 1 where nothing was halted, 4 where a margin is missing."""
    from agent.cli import show
    from market.clock import WallClock

    if not reason.strip():
        raise typer.BadParameter("--reason must say something")
    switch, allowed = _switch(), _margin(margin)
    if switch.read() is not None and allowed is None and not reset_limits:
        _no_limit_is_reached(switch, config)
    stood = switch.release(reason.strip(), _BY, WallClock().now(), margin=allowed, reset=reset_limits)
    if as_json:
        show.as_json({"was": stood, "margin_micro_dollars": allowed, "reset_limits": reset_limits})
    elif stood is None:
        show.console().print("Nothing was halted.", markup=False)
    else:
        show.console().print(f"Trading may go on. It was halted because: {stood.reason}", markup=False, soft_wrap=True)
    if stood is None:
        raise typer.Exit(1)


def _margin(text: str) -> int | None:
    """Micro-dollars; None if nothing is stated."""
    from market.types import micro

    if not text.strip():
        return None
    try:
        found = micro(text.strip().removeprefix("$"))
    except (ValueError, ArithmeticError):
        found = 0
    if found <= 0:
        raise typer.BadParameter("--margin takes dollars above zero, as 25 or 12.50")
    return found


def _no_limit_is_reached(switch: KillSwitch, config: Path | None) -> None:
    """Raises LimitExceeded if an account that is traded on has lost what it may. Without a readable log nothing is
    known; the agent's own limits count on in any case."""
    from market.errors import LimitExceeded, NotReady, StoreUnavailable

    try:
        found = _read(switch, config)
    except (NotReady, StoreUnavailable):
        return
    for account in found.accounts:
        if account.active and account.breach:
            raise LimitExceeded(
                f"Trading stays halted: {account.breach} on {account.account}.",
                next_step="State how many dollars more may be lost: edgeclaw resume --reason TEXT --margin 25 "
                "(or count from zero: --reset-limits).",
            )


def _read(switch: KillSwitch, config: Path | None) -> TradingStatus:
    from agent.cli.log import with_log
    from agent.live.status import status as read
    from market.clock import WallClock

    return with_log(config, lambda store: read(store, switch, WallClock().now()))


def status(
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether trading is halted, and how each account stands by the log. Exit 4 while halted."""
    from agent.cli import show
    from agent.live.status import TradingStatus
    from market.errors import NotReady

    switch = _switch()
    try:
        found = _read(switch, config)
    except NotReady:  # nothing has been recorded yet
        found = TradingStatus(switch.read(), ())
    if as_json:
        show.as_json(found)
    else:
        _print(found)
    if found.halted is not None:
        raise typer.Exit(4)


def _print(found: TradingStatus) -> None:
    from agent.cli import show

    screen = show.console()
    if found.halted is None:
        screen.print(f"[{show.GOOD}]Trading is allowed.[/]")
    else:
        screen.print(found.halted.sentence(), style=f"bold {show.BAD}", markup=False, soft_wrap=True)
        screen.print("Allow it again: edgeclaw resume --reason TEXT", style=show.MUTED, markup=False)
    for account in found.accounts:
        screen.print()
        _print_account(account)
    if not found.accounts:
        screen.print("No account has traded live or on a live market yet.", style=show.MUTED)


def _print_account(account: AccountStatus) -> None:
    from agent.cli import show

    screen = show.console()
    rows = show.table(account.account, "", "", right=("",))
    rows.show_header = False
    state = "open: resumes at the next start" if account.running else "ended"
    rows.add_row("run", f"{account.run} ({state})")
    rows.add_row("cash", f"${account.cash / 1e6:,.2f}")
    rows.add_row("exposure", f"${account.at_risk / 1e6:,.2f}")
    rows.add_row("realised profit", show.tinted(account.earned))
    rows.add_row("realised profit, last day", show.tinted(account.today))
    if account.breach and account.active:
        rows.add_row("limit", f"[{show.BAD}]{account.breach}[/]")
    rows.add_row("fills", f"{account.fills} ({account.settled_markets} markets settled)")
    rows.add_row("open orders", str(account.working))
    for held in account.positions:
        rows.add_row("position", f"{held.size / 1e6:g} {held.outcome} of {held.market}")
    screen.print(rows)
