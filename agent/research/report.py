"""Report of a backtest as one value. Reads the store; the same runs give the same report to the byte."""

from __future__ import annotations

from dataclasses import dataclass

from agent.app.backtests import Backtested, strategies
from agent.evaluation.ladder import LadderRung
from agent.evaluation.ladder_data import climb
from agent.research.forecasts import RecordedForecast, forecasts
from agent.research.judging import Coverage, Data, JudgedRun, coverage, judged
from storage.store import Store
from strategies.base import Referenced


@dataclass(frozen=True, slots=True)
class Report:
    """Report of a backtest. `data`, `code` and `config` are SHA-256 hashes; equal ones give equal reports."""

    name: str
    data: str
    code: str
    config: str
    coverage: Coverage
    tried: tuple[JudgedRun, ...]
    ladder: tuple[LadderRung, ...] = ()
    forecasts: tuple[RecordedForecast, ...] = ()


async def report(store: Store, done: Backtested) -> Report:
    """Gather the report from the finished runs."""
    data = Data(done.feed, done.feed.recordings)
    tried = [await judged(store, data, name, run) for name, run in done.runs.items()]
    tried += [
        JudgedRun(name=name, run_id="", orders=0, judgement=None, failed=why) for name, why in done.failed.items()
    ]
    agent, known = done.runs.get("agent"), strategies()
    blind = [] if done.feed.info.has_reference else [n for n in done.runs if isinstance(known.get(n), Referenced)]
    identity = next(iter(done.runs.values())).identity if done.runs else None
    return Report(
        name=done.feed.info.name,
        data=done.feed.info.fingerprint,
        code=identity.code if identity else "",
        config=identity.config if identity else "",
        coverage=coverage(data, blind),
        tried=tuple(tried),
        ladder=tuple(await climb(store, [agent])) if agent else (),
        forecasts=await forecasts(store, agent) if agent else (),
    )
