"""Domain events: frozen, timestamped, each with the topic it is published under.

Lower packages return events; `agent` publishes them. No component that decides about money subscribes to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from market.types import Fill, Order, Settlement, Transfer


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
    topic: ClassVar[str] = "order/placed"
    order_id: str
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRefused(Event):
    topic: ClassVar[str] = "order/refused"
    order_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFilled(Event):
    topic: ClassVar[str] = "order/filled"
    fill: Fill


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionSettled(Event):
    topic: ClassVar[str] = "position/settled"
    settlement: Settlement


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
