"""Watches the kill switch: on halt, cancels all open orders and stays halted until a person resumes. Also cancels
resting orders while trading is inhibited, which clears by itself."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from agent.trading.execution import Execution
from market.clock import Clock, WallClock
from market.errors import StoreUnavailable, VenueUnavailable
from market.tasks import alongside
from tools.halts import KillSwitch
from tools.orders import OrderTool

OTHERS = "account comparison"
"""Who throws the switch where another program trades on the account, whose orders are its own."""
_LOOK = 0.2
"""Seconds of the machine's clock between two reads of the switch."""


@dataclass(slots=True)
class KillSwitchWatcher:
    """Watcher of one account's kill switch. `resumed` is called on resume, before trading goes on: it takes the margin
    that the person has stated."""

    switch: KillSwitch
    execution: Execution
    orders: OrderTool
    clock: Clock
    resumed: Callable[[], None]
    thrown: bool = False
    all_back: bool = False

    async def look(self) -> None:
        """Read the switch once and bring execution into agreement with it."""
        halted, at = self.switch.read(), self.clock.now()
        if halted is None and self.thrown:
            self.thrown = False
            self.resumed()
            self.execution.resume(at)
        # Execution halts before orders are cancelled, so that no new one is sent in between.
        if halted is not None and not self.thrown:
            self.thrown = True
            self.execution.halt(halted.reason, at)
        if halted is not None or self.execution.halted or self.execution.inhibitor.reason(at):
            await self._cancel_all(ours=halted is None or halted.by == OTHERS)
        else:
            self.all_back = False

    async def _cancel_all(self, *, ours: bool) -> None:
        """Cancel all orders of the account, or those of ours; again if one was in flight while the others were
        cancelled."""
        open_orders = (await self.orders.account()).open_orders
        if not self.all_back or open_orders:
            try:
                if ours:
                    await self.orders.cancel_many([o.id for o in open_orders])
                else:
                    await self.orders.cancel_all()
            except VenueUnavailable as error:
                self.execution.incidents.note("uncancelled", error)  # tried again at the next look
            else:
                self.all_back = True

    async def watch(self) -> None:
        """Read the switch repeatedly, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK)

    def throw_by_signal(self) -> None:
        try:
            self.switch.throw("SIGUSR1 received", "a signal", WallClock().now())
        except StoreUnavailable as error:
            self.execution.halt(f"SIGUSR1 received. {error}", self.clock.now())


@asynccontextmanager
async def watching_kill_switch(watcher: KillSwitchWatcher) -> AsyncIterator[None]:
    """Context in which the switch is watched, and SIGUSR1 throws it. A switch that is thrown already takes effect
    before the block begins."""
    await watcher.look()
    loop = asyncio.get_running_loop()
    with suppress(RuntimeError, ValueError):  # only the main thread receives signals; elsewhere the file has to do
        loop.add_signal_handler(signal.SIGUSR1, watcher.throw_by_signal)
    try:
        async with alongside(watcher.watch()):
            yield
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
