"""Hard risk limits around an order tool: every order to a venue passes them. Knows no strategy.

An order above its own caps is refused by itself; a loss above the limit stops trading altogether.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple

from market.clock import Clock, WallClock
from market.errors import Halt, LimitExceeded, StoreUnavailable
from market.types import UNIT, Ack, Fill, Micro, Order, OrderStatus, Resolution, Settlement, Side, SignedOrder, units
from tools.halts import KillSwitch, Resumed
from tools.ledger import PositionLedger, Realised
from tools.orders import Around, OrderTool


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits:
    """Micro-dollars of cost for one order, for the orders of one market, and of all markets together, which are
    correlated; and of realised results: total loss, loss on one UTC day, and drawdown from the best result."""

    order: Micro
    market: Micro
    loss: Micro
    open_orders: int
    together: Micro
    day: Micro
    drawdown: Micro


class Reached(NamedTuple):
    """A loss limit that is reached: micro-dollars lost, and allowed. `limit` tells it apart from others, and from the
    same one on another day or after another best result."""

    limit: tuple[object, ...]
    what: str
    lost: Micro
    most: Micro

    def sentence(self) -> str:
        return f"{self.what} of ${units(self.lost)} reached the limit of ${units(self.most)}"


@dataclass(slots=True)
class Results:
    """Micro-dollars realised since the limits were last reset: in all, at best, by UTC day. `allowed` are the losses
    that a person has allowed beyond a limit which was reached.

    Add results and resumes in the order of their instants, a result before a resume of the same instant."""

    limits: RiskLimits
    total: Micro = 0
    best: Micro = 0
    days: dict[date, Micro] = field(default_factory=dict)
    allowed: dict[tuple[object, ...], Micro] = field(default_factory=dict)

    @property
    def today(self) -> Micro:
        """Result of the last day that has one."""
        return self.days[max(self.days)] if self.days else 0

    def add(self, at: datetime, earned: Micro) -> None:
        """Add the result of a fill or settlement."""
        self.days[at.date()] = self.days.get(at.date(), 0) + earned
        self.total += earned
        self.best = max(self.best, self.total)

    def resume(self, resumed: Resumed) -> None:
        """Apply a person's decision: to forget the losses so far, or to allow so much more by the limits reached."""
        if resumed.reset:
            self.total, self.best = 0, 0
            self.days.clear()
            self.allowed.clear()
        if resumed.margin is not None:
            for reached in self.reached(resumed.at.date()):
                self.allowed[reached.limit] = reached.lost + resumed.margin

    def reached(self, day: date) -> list[Reached]:
        """Loss limits that are reached on a UTC day."""
        losses = (
            (("loss",), "realised loss", -self.total, self.limits.loss),
            (("day", day), f"daily realised loss of {day}", -self.days.get(day, 0), self.limits.day),
            (("drawdown", self.best), "drawdown of realised profit", self.best - self.total, self.limits.drawdown),
        )
        all_of_them = (Reached(limit, what, lost, self.allowed.get(limit, most)) for limit, what, lost, most in losses)
        return [r for r in all_of_them if r.lost >= r.most]


class LossLimits:
    """Loss limits over the results of a ledger, and over a person's resumes; both may grow between two calls."""

    def __init__(self, limits: RiskLimits, positions: PositionLedger, resumes: Sequence[Resumed] = ()) -> None:
        self._limits, self._positions = limits, positions
        self._counted, self._resumed, self._rewrites = 0, 0, 0
        self._results = Results(limits)
        self.resume(resumes)

    def resume(self, resumes: Sequence[Resumed]) -> None:
        """Take a person's resumes, all so far."""
        self._resumes = sorted(resumes, key=lambda r: r.at)
        self._rewrites = -1  # they may change what is counted already

    def results(self) -> Results:
        """Results as the ledger and the resumes are now."""
        results, positions = self._positions.results, self._positions
        if self._rewrites != positions.rewrites or self._late(results):
            self._counted, self._resumed, self._results = 0, 0, Results(self._limits)
        for result in results[self._counted :]:
            self._resume_before(result.at)
            self._results.add(result.at, result.earned)
        self._counted, self._rewrites = len(results), positions.rewrites
        self._resume_before(None)
        return self._results

    def breach(self, day: date) -> str:
        """Description of the first loss limit that is reached on a UTC day, or empty."""
        return next((reached.sentence() for reached in self.results().reached(day)), "")

    def _late(self, results: Sequence[Realised]) -> bool:
        """True if a new result is from before a resume that is applied already."""
        new = results[self._counted : self._counted + 1]
        return bool(new and self._resumed and new[0].at <= self._resumes[self._resumed - 1].at)

    def _resume_before(self, at: datetime | None) -> None:
        while self._resumed < len(self._resumes) and (at is None or self._resumes[self._resumed].at < at):
            self._results.resume(self._resumes[self._resumed])
            self._resumed += 1


@dataclass(frozen=True, slots=True)
class Exposure:
    """State left by earlier runs of an account: orders of unknown outcome, fills and settlements."""

    promised: Mapping[str, Order] = field(default_factory=dict)
    fills: Sequence[Fill] = ()
    settlements: Sequence[Settlement] = ()

    def positions(self) -> PositionLedger:
        """A ledger of its own for whoever goes on from here."""
        return PositionLedger(self.fills, self.settlements)


class RiskLimited(Around):
    """Decorator of an `OrderTool` with a ceiling on exposure. `before` is the exposure at a restart.

    Exposure of a market is the cost of its holdings, the cost of its open orders, and the cost of every order of
    unknown outcome, until the venue has shown its fate. `resumes` are a person's, so far. Errors: `LimitExceeded` once
    realised losses reach a limit; from then on every order raises it, until a person resumes with a margin.
    """

    def __init__(
        self,
        inner: OrderTool,
        limits: RiskLimits,
        before: Exposure | None = None,
        resumes: Sequence[Resumed] = (),
    ) -> None:
        super().__init__(inner)
        self._limits = limits
        before = before or Exposure()
        self._promised: dict[str, Order] = dict(before.promised)
        self._unknown: set[str] = set(before.promised)
        self.positions = before.positions()
        self.losses = LossLimits(limits, self.positions, resumes)
        self._fresh: list[Fill] = []

    async def send(self, signed: SignedOrder) -> Ack:
        # Before the limits are looked at: a loss counts from its fill on.
        await self._pull()
        self._stop_at_loss(signed.order.placed_at)
        if signed.id not in self._promised and (reason := await self._refusal(signed.order)):
            return Ack(signed.id, OrderStatus.REJECTED, reason)
        # Counted before it is sent: if the answer is lost, the order may be at the venue and stays counted.
        self._promised[signed.id] = signed.order
        self._unknown.add(signed.id)
        ack = await self._inner.send(signed)
        self._unknown.discard(signed.id)
        if ack.status is OrderStatus.REJECTED:
            del self._promised[signed.id]
        return ack

    async def status(self, order_id: str) -> Ack | None:
        word = await self._inner.status(order_id)
        self._unknown.discard(order_id)  # known now, or known never to have arrived
        return word

    async def fills(self) -> Sequence[Fill]:
        await self._pull()
        fresh, self._fresh = self._fresh, []
        return fresh

    async def settle(self, resolution: Resolution) -> Sequence[Settlement] | None:
        await self._pull()
        settled = await self._inner.settle(resolution)
        for settlement in settled or ():
            self.positions.settle(settlement)
        return settled

    async def _pull(self) -> None:
        """Read new fills while leaving them for the next caller of `fills`."""
        for fill in await self._inner.fills():
            self.positions.fill(fill)
            self._unknown.discard(fill.order_id)
            self._fresh.append(fill)

    def _stop_at_loss(self, at: datetime) -> None:
        if breach := self.losses.breach(at.date()):
            raise LimitExceeded(f"{breach}.", next_step="Read the decisions that lost: edgeclaw log list")

    async def _refusal(self, order: Order) -> str:
        if order.side is Side.SELL:
            return ""
        if order.cost > self._limits.order:
            return f"limit: order cost of ${units(order.cost)} exceeds ${units(self._limits.order)}"
        working = {o.id for o in (await self._inner.account()).open_orders} | self._unknown
        self._promised = {i: o for i, o in self._promised.items() if i in working}
        promised = sum(o.cost for o in self._promised.values() if o.market_id == order.market_id)
        if self.positions.cost(order.market_id) + promised + order.cost > self._limits.market:
            return f"limit: market exposure would exceed ${units(self._limits.market)}"
        if (
            self.positions.total_cost + sum(o.cost for o in self._promised.values()) + order.cost
            > self._limits.together
        ):
            return f"limit: total exposure would exceed ${units(self._limits.together)}"
        if len(working) >= self._limits.open_orders:
            return f"limit: maximum of {self._limits.open_orders} open orders"
        return ""


class RateLimited(Around):
    """Decorator of an `OrderTool`: token bucket of orders per second of the clock's time, with a burst of as many.

    An excess order is refused, not delayed: by the time it could be sent the market has moved on. A cancel is never
    refused: it only ever lowers the exposure.
    """

    def __init__(self, inner: OrderTool, clock: Clock, per_second: float) -> None:
        super().__init__(inner)
        self._clock, self._rate = clock, per_second
        self._tokens, self._at = per_second, clock.now()

    def _take(self) -> bool:
        now = self._clock.now()
        self._tokens = min(self._rate, self._tokens + (now - self._at).total_seconds() * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    async def send(self, signed: SignedOrder) -> Ack:
        if not self._take():
            return Ack(signed.id, OrderStatus.REJECTED, f"limit: rate of {self._rate:g} orders per second")
        return await self._inner.send(signed)


class CostLimited(Around):
    """Decorator of an `OrderTool` that refuses orders once inference has cost too much on a UTC day. `spent` gives
    today's micro-dollars so far."""

    def __init__(self, inner: OrderTool, most: Micro, spent: Callable[[], Micro]) -> None:
        super().__init__(inner)
        self._most, self._spent = most, spent

    async def send(self, signed: SignedOrder) -> Ack:
        if self._spent() >= self._most:
            return Ack(
                signed.id, OrderStatus.REJECTED, f"limit: daily inference budget of ${units(self._most)} is spent"
            )
        return await self._inner.send(signed)


class Switched(Around):
    """Decorator of an `OrderTool` with the kill switch: the outermost of all. It raises `Halt` for every order while
    the switch is thrown, and a limit that stops trading throws it, so that the halt outlives this process. Cancelling
    is always possible."""

    def __init__(self, inner: OrderTool, switch: KillSwitch) -> None:
        super().__init__(inner)
        self._switch = switch

    async def send(self, signed: SignedOrder) -> Ack:
        if (halted := self._switch.read()) is not None:
            raise Halt(halted.sentence(), next_step="Look, then: edgeclaw resume --reason TEXT")
        try:
            return await self._inner.send(signed)
        except Halt as stop:
            with suppress(StoreUnavailable):  # execution sees the Halt and stops this process in any case
                self._switch.throw(str(stop), "a limit", WallClock().now())
            raise


class InferenceToday:
    """Micro-dollars of inference on the clock's UTC day: spent `before` this process began, plus the `tokens` used
    since, at `price` dollars each."""

    def __init__(self, clock: Clock, price: float, tokens: Callable[[], int], before: Micro = 0) -> None:
        self._clock, self._price, self._tokens, self._before = clock, price, tokens, before
        self._day, self._from = clock.now().date(), tokens()

    def spent(self) -> Micro:
        today, used = self._clock.now().date(), self._tokens()
        if today != self._day:
            self._day, self._from, self._before = today, used, 0
        return self._before + round((used - self._from) * self._price * UNIT)
