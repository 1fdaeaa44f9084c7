"""Hard limits of one decision in tokens, dollars and seconds, and the usage of each phase.

Nothing is asked of the engine that has not been reserved here first, so a limit is never passed by one token. Dollars
are counted twice. By token price they are a matter of counting: the same on every box and in every replay, and the cost
limit always holds for them. By measured energy they are a measurement, as a duration is: they are stored beside a
decision and never enter a hash. On live feeds alone they end a search too, and the stop is part of the record, so that
a replay stops where the decision stopped, whatever a clock or a meter reads by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.decision.inputs import Limits
from agent.host.power import Meter
from agent.llm.engine import Usage
from agent.search.tree import OutOfBudget
from market.clock import monotonic
from storage.records import JOULES, LedgerRow, Phase

_JOULES_PER_KWH = 3.6e6
_ESTIMATE_SECONDS = 3600.0


@dataclass(slots=True)
class Electricity:
    """A meter and the price of a kilowatt-hour in dollars. Outlives decisions: the last measured joules a token of each
    phase, with their time, are the estimate for the next call.

    An estimate expires after an hour. Where it forbids every call nothing is measured any more, so a single outlier
    would forbid them for good.
    """

    meter: Meter
    kwh_price: float
    clock: Callable[[], float] = monotonic
    rates: dict[Phase, tuple[float, float]] = field(default_factory=dict)

    def learn(self, phase: Phase, joules: float, tokens: int) -> None:
        """Take a call's joules as the next estimate; a call of no tokens is ignored."""
        if tokens:
            self.rates[phase] = joules / tokens, self.clock()

    def dollars(self, joules: float) -> float:
        return joules / _JOULES_PER_KWH * self.kwh_price

    def expected(self, phase: Phase, tokens: int) -> float:
        """Expected joules of `tokens`: at the phase's last rate, else at the highest of any phase; 0 before the first
        measurement."""
        oldest = self.clock() - _ESTIMATE_SECONDS
        known = {p: rate for p, (rate, at) in self.rates.items() if at >= oldest}
        return tokens * known.get(phase, max(known.values(), default=0.0))


@dataclass(slots=True)
class Budget:
    """The unspent part of a decision's limits. Phases other than search may use what search has left over.

    `joules` is None for a phase in which a reading failed. `stops` are the reservations, by number, that a clock or a
    meter refused; `replayed` are those of a recorded decision in a replay, in which clock and meter are not read.
    """

    limits: Limits
    spent: dict[Phase, Usage] = field(default_factory=dict)
    started: float = field(default_factory=monotonic)
    electricity: Electricity | None = None
    replayed: Mapping[int, str] | None = None
    joules: dict[Phase, float | None] = field(default_factory=dict)
    stops: dict[int, str] = field(default_factory=dict)
    reservations: int = 0
    _running: tuple[Phase, float | None] | None = None

    @property
    def tokens(self) -> int:
        return sum(u.charged for u in self.spent.values())

    @property
    def dollars(self) -> float:
        """Cost in dollars: by measured energy in each phase where it is known, else by token price."""
        return sum(self._dollars(phase) for phase in Phase)

    def seconds_left(self) -> float | None:
        if self.limits.seconds is None:
            return None
        return self.limits.seconds - (monotonic() - self.started)

    def reserve(self, tokens: int, phase: Phase = Phase.SEARCH) -> None:
        """Raise OutOfBudget unless `tokens` more fit every limit. Energy until `settle` is booked to the phase."""
        # A cancelled call was never settled: its energy is booked before the next reservation.
        self.close()
        # Numbered before any check: a replay finds a recorded stop by the number of its reservation, which must not
        # depend on whether it was granted.
        number = self.reservations
        self.reservations += 1
        if self.tokens + tokens > self.limits.tokens:
            raise OutOfBudget("tokens")
        if (self.tokens + tokens) * self.limits.token_price > self.limits.cost:
            raise OutOfBudget("cost")
        if stop := self._measured_stop(number, tokens, phase):
            self.stops[number] = stop
            raise OutOfBudget(stop)
        if self.electricity is not None:
            self._running = phase, self.electricity.meter.joules()

    def settle(self, phase: Phase, usage: Usage) -> None:
        """Book the actual usage of a call."""
        self.spent[phase] = self.spent.get(phase, Usage()) + usage
        self.close(usage.charged)

    def close(self, tokens: int = 0) -> None:
        """Book the energy of the last reserved call, finished or not."""
        if self._running is None or self.electricity is None:
            return
        (phase, begun), self._running = self._running, None
        # One failed reading makes the phase's sum unknown for good: a partial sum would understate it.
        before, now = self.joules.get(phase, 0.0), self.electricity.meter.joules()
        if before is None or begun is None or now is None:
            self.joules[phase] = None
            return
        drawn = max(0.0, now - begun)
        self.joules[phase] = before + drawn
        self.electricity.learn(phase, drawn, tokens)

    def room(self) -> int:
        """Tokens that could still be reserved."""
        by_cost = int(self.limits.cost / self.limits.token_price) if self.limits.token_price else self.limits.tokens
        return max(0, min(self.limits.tokens, by_cost) - self.tokens)

    def ledger(self) -> tuple[LedgerRow, ...]:
        """A row for each phase, in order, zeros included."""
        return tuple(self._row(phase) for phase in Phase)

    def timings(self) -> dict[str, float]:
        """Measured joules by phase, for the part of a decision's record that no hash covers."""
        return {f"{JOULES}{phase.value}": drawn for phase, drawn in self.joules.items() if drawn is not None}

    def _measured_stop(self, number: int, tokens: int, phase: Phase) -> str:
        """The limit that a clock or a meter reports as exceeded, or an empty string; in a replay the recorded stop."""
        if self.replayed is not None:
            return self.replayed.get(number, "")
        left = self.seconds_left()
        if left is None:
            return ""
        if left <= 0:
            return "deadline"
        power = self.electricity
        if power is not None and self.dollars + power.dollars(power.expected(phase, tokens)) > self.limits.cost:
            return "cost"
        return ""

    def _dollars(self, phase: Phase) -> float:
        drawn = self.joules.get(phase)
        if drawn is None or self.electricity is None:
            return self.spent.get(phase, Usage()).charged * self.limits.token_price
        return self.electricity.dollars(drawn)

    def _row(self, phase: Phase) -> LedgerRow:
        u = self.spent.get(phase, Usage())
        return LedgerRow(
            phase=phase,
            prompt=u.prompt,
            cached=u.cached,
            generated=u.generated,
            calls=u.calls,
            milliseconds=u.milliseconds,
            micro_usd=self._dollars(phase) * 1e6,
        )


def charged(spent: Mapping[Phase, Usage]) -> dict[str, dict[str, int]]:
    """Tokens by phase for the decision's record; no durations."""
    return {
        phase.value: {"prompt": u.prompt, "cached": u.cached, "generated": u.generated, "calls": u.calls}
        for phase in Phase
        if (u := spent.get(phase)) is not None
    }
