"""Ladder data: gathers each rung's forecasts from the stored run that holds them. Reads the store; asks no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from agent.evaluation.cadence import PER_DAY
from agent.evaluation.ladder import MID, RUNGS, DecisionCost, LadderArm, LadderRung, Truth, constant_lean, ladder
from market.types import Resolution
from storage.decisions import RecordedDecision
from storage.log_reader import LogReader
from storage.records import LedgerRow, RecordKind, Run


@dataclass(frozen=True, slots=True)
class _Made:
    """A decision by its id, and the instant it was made at."""

    id: str
    at: datetime
    decision: RecordedDecision

    @property
    def place(self) -> str:
        """The same for the same decision in every run."""
        return f"{self.decision.market.id}@{self.at.isoformat()}"


async def climb(store: LogReader, runs: Sequence[Run]) -> list[LadderRung]:
    """The ladder over the decisions of these agent runs and of the arms that were run on the same inputs."""
    arms = {rung.name: LadderArm(rung.name) for rung in RUNGS}
    outcomes: dict[str, float] = {}
    windows: dict[str, str] = {}
    # Sorted, so that the block bootstrap does not depend on the order of the arguments.
    for run in sorted(runs, key=lambda r: r.id):
        found = {r.market_id: r for r in await store.outcomes(run.id)}
        made = await _made(store, run)
        own = _windows(made)
        windows |= own
        outcomes |= _outcomes(own, found)
        for label, held in (await _held(store, run)).items():
            decisions = made if label == "agent" else await _made(store, held)
            ledger = await store.ledger(held.id)
            for rung in RUNGS:
                if rung.run == label:
                    _gather(arms[rung.name], decisions, rung.arm, ledger if rung.costs else {})
    ordered = [arms[r.name] for r in RUNGS if arms[r.name].forecasts or not r.run.startswith("arm:")]
    if "+ search" in arms and arms["+ search"].forecasts:
        ordered.append(constant_lean(arms["+ search"], arms[MID]))
    return ladder(ordered, Truth(outcomes, windows, PER_DAY))


async def _made(store: LogReader, run: Run) -> list[_Made]:
    return [_Made(r.key, r.at, RecordedDecision.of(r)) for r in await store.records(run.id, RecordKind.DECISION)]


async def _held(store: LogReader, run: Run) -> dict[str, Run]:
    """The agent's run and its arms, by label."""
    # An arm of other code, configuration or data was run on other inputs; pairing it would compare unlike things.
    same = (run.identity.data, run.identity.config, run.identity.code)
    arms = {
        r.identity.label: r
        for r in await store.runs()
        if r.identity.label.startswith("arm:")
        and (r.identity.data, r.identity.config, r.identity.code) == same
        and r.about.of == run.id
    }
    return {"agent": run, **arms}


def _gather(arm: LadderArm, made: Sequence[_Made], name: str, ledger: dict[str, tuple[LedgerRow, ...]]) -> None:
    for d in made:
        if name not in d.decision.arms:
            continue
        arm.forecasts[d.place] = d.decision.arms[name]
        rows = ledger.get(d.id, ())
        if rows:
            tokens = sum(r.prompt + r.generated for r in rows)
            arm.costs[d.place] = DecisionCost(
                tokens, sum(r.micro_usd for r in rows) / 1e6, sum(r.milliseconds for r in rows)
            )


def _windows(made: Sequence[_Made]) -> dict[str, str]:
    """The market of each decision, those of one market together and in order."""
    found: dict[str, list[str]] = {}
    for d in made:
        found.setdefault(d.decision.market.id, []).append(d.place)
    return {key: market for market, keys in found.items() for key in keys}


def _outcomes(windows: Mapping[str, str], resolutions: Mapping[str, Resolution]) -> dict[str, float]:
    """Payout of YES (0 to 1) by key, for decisions whose market has resolved."""
    paid = {m: float(r.payout) for m, r in resolutions.items() if r.payout is not None}
    return {key: paid[m] for key, m in windows.items() if m in paid}
