"""Market vocabulary: frozen values, no I/O, no clock.

Prices are `Decimal` dollars per share in [0, 1]. Sizes and money are integers: micro-shares and micro-dollars (1e-6),
the venue's own base units, so that every sum is exact. Instants are aware UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

Micro = int
"""An amount of shares or dollars in millionths."""

UNIT: Micro = 1_000_000
_ONE = Decimal(1)
_WIDE_BID, _WIDE_ASK = Decimal("0.01"), Decimal("0.99")


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"


class Outcome(StrEnum):
    """One of the two tokens of a binary market: YES is the first listed ("Up" in an Up/Down window)."""

    YES = "yes"
    NO = "no"

    @property
    def other(self) -> Outcome:
        return Outcome.NO if self is Outcome.YES else Outcome.YES


class TimeInForce(StrEnum):
    GTC = "gtc"
    FAK = "fak"
    FOK = "fok"


class FillEvidence(StrEnum):
    """Evidence for a fill: the book crossed our price, a trade went through it, or the venue reported it."""

    BOOK_CROSS = "book_cross"
    TRADE_THROUGH = "trade_through"
    VENUE = "venue"


class OrderStatus(StrEnum):
    DELAYED = "delayed"
    LIVE = "live"
    MATCHED = "matched"
    CANCELED = "canceled"
    REJECTED = "rejected"


OVER = frozenset({OrderStatus.MATCHED, OrderStatus.CANCELED, OrderStatus.REJECTED})
"""Terminal statuses of an order."""


def micro(amount: Decimal | int | str) -> Micro:
    """Convert whole units to millionths; raises ValueError if the amount is finer than a millionth."""
    scaled = Decimal(amount) * UNIT
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{amount} is finer than one millionth")
    return int(scaled)


def units(amount: Micro) -> Decimal:
    """Convert millionths to whole units, exactly."""
    return Decimal(amount).scaleb(-6)


def notional(price: Decimal, size: Micro) -> Micro:
    """Micro-dollars for `size` micro-shares at `price`, rounded half up."""
    return int((price * size).to_integral_value(ROUND_HALF_UP))


def redeemed(payout: Decimal, size: Micro) -> Micro:
    """Dollars that `size` shares are worth at the end, in whole micro-dollars rounded down, as the contract divides."""
    return int((payout * size).to_integral_value(ROUND_FLOOR))


@lru_cache(maxsize=4096)
def complement(price: Decimal) -> Decimal:
    """Price of the other token: one minus `price`."""
    return _ONE - price


class Level(NamedTuple):
    price: Decimal
    size: Micro


def _mirror(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    return tuple(Level(complement(p), s) for p, s in levels)


@dataclass(frozen=True, slots=True)
class Book:
    """An L2 snapshot of one token; both sides best first.

    `at` is the exchange's time, `received_at` is local. Point-in-time reads go by `received_at`.
    """

    market_id: str
    at: datetime
    received_at: datetime
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    outcome: Outcome = Outcome.YES

    @property
    def best_bid(self) -> Decimal | None:
        return self.bids[0].price if self.bids else None

    @property
    def best_ask(self) -> Decimal | None:
        return self.asks[0].price if self.asks else None

    @property
    def mid(self) -> Decimal | None:
        return (self.bids[0].price + self.asks[0].price) / 2 if self.bids and self.asks else None

    @property
    def spread(self) -> Decimal | None:
        return self.asks[0].price - self.bids[0].price if self.bids and self.asks else None

    @property
    def crossed(self) -> bool:
        return bool(self.bids and self.asks) and self.bids[0].price >= self.asks[0].price

    @property
    def placeholder(self) -> bool:
        """True if the only quotes are the widest possible bid and ask, which mean that no market maker quotes."""
        return bool(self.bids and self.asks) and self.bids[0].price <= _WIDE_BID and self.asks[0].price >= _WIDE_ASK

    def top(self, n: int) -> Book:
        """Copy cut to its best `n` levels a side."""
        return replace(self, bids=self.bids[:n], asks=self.asks[:n])

    def depth(self, n: int) -> tuple[Micro, Micro]:
        """Micro-shares bid and offered on the best `n` levels."""
        return sum(s for _, s in self.bids[:n]), sum(s for _, s in self.asks[:n])

    def mirrored(self) -> Book:
        """The other token's book: a bid for one is an offer of the other at one minus the price."""
        # The venue matches both tokens on one book (two buys mint a set, two sales merge one), so the mirror shows the
        # same orders; best-first order is kept because complement reverses prices and the sides swap.
        return replace(self, bids=_mirror(self.asks), asks=_mirror(self.bids), outcome=self.outcome.other)

    def of(self, outcome: Outcome) -> Book:
        """The book from the side of a trader of `outcome`."""
        return self if outcome is self.outcome else self.mirrored()


@dataclass(frozen=True, slots=True)
class Market:
    """A binary market with its constraints on orders.

    `fee_rate` is the taker rate of the market's own record; where it carries none, `category` selects the dated
    schedule of `market.fees`. Orders of a `neg_risk` market are signed for another contract.
    """

    id: str
    slug: str
    question: str
    yes_token: str
    no_token: str
    opens_at: datetime
    closes_at: datetime
    category: str = "crypto"
    outcomes: tuple[str, str] = ("Up", "Down")
    tick: Decimal = Decimal("0.01")
    min_size: Micro = 5 * UNIT
    price_to_beat: Decimal | None = None
    fee_rate: Decimal | None = None
    neg_risk: bool = False

    @property
    def seconds(self) -> int:
        """Length of the window."""
        return int((self.closes_at - self.opens_at).total_seconds())

    def token(self, outcome: Outcome) -> str:
        return self.yes_token if outcome is Outcome.YES else self.no_token

    def label(self, outcome: Outcome) -> str:
        return self.outcomes[0] if outcome is Outcome.YES else self.outcomes[1]


class PayoutSource(StrEnum):
    OFFICIAL = "official"
    INFERRED = "inferred"
    UNRESOLVED = "unresolved"


@dataclass(frozen=True, slots=True)
class Resolution:
    """Outcome of a market. `payout` is dollars per YES share, None while unresolved; `known_at` is the first instant at
    which it was publicly readable."""

    market_id: str
    payout: Decimal | None
    source: PayoutSource
    known_at: datetime

    def pays(self, outcome: Outcome) -> Decimal | None:
        """Dollars per share of `outcome`."""
        if self.payout is None:
            return None
        return self.payout if outcome is Outcome.YES else _ONE - self.payout


@dataclass(frozen=True, slots=True)
class Order:
    """An order to send; it carries no acceptance.

    `key` tells apart two orders that are otherwise equal: it names the decision and the action under it. A resting
    order may expire by itself at `good_until`.
    """

    market_id: str
    outcome: Outcome
    side: Side
    price: Decimal
    size: Micro
    tif: TimeInForce
    placed_at: datetime
    key: str
    post_only: bool = False
    good_until: datetime | None = None

    @property
    def cost(self) -> Micro:
        """Micro-dollars this order may spend at its limit, before fees; zero for a sale."""
        return notional(self.price, self.size) if self.side is Side.BUY else 0


@dataclass(frozen=True, slots=True)
class SignedOrder:
    """An order with its venue id, which is known before sending: persist it before it is sent."""

    id: str
    order: Order
    body: str = ""


@dataclass(frozen=True, slots=True)
class Ack:
    """The venue's first answer to an order."""

    order_id: str
    status: OrderStatus
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fill:
    """Traded shares. `fee` is paid on top when buying and taken from the proceeds when selling.

    A negative size, with a negative fee, reverses a fill whose settlement failed at the venue.
    """

    id: str
    order_id: str
    market_id: str
    outcome: Outcome
    side: Side
    price: Decimal
    size: Micro
    fee: Micro
    at: datetime
    evidence: FillEvidence
    maker: bool = False

    @property
    def cash(self) -> Micro:
        """Change of our cash in micro-dollars: negative for a purchase."""
        gross = notional(self.price, self.size)
        return -gross - self.fee if self.side is Side.BUY else gross - self.fee


class TransferKind(StrEnum):
    """Kinds of cash that moves beside trading, as the venue names them; `BOOKED` was entered by the owner."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    MAKER_REBATE = "maker_rebate"
    TAKER_REBATE = "taker_rebate"
    REWARD = "reward"
    REFERRAL_REWARD = "referral_reward"
    YIELD = "yield"
    BOOKED = "booked"


@dataclass(frozen=True, slots=True)
class Transfer:
    """Cash that came or went beside trading: `amount` in micro-dollars, negative for what went; `transaction` is its
    hash on the chain, `why` the owner's reason."""

    id: str
    kind: TransferKind
    amount: Micro
    at: datetime
    transaction: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """Shares of one outcome (`size` in micro-shares) paid out when their market resolved."""

    market_id: str
    outcome: Outcome
    size: Micro
    payout: Decimal
    source: PayoutSource
    at: datetime

    @property
    def cash(self) -> Micro:
        return redeemed(self.payout, self.size)
