"""The agent's forecasts in a backtest, decision by decision, beside the market's and the diffusion's at that instant.

Reads the store; scores nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from storage.decisions import RecordedDecision
from storage.log_reader import LogReader
from storage.records import Record, RecordKind, Run


@dataclass(frozen=True, slots=True)
class RecordedForecast:
    """Forecast of one decision. Probabilities are of YES, None where no price was seen or there is no reference price;
    `paid` is the payout of YES (0 to 1), None while it is not known; `tokens` are the model's, prompt and generated."""

    decision: str
    at: datetime
    market: str
    slug: str
    action: str
    reason: str
    mid: float | None
    diffusion: float | None
    probability: float | None
    tokens: int
    paid: float | None

    @property
    def scored(self) -> bool:
        return self.mid is not None and self.probability is not None and self.paid is not None


async def forecasts(store: LogReader, run: Run) -> tuple[RecordedForecast, ...]:
    """Forecasts of all decisions of an agent's run, by time, then market."""
    paid = {r.market_id: float(r.payout) for r in await store.outcomes(run.id) if r.payout is not None}
    found = [_forecast(d, paid) for d in await store.records(run.id, RecordKind.DECISION)]
    return tuple(sorted(found, key=lambda f: (f.at, f.market)))


def _forecast(record: Record, paid: dict[str, float]) -> RecordedForecast:
    decision = RecordedDecision.of(record)
    return RecordedForecast(
        decision=record.key,
        at=record.at,
        market=decision.market.id,
        slug=decision.market.slug,
        action=decision.action,
        reason=decision.reason,
        mid=decision.mid,
        diffusion=decision.arms.get("diffusion"),
        probability=decision.probability,
        tokens=sum(used.charged for used in decision.tokens.values()),
        paid=paid.get(decision.market.id),
    )
