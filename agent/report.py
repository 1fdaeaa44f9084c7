"""From a finished run's records to its summary. Reads the store; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.app.result import RunResult
from agent.config import Config
from agent.cost import Cost, Prices, Rhythm, cost
from agent.evidence import PER_DAY, climb
from agent.places import database_url
from agent.resting import resting
from agent.summary import Summary, TraderLine, funnel, latency, money, tokens
from market.types import Resolution
from storage.records import LedgerRow, Record, RecordKind, Run
from storage.store import Store, open_store


async def summarise(config: Config, outcome: RunResult) -> Summary:
    """The summary of a run, its baselines and its ladder."""
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
            data=str(run.manifest["data"]),
            notes=tuple(map(str, _listed(run.manifest["notes"]))),
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


def cost_of(
    config: Config,
    decisions: Sequence[Record],
    ledger: Mapping[str, Sequence[LedgerRow]],
    timings: Mapping[str, Mapping[str, float]],
    energy: str,
) -> Cost:
    """What some decisions cost: as many markets at a time as there were decisions at one instant, on the average."""
    priced = config.edge.cost
    markets = len(decisions) / max(len({d.at for d in decisions}), 1)
    prices = Prices(priced.token_price, priced.kwh_price, priced.watts)
    return cost(ledger, timings, Rhythm(PER_DAY, markets), prices, energy)


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


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
    """Who traded: the agent, or whoever a live run's label names."""
    label = run.identity.label
    return label.removeprefix("live:").rpartition("/")[0] if label.startswith("live:") else "agent"


def _note(name: str) -> str:
    return "never trades: it believes the price" if name == "market_mid" else ""
