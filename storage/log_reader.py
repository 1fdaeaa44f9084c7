"""The decision log without the price history beside it: what verbs that only read need. Knows no numpy, which price
history is packed with and which takes as long to import as a short answer may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from storage.audit import Audit
from storage.connection import open_database
from storage.history import MarketHistory
from storage.journal import Journal
from storage.listing import Listing
from storage.migrate import prepare


class LogReader(Journal, Listing, MarketHistory, Audit):
    """Runs, their records, lists of decisions, markets and outcomes, and the audit, over one database."""


@asynccontextmanager
async def open_log(url: str) -> AsyncIterator[LogReader]:
    """Open the log at `url` (sqlite:///FILE) for reading; closed when the block ends. Creates and migrates nothing.

    Errors: as `storage.store.open_store`.
    """
    async with open_database(url, read_only=True) as database:
        await database.call(lambda: prepare(database, read_only=True))
        yield LogReader(database)
