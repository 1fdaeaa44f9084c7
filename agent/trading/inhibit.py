"""Why nothing is opened for now, though nobody has halted trading: a clock in doubt, a signal from outside.

Caution passes by itself; a halt does not. It can forbid, and never wishes for anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

MOST = 32
"""Signals that are remembered at the same time."""


@dataclass(frozen=True, slots=True)
class InhibitSignal:
    """Somebody's word that nothing should be opened until an instant."""

    name: str
    until: datetime
    why: str = ""


@dataclass(slots=True)
class Inhibitor:
    """`clock` is a reason code while the clock is in doubt, or empty."""

    clock: str = ""
    signals: dict[str, InhibitSignal] = field(default_factory=dict)

    def reason(self, at: datetime) -> str:
        """The code that a decision at `at` is recorded with, or empty."""
        if self.clock:
            return self.clock
        standing = sorted(s.name for s in self.standing(at))
        return f"signal_{standing[0]}" if standing else ""

    def standing(self, at: datetime) -> list[InhibitSignal]:
        """Signals that hold at `at`."""
        return [s for s in self.signals.values() if at < s.until] if self.signals else []

    def inhibit(self, signal: InhibitSignal, at: datetime) -> None:
        """Take a signal; one of the same name is replaced, and one whose time is over ends it. Raises ValueError where
        there are too many."""
        self.signals = {s.name: s for s in self.standing(at) if s.name != signal.name}
        if signal.until <= at:
            return
        if len(self.signals) >= MOST:
            raise ValueError(f"The maximum of {MOST} inhibit signals is reached: end one first.")
        self.signals[signal.name] = signal
