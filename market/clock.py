"""Time as a dependency, so that a day of history replays in seconds.

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
"""Instants that are worth remembering together."""


def from_ms(milliseconds: int) -> datetime:
    """The instant that many milliseconds after 1970, exactly."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def instants(numbers: npt.NDArray[np.int64], unit: Literal["ms", "us"]) -> list[datetime]:
    """Many instants after 1970, exactly."""
    return list(_made(numbers.tobytes(), unit)) if len(numbers) <= _FEW else _instants(numbers, unit)


@lru_cache(maxsize=64)
def _made(numbers: bytes, unit: Literal["ms", "us"]) -> list[datetime]:
    """The markets of a slot have bars at the same instants."""
    import numpy as np  # here, so that `--help` does without it

    return _instants(np.frombuffer(numbers, np.int64), unit)


def _instants(numbers: npt.NDArray[np.int64], unit: Literal["ms", "us"]) -> list[datetime]:
    naive: list[datetime] = numbers.astype(f"datetime64[{unit}]").tolist()
    return [at.replace(tzinfo=UTC) for at in naive]


def to_ms(at: datetime) -> int:
    """Whole milliseconds since 1970, rounded down."""
    return (at - EPOCH) // _MILLISECOND


def monotonic() -> float:
    """Seconds on a clock that never steps; for durations only."""
    return time.perf_counter()


class Clock(Protocol):
    """What time it is, and how to wait for a later time."""

    def now(self) -> datetime: ...

    async def wait_until(self, at: datetime) -> None:
        """Return at `at` or as soon after as possible; at once if it is past."""
        ...


class WallClock:
    """The machine's own time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def wait_until(self, at: datetime) -> None:
        while (left := (at - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 - in slices, so that a suspended
            await asyncio.sleep(min(left, 1.0))  # machine or a stepped clock is noticed within a second


class ManualClock:
    """Moves only when told to: backtests, full-speed replays and tests hold one."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance_to(self, at: datetime) -> None:
        if at < self._now:
            raise ValueError(f"time cannot run backwards: {at} < {self._now}")
        self._now = at

    async def wait_until(self, at: datetime) -> None:
        if at > self._now:
            self._now = at


class PacedClock(ManualClock):
    """Recorded time at `speed` times the real pace. It moves only in `wait_until`, so that a paced replay decides
    exactly what one at full speed decides."""

    def __init__(self, start: datetime, speed: float) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be positive, got {speed}")
        super().__init__(start)
        self._speed = speed
        self._start, self._origin = start, monotonic()

    async def wait_until(self, at: datetime) -> None:
        due = self._origin + (at - self._start).total_seconds() / self._speed
        await asyncio.sleep(max(0.0, due - monotonic()))
        await super().wait_until(at)


class ScaledClock:
    """Time that began at `start` and runs at `speed` times the machine's pace, whoever waits for it. For a loopback
    venue and whoever trades on its time."""

    def __init__(self, start: datetime, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be positive, got {speed}")
        self._start, self.speed, self._origin = start, speed, monotonic()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=(monotonic() - self._origin) * self.speed)

    async def wait_until(self, at: datetime) -> None:
        while (left := (at - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 - in slices, as on the machine's clock
            await asyncio.sleep(min(left / self.speed, 1.0))
