"""When to stop asking a server that fails, and when to try it again. Time is an argument; asks nobody anything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """Opens after `threshold` failures in a row; `cooldown` seconds later one try is let through, and its failure opens
    it again. Instants are seconds on any clock that never steps."""

    threshold: int = 3
    cooldown: float = 30.0
    failures: int = 0
    opened: float | None = None
    reason: str = ""

    def blocked(self, now: float) -> str:
        """Why nothing may be asked now, or an empty string. Where the cooldown is over, the next try is let through."""
        if self.opened is None:
            return ""
        if now - self.opened < self.cooldown:
            return self.reason
        self.opened = now  # whoever comes next, before this try has ended, waits again
        return ""

    def failed(self, now: float, reason: str) -> None:
        self.failures += 1
        if self.failures >= self.threshold:
            self.opened, self.reason = now, reason

    def succeeded(self) -> None:
        self.failures, self.opened, self.reason = 0, None, ""
