"""Domain events: frozen, timestamped, each with the topic it is published under.

Lower packages return events; `agent` publishes them. No component that decides about money subscribes to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar

from market.types import Fill, Micro, Order, OrderStatus, Settlement, TimeInForce, Transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    topic: ClassVar[str] = "event"
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleStarted(Event):
    """A decision cycle began, `late` seconds after its slot."""

    topic: ClassVar[str] = "cycle/started"
    markets: int
    late: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSkipped(Event):
    """A slot without a decision, with the reason."""

    topic: ClassVar[str] = "cycle/skipped"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMade(Event):
    """A decision was made. `phase_tokens` and `phase_seconds` are (phase name, amount) pairs; `probability` is the
    belief's P(YES); prices are of the YES book."""

    topic: ClassVar[str] = "decision/made"
    decision_id: str
    market_id: str
    slug: str
    closes_at: datetime
    action: str
    reason: str
    bid: Decimal | None
    ask: Decimal | None
    mid: float | None
    probability: float | None
    phase_tokens: tuple[tuple[str, int], ...]
    phase_seconds: tuple[tuple[str, float], ...]
    dollars: float
    milliseconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlaced(Event):
    """An order is about to be sent: it is logged, and the venue has not answered. `slug` names its market."""

    topic: ClassVar[str] = "order/placed"
    order_id: str
    order: Order
    slug: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRefused(Event):
    topic: ClassVar[str] = "order/refused"
    order_id: str
    reason: str


class OrderEnd(StrEnum):
    """How an order that the venue had taken ended: all of it was matched, it was cancelled, it expired by itself, or
    what an immediate order did not find at once was killed."""

    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    KILLED = "killed"

    @classmethod
    def of(cls, order: Order, status: OrderStatus, at: datetime) -> OrderEnd:
        """The end of `order` whose final status became known at `at`."""
        if status is OrderStatus.MATCHED:
            return cls.FILLED
        if order.tif is not TimeInForce.GTC:
            return cls.KILLED
        return cls.EXPIRED if order.good_until is not None and at >= order.good_until else cls.CANCELLED


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEnded(Event):
    """An order is over, and was not refused. `filled` is what is known to have traded by then, in micro-shares: a late
    fill, or one whose settlement fails, is an event of its own afterwards."""

    topic: ClassVar[str] = "order/ended"
    order_id: str
    order: Order
    end: OrderEnd
    status: OrderStatus
    reason: str
    filled: Micro


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFilled(Event):
    topic: ClassVar[str] = "order/filled"
    fill: Fill


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionSettled(Event):
    """Shares of one outcome became dollars. `paid` is their cost in micro-dollars: the result is
    `settlement.cash - paid`."""

    topic: ClassVar[str] = "position/settled"
    settlement: Settlement
    paid: Micro = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CashTransferred(Event):
    """Cash came or went beside trading: a deposit, a withdrawal, a rebate, a reward, or what the owner booked."""

    topic: ClassVar[str] = "cash/transferred"
    transfer: Transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationMeasured(Event):
    """Mean log losses, in nats, of the agent's forecasts and of the market's mid, over finished windows: small is
    good."""

    topic: ClassVar[str] = "calibration/measured"
    windows: int
    log_score: float
    mid_log_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDone(Event):
    """A maintenance job ended. `says` is its result as text, or the reason of its failure."""

    topic: ClassVar[str] = "job/done"
    name: str
    ok: bool
    says: str
    milliseconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalHeard(Event):
    """An external signal inhibits new positions until an instant."""

    topic: ClassVar[str] = "signal/heard"
    name: str
    until: datetime
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingHalted(Event):
    topic: ClassVar[str] = "halt/raised"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingResumed(Event):
    topic: ClassVar[str] = "halt/lifted"


@dataclass(frozen=True, slots=True, kw_only=True)
class WinningsRedeemed(Event):
    """Winnings of these markets were asked of the chain, in one transaction; `ok` is False where it was reverted."""

    topic: ClassVar[str] = "winnings/redeemed"
    market_ids: tuple[str, ...]
    transaction: str
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run trades from here on. `mode` is paper, loopback or live; `traders` and `engine` are names; `resumed` is True
    for a run that an earlier process began; `unsettled` are (id, slug) of the markets whose shares it takes on."""

    topic: ClassVar[str] = "run/started"
    run_id: str
    account: str
    mode: str
    traders: tuple[str, ...]
    engine: str
    resumed: bool
    unsettled: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStopped(Event):
    """A process ended its run: `finished` is True where its slots were done; else `reason` says what ended it."""

    topic: ClassVar[str] = "run/stopped"
    run_id: str
    finished: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLost(Event):
    """A stream of the venue is gone. `channel` is market, user or prices. Once an outage, however often it is tried."""

    topic: ClassVar[str] = "connection/lost"
    channel: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRestored(Event):
    """A stream that was lost is back, after `seconds`."""

    topic: ClassVar[str] = "connection/restored"
    channel: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthChanged(Event):
    """A complaint about the run's health began, or is over after `seconds`."""

    topic: ClassVar[str] = "health/changed"
    complaint: str
    over: bool
    seconds: float = 0.0
