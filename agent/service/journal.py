"""The operator's log of a live run: a line for each change of state, with the same names in all.

An observer like any other: it decides nothing, and no failure of it reaches the run. Every order can be followed by its
`order`, from `order` over `fill` to `filled`, `cancel`, `expiry`, `kill` or `refusal`, and its market to `settlement`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TextIO, TypeVar

from agent.service.logstream import LogStream, iso, open_stream, routed
from agent.trading.bus import LocalBus
from market import events
from market.clock import WallClock
from market.events import Event, OrderEnd
from market.types import Fill, Micro, Order, units
from storage.canonical import plain

_REMEMBERED = 10_000
"""Orders and markets whose names are kept for later lines; of the oldest, lines show the id alone."""
_ENDS: Mapping[OrderEnd, str] = {
    OrderEnd.FILLED: "filled",
    OrderEnd.CANCELLED: "cancel",
    OrderEnd.EXPIRED: "expiry",
    OrderEnd.KILLED: "kill",
}
INTERRUPTED = "interrupted"
"""Reason of a stop that somebody asked for."""
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line: its level, its action and its fields. Money and shares are exact decimal text; None is left out."""

    level: str
    action: str
    fields: Mapping[str, object]


@dataclass(slots=True)
class _Followed:
    """An order that was seen placed; `filled` are micro-shares so far."""

    order: Order
    filled: Micro = 0


@dataclass(slots=True)
class EventLines:
    """Lines of events, in their order. Remembers what later events of an order or a market do not say themselves."""

    orders: dict[str, _Followed] = field(default_factory=dict)
    slugs: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, tuple[bool, str]] = field(default_factory=dict)

    def line(self, event: Event) -> LogLine:
        """The line of an event; of one without a form of its own, its topic and its fields as they are."""
        form = _FORMS.get(type(event))
        if form is not None:
            return form(self, event)
        body = plain(event)
        named = {k: v for k, v in body.items() if k != "at"} if isinstance(body, dict) else {}
        return LogLine("info", event.topic, named)

    def started(self, event: events.RunStarted) -> LogLine:
        for market_id, slug in event.unsettled:
            _keep(self.slugs, market_id, slug)
        fields: dict[str, object] = {
            "run": event.run_id,
            "account": event.account,
            "mode": event.mode,
            "traders": event.traders,
            "engine": event.engine,
            "resumed": event.resumed,
            "unsettled": [slug for _, slug in event.unsettled],
        }
        return LogLine("info", "start", fields)

    def stopped(self, event: events.RunStopped) -> LogLine:
        wanted = event.finished or event.reason == INTERRUPTED
        fields = {"run": event.run_id, "finished": event.finished, "reason": event.reason}
        return LogLine("info" if wanted else "error", "stop", fields)

    def slot(self, event: events.CycleStarted) -> LogLine:
        return LogLine("info", "slot", {"markets": event.markets, "late_seconds": round(event.late, 3)})

    def skipped(self, event: events.SlotSkipped) -> LogLine:
        return LogLine("warning", "skip", {"reason": event.reason})

    def decided(self, event: events.DecisionMade) -> LogLine:
        _keep(self.slugs, event.market_id, event.slug)
        fields: dict[str, object] = {
            "decision": event.decision_id,
            **self._market(event.market_id),
            "choice": event.action,
            "reason": event.reason,
            "bid": _exact(event.bid),
            "ask": _exact(event.ask),
            "mid": None if event.mid is None else round(event.mid, 6),
            "probability": None if event.probability is None else round(event.probability, 6),
            "tokens": sum(n for _, n in event.phase_tokens),
            "inference_dollars": round(event.dollars, 8),
            "milliseconds": round(event.milliseconds, 1),
        }
        return LogLine("info", "decision", fields)

    def placed(self, event: events.OrderPlaced) -> LogLine:
        order = event.order
        if event.slug:
            _keep(self.slugs, order.market_id, event.slug)
        _keep(self.orders, event.order_id, _Followed(order))
        fields: dict[str, object] = {
            **self._order(event.order_id, order),
            "price": _exact(order.price),
            "size": _amount(order.size),
            "cost": _amount(order.cost),
            "tif": order.tif.value,
            "post_only": order.post_only,
            "good_until": None if order.good_until is None else iso(order.good_until),
            "decision": order.key.rpartition("/")[0],
        }
        return LogLine("info", "order", fields)

    def refused(self, event: events.OrderRefused) -> LogLine:
        known = self.orders.get(event.order_id)
        fields = {**self._order(event.order_id, known.order if known else None), "reason": event.reason}
        return LogLine("warning", "refusal", fields)

    def filled(self, event: events.OrderFilled) -> LogLine:
        fill, known = event.fill, self.orders.get(event.fill.order_id)
        if known is not None:
            known.filled += fill.size
        fields: dict[str, object] = {
            "order": fill.order_id,
            **self._market(fill.market_id),
            "outcome": fill.outcome.value,
            "side": fill.side.value,
            "price": _exact(fill.price),
            "size": _amount(fill.size),
            "cost": _cost(fill),
            "fee": _amount(fill.fee),
            "filled": _amount(known.filled) if known else None,
            "of": _amount(known.order.size) if known else None,
            "maker": fill.maker,
            "evidence": fill.evidence.value,
            "fill": fill.id,
        }
        # A negative size takes back a fill whose settlement failed.
        return LogLine("info" if fill.size >= 0 else "warning", "fill", fields)

    def ended(self, event: events.OrderEnded) -> LogLine:
        fields: dict[str, object] = {
            **self._order(event.order_id, event.order),
            "status": event.status.value,
            "filled": _amount(event.filled),
            "of": _amount(event.order.size),
            "reason": event.reason or None,
        }
        return LogLine("info", _ENDS[event.end], fields)

    def settled(self, event: events.PositionSettled) -> LogLine:
        one = event.settlement
        fields: dict[str, object] = {
            **self._market(one.market_id),
            "outcome": one.outcome.value,
            "size": _amount(one.size),
            "payout": _exact(one.payout),
            "cash": _amount(one.cash),
            "paid": _amount(event.paid),
            "result": _amount(one.cash - event.paid),
            "source": one.source.value,
        }
        return LogLine("info", "settlement", fields)

    def transferred(self, event: events.CashTransferred) -> LogLine:
        one = event.transfer
        fields: dict[str, object] = {
            "kind": one.kind.value,
            "amount": _amount(one.amount),
            "transaction": one.transaction or None,
            "reason": one.why or None,
        }
        return LogLine("info", "transfer", fields)

    def redeemed(self, event: events.WinningsRedeemed) -> LogLine:
        markets = [self.slugs.get(one, one) for one in event.market_ids]
        fields = {"markets": markets, "transaction": event.transaction, "ok": event.ok}
        return LogLine("info" if event.ok else "error", "redemption", fields)

    def halted(self, event: events.TradingHalted) -> LogLine:
        return LogLine("error", "halt", {"reason": event.reason})

    def resumed(self, event: events.TradingResumed) -> LogLine:
        return LogLine("info", "resume", {})

    def job(self, event: events.JobDone) -> LogLine:
        """A job that has nothing new to say is a line for debugging: most run every minute."""
        told = (event.ok, event.says)
        new = bool(event.says) and self.jobs.get(event.name) != told
        self.jobs[event.name] = told
        level = "debug" if not new else "info" if event.ok else "warning"
        fields: dict[str, object] = {
            "job": event.name,
            "ok": event.ok,
            "message": event.says or None,
            "milliseconds": round(event.milliseconds, 1),
        }
        return LogLine(level, "job", fields)

    def signal(self, event: events.SignalHeard) -> LogLine:
        return LogLine("warning", "signal", {"signal": event.name, "until": iso(event.until), "reason": event.why})

    def calibrated(self, event: events.CalibrationMeasured) -> LogLine:
        scores = {"log_score": round(event.log_score, 6), "mid_log_score": round(event.mid_log_score, 6)}
        return LogLine("info", "calibration", {"windows": event.windows, **scores})

    def lost(self, event: events.ConnectionLost) -> LogLine:
        return LogLine("warning", "disconnect", {"channel": event.channel, "reason": event.reason})

    def restored(self, event: events.ConnectionRestored) -> LogLine:
        return LogLine("info", "reconnect", {"channel": event.channel, "seconds": event.seconds})

    def health(self, event: events.HealthChanged) -> LogLine:
        fields = {"over": event.over, "message": event.complaint, "seconds": event.seconds if event.over else None}
        return LogLine("info" if event.over else "warning", "health", fields)

    def _market(self, market_id: str) -> dict[str, object]:
        return {"market": market_id, "slug": self.slugs.get(market_id)}

    def _order(self, order_id: str, order: Order | None) -> dict[str, object]:
        if order is None:
            return {"order": order_id}
        named = {"outcome": order.outcome.value, "side": order.side.value}
        return {"order": order_id, **self._market(order.market_id), **named}


_FORMS: Mapping[type[Event], Callable[[EventLines, Any], LogLine]] = {
    events.RunStarted: EventLines.started,
    events.RunStopped: EventLines.stopped,
    events.CycleStarted: EventLines.slot,
    events.SlotSkipped: EventLines.skipped,
    events.DecisionMade: EventLines.decided,
    events.OrderPlaced: EventLines.placed,
    events.OrderRefused: EventLines.refused,
    events.OrderFilled: EventLines.filled,
    events.OrderEnded: EventLines.ended,
    events.PositionSettled: EventLines.settled,
    events.CashTransferred: EventLines.transferred,
    events.WinningsRedeemed: EventLines.redeemed,
    events.TradingHalted: EventLines.halted,
    events.TradingResumed: EventLines.resumed,
    events.JobDone: EventLines.job,
    events.SignalHeard: EventLines.signal,
    events.CalibrationMeasured: EventLines.calibrated,
    events.ConnectionLost: EventLines.lost,
    events.ConnectionRestored: EventLines.restored,
    events.HealthChanged: EventLines.health,
}


def _keep(kept: dict[str, V], key: str, value: V) -> None:
    """Put in, and let go of the oldest beyond what is remembered."""
    kept[key] = value
    if len(kept) > _REMEMBERED:
        del kept[next(iter(kept))]


def _exact(value: Decimal | None) -> str | None:
    return None if value is None else f"{value.normalize():f}"


def _amount(micros: Micro) -> str:
    return f"{units(micros).normalize():f}"


def _cost(fill: Fill) -> str:
    """Dollars that a fill took, fee included; negative for what a sale brought."""
    return _amount(-fill.cash)


@dataclass(slots=True)
class RunLogger:
    """The log of one process: hears the bus, and is told the stages of its start."""

    stream: LogStream
    lines: EventLines = field(default_factory=EventLines)

    def hear(self, event: Event) -> None:
        # Rendered by the stream's thread: the order that is sent next does not wait for it.
        self.stream.put(lambda: self._log(event))

    def _log(self, event: Event) -> None:
        line = self.lines.line(event)
        getattr(self.stream.logger, line.level)(line.action, at=event.at, **line.fields)

    def stage(self, text: str) -> None:
        at = WallClock().now()
        self.stream.put(lambda: self.stream.logger.info("stage", at=at, message=text))

    def exits(self, reason: str, code: int) -> None:
        """Log why the process ends with an exit code that is not zero."""
        at = WallClock().now()
        self.stream.put(lambda: self.stream.logger.error("exit", at=at, reason=reason, exit_code=code))

    def failed(self, error: BaseException) -> None:
        """Log an unexpected error with its traceback, secrets taken out."""
        at = WallClock().now()
        self.stream.put(lambda: self.stream.logger.critical("crash", at=at, message=str(error), exc_info=error))


@contextmanager
def run_journal(bus: LocalBus, level: str, out: TextIO) -> Iterator[RunLogger]:
    """Log every event of the bus, and the standard `logging`, on standard output or error while the block lasts."""
    stream = open_stream(level, out)
    logger = RunLogger(stream)
    bus.counters["journal"] = stream.counts
    try:
        with routed(stream, level), bus.subscribed(Event, logger.hear):
            yield logger
    finally:
        stream.close()
