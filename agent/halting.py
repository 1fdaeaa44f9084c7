"""A live run obeys the kill switch: it takes every order back, stays halted, and goes on once a person allows it. What
rests is taken back for caution, too, which passes by itself."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from agent.desk import Desk
from market.clock import Clock
from market.errors import StoreUnavailable, VenueUnavailable
from tools.halts import KillSwitch
from tools.orders import OrderTool

_LOOK = 0.2
"""Seconds of the machine's between two looks at the switch."""


@dataclass(slots=True)
class Obedience:
    """One desk and its switch. `forget` is called when a person has looked at the losses so far."""

    switch: KillSwitch
    desk: Desk
    orders: OrderTool
    clock: Clock
    forget: Callable[[], None]
    thrown: bool = False
    all_back: bool = False
    careful: bool = False

    async def look(self) -> None:
        """Make what is done agree with the switch."""
        halted = self.switch.read()
        if halted is None:
            if self.thrown:
                self.thrown = self.all_back = False
                self.forget()
                self.desk.resume(self.clock.now())
            await self._be_careful()
            return
        if not self.thrown:
            self.thrown = True
            self.desk.halt(halted.reason, self.clock.now())
        # Again where one was on its way while the others were taken back.
        if not self.all_back or (await self.orders.account()).open_orders:
            with suppress(VenueUnavailable):
                await self.orders.cancel_all()
                self.all_back = True

    async def _be_careful(self) -> None:
        """Once caution begins, nothing that rests may fill."""
        begins = bool(self.desk.caution.reason(self.clock.now()))
        if begins and not self.careful:
            with suppress(VenueUnavailable):
                await self.orders.cancel_all()
                self.careful = True
        self.careful = self.careful and begins

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK)

    def throw_by_signal(self) -> None:
        try:
            self.switch.throw("asked to by a signal", "a signal", self.clock.now())
        except StoreUnavailable as error:
            self.desk.halt(f"asked to by a signal. {error}", self.clock.now())


@asynccontextmanager
async def obeying(obedience: Obedience) -> AsyncIterator[None]:
    """While the block lasts, the switch is obeyed, and SIGUSR1 throws it. A switch that is thrown already is obeyed
    before the block begins."""
    await obedience.look()
    loop = asyncio.get_running_loop()
    with suppress(RuntimeError, ValueError):  # only the main thread hears signals; elsewhere the file has to do
        loop.add_signal_handler(signal.SIGUSR1, obedience.throw_by_signal)
    watching = asyncio.create_task(obedience.watch())
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        loop.remove_signal_handler(signal.SIGUSR1)
