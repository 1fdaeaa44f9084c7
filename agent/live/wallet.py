"""The wallet of `edgeclaw wallet`: compares the chain's balances with the venue's, gives approvals, redeems winnings.

Independent of any terminal. Nothing is signed or sent that was not shown as a `Call` or an order before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent.config.schema import Config
from agent.host.egress import confined, host_of
from agent.live.account import VenueAccount
from agent.live.keys import Ask, key_of, relayer_key
from agent.live.livetest import Livetest, LivetestStep
from agent.live.preflight import venue_clock
from agent.live.recovery import AccountHistory
from market.clock import Clock
from market.errors import EdgeclawError, Misconfigured, NotReady, VenueUnavailable
from market.polymarket.feed import Watch
from market.polymarket.hosts import Hosts
from market.polymarket.rest import VenueReader, reader
from market.types import Market, Micro, micro, units
from tools.keystore import SecretKey, secret_text
from tools.polymarket import chain
from tools.polymarket.chain import AUTO_REDEEM, Call, ChainWallet
from tools.polymarket.client import SigningAccount
from tools.polymarket.relayer import Relayer
from tools.polymarket.typed import EOA
from tools.wallet import Receipt, WalletStatus, advice

_MINED = timedelta(seconds=90)
_UNIT = Decimal(1).scaleb(-6)


@dataclass(frozen=True, slots=True)
class ResolvedHolding:
    """A holding in a resolved market: `size` in micro-shares, `worth` in micro-dollars."""

    market_id: str
    title: str
    outcome: str
    size: Micro
    worth: Micro
    neg_risk: bool = False


def _holding(said: Any) -> ResolvedHolding:
    """Convert a position of the official client."""
    size, worth = micro(said.current_size), micro(said.current_value.quantize(_UNIT))
    return ResolvedHolding(
        market_id=str(said.condition_id),
        title=str(said.title),
        outcome=str(said.outcome),
        size=size,
        worth=worth,
        neg_risk=bool(said.negative_risk),
    )


@dataclass(frozen=True, slots=True)
class WalletReport:
    """Balances by the chain and by the venue, their differences, redeemable holdings, and advice."""

    chain: WalletStatus
    venue_balance: Micro
    differences: tuple[str, ...]
    redeemable: tuple[ResolvedHolding, ...]
    advice: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """A call that was sent, and its receipt."""

    says: str
    receipt: Receipt


def _shares_for(status: WalletStatus, operators: Iterable[str]) -> tuple[Call, ...]:
    """The missing approvals of operators to take shares."""
    names = [n for n in dict.fromkeys(operators) if not status.approvals[n]]
    return tuple(chain.approve_shares(chain.OPERATORS[n], True) for n in names)


@dataclass(slots=True)
class OpenWallet:
    """A key's account at the venue and on the chain."""

    config: Config
    hosts: Hosts
    clock: Clock
    account: VenueAccount
    chain: ChainWallet
    asked: VenueReader

    @property
    def trader(self) -> SigningAccount:
        return self.account.trader

    async def report(self) -> WalletReport:
        """Read both sides and compare. Raises VenueUnavailable."""
        status = await self.chain.status(neg_risk=await self.trades_neg_risk())
        balance = await self.account.cash(self.clock)
        differences = []
        if balance != status.balance:
            differences.append(
                f"the venue says {units(balance)} dollars and the chain {units(status.balance)}: "
                "a trade may be on its way"
            )
        redeemable = await self.redeemable()
        told = list(advice(status))
        if redeemable:
            worth = sum(h.worth for h in redeemable)
            told.append(f"Shares worth ${units(worth):f} can be turned into dollars: run edgeclaw wallet redeem.")
        return WalletReport(status, balance, tuple(differences), redeemable, tuple(told))

    async def redeemable(self) -> tuple[ResolvedHolding, ...]:
        """Shares of resolved markets that have not been redeemed. Raises VenueUnavailable."""
        found: list[ResolvedHolding] = []
        async with self.account.client(self.clock) as client:
            try:
                found += [_holding(p) async for p in client.list_positions(status="REDEEMABLE").iter_items()]
            except EdgeclawError:
                raise
            except Exception as error:
                raise VenueUnavailable(f"The venue does not list positions ({type(error).__name__}).") from None
        return tuple(found)

    async def approvals(self, amount: Micro) -> tuple[Call, ...]:
        """The missing calls for the watched markets: dollars up to `amount` for the exchange, shares for it and for the
        adapter that redeems; and for those of negative-risk markets, where one is watched."""
        status, neg_risk = await self.chain.status(), await self.trades_neg_risk()
        takers, adapters = (
            (chain.NEG_RISK_EXCHANGES, chain.NEG_RISK_ADAPTERS) if neg_risk else (chain.EXCHANGES, chain.ADAPTERS)
        )
        dollars = [chain.approve(chain.SPENDERS[n], amount) for n in takers if status.allowances[n] < amount]
        return (*dollars, *_shares_for(status, (*takers, *adapters)))

    async def trades_neg_risk(self) -> bool:
        """True if a watched market is part of a negative-risk event: only those named by their slug can be. Raises
        VenueUnavailable, DataInvalid."""
        for slug in self.config.venue.slugs:
            listed = await self.asked.market(slug)
            if listed is not None and listed.market.neg_risk:
                return True
        return False

    async def auto_redeem(self) -> tuple[Call, ...]:
        """The call that lets the venue pay out winnings by itself, unless it may already."""
        status = await self.chain.status()
        return () if status.approvals["auto-redeem"] else (chain.approve_shares(AUTO_REDEEM, True),)

    async def redemptions(self, market_ids: Sequence[str] | None = None, *, approving: bool = True) -> tuple[Call, ...]:
        """The calls that redeem resolved shares: of the named markets, or of all where None are named. Before them the
        missing approvals of the adapters, unless it is not `approving`: then they are a NotReady. Raises Misconfigured
        for a market without any."""
        there = {h.market_id: h.neg_risk for h in await self.redeemable()}
        wanted = sorted(there if market_ids is None else market_ids)
        if strange := [m for m in wanted if m not in there]:
            raise Misconfigured(
                f"Nothing of the market {strange[0]} can be redeemed.", next_step="See: edgeclaw wallet status"
            )
        adapters = {"neg-risk collateral adapter" if there[m] else "collateral adapter" for m in wanted}
        missing = _shares_for(await self.chain.status(), sorted(adapters))
        if missing and not approving:
            raise NotReady(
                f"The {' and the '.join(sorted(adapters))} may not take shares, which a redemption needs.",
                next_step="Run: edgeclaw wallet setup, or edgeclaw wallet redeem",
            )
        return (*missing, *(chain.redeem(m, neg_risk=there[m]) for m in wanted))

    async def carry_out(self, calls: Sequence[Call]) -> tuple[Done, ...]:
        """Send calls one after the other, each once, and wait for each receipt. A plain account pays the gas itself;
        another kind of wallet goes through the venue's relayer. Raises NotReady, VenueUnavailable."""
        done = []
        for call in calls:
            if self.trader.signature_type == EOA:
                known_as = await self.chain.send(call, self.account.key.signer())
            else:
                known_as = await self._relayer().send(call)
            done.append(Done(call.says, await self.chain.settled(known_as, self.clock.now() + _MINED)))
        return tuple(done)

    def _relayer(self) -> Relayer:
        return Relayer(self.hosts, self.account, relayer_key(self.config.venue), self.clock)

    async def livetest(self, told: Callable[[LivetestStep], None]) -> None:
        """Send one small order so deep that it rests, see it, cancel it, and check that the balance is unchanged.
        Raises NotReady where a step fails, VenueUnavailable."""
        market = await self.some_market()
        now = self.clock.now()
        past = AccountHistory(await self.account.cash(self.clock), now)
        async with self.account.opened(None, self.clock, past, {market.id: market}.get) as account:
            await Livetest(account.orders, self.clock, market, told).run(account.ready)

    async def some_market(self) -> Market:
        """A configured market that stays open for at least 20 s. Raises NotReady, VenueUnavailable."""
        now = self.clock.now()
        venue = self.config.venue
        for slug in Watch(venue.watched(), venue.slugs).wanted(now):
            listed = await self.asked.market(slug)
            if listed is not None and listed.market.closes_at - now > timedelta(seconds=20):
                return listed.market
        raise NotReady("No market of venue.series is open.", next_step="Name an open one in venue.slugs.")


@asynccontextmanager
async def open_wallet(config: Config, home: Path, ask: Ask | None = None) -> AsyncIterator[OpenWallet]:
    """The account named by a configuration. Raises NotReady, Misconfigured, DataInvalid, VenueUnavailable."""
    hosts = Hosts.named(config.venue.loopback)
    key = key_of(config.venue, home, ask)
    account = VenueAccount(hosts, SigningAccount.of(key.signer(), config.venue.wallet), key)
    with confined(hosts.names() | {host_of(node_of(config, hosts))}):
        clock = await venue_clock(hosts)
        await account.begin(clock)
        async with wallet_of(config, account, clock) as wallet:
            yield wallet


@asynccontextmanager
async def wallet_of(config: Config, account: VenueAccount, clock: Clock) -> AsyncIterator[OpenWallet]:
    """The wallet of an account that has begun: no key is read and nothing is asked for again, and what this process may
    reach stays as it is. Raises Misconfigured, VenueUnavailable."""
    hosts, trader = account.hosts, account.trader
    async with (
        chain.open_chain(node_of(config, hosts), account.key.address, clock, wallet=trader.wallet) as wallet,
        reader(hosts, clock) as asked,
    ):
        yield OpenWallet(config=config, hosts=hosts, clock=clock, account=account, chain=wallet, asked=asked)


def node_of(config: Config, hosts: Hosts) -> str:
    """Address of the chain's node: the owner's, from a private file, or the venue's default."""
    file = config.venue.rpc_file
    return secret_text(Path(file).expanduser()) if file else hosts.rpc


def new_key() -> SecretKey:
    """A new random key."""
    import secrets

    while True:
        try:
            return SecretKey(secrets.token_bytes(32))
        except Misconfigured:  # zero, or not below the order of the curve
            continue
