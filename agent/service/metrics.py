"""Metrics of a run in Prometheus' format: counted from the events of the bus, gauges evaluated when scraped.

Best effort, like every observer: nothing here can hold up a cycle or decide about money.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from agent.service.pulse import Pulse
from agent.trading.bus import LocalBus
from market.events import (
    CalibrationMeasured,
    CycleStarted,
    DecisionMade,
    JobDone,
    OrderEnded,
    OrderFilled,
    OrderPlaced,
    OrderRefused,
    PositionSettled,
    SlotSkipped,
    TradingHalted,
    TradingResumed,
)
from market.types import UNIT

_LATE = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30)
_DECIDED_IN = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60)


class Metrics:
    """A registry of `edgeclaw_...` metrics. Dollars and seconds are floats here and nowhere else."""

    def __init__(self, pulse: Pulse) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.cycles = self._counter("cycles", "Cycles run: slots with decisions.")
        self.skipped = self._counter("slots_skipped", "Missed slots, by reason.", "reason")
        self.late = Histogram(
            "edgeclaw_slot_late_seconds",
            "Delay from a slot to the start of its cycle.",
            buckets=_LATE,
            registry=self.registry,
        )
        self.last_cycle = self._gauge("last_cycle_timestamp_seconds", "Time of the newest slot.")
        self.decisions = self._counter("decisions", "Decisions, by action and reason.", "action", "reason")
        self.decided_in = Histogram(
            "edgeclaw_decision_seconds",
            "Decision latency, from observation to order.",
            buckets=_DECIDED_IN,
            registry=self.registry,
        )
        self.tokens = self._counter("tokens", "Tokens evaluated and generated, by phase.", "phase")
        self.seconds = self._counter("phase_seconds", "Engine time, by phase.", "phase")
        self.speed = self._gauge("engine_tokens_per_second", "Engine speed of the newest decision with inference.")
        self.inference = self._counter("inference_dollars", "Cost of inference.")
        self.orders = self._counter("orders", "Orders sent.", "side")
        self.refused = self._counter("orders_refused", "Orders rejected by the venue or a limit.")
        self.ended = self._counter(
            "orders_ended", "Orders that ended, by how: filled, cancelled, expired, killed.", "end"
        )
        self.fills = self._counter("fills", "Fills, by evidence class.", "evidence")
        self.filled = self._counter("filled_dollars", "Notional of all fills.")
        self.fees = self._counter("fee_dollars", "Fees paid.")
        self.cash = self._gauge("cash_flow_dollars", "Net cash flow of fills and settlements.")
        self.halted = self._gauge("halted", "1 while trading is halted.")
        self.halts = self._counter("halts", "Number of halts.")
        self.jobs = self._counter("jobs", "Background jobs run, by outcome.", "name", "ok")
        self.score = self._gauge("log_score", "Log score of the forecasts, nats, over settled windows.")
        self.mid_score = self._gauge("mid_log_score", "Log score of the mid over the same windows.")
        self.queues = Gauge("edgeclaw_queue_depth", "Queue depth.", ("queue",), registry=self.registry)
        self.counted = Gauge(
            "edgeclaw_counted",
            "Counters of the feed and the account, by source.",
            ("source", "what"),
            registry=self.registry,
        )
        self._pulse = pulse
        self._measured("loop_lag_seconds", "Maximum event loop lag of the last ten seconds.", lambda: pulse.lag)
        self._measured("market_silence_seconds", "Age of the last market data.", lambda: pulse.silence)
        self._measured("at_risk_dollars", "Exposure: cost of holdings and open orders.", lambda: pulse.at_risk() / UNIT)
        self._measured(
            "profit_dollars",
            "Realised profit of the account after fees, over all its runs.",
            lambda: pulse.realised() / UNIT,
        )
        self._measured("trading", "1 once the run trades.", lambda: float(pulse.trading))
        self._measured("well", "1 while all health checks pass.", lambda: float(not pulse.complaints()))

    def text(self) -> bytes:
        """All metrics, in the text exposition format."""
        for name, depth in self._pulse.queues.items():
            self.queues.labels(name).set(depth())
        for source, counters in self._pulse.counters.items():
            for what, count in counters().items():
                self.counted.labels(source, what).set(count)
        return generate_latest(self.registry)

    @contextmanager
    def counting(self, bus: LocalBus) -> Iterator[None]:
        """Subscribe to the bus while the block lasts."""
        with ExitStack() as stack:
            hear = stack.enter_context
            hear(bus.subscribed(CycleStarted, self._cycle))
            hear(bus.subscribed(DecisionMade, self._decision))
            hear(bus.subscribed(OrderPlaced, lambda e: self.orders.labels(e.order.side.value).inc()))
            hear(bus.subscribed(OrderRefused, lambda _: self.refused.inc()))
            hear(bus.subscribed(OrderEnded, lambda e: self.ended.labels(e.end.value).inc()))
            hear(bus.subscribed(OrderFilled, self._fill))
            hear(bus.subscribed(SlotSkipped, lambda e: self.skipped.labels(e.reason).inc()))
            hear(bus.subscribed(PositionSettled, self._settled))
            hear(bus.subscribed(JobDone, lambda e: self.jobs.labels(e.name, str(e.ok).lower()).inc()))
            hear(bus.subscribed(CalibrationMeasured, self._calibrated))
            hear(bus.subscribed(TradingHalted, self._halted))
            hear(bus.subscribed(TradingResumed, lambda _: self.halted.set(0)))
            yield

    def _measured(self, name: str, what: str, measure: Callable[[], float]) -> None:
        self._gauge(name, what).set_function(measure)

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(f"edgeclaw_{name}", what, registry=self.registry)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"edgeclaw_{name}", what, labels, registry=self.registry)

    def _cycle(self, event: CycleStarted) -> None:
        self.cycles.inc()
        self.last_cycle.set(event.at.timestamp())
        self.late.observe(event.late)

    def _decision(self, event: DecisionMade) -> None:
        self.decisions.labels(event.action, event.reason).inc()
        self.decided_in.observe(event.milliseconds / 1e3)
        self.inference.inc(event.dollars)
        for phase, tokens in event.phase_tokens:
            self.tokens.labels(phase).inc(tokens)
        for phase, seconds in event.phase_seconds:
            self.seconds.labels(phase).inc(seconds)
        if took := sum(seconds for _, seconds in event.phase_seconds):
            self.speed.set(sum(tokens for _, tokens in event.phase_tokens) / took)

    def _fill(self, event: OrderFilled) -> None:
        fill = event.fill
        self.fills.labels(fill.evidence.value).inc()
        self.filled.inc(float(fill.price) * fill.size / UNIT)
        self.fees.inc(fill.fee / UNIT)
        self.cash.inc(fill.cash / UNIT)

    def _settled(self, event: PositionSettled) -> None:
        self.cash.inc(event.settlement.cash / UNIT)

    def _calibrated(self, event: CalibrationMeasured) -> None:
        self.score.set(event.log_score)
        self.mid_score.set(event.mid_log_score)

    def _halted(self, _: TradingHalted) -> None:
        self.halted.set(1)
        self.halts.inc()
