"""The hard limits of one decision: tokens, dollars and seconds; and what each phase used.

Nothing is asked of the engine that has not been reserved here first, so a limit is never passed by one token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.llm.engine import Usage
from agent.search.tree import OutOfBudget
from market.clock import monotonic
from storage.records import LedgerRow, Phase


@dataclass(frozen=True, slots=True)
class Limits:
    """`seconds` is None where the deadline is counted in tokens (replays). `cost` and `token_price` are dollars; the
    price is the owner's estimate of what a token costs on the box."""

    tokens: int = 1600
    seconds: float | None = None
    cost: float = 0.01
    token_price: float = 5e-8


@dataclass(slots=True)
class Budget:
    """What is left of a decision's limits. Phases other than search may use what search has left over."""

    limits: Limits
    spent: dict[Phase, Usage] = field(default_factory=dict)
    started: float = field(default_factory=monotonic)

    @property
    def tokens(self) -> int:
        return sum(u.charged for u in self.spent.values())

    @property
    def dollars(self) -> float:
        return self.tokens * self.limits.token_price

    def seconds_left(self) -> float | None:
        if self.limits.seconds is None:
            return None
        return self.limits.seconds - (monotonic() - self.started)

    def reserve(self, tokens: int) -> None:
        """Raise OutOfBudget unless `tokens` more fit every limit."""
        if self.tokens + tokens > self.limits.tokens:
            raise OutOfBudget("tokens")
        if (self.tokens + tokens) * self.limits.token_price > self.limits.cost:
            raise OutOfBudget("cost")
        left = self.seconds_left()
        if left is not None and left <= 0:
            raise OutOfBudget("deadline")

    def settle(self, phase: Phase, usage: Usage) -> None:
        """Book what a call really used."""
        self.spent[phase] = self.spent.get(phase, Usage()) + usage

    def room(self) -> int:
        """Tokens that could still be reserved."""
        by_cost = int(self.limits.cost / self.limits.token_price) if self.limits.token_price else self.limits.tokens
        return max(0, min(self.limits.tokens, by_cost) - self.tokens)

    def ledger(self) -> tuple[LedgerRow, ...]:
        """A row for each phase, in order, zeros included."""
        return tuple(self._row(phase) for phase in Phase)

    def _row(self, phase: Phase) -> LedgerRow:
        u = self.spent.get(phase, Usage())
        micro_usd = u.charged * self.limits.token_price * 1e6
        return LedgerRow(phase, u.prompt, u.cached, u.generated, u.calls, u.milliseconds, micro_usd)


def charged(spent: Mapping[Phase, Usage]) -> dict[str, dict[str, int]]:
    """Tokens by phase for the decision's record; no durations."""
    return {
        phase.value: {"prompt": u.prompt, "cached": u.cached, "generated": u.generated, "calls": u.calls}
        for phase in Phase
        if (u := spent.get(phase)) is not None
    }
