"""Facts that happened: frozen, timestamped, each with the topic it is published under.

Lower folders return events; `agent` publishes them. Nothing that decides about money listens to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from market.types import Fill, Order, Settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    topic: ClassVar[str] = "event"
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleStarted(Event):
    """`late` is how many seconds after its slot it was begun."""

    topic: ClassVar[str] = "cycle/started"
    markets: int
    late: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSkipped(Event):
    """A slot at which nothing was decided, and why."""

    topic: ClassVar[str] = "cycle/skipped"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMade(Event):
    """`phase_tokens` and `phase_seconds` are pairs with the name of a phase; `probability` is the belief's P(YES);
    prices are of the YES book."""

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
class CalibrationMeasured(Event):
    """Mean log losses, in nats, of the agent's forecasts and of the market's mid, over finished windows: small is
    good."""

    topic: ClassVar[str] = "calibration/measured"
    windows: int
    log_score: float
    mid_log_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDone(Event):
    """`says` is what came of it in words, or why it failed."""

    topic: ClassVar[str] = "job/done"
    name: str
    ok: bool
    says: str
    milliseconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalHeard(Event):
    """Somebody outside asked that nothing be opened until an instant."""

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
