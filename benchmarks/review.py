"""Latency of the review site over a long log: pages of a store with a hundred thousand decisions.

python -m benchmarks.review [--decisions 100000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import urllib.request
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from agent.decision.inputs import identify
from agent.reports.funnel import latency
from agent.review.serving import reviewing
from market.clock import monotonic
from storage.records import DecisionRecord, LedgerRow, Record, RecordKind, Run
from storage.store import Store, open_store
from tests.integration.test_trading import planted, play

GOAL_PAGE_MS, GOAL_LIST_MS = 200.0, 100.0
PAGES = {
    "overview": "/?run={run}",
    "list": "/decisions?run={run}",
    "by reason": "/decisions?run={run}&reason=thin_history",
    "lost most": "/decisions?run={run}&sort=lost_most",
    "low verified share": "/decisions?run={run}&below=0.8&searched=yes",
    "corrected": "/decisions?run={run}&corrected=yes",
    "by market": "/decisions?run={run}&market=1790606700",
    "far down": "/decisions?run={run}&after=90000",
    "decision": "/decisions/{id}?run={run}",
}


async def filled(store: Store, count: int) -> tuple[Run, str]:
    """A run with as many decisions, each the copy of one that was really made, at an instant of its own."""
    made = (await store.runs())[0]
    records = await store.records(made.id, RecordKind.DECISION)
    ledgers = await store.ledger(made.id)
    run = await store.begin_run(replace(made.identity, label="agent/long"), dict(made.manifest), made.started_at)
    log, chance, name = store.log(run.id), Random(7), ""
    for first in range(0, count, 2_000):
        async with log.together():
            for number in range(first, min(first + 2_000, count)):
                record = chance.choice(records)
                at = record.at + timedelta(minutes=5 * number)
                name = identify(run.id, str(number), at)
                await log.decision(_copied(record, ledgers.get(record.key, ()), name, at))
    return await store.run(run.id) or run, name


def _copied(record: Record, ledger: tuple[LedgerRow, ...], name: str, at: datetime) -> DecisionRecord:
    body: dict[str, Any] = dict(record.body)
    summary = body.pop("summary")
    shown = (summary["market_id"], summary["slug"], at, summary["action"], summary["reason"])
    return DecisionRecord(name, *shown, body, (), ledger, {"think": 1.0})


async def measure(count: int, times: int = 20) -> dict[str, object]:
    """Milliseconds from asking to the last byte, on the loopback."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "e.db"
        await asyncio.to_thread(play, path, planted())
        async with open_store(f"sqlite:///{path}") as store:
            run, name = await filled(store, count)
            async with reviewing(store, "127.0.0.1:0") as served:
                found = {}
                for page, where in PAGES.items():
                    url = served.url.rstrip("/") + where.format(run=run.id, id=name)
                    took = [await asyncio.to_thread(_asked, url) for _ in range(times)]
                    line = latency(page, took)
                    found[page] = {"p50_ms": line.p50, "max_ms": max(took)}
        size = path.stat().st_size
    return {
        "bench": "review", "decisions": count, "megabytes": size / 1e6, "goal_page_ms": GOAL_PAGE_MS,
        "goal_list_ms": GOAL_LIST_MS, **found,
    }  # fmt: skip


def _asked(url: str) -> float:
    begun = monotonic()
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - a loopback address
        answer.read()
    return (monotonic() - begun) * 1e3


def main() -> None:
    """One JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=100_000)
    asked, _ = parser.parse_known_args()
    print(json.dumps(asyncio.run(measure(asked.decisions))))


if __name__ == "__main__":
    main()
