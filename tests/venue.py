"""Loopback venue on a free port, and the official client pointed at it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
from polymarket import AsyncSecureClient
from polymarket._internal.environment import PRODUCTION_CONFIG, create_environment

from backtest.venue.contests import Contest
from backtest.venue.exchange import PACE, Pace
from backtest.venue.scenarios import Scenario, Series, listed
from backtest.venue.server import VenueServer, served
from backtest.venue.state import VenueState
from market.clock import Clock, ScaledClock
from market.feed import ReferenceTick
from market.types import UNIT, Market
from tests.fakes import book
from tools.polymarket.signing import Signer
from tools.polymarket.wallets import wallets_of

KEY = "0x" + "11" * 32
OTHER_KEY = "0x" + "22" * 32
PLAY = 1_000 * UNIT
QUICK = Pace(taker_delay=timedelta(0), mining=timedelta(milliseconds=200), confirming=timedelta(milliseconds=200))


@dataclasses.dataclass(frozen=True)
class Flat:
    """Windows without any movement: 0.49 bid and 0.51 offered, a hundred shares each, and more behind; Up wins."""

    asset: str = "btc"
    seconds: int = 900

    def tape(self, opens_at: datetime) -> Scenario:
        market = listed(self.asset, opens_at, self.seconds, "flat")
        begins, every = opens_at - timedelta(seconds=self.seconds), timedelta(seconds=1)
        count = 2 * self.seconds
        books = [book(begins + n * every, market_id=market.id) for n in range(count)]
        ticks = [ReferenceTick(b.at, b.at, Decimal(100_000)) for b in books]
        return Scenario(market, begins, books, ticks, Decimal(1))


@asynccontextmanager
async def loopback(
    *,
    series: Sequence[Series | Contest] = (),
    clock: Clock | None = None,
    pace: Pace = PACE,
    faucet: int | None = PLAY,
    strict_wallets: bool = False,
) -> AsyncIterator[tuple[VenueServer, str]]:
    """A venue and its address. Takers trade at once unless `pace` has a delay for them."""
    if pace.taker_delay is None:
        pace = dataclasses.replace(pace, taker_delay=timedelta(0))
    clock = clock or ScaledClock(datetime.now(UTC))
    series = series or [Flat()]
    server = VenueServer(VenueState(clock, series, pace=pace, faucet=faucet), b"s" * 32, strict_wallets=strict_wallets)
    async with served(server) as base:
        yield server, base


def environment(base: str) -> Any:
    """Environment of the official client with every address on one port."""
    sockets = base.replace("http", "ws", 1)
    # The client takes other addresses through private names only; its version is pinned.
    config = dataclasses.replace(
        PRODUCTION_CONFIG,
        clob_url=base,
        gamma_url=base,
        data_url=base,
        relayer_url=base,
        rpc_url=base,
        clob_market_ws_url=f"{sockets}/ws/market",
        clob_user_ws_url=f"{sockets}/ws/user",
        rtds_ws_url=sockets,
        realtime_ws_url=f"{sockets}/ws",
    )
    return create_environment(name="loopback", config=config)


@asynccontextmanager
async def official(base: str, signature_type: int = 0, key: str = KEY) -> AsyncIterator[Any]:
    """The venue's own client, trading from the wallet of a signature type."""
    own = wallets_of(Signer.of_hex(key).address)
    wallet = (own.eoa, own.proxy, own.safe, own.deposit)[signature_type]
    client = await AsyncSecureClient.create(private_key=key, wallet=wallet, environment=environment(base))
    try:
        yield client
    finally:
        await client.close()


def address_of(signature_type: int, key: str = KEY) -> str:
    own = wallets_of(Signer.of_hex(key).address)
    return (own.eoa, own.proxy, own.safe, own.deposit)[signature_type].lower()


def open_market(server: VenueServer) -> Market:
    """The window that is open now."""
    now = server.state.now()
    return next(w.market for w in server.state.windows.values() if w.market.opens_at <= now < w.market.closes_at)


async def command(base: str, fault: str, **how: Any) -> None:
    await told(base, "/venue/faults", fault=fault, **how)


async def told(base: str, path: str, *, status: int = 200, **body: Any) -> Any:
    """Answer of a control endpoint, which must have that status."""
    async with aiohttp.ClientSession() as session, session.post(base + path, json=body) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()
