"""Outbox of records about money that the broker has not confirmed yet: a position in the run's log.

The position is advanced after a confirmation and stored on disk: a record is published at least once.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

from agent.service.contract import MONEY
from market.errors import StoreUnavailable
from storage.records import Record, Run
from storage.store import Store

_AT_ONCE = 200


class Outbox:
    """Outbox of all runs of one account, in the order in which they began. Call `begin` before anything else."""

    def __init__(self, store: Store, account: str, place: Path) -> None:
        self._store, self._account, self._place = store, account, place
        self._next: dict[str, int] = {}

    async def begin(self) -> None:
        """Load the positions. Without a stored file, records until now are not published any more. A restored database
        may end before a stored position: it continues from its end."""
        kept, ends = await asyncio.to_thread(self._kept), {run.id: run.records for run in await self._runs()}
        self._next = ends if kept is None else {run: min(kept.get(run, 0), end) for run, end in ends.items()}
        await asyncio.to_thread(self._keep, dict(self._next))

    async def next(self) -> Sequence[Record]:
        """The next records to publish, oldest first; empty when all are confirmed."""
        places = self._next
        for run in await self._runs():
            if run.records <= places.get(run.id, 0):
                continue
            found = await self._store.some(run.id, MONEY, since=places.get(run.id, 0), limit=_AT_ONCE)
            if found:
                return found
            places[run.id] = run.records
        return ()

    async def confirmed(self, record: Record) -> None:
        """Advance the position past a confirmed record."""
        self._next[record.run_id] = record.seq + 1
        await asyncio.to_thread(self._keep, dict(self._next))

    async def _runs(self) -> list[Run]:
        return [run for run in await self._store.runs() if run.about.account == self._account]

    def _kept(self) -> dict[str, int] | None:
        try:
            kept = json.loads(self._place.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StoreUnavailable(f"{self._place} cannot be read ({error}).") from error
        return {str(run): int(seq) for run, seq in kept.items()}

    def _keep(self, places: dict[str, int]) -> None:
        part = self._place.with_suffix(".part")
        try:
            with part.open("w", encoding="utf-8") as file:
                json.dump(places, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._place)
        except OSError as error:
            raise StoreUnavailable(f"{self._place} cannot be written ({error.strerror}).") from error
