"""Outages of a stream as events: one when it is lost and one when it is back, however often it was tried between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from market.clock import Clock, monotonic
from market.events import ConnectionLost, ConnectionRestored, Event


@dataclass(slots=True)
class OutageReport:
    """Publisher for one channel (market, user or prices). `since` is the monotonic time of the loss, or None."""

    channel: str
    clock: Clock
    publish: Callable[[Event], None]
    since: float | None = None

    def __call__(self, why: str) -> None:
        """Take the reason of a loss, or an empty string for a connection."""
        if why and self.since is None:
            self.since = monotonic()
            self.publish(ConnectionLost(at=self.clock.now(), channel=self.channel, reason=why))
        elif not why and self.since is not None:
            away, self.since = monotonic() - self.since, None
            self.publish(ConnectionRestored(at=self.clock.now(), channel=self.channel, seconds=round(away, 3)))
