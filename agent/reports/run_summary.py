"""Summary of a run, computed from its records alone: the funnel, money by evidence, scores, tokens, latency.

Knows no live state: the same records always give the same summary, durations apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.config.places import database_url
from agent.config.schema import Config
from agent.evaluation.judgement import earned
from agent.evaluation.ladder import LadderRung
from agent.evaluation.ladder_data import climb
from agent.evaluation.maker_fills import Resting, resting
from agent.reports.cost import InferenceCost, cost_of
from agent.reports.funnel import Funnel, Latency, funnel, latency
from agent.trading.result import RunResult
from market.types import Fill, FillEvidence, Micro, Resolution
from storage.records import LedgerRow, RecordKind, Run
from storage.store import Store, open_store
from tools.ledger import PositionLedger


@dataclass(frozen=True, slots=True)
class Money:
    """Micro-dollars by evidence class: in markets that resolved, of all fills, by the payout; in others of sales, at
    average cost. Fills of positions that are held are counted as `open`."""

    evidence: str
    fills: int
    fees: Micro
    pnl: Micro
    open: int


@dataclass(frozen=True, slots=True)
class TraderLine:
    """One strategy on the same windows through the same exchange."""

    name: str
    run_id: str
    orders: int
    fills: int
    fees: Micro
    pnl: Micro
    money: tuple[Money, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """The report at the end of a run."""

    run_id: str
    data: str
    notes: tuple[str, ...]
    model: str
    appended: int
    compared: int
    funnel: Funnel
    traders: tuple[TraderLine, ...]
    tokens: Mapping[str, int]
    engine_tokens: int
    dollars: float
    cost: InferenceCost
    latencies: tuple[Latency, ...]
    ladder: tuple[LadderRung, ...]
    halted: str = ""
    resting: Resting | None = None


def money(fills: Sequence[Fill], resolutions: Mapping[str, Resolution]) -> tuple[Money, ...]:
    """Profit of each evidence class: what resolved shares paid, less what they and their fees cost, and what sales
    realised in markets that have not resolved."""
    left = [f for f in fills if earned(f, resolutions.get(f.market_id)) is None]
    positions = PositionLedger(left)
    sold = {r.key: r.earned for r in positions.results}
    held = {f.id for f in left if positions.held(f.market_id, f.outcome)}
    rows = []
    for kind in FillEvidence:
        own = [f for f in fills if f.evidence is kind]
        if not own:
            continue
        ended = [pnl for f in own if (pnl := earned(f, resolutions.get(f.market_id))) is not None]
        rows.append(
            Money(
                evidence=kind.value,
                fills=len(own),
                fees=sum(f.fee for f in own),
                pnl=sum(ended) + sum(sold.get(f.id, 0) for f in own),
                open=sum(f.id in held for f in own),
            )
        )
    return tuple(rows)


def tokens(rows: Iterable[LedgerRow]) -> dict[str, int]:
    """Charged tokens by phase."""
    total: Counter[str] = Counter()
    for row in rows:
        total[row.phase.value] += row.prompt + row.generated
    return dict(total)


async def summarise(config: Config, outcome: RunResult) -> Summary:
    """The summary of a run, its baselines and its ladder."""
    # Read-only: a report must not be able to change what it reports on.
    async with open_store(database_url(config), read_only=True) as store:
        run = outcome.run
        decisions = await store.records(run.id, RecordKind.DECISION)
        fills = await store.fills(run.id)
        ledger = await store.ledger(run.id)
        intents = {i.order_id: i.decision_id for i in await store.intents(run.id)}
        rows = [r for per in ledger.values() for r in per]
        timings = await store.timings(run.id)
        climbed = await climb(store, [run])
        lines = [await _trader(store, _who(run), run, "")]
        lines += [await _trader(store, s.name, r, _note(s.name)) for s, r in outcome.baselines]
        return Summary(
            run_id=run.id,
            data=run.about.data,
            notes=run.about.notes,
            model=f"{outcome.engine.model} ({outcome.engine.engine})",
            appended=outcome.appended,
            compared=outcome.compared,
            funnel=funnel(decisions, set(intents.values()), (intents[f.order_id] for f in fills)),
            traders=tuple(lines),
            tokens=tokens(rows),
            engine_tokens=outcome.used.charged,
            dollars=sum(r.micro_usd for r in rows) / 1e6,
            cost=cost_of(config, decisions, ledger, timings, outcome.energy),
            latencies=(
                latency("decision", [t["observe"] + t["think"] for t in timings.values()]),
                latency("tick to order", outcome.ticks, config.edge.latency_limit * 1e3),
            ),
            ladder=tuple(climbed),
            halted=outcome.halted,
            resting=await resting(store, run.id),
        )


async def _resolutions(store: Store, run: Run) -> Mapping[str, Resolution]:
    return {r.market_id: r for r in await store.outcomes(run.id)}


async def _trader(store: Store, name: str, run: Run, note: str) -> TraderLine:
    fills = await store.fills(run.id)
    by_evidence = money(fills, await _resolutions(store, run))
    return TraderLine(
        name=name,
        run_id=run.id,
        orders=len(await store.intents(run.id)),
        fills=len(fills),
        fees=sum(f.fee for f in fills),
        pnl=sum(m.pnl for m in by_evidence),
        money=by_evidence,
        note=note,
    )


def _who(run: Run) -> str:
    """Name of the trader: the agent, or the traders that a live run's label names."""
    label = run.identity.label
    return label.removeprefix("live:").rpartition("/")[0] if label.startswith("live:") else "agent"


def _note(name: str) -> str:
    return "never trades: it believes the price" if name == "market_mid" else ""
