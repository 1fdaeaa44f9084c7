"""Hard risk limits around an order tool: every order to a venue passes them. Knows no strategy.

An order above its own caps is refused by itself; a loss above the limit stops trading altogether.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime

from market.clock import Clock, WallClock
from market.errors import Halt, LimitExceeded, StoreUnavailable
from market.types import UNIT, Ack, Fill, Micro, Order, OrderStatus, Resolution, Settlement, Side, SignedOrder, units
from tools.halts import KillSwitch
from tools.orders import Around, OrderTool


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits:
    """Micro-dollars of cost for one order, for the orders of one market, and of all markets together, which are
    correlated; and of settled results: total loss, loss on one UTC day, and drawdown from the best result."""

    order: Micro
    market: Micro
    loss: Micro
    open_orders: int
    together: Micro
    day: Micro
    drawdown: Micro


@dataclass(slots=True)
class Results:
    """Micro-dollars earned by settled markets since the operator's last review: in all, at best, on one UTC day."""

    total: Micro = 0
    best: Micro = 0
    day: date = date.min
    today: Micro = 0

    def add(self, at: datetime, earned: Micro) -> None:
        """Add one market's result, in the order of settlement."""
        if at.date() != self.day:
            self.day, self.today = at.date(), 0
        self.today += earned
        self.total += earned
        self.best = max(self.best, self.total)

    def breach(self, limits: RiskLimits) -> str:
        """Description of the first loss limit that is reached, or empty."""
        for what, lost, most in (
            ("settled loss", -self.total, limits.loss),
            (f"daily settled loss of {self.day}", -self.today, limits.day),
            ("drawdown of settled profit", self.best - self.total, limits.drawdown),
        ):
            if lost >= most:
                return f"{what} of ${units(lost)} reached the limit of ${units(most)}"
        return ""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Exposure left by earlier runs of an account: orders of unknown outcome, cost of each market's holdings, and
    results of settled markets, as (when, micro-dollars) in that order."""

    promised: Mapping[str, Order] = field(default_factory=dict)
    paid: Mapping[str, Micro] = field(default_factory=dict)
    earned: Sequence[tuple[datetime, Micro]] = ()


class RiskLimited(Around):
    """Decorator of an `OrderTool` with a ceiling on exposure. `before` is the exposure at a restart.

    Exposure of a market is the price paid for its holdings, the cost of its open orders, and the cost of every order of
    unknown outcome, until the venue has shown its fate. Errors: `LimitExceeded` once settled losses reach the limit;
    from then on every order raises it.
    """

    def __init__(self, inner: OrderTool, limits: RiskLimits, before: Exposure | None = None) -> None:
        super().__init__(inner)
        self._limits = limits
        before = before or Exposure()
        self._promised: dict[str, Order] = dict(before.promised)
        self._unknown: set[str] = set(before.promised)
        self._paid: dict[str, Micro] = dict(before.paid)
        self._fresh: list[Fill] = []
        self._results = Results()
        for at, earned in before.earned:
            self._results.add(at, earned)

    async def send(self, signed: SignedOrder) -> Ack:
        self._stop_at_loss()
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
        if settled:
            earned = sum(s.cash for s in settled) - self._paid.pop(resolution.market_id, 0)
            self._results.add(settled[-1].at, earned)
        return settled

    async def _pull(self) -> None:
        """Read new fills while leaving them for the next caller of `fills`."""
        for fill in await self._inner.fills():
            self._paid[fill.market_id] = self._paid.get(fill.market_id, 0) - fill.cash
            self._unknown.discard(fill.order_id)
            self._fresh.append(fill)

    def forget_results(self) -> None:
        """Reset the results after the operator's review of the losses."""
        self._results = Results()

    def _stop_at_loss(self) -> None:
        if breach := self._results.breach(self._limits):
            raise LimitExceeded(f"{breach}.", next_step="Read the decisions that lost: edgeclaw log list")

    async def _refusal(self, order: Order) -> str:
        if order.side is Side.SELL:
            return ""
        if order.cost > self._limits.order:
            return f"limit: order cost of ${units(order.cost)} exceeds ${units(self._limits.order)}"
        await self._pull()
        working = {o.id for o in (await self._inner.account()).open_orders} | self._unknown
        self._promised = {i: o for i, o in self._promised.items() if i in working}
        promised = sum(o.cost for o in self._promised.values() if o.market_id == order.market_id)
        if self._paid.get(order.market_id, 0) + promised + order.cost > self._limits.market:
            return f"limit: market exposure would exceed ${units(self._limits.market)}"
        held = sum(max(0, cost) for cost in self._paid.values())
        if held + sum(o.cost for o in self._promised.values()) + order.cost > self._limits.together:
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
