"""`edgeclaw wallet status|setup|redeem|keystore|livetest`: the account at the venue and on the chain."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from agent.config.schema import Config
    from agent.live.livetest import LivetestStep
    from agent.live.wallet import OpenWallet, WalletReport
    from tools.polymarket.chain import Call

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The account that trades: keys, money, approvals, winnings."
)
File = Annotated[Path | None, typer.Option("--config", help="A YAML file over the defaults.")]
Venue = Annotated[str | None, typer.Option("--venue", help="Address of a loopback venue (simulated money).")]
KeyFile = Annotated[Path | None, typer.Option("--key-file", help="File with the private key.")]
Yes = Annotated[bool, typer.Option("--yes", help="Skip the confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the transactions without sending.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(
    "status",
    short_help="Balances and approvals on chain and venue, and what to do.",
    epilog="Example: edgeclaw wallet status --key-file ~/key.json",
)
def status(config: File = None, venue: Venue = None, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Show what the chain and the venue say of the account, and what to do next. Exit 1 where something is to do."""
    from agent.cli import show

    async def read_key(wallet: OpenWallet) -> WalletReport:
        return await wallet.report()

    found: WalletReport = _with_wallet(_settings(config, venue, key_file), read_key)
    if as_json:
        show.as_json(found)
    else:
        _print_report(found)
    if found.advice or found.differences:
        raise typer.Exit(1)


@app.command(
    "setup",
    short_help="Give the approvals that trading needs.",
    epilog="Example: edgeclaw wallet setup --amount 500 --dry-run",
)
def setup(
    amount: Annotated[str, typer.Option(help="Allowance of the exchange in dollars, or unlimited.")] = "1000",
    auto_redeem: Annotated[
        bool,
        typer.Option(
            "--auto-redeem/--no-auto-redeem", help="Approve automatic redemption of winnings by the venue's operator."
        ),
    ] = True,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: File = None,
    venue: Venue = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Give the approvals that trading needs, each shown before it is sent. Nothing is unlimited unless asked for."""
    most = _dollars(amount)

    async def act(wallet: OpenWallet) -> Any:
        calls = [*await wallet.approvals(most), *(await wallet.auto_redeem() if auto_redeem else ())]
        return await _carried_out(wallet, calls, dry_run=dry_run, yes=yes, as_json=as_json)

    _with_wallet(_settings(config, venue, key_file), act)


@app.command("redeem", short_help="Redeem winning shares.", epilog="Example: edgeclaw wallet redeem --dry-run")
def redeem(
    market: Annotated[list[str] | None, typer.Argument(help="Market ids; default: all resolved.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: File = None,
    venue: Venue = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Turn the shares of resolved markets into dollars, where the venue has not done so by itself."""

    async def act(wallet: OpenWallet) -> Any:
        calls = await wallet.redemptions(market or None)
        return await _carried_out(wallet, calls, dry_run=dry_run, yes=yes, as_json=as_json)

    _with_wallet(_settings(config, venue, key_file), act)


@app.command(
    "book",
    short_help="Book cash that moved beside trading.",
    epilog='Example: edgeclaw wallet book --amount -12.50 --reason "sold ten shares by hand"',
)
def book(
    amount: Annotated[str, typer.Option(help="Dollars that came, or went if negative.")],
    reason: Annotated[str, typer.Option(help="Reason, kept in the log.")],
    account: Annotated[str, typer.Option(help="Account as edgeclaw status names it; default: the only one.")] = "",
    config: File = None,
    as_json: AsJson = False,
) -> None:
    """Write cash into the log that moved beside trading, where the account differs from the venue's and its activity
    does not say why. The agent has to be stopped; deposits, withdrawals, rebates and rewards it books by itself."""
    import asyncio

    from agent.cli import show
    from agent.config.load import load_config
    from agent.config.places import database_url
    from agent.live.booking import BookedTransfer, book_transfer
    from market.clock import WallClock
    from market.types import units
    from storage.store import open_store

    moved = _signed_dollars(amount)
    if not reason.strip():
        raise typer.BadParameter("--reason must say something")

    async def work() -> BookedTransfer:
        async with open_store(database_url(load_config(config, {}))) as store:
            return await book_transfer(store, account, moved, reason.strip(), WallClock().now())

    done = asyncio.run(work())
    if as_json:
        show.as_json(done)
    else:
        dollars = f"{units(done.transfer.amount):f}"
        text = f"{dollars} dollars are booked for {done.account}. Go on: edgeclaw resume --reason TEXT"
        show.console().print(text, markup=False, soft_wrap=True)


def _signed_dollars(text: str) -> int:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or not amount or abs(amount) >= 10**12 or amount.scaleb(6) % 1:
        raise typer.BadParameter(f"--amount {text!r} is not an amount of dollars, such as 20 or -12.50")
    return int(amount.scaleb(6))


@app.command(
    "livetest",
    short_help="Place and cancel one order that cannot fill.",
    epilog="Example: edgeclaw wallet livetest --venue http://127.0.0.1:8808",
)
def livetest(
    yes: Yes = False,
    config: File = None,
    venue: Venue = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Place one small order far from the market, verify that it rests, cancel it, and verify the balance."""
    from agent.cli import show

    steps: list[LivetestStep] = []
    screen = show.console()

    def told(step: LivetestStep) -> None:
        steps.append(step)
        if not as_json:
            line = f"[{show.GOOD}]ok[/] {step.name:<10} {step.found}  [{show.MUTED}]{step.milliseconds:.0f} ms[/]"
            screen.print(line, soft_wrap=True)

    async def act(wallet: OpenWallet) -> None:
        if not wallet.hosts.pretend and not yes:
            typer.confirm("This places and cancels a real order of a few cents. Continue?", abort=True)
        await wallet.livetest(told)

    _with_wallet(_settings(config, venue, key_file), act)
    if as_json:
        show.as_json({"steps": steps, "ok": True})
    else:
        screen.print("The order path works, from key to cancel.")


@app.command(
    "keystore",
    short_help="Keep a key in an encrypted file.",
    epilog="Example: edgeclaw wallet keystore ~/edgeclaw-key.json --new",
)
def keystore(
    file: Annotated[Path, typer.Argument(help="Encrypted keystore file to write; never overwritten.")],
    new: Annotated[bool, typer.Option("--new", help="Generate a new key instead of prompting for yours.")] = False,
    from_file: Annotated[Path | None, typer.Option(help="Read the key from this file (64 hexadecimal digits).")] = None,
    passphrase_file: Annotated[Path | None, typer.Option(help="Read the passphrase from this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Keep a private key in an encrypted file (Ethereum keystore, version 3), and show the wallets it opens."""
    from agent.cli import show
    from tools.keystore import SecretKey, create, read_key, secret_text
    from tools.polymarket.wallets import wallets_of

    if new and from_file is not None:
        raise typer.BadParameter("--new and --from-file exclude each other")
    key: SecretKey
    if new:
        from agent.live.wallet import new_key

        key = new_key()
    elif from_file is not None:
        key = read_key(from_file, lambda: _hidden(f"Passphrase of {from_file}: "))
    else:
        key = SecretKey.of_hex(_hidden("Private key (64 hexadecimal digits, not shown): "))
    with key:
        create(file, key, secret_text(passphrase_file) if passphrase_file is not None else _chosen())
        own = wallets_of(key.address)
    told = {"file": str(file), "address": own.eoa, "deposit_wallet": own.deposit, "proxy": own.proxy, "safe": own.safe}
    if as_json:
        show.as_json(told)
        return
    rows = show.table("Keystore", "", "")
    rows.show_header = False
    for name, value in told.items():
        rows.add_row(name.replace("_", " "), value)
    show.console().print(rows)
    show.console().print(
        "New accounts trade from the deposit wallet. Keep a copy of the file and of its passphrase apart.",
        style=show.MUTED,
    )


def _hidden(prompt: str) -> str:
    from agent.live.keys import at_terminal

    return at_terminal(prompt)


def _chosen() -> str:
    """Ask for a passphrase twice."""
    first = _hidden("Passphrase for the file: ")
    if first != _hidden("Again: "):
        raise typer.BadParameter("the two passphrases differ")
    return first


def _settings(config: Path | None, venue: str | None, key_file: Path | None) -> Config:
    from agent.config.load import load_config

    asked = {"venue.loopback": venue, "venue.key_file": None if key_file is None else str(key_file)}
    return load_config(config, {k: v for k, v in asked.items() if v is not None})


def _with_wallet(config: Config, act: Any) -> Any:
    import asyncio

    from agent.app.live import must_trade
    from agent.config.paths import home

    # Before the import, which fails without the packages of the extra `live`.
    must_trade()
    from agent.live.wallet import open_wallet

    async def scope() -> Any:
        async with open_wallet(config, home()) as wallet:
            return await act(wallet)

    return asyncio.run(scope())


def _dollars(text: str) -> int:
    from market.types import UNIT
    from tools.polymarket.chain import UNLIMITED

    if text == "unlimited":
        return UNLIMITED
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 < amount < 10**12 or amount * UNIT % 1:
        raise typer.BadParameter(f"--amount {text!r} is neither a number of dollars nor unlimited")
    return int(amount * UNIT)


async def _carried_out(wallet: OpenWallet, calls: Sequence[Call], *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Show the calls, ask, send them, and report the result of each."""
    from agent.cli import show

    screen = show.console()
    if not as_json:
        for number, call in enumerate(calls, 1):
            screen.print(f"{number}. {call.says}", markup=False, soft_wrap=True)
        if not calls:
            screen.print("Nothing to do.")
    if dry_run or not calls:
        if as_json:
            show.as_json({"would": [c.says for c in calls], "done": []})
        return
    if not wallet.hosts.pretend and not yes:
        typer.confirm("Send this to the chain?", abort=True)
    done = await wallet.carry_out(calls)
    if as_json:
        show.as_json({"would": [c.says for c in calls], "done": done})
    else:
        for one in done:
            colour = show.GOOD if one.receipt.ok else show.BAD
            screen.print(f"[{colour}]{one.receipt.status}[/] {one.receipt.transaction}", soft_wrap=True)
    if not all(one.receipt.ok for one in done):
        raise typer.Exit(1)


def _print_report(found: WalletReport) -> None:
    from agent.cli import show
    from market.types import units
    from tools.polymarket.chain import UNLIMITED
    from tools.wallet import pol

    screen, chain = show.console(), found.chain
    rows = show.table(f"{chain.kind} {chain.funder}", "", "chain", "venue")
    rows.add_row("dollars (pUSD)", f"{units(chain.balance):,f}", f"{units(found.venue_balance):,f}")
    rows.add_row("gas (POL)", pol(chain.gas), "", style=None if chain.signature_type == 0 else show.MUTED)
    for name, amount in chain.allowances.items():
        rows.add_row(f"allowance of {name}", "unlimited" if amount >= UNLIMITED // 2 else f"{units(amount):,f}", "")
    for name, approved in chain.approvals.items():
        rows.add_row(f"share approval of {name}", "yes" if approved else "no", "")
    screen.print(rows)
    screen.print(f"signed by {chain.address}, block {chain.block} of {chain.block_at:%H:%M:%S} UTC", style=show.MUTED)
    for difference in found.differences:
        screen.print(f"differs: {difference}", style=show.BAD, markup=False, soft_wrap=True)
    for line in found.advice:
        screen.print(f"to do: {line}", style=show.WARN, markup=False, soft_wrap=True)
    if not found.advice and not found.differences:
        screen.print("The account is ready to trade.", style=show.GOOD)
