"""Limits around a live account's orders, and the watcher of its kill switch."""

from __future__ import annotations

from dataclasses import dataclass

from agent.app.settings import risk_limits
from agent.config.schema import Config
from agent.live.recovery import AccountHistory
from agent.llm.engine import Engine
from agent.service.pulse import Pulse
from agent.trading.bus import Bus
from agent.trading.execution import Execution
from agent.trading.inhibit import Inhibitor
from agent.trading.kill_switch import KillSwitchWatcher
from market.clock import Clock
from market.types import micro
from storage.store import RunLog, Store
from tools.halts import KillSwitch
from tools.limits import CostLimited, InferenceToday, RateLimited, RiskLimited, Switched
from tools.orders import OrderTool


@dataclass(frozen=True, slots=True)
class Guards:
    """Configured limits. What a limit says goes to the kill switch, so that the stop outlives this process."""

    config: Config
    clock: Clock
    switch: KillSwitch
    inhibitor: Inhibitor
    pulse: Pulse

    def around(
        self, orders: OrderTool, log: RunLog, bus: Bus, past: AccountHistory, spent: InferenceToday
    ) -> tuple[Execution, KillSwitchWatcher]:
        """Execution behind every limit, and the watcher that enforces the kill switch."""
        config, before = self.config, past.exposure()
        # Innermost first. The rate limit is the last on an order's way, so that an order which another limit refuses
        # does not count; the kill switch is the first, so that a limit's halt throws it.
        limited = RateLimited(orders, self.clock, config.venue.orders_per_second)
        risk = RiskLimited(limited, risk_limits(config), before, self.switch.resumes())
        tool = Switched(CostLimited(risk, micro(config.risk.inference), spent.spent), self.switch)
        self.pulse.realised = lambda: risk.positions.earned
        self.pulse.breach = lambda: risk.losses.breach(self.clock.now().date())
        working, positions = dict(before.promised), before.positions()
        execution = Execution(tool, log, bus, working=working, positions=positions, inhibitor=self.inhibitor)
        for fill in past.fills:
            if fill.order_id in working:
                execution.filled[fill.order_id] = execution.filled.get(fill.order_id, 0) + fill.size
        return execution, KillSwitchWatcher(
            self.switch, execution, tool, self.clock, lambda: risk.losses.resume(self.switch.resumes())
        )


async def inference_today(config: Config, store: Store, clock: Clock, engine: Engine) -> InferenceToday:
    """Cost of inference today, from the log and from here on."""
    today = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    # From the log: a restart must not renew the budget of the day.
    before = round(await store.micro_usd_since(today))
    tokens = lambda: engine.usage.prompt + engine.usage.generated  # noqa: E731
    return InferenceToday(clock, config.edge.cost.token_price, tokens, before)
