"""Clocks as an injected dependency, so that a day of history replays in seconds.

The only module that reads the machine's clock. All instants are aware UTC.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_FEW = 512
"""Largest array whose conversion is cached."""


def from_ms(milliseconds: int) -> datetime:
    """Convert milliseconds since 1970 to an instant, exactly."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def instants(numbers: npt.NDArray[np.int64], unit: Literal["ms", "us"]) -> list[datetime]:
    """Convert an integer array since 1970 to instants, exactly. Short arrays come from a cache: do not change the
    list."""
    return list(_made(numbers.tobytes(), unit)) if len(numbers) <= _FEW else _instants(numbers, unit)


@lru_cache(maxsize=64)
def _made(numbers: bytes, unit: Literal["ms", "us"]) -> list[datetime]:
    """Cached conversion: the markets of one slot have bars at the same instants."""
    import numpy as np  # here, so that `--help` does without it

    return _instants(np.frombuffer(numbers, np.int64), unit)


def _instants(numbers: npt.NDArray[np.int64], unit: Literal["ms", "us"]) -> list[datetime]:
    # `tolist` of a datetime64 array gives naive datetimes in one C loop.
    naive: list[datetime] = numbers.astype(f"datetime64[{unit}]").tolist()
    return [at.replace(tzinfo=UTC) for at in naive]


def to_ms(at: datetime) -> int:
    """Convert an instant to whole milliseconds since 1970, rounded down."""
    return (at - EPOCH) // _MILLISECOND


def monotonic() -> float:
    """Seconds on a clock that never steps; for durations only."""
    # `perf_counter` rather than `monotonic`: the same guarantee with the finest resolution that the platform offers.
    return time.perf_counter()


class Clock(Protocol):
    """Current time, and waiting for a later time."""

    def now(self) -> datetime: ...

    async def wait_until(self, at: datetime) -> None:
        """Return at `at` or as soon after as possible; at once if it is past."""
        ...


class WallClock:
    """System clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def wait_until(self, at: datetime) -> None:
        while (left := (at - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 - in slices, so that a suspended
            await asyncio.sleep(min(left, 1.0))  # machine or a stepped clock is noticed within a second


class ManualClock:
    """Clock that moves only when advanced: for backtests, full-speed replays and tests. Raises ValueError when set
    back."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance_to(self, at: datetime) -> None:
        if at < self._now:
            raise ValueError(f"time cannot run backwards: {at} < {self._now}")
        self._now = at

    async def wait_until(self, at: datetime) -> None:
        # Waiting for the past is no error here, unlike `advance_to`: a strategy may have overrun its slot.
        if at > self._now:
            self._now = at


class PacedClock(ManualClock):
    """Recorded time at `speed` times the real pace. It moves only in `wait_until`, so a paced replay makes exactly the
    decisions of a full-speed one."""

    def __init__(self, start: datetime, speed: float) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be positive, got {speed}")
        super().__init__(start)
        self._speed = speed
        self._start, self._origin = start, monotonic()

    async def wait_until(self, at: datetime) -> None:
        # The due instant counts from the start, not from the last wait, so that rounding of sleeps does not add up to
        # drift.
        due = self._origin + (at - self._start).total_seconds() / self._speed
        await asyncio.sleep(max(0.0, due - monotonic()))
        await super().wait_until(at)


class ScaledClock:
    """Time that began at `start` and runs at `speed` times the system clock, for all readers alike. For a loopback
    venue and the agents that trade on its time."""

    def __init__(self, start: datetime, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be positive, got {speed}")
        self._start, self.speed, self._origin = start, speed, monotonic()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=(monotonic() - self._origin) * self.speed)

    async def wait_until(self, at: datetime) -> None:
        while (left := (at - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 - in slices, as on the machine's clock
            await asyncio.sleep(min(left / self.speed, 1.0))
