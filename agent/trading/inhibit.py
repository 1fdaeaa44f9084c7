"""Temporary inhibition of new orders: an unreliable clock or an external signal. Clears by itself, unlike a halt.

It can only forbid orders, never ask for one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

MOST = 32
"""Maximum number of signals in force at the same time."""


@dataclass(frozen=True, slots=True)
class InhibitSignal:
    """An external signal that nothing be opened until an instant."""

    name: str
    until: datetime
    why: str = ""


@dataclass(slots=True)
class Inhibitor:
    """Signals in force, and the state of the clock and the account. `clock` is a reason code while the clock is
    unreliable, `account` while the account differs from the venue's; or empty."""

    clock: str = ""
    account: str = ""
    signals: dict[str, InhibitSignal] = field(default_factory=dict)

    def reason(self, at: datetime) -> str:
        """The reason code recorded with a decision at `at`, or an empty string."""
        if self.clock or self.account:
            return self.clock or self.account
        standing = sorted(s.name for s in self.standing(at))
        return f"signal_{standing[0]}" if standing else ""

    def standing(self, at: datetime) -> list[InhibitSignal]:
        """Signals in force at `at`."""
        return [s for s in self.signals.values() if at < s.until] if self.signals else []

    def inhibit(self, signal: InhibitSignal, at: datetime) -> None:
        """Take a signal; it replaces one of the same name, and one that has expired already ends it. Raises ValueError
        beyond `MOST` signals."""
        self.signals = {s.name: s for s in self.standing(at) if s.name != signal.name}
        if signal.until <= at:
            return
        if len(self.signals) >= MOST:
            raise ValueError(f"The maximum of {MOST} inhibit signals is reached: end one first.")
        self.signals[signal.name] = signal
