"""Circuit breaker: stops calls to a failing server, and lets one try through after a cooldown. Time is an argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """Circuit breaker. Opens after `threshold` failures in a row; `cooldown` seconds later one try is let through, and
    its failure opens it again. Instants are seconds on any monotonic clock."""

    threshold: int = 3
    cooldown: float = 30.0
    failures: int = 0
    opened: float | None = None
    reason: str = ""

    def blocked(self, now: float) -> str:
        """The reason for refusing a call now, or an empty string. After the cooldown, the next try is let through."""
        if self.opened is None:
            return ""
        if now - self.opened < self.cooldown:
            return self.reason
        self.opened = now  # calls that come before this try has ended are refused again
        return ""

    def failed(self, now: float, reason: str) -> None:
        self.failures += 1
        if self.failures >= self.threshold:
            self.opened, self.reason = now, reason

    def succeeded(self) -> None:
        self.failures, self.opened, self.reason = 0, None, ""
