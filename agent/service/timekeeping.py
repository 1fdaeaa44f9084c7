"""Clock supervision: the wall clock is compared with the monotonic clock and with the venue's.

After a step forward, or a suspend, nothing is opened until the venue's clock agrees. After a step back, everything
received until now lies in the future, and nothing that is point in time holds any more: the run ends, and the next
start recovers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agent.trading.inhibit import Inhibitor
from market.clock import Clock, ScaledClock, monotonic
from market.errors import ClockStepped, DataInvalid, NotReady, VenueUnavailable
from market.incidents import Incidents

log = logging.getLogger(__name__)
STEP = 2.0
"""Seconds by which the clock may deviate from the monotonic one between two readings."""
_TROUBLE = {"uncompared": "The clock could not be compared with the venue's"}
STEPPED, DIFFERS = "clock_stepped", "clock_differs"
_CLOCK = {"action": "clock"}
"""What the log calls a change of the clock's state."""
_LOOK, _COMPARE, _IN_DOUBT = 0.5, 60.0, 5.0
"""Seconds between two readings, between two comparisons with the venue, and between those while in doubt."""


def pace(clock: Clock) -> float:
    """Seconds of the clock that pass in one of the machine's."""
    return clock.speed if isinstance(clock, ScaledClock) else 1.0


@dataclass(slots=True)
class Timekeeper:
    """Watches `clock` for one run. `agree` raises NotReady where it differs from the venue's."""

    clock: Clock
    inhibitor: Inhibitor
    agree: Callable[[], Awaitable[None]]
    incidents: Incidents = field(default_factory=lambda: Incidents(_TROUBLE))
    look: float = _LOOK
    compare: float = _COMPARE
    in_doubt: float = _IN_DOUBT

    async def watch(self) -> None:
        """Read both clocks repeatedly, until cancelled. Raises ClockStepped when the clock was set back."""
        here, steady = self.clock.now(), monotonic()
        due = steady + self.compare
        while True:
            await asyncio.sleep(self.look)
            now, at = self.clock.now(), monotonic()
            step = (now - here).total_seconds() / pace(self.clock) - (at - steady)
            here, steady = now, at
            if step < -STEP:
                raise ClockStepped(
                    f"The system clock was set back by {-step:.0f} s.", next_step="Start again: a start is a recovery."
                )
            if step > STEP:
                log.warning(
                    "system clock jumped ahead by %.0f s; no new orders until it agrees with the venue's clock",
                    step,
                    extra=_CLOCK,
                )
                self.inhibitor.clock, due = STEPPED, at
            if at >= due:
                await self._compare()
                due = at + (self.in_doubt if self.inhibitor.clock else self.compare)

    async def _compare(self) -> None:
        try:
            await self.agree()
        except NotReady as error:
            if self.inhibitor.clock != DIFFERS:
                log.warning("%s", error.sentence(), extra=_CLOCK)
            self.inhibitor.clock = DIFFERS
        except (VenueUnavailable, DataInvalid) as error:
            self.incidents.note("uncompared", error)  # no answer is no evidence: the present state stands
        else:
            if self.inhibitor.clock:
                log.info("system clock agrees with the venue's clock again", extra=_CLOCK)
            self.inhibitor.clock = ""
