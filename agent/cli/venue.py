"""`edgeclaw venue serve`: the loopback exchange, for tests, demos and dry runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import asyncio

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Loopback venue: a simulated Polymarket on this machine."
)


@app.callback()
def _venue() -> None:
    """Loopback venue: a simulated Polymarket on this machine."""


@app.command(
    "serve",
    short_help="Serve a loopback exchange that the real client libraries accept.",
    epilog="Example: edgeclaw venue serve --port 8808 --speed 10",
)
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8808,
    speed: Annotated[
        float, typer.Option(min=0.01, max=1000, help="Speed of the venue's clock, as a multiple of real time.")
    ] = 1.0,
    books: Annotated[
        str, typer.Option(help="synthetic, sample, or a folder or file of recorded books to replay as liquidity.")
    ] = "synthetic",
    asset: Annotated[list[str] | None, typer.Option(help="Asset of synthetic windows: btc, eth; default: btc.")] = None,
    minutes: Annotated[int, typer.Option(min=5, max=60, help="Length of a synthetic window.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the synthetic price.")] = 7,
    faucet: Annotated[bool, typer.Option(help="Fund each new key with a simulated balance and approvals.")] = True,
    strict_wallets: Annotated[
        bool, typer.Option("--strict-wallets", help="Refuse EOA wallets, as the venue does for new accounts.")
    ] = False,
    auto_redeem: Annotated[bool, typer.Option(help="Redeem winnings automatically, as the venue does.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print where it listens as one line of JSON.")] = False,
) -> None:
    """Serve every host of the venue (orders, books, discovery, data, relayer, price stream, chain) on one port of
    127.0.0.1 until it is stopped. Money and markets are simulated; POST /venue/faults injects faults."""
    import asyncio

    from agent.app.venue import VenuePlan, open_venue

    assets = tuple(asset or ("btc",))
    plan = VenuePlan(
        port=port,
        speed=speed,
        books=books,
        assets=assets,
        seconds=minutes * 60,
        seed=seed,
        faucet=faucet,
        strict_wallets=strict_wallets,
        auto_redeem=auto_redeem,
    )

    async def until_stopped() -> None:
        async with open_venue(plan) as base:
            _say(base, plan.speed, as_json)
            with _stopped() as stop:
                await stop.wait()

    asyncio.run(until_stopped())


@contextmanager
def _stopped() -> Iterator[asyncio.Event]:
    """Event that is set once the process is asked to end."""
    import asyncio

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _say(base: str, speed: float, as_json: bool) -> None:
    from agent.cli.show import ACCENT, MUTED, as_line, console

    if as_json:
        as_line({"url": base, "speed": speed})
        return
    screen = console()
    screen.print(
        f"[bold {ACCENT}]The loopback venue listens at {base}[/]  [{MUTED}](simulated money only)[/]", soft_wrap=True
    )
    screen.print(
        f"[{MUTED}]Its clock runs {speed:g}x. Trade on it:[/] edgeclaw run --mode live --venue {base}", soft_wrap=True
    )
    screen.print(
        f"[{MUTED}]Look at it:[/] {base}/markets/keyset  {base}/venue/state   [{MUTED}]Stop: Ctrl-C[/]", soft_wrap=True
    )
