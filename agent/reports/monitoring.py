"""Recent performance of the model on this box: speed, cost, share of verified searches. Read from the log.

Works while the agent runs, and after; changes nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.error import HTTPError
from urllib.request import urlopen

from agent.config.schema import Config
from agent.reports.cost import InferenceCost, cost_of
from agent.reports.funnel import Funnel, Latency, funnel, latency
from storage.log_reader import LogReader
from storage.projections import RecordedOrder, fill_of
from storage.records import LedgerRow, RecordKind, Run

_ANSWER = 2.0


@dataclass(frozen=True, slots=True)
class AgentHealth:
    """Health of a running agent as reported at `service.listen`: well or not, and its complaints."""

    well: bool
    complaints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Monitored:
    """The last `decisions` of a run, the newest of them at `newest`. `tokens_per_second` is while the engine worked,
    `cached` the share of prompt tokens that were there already, `verified` the share of searches that found a claim
    which history supports; each None where there was nothing of the kind. `health` is None where nobody was asked."""

    run_id: str
    data: str
    running: bool
    decisions: int
    newest: datetime | None
    funnel: Funnel
    tokens_per_second: float | None
    cached: float | None
    verified: float | None
    latencies: tuple[Latency, ...]
    cost: InferenceCost
    health: AgentHealth | None


async def monitored(store: LogReader, config: Config, run: Run, last: int) -> Monitored:
    """Of the newest `last` decisions."""
    since = min((d.seq for d in await store.decisions(run.id, limit=last)), default=0)
    records = await store.records(run.id, since=since)
    decisions = [r for r in records if r.kind is RecordKind.DECISION]
    ledger, timings = await store.ledger(run.id, since=since), await store.timings(run.id, since=since)
    ordered = {r.key: RecordedOrder.of(r).decision_id for r in records if r.kind is RecordKind.INTENT}
    filled = {fill_of(r.body).order_id for r in records if r.kind is RecordKind.FILL}
    came = funnel(decisions, set(ordered.values()), (ordered[o] for o in filled if o in ordered))
    rows = [row for per in ledger.values() for row in per]
    measured = list(timings.values())
    return Monitored(
        run_id=run.id,
        data=run.about.data,
        running=not run.finished,
        decisions=len(decisions),
        newest=decisions[-1].at if decisions else None,
        funnel=came,
        tokens_per_second=_share(sum(r.prompt + r.generated for r in rows), sum(r.milliseconds for r in rows) / 1e3),
        cached=_share(sum(r.cached for r in rows), sum(r.prompt + r.cached for r in rows)),
        verified=_share(came.verified, came.searched),
        latencies=(
            latency("observe", [t["observe"] for t in measured if "observe" in t]),
            latency("think", [t["think"] for t in measured if "think" in t]),
            latency("model", _worked(ledger.values())),
        ),
        cost=cost_of(config, decisions, ledger, timings, ""),
        health=await _health(config.service.listen),
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _worked(decisions: Iterable[Sequence[LedgerRow]]) -> list[float]:
    """Milliseconds that the engine worked for each decision that asked it anything."""
    return [sum(row.milliseconds for row in rows) for rows in decisions if any(row.calls for row in rows)]


async def _health(listen: str) -> AgentHealth | None:
    """Health of the agent, where an address to ask is configured."""
    return await asyncio.to_thread(_said_at, f"http://{listen}/healthz") if listen else None


def _said_at(address: str) -> AgentHealth:
    try:
        with urlopen(address, timeout=_ANSWER) as answer:  # noqa: S310
            said = json.load(answer)
    # An agent with complaints answers 503 with the same body.
    except HTTPError as error:
        said = _read(error)
    except (OSError, ValueError) as error:
        return AgentHealth(False, (f"It does not answer at {address} ({type(error).__name__}).",))
    if not isinstance(said, dict) or not isinstance(said.get("complaints"), list):
        return AgentHealth(False, (f"Something else than edgeclaw answers at {address}.",))
    return AgentHealth(bool(said.get("ok")), tuple(map(str, said["complaints"])))


def _read(error: HTTPError) -> object:
    """The page of an error, None where it is not JSON."""
    try:
        return json.loads(error.read())
    except (OSError, ValueError):
        return None
