"""The life of a run in the store, the same in every world: begin, gap, end, and the agreement of cash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import NamedTuple

from agent.llm.engine import Engine, Usage
from agent.trading.bus import Bus
from agent.trading.execution import Execution
from agent.trading.loop import Schedule
from agent.trading.result import RunResult
from market.clock import Clock
from market.errors import EdgeclawError, LedgerMismatch
from market.events import RunStarted, RunStopped
from market.types import Micro
from storage.canonical import Json
from storage.lease import Lease
from storage.records import RecordKind, Run, RunIdentity, RunManifest
from storage.store import RunLog, Store
from strategies.base import Strategy
from tools.ledger import balance


class EndedRun(NamedTuple):
    """A run that has ended: the milliseconds of each tick, its log, and why trading was halted, if it was."""

    run: Run
    ticks: list[float]
    log: RunLog
    halted: str

    def result(
        self, engine: Engine, used: Usage, energy: str, baselines: Sequence[tuple[Strategy, Run]] = ()
    ) -> RunResult:
        """Result to summarise; `energy` says how it was measured, or why not."""
        return RunResult(
            run=self.run,
            appended=self.log.appended,
            compared=self.log.compared,
            ticks=tuple(self.ticks),
            engine=engine.identity,
            used=used,
            halted=self.halted,
            baselines=tuple(baselines),
            energy=energy,
        )


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run and its log, from its first record to its last."""

    store: Store
    run: Run
    log: RunLog

    @classmethod
    async def begin(cls, store: Store, identity: RunIdentity, manifest: RunManifest, at: datetime) -> RunRecord:
        """Begin the run of that identity. One that exists is compared with what is computed again."""
        run = await store.begin_run(identity, manifest.to_json(), at)
        return cls(store, run, store.log(run.id))

    @classmethod
    async def resume(
        cls, store: Store, identity: Callable[[int], RunIdentity], manifest: RunManifest, at: datetime, lease: Lease
    ) -> RunRecord:
        """Go on with the first unfinished run of those that `identity` numbers from 1, or begin it, behind its last
        record."""
        for number in count(1):
            run = await store.begin_run(identity(number), manifest.to_json(), at)
            if not run.finished:
                # A live run cannot be computed again, as `begin` would: the market has moved on.
                log = store.log(run.id, lease)
                await log.go_on()
                return cls(store, run, log)
        raise AssertionError("unreachable")

    async def close_gap(self, schedule: Callable[[datetime], Schedule], now: datetime) -> None:
        """Write down the slots at which nothing was decided since the last decision, because an earlier process of this
        run was stopped or died. `schedule` gives the slots from an instant on."""
        begins = await self._after_last_decision()
        if begins is None:
            return
        missed = list(schedule(begins).until(now))
        last = await self.store.records(self.run.id, since=self.log.length - 1)
        reason = "stopped" if last[-1].kind is RecordKind.STOP else "interrupted"
        if missed:
            await self.log.gap(missed[0], missed[-1], len(missed), reason, now)

    async def begins(self, now: datetime) -> datetime:
        """Instant from which slots are decided at: none a second time, were the clock set back since."""
        begins = await self._after_last_decision()
        return now if begins is None else max(now, begins)

    async def _after_last_decision(self) -> datetime | None:
        newest = await self.store.decisions(self.run.id, limit=1)
        return newest[-1].at + timedelta(microseconds=1) if newest else None

    async def end(
        self, execution: Execution, clock: Clock, *, runs: Sequence[Run], unknown: Collection[str], differs: str = ""
    ) -> Run:
        """Close the run, once the exchange's account agrees with the records of `runs`, the account's runs oldest
        first. `unknown` are orders whose end nobody saw; `differs` says how the accounts differ, where that was found
        before. Raises LedgerMismatch."""
        # Compared before the end is written: a run whose cash differs stays unfinished, with its log as it was.
        account = await execution.account()
        if not differs and account.cash != (expected := await recorded_cash(self.store, runs)):
            differs = f"the account holds {account.cash} micro-dollars where the records say {expected}"
        if differs:
            raise LedgerMismatch(f"{differs}.", next_step="Keep the database and run: edgeclaw log verify")
        body: dict[str, Json] = {
            "cash": account.cash,
            "holdings": {f"{m}/{o}": size for (m, o), size in sorted(account.holdings.items())},
            "unknown": sorted(unknown),
            "halted": execution.halted,
        }
        await self.log.end(clock.now(), body)
        return await self.store.run(self.run.id) or self.run


async def recorded_cash(store: Store, runs: Sequence[Run]) -> Micro:
    """Micro-dollars that an account holds by the records of its runs, oldest first."""
    cash = runs[0].about.initial_cash
    for run in runs:
        cash = balance(cash, await store.fills(run.id), await store.settlements(run.id), await store.transfers(run.id))
    return cash


@contextmanager
def run_published(bus: Bus, clock: Clock, started: RunStarted) -> Iterator[None]:
    """Publish that a run goes on, and when the block ends, what ended it."""
    bus.publish(started)
    ended = RunStopped(at=started.at, run_id=started.run_id, finished=True, reason="its slots are done")
    try:
        yield
    except asyncio.CancelledError:
        ended = replace(ended, finished=False, reason="interrupted")
        raise
    except EdgeclawError as error:
        ended = replace(ended, finished=False, reason=error.sentence())
        raise
    except Exception as error:
        ended = replace(ended, finished=False, reason=f"it failed ({type(error).__name__})")
        raise
    finally:
        bus.publish(replace(ended, at=clock.now()))
