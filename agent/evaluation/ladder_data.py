"""From stored runs to the evidence ladder: gathers each rung's forecasts from the run that holds them. Reads the store;
asks no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.evaluation.ladder import MID, RUNGS, DecisionCost, LadderArm, LadderRung, Truth, constant_lean, ladder
from market.types import Resolution
from storage.records import LedgerRow, Record, RecordKind, Run
from storage.store import Store

PER_DAY = 288.0
"""Five-minute decisions a day on one market."""


async def climb(store: Store, runs: Sequence[Run]) -> list[LadderRung]:
    """The ladder over the decisions of these agent runs, with the arms that were run on the same inputs."""
    arms = {rung.name: LadderArm(rung.name) for rung in RUNGS}
    outcomes: dict[str, float] = {}
    windows: dict[str, str] = {}
    for run in sorted(runs, key=lambda r: r.id):
        found = {r.market_id: r for r in await store.outcomes(run.id)}
        records = await store.records(run.id, RecordKind.DECISION)
        windows |= _windows(records)
        outcomes |= _outcomes(records, found)
        for label, held in (await _held(store, run)).items():
            decisions = records if label == "agent" else await store.records(held.id, RecordKind.DECISION)
            ledger = await store.ledger(held.id)
            for rung in RUNGS:
                if rung.run == label:
                    _gather(arms[rung.name], decisions, rung.arm, ledger if rung.costs else {})
    ordered = [arms[r.name] for r in RUNGS if arms[r.name].forecasts or not r.run.startswith("arm:")]
    if "+ search" in arms and arms["+ search"].forecasts:
        ordered.append(constant_lean(arms["+ search"], arms[MID]))
    return ladder(ordered, Truth(outcomes, windows, PER_DAY))


async def _held(store: Store, run: Run) -> dict[str, Run]:
    """The agent's run and its arms, by label."""
    same = (run.identity.data, run.identity.config, run.identity.code)
    arms = {
        r.identity.label: r
        for r in await store.runs()
        if r.identity.label.startswith("arm:")
        and (r.identity.data, r.identity.config, r.identity.code) == same
        and r.manifest.get("of") == run.id
    }
    return {"agent": run, **arms}


def _gather(arm: LadderArm, decisions: Sequence[Record], name: str, ledger: dict[str, tuple[LedgerRow, ...]]) -> None:
    for d in decisions:
        decision: Any = d.body["thought"]
        if name not in decision["arms"]:
            continue
        key = _key(d)
        arm.forecasts[key] = float(decision["arms"][name])
        rows = ledger.get(d.key, ())
        if rows:
            tokens = sum(r.prompt + r.generated for r in rows)
            arm.costs[key] = DecisionCost(
                tokens, sum(r.micro_usd for r in rows) / 1e6, sum(r.milliseconds for r in rows)
            )


def _key(decision: Record) -> str:
    """The same for the same decision in every run."""
    return f"{_market(decision)}@{decision.at.isoformat()}"


def _market(decision: Record) -> str:
    market: Any = decision.body["market"]
    return str(market["id"])


def _windows(decisions: Sequence[Record]) -> dict[str, str]:
    """The market of each decision, those of one market together and in order."""
    found: dict[str, list[str]] = {}
    for d in decisions:
        found.setdefault(_market(d), []).append(_key(d))
    return {key: market for market, keys in found.items() for key in keys}


def _outcomes(decisions: Sequence[Record], resolutions: dict[str, Resolution]) -> dict[str, float]:
    """What YES paid, for decisions whose market resolved."""
    paid = {m: float(r.payout) for m, r in resolutions.items() if r.payout is not None}
    return {_key(d): paid[m] for d in decisions if (m := _market(d)) in paid}
