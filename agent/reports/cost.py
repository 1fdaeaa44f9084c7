"""Cost of inference: by phase, by decision, and projected to a month. Computed from ledgers and timings alone.

Every projection says what it assumes. What was not measured is None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.config.schema import Config
from agent.evaluation.cadence import PER_DAY
from storage.records import JOULES, LedgerRow, Phase, Record

GOAL = 100.0
"""Dollars a month that a box's inference is meant to stay below."""
DAYS = 365.25 / 12
_HOUR, _KILO = 3600.0, 1000.0


@dataclass(frozen=True, slots=True)
class PhaseCost:
    """One phase of a run. `dollars` are per decision; `joules` the sum of what was measured, and `joules_per_token`
    over the tokens of the same decisions; `tokens_per_second` while the engine worked."""

    phase: str
    tokens: int
    dollars: float
    tokens_per_second: float | None
    joules: float | None
    joules_per_token: float | None


@dataclass(frozen=True, slots=True)
class Month:
    """Dollars in a month of such decisions. `idle` is the box's electricity for the rest of the month, where its watts
    are given; `total` is with it."""

    decisions_per_day: float
    markets: float
    inference: float
    idle: float | None
    total: float
    goal: float
    assumes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InferenceCost:
    """`dollars` and `seconds` of the engine are per decision. `by_energy` counts the decisions all of whose calls were
    metered, of the `asked` that asked the engine anything; `energy` says how it was measured, or why not."""

    decisions: int
    asked: int
    by_energy: int
    energy: str
    dollars: float
    seconds: float
    phases: tuple[PhaseCost, ...]
    month: Month


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Cadence of decisions: times a day for each market, and the number of markets at once."""

    per_day: float
    markets: float


@dataclass(frozen=True, slots=True)
class InferencePrices:
    """Dollars of a token and of a kilowatt-hour; `watts` of the box where they are given."""

    token: float
    kwh: float
    watts: float | None


def cost(
    ledger: Mapping[str, Sequence[LedgerRow]],
    timings: Mapping[str, Mapping[str, float]],
    rhythm: Rhythm,
    prices: InferencePrices,
    energy: str,
) -> InferenceCost:
    """A run's cost from its ledger rows and timings by decision id."""
    made = max(len(ledger), 1)
    rows = [row for per in ledger.values() for row in per]
    asking = [d for d, per in ledger.items() if any(r.calls for r in per)]
    metered = [d for d in asking if all(f"{JOULES}{r.phase.value}" in timings.get(d, {}) for r in ledger[d] if r.calls)]
    dollars = sum(r.micro_usd for r in rows) / 1e6 / made
    seconds = sum(r.milliseconds for r in rows) / 1e3 / made
    basis = _basis(len(metered), len(asking), prices)
    return InferenceCost(
        decisions=len(ledger),
        asked=len(asking),
        by_energy=len(metered),
        energy=energy,
        dollars=dollars,
        seconds=seconds,
        phases=tuple(_phase(phase, ledger, timings) for phase in Phase),
        month=_month(dollars, seconds, rhythm, prices, basis),
    )


def _phase(
    phase: Phase, ledger: Mapping[str, Sequence[LedgerRow]], timings: Mapping[str, Mapping[str, float]]
) -> PhaseCost:
    own = {d: row for d, per in ledger.items() for row in per if row.phase is phase}
    drawn = {d: j for d in own if (j := timings.get(d, {}).get(f"{JOULES}{phase.value}")) is not None}
    count, seconds = tokens(own.values()), sum(r.milliseconds for r in own.values()) / 1e3
    # Tokens of the same decisions as the joules: a failed reading must not make a token look cheaper.
    metered = tokens(own[d] for d in drawn)
    joules = sum(drawn.values()) if drawn else None
    return PhaseCost(
        phase=phase.value,
        tokens=count,
        dollars=sum(r.micro_usd for r in own.values()) / 1e6 / max(len(ledger), 1),
        tokens_per_second=count / seconds if seconds else None,
        joules=joules,
        joules_per_token=joules / metered if joules is not None and metered else None,
    )


def tokens(rows: Iterable[LedgerRow]) -> int:
    """Charged tokens: evaluated and generated."""
    return sum(r.prompt + r.generated for r in rows)


def _month(dollars: float, seconds: float, rhythm: Rhythm, prices: InferencePrices, basis: str) -> Month:
    decisions = rhythm.per_day * rhythm.markets * DAYS
    idle, box = None, "the electricity of the idle box is not counted (edge.cost.watts would add it)"
    if prices.watts is not None:
        hours = max(0.0, DAYS * 24 - decisions * seconds / _HOUR)
        idle = prices.watts / _KILO * hours * prices.kwh
        box = f"the box draws {prices.watts:g} W while the model does not work, at ${prices.kwh:g} a kWh"
    markets = f"{rhythm.markets:.3g} market{'' if rhythm.markets == 1 else 's'} at a time"
    return Month(
        decisions_per_day=rhythm.per_day * rhythm.markets,
        markets=rhythm.markets,
        inference=decisions * dollars,
        idle=idle,
        total=decisions * dollars + (idle or 0.0),
        goal=GOAL,
        assumes=(f"{rhythm.per_day:g} decisions a day on {markets}, searched as often as here", basis, box),
    )


def _basis(metered: int, asking: int, prices: InferencePrices) -> str:
    by_energy = f"measured or estimated energy at ${prices.kwh:g} a kWh"
    by_tokens = f"${prices.token * 1e6:g} for a million tokens, the owner's estimate"
    if not metered:
        return by_tokens
    if metered == asking:
        return by_energy
    return f"{by_energy} for {metered} of {asking} decisions, {by_tokens} where a reading failed"


def cost_of(
    config: Config,
    decisions: Sequence[Record],
    ledger: Mapping[str, Sequence[LedgerRow]],
    timings: Mapping[str, Mapping[str, float]],
    energy: str,
) -> InferenceCost:
    """Cost of some decisions, projected with as many markets at once as decisions at one instant, on average."""
    priced = config.edge.cost
    markets = len(decisions) / max(len({d.at for d in decisions}), 1)
    prices = InferencePrices(token=priced.token_price, kwh=priced.kwh_price, watts=priced.watts)
    return cost(ledger, timings, Rhythm(PER_DAY, markets), prices, energy)
