"""A live run obeys the kill switch: it takes every order back, stays halted, and goes on once a person allows it. What
rests is taken back for caution, too, which passes by itself."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from agent.trading.execution import Execution
from market.clock import Clock
from market.errors import StoreUnavailable, VenueUnavailable
from market.tasks import end
from tools.halts import KillSwitch
from tools.orders import OrderTool

_LOOK = 0.2
"""Seconds of the machine's between two looks at the switch."""


@dataclass(slots=True)
class KillSwitchWatcher:
    """One desk and its switch. `forget` is called when a person has looked at the losses so far."""

    switch: KillSwitch
    execution: Execution
    orders: OrderTool
    clock: Clock
    forget: Callable[[], None]
    thrown: bool = False
    all_back: bool = False

    async def look(self) -> None:
        """Make what is done agree with the switch."""
        halted, at = self.switch.read(), self.clock.now()
        if halted is None and self.thrown:
            self.thrown = False
            self.forget()
            self.execution.resume(at)
        if halted is not None and not self.thrown:
            self.thrown = True
            self.execution.halt(halted.reason, at)
        if halted is not None or self.execution.inhibitor.reason(at):
            await self._take_back()
        else:
            self.all_back = False

    async def _take_back(self) -> None:
        """Nothing may rest; again where one was on its way while the others were taken back."""
        if not self.all_back or (await self.orders.account()).open_orders:
            with suppress(VenueUnavailable):
                await self.orders.cancel_all()
                self.all_back = True

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK)

    def throw_by_signal(self) -> None:
        try:
            self.switch.throw("SIGUSR1 received", "a signal", self.clock.now())
        except StoreUnavailable as error:
            self.execution.halt(f"SIGUSR1 received. {error}", self.clock.now())


@asynccontextmanager
async def watching_kill_switch(watcher: KillSwitchWatcher) -> AsyncIterator[None]:
    """While the block lasts, the switch is obeyed, and SIGUSR1 throws it. A switch that is thrown already is obeyed
    before the block begins."""
    await watcher.look()
    loop = asyncio.get_running_loop()
    with suppress(RuntimeError, ValueError):  # only the main thread hears signals; elsewhere the file has to do
        loop.add_signal_handler(signal.SIGUSR1, watcher.throw_by_signal)
    watching = asyncio.create_task(watcher.watch())
    try:
        yield
    finally:
        try:
            await end(watching)
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)
