"""The agent's memory as one object: decision log, prices, finished windows, outcomes, audit. Nothing here decides
what to remember."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from storage.audit import Audit
from storage.connection import Database, open_database
from storage.history import MarketHistory
from storage.journal import Journal
from storage.listing import Listing
from storage.log import RunLog
from storage.migrate import prepare
from storage.prices import PriceBars
from storage.records import DecisionSummary, Problem, StoredIntent
from storage.windows import Windows

__all__ = ["DecisionSummary", "Problem", "RunLog", "Store", "StoredIntent", "open_store"]


class Store(Journal, Listing, PriceBars, Windows, MarketHistory, Audit):
    """All that is kept, over one database. Calls run one after the other in a thread of their own."""

    def __init__(self, database: Database) -> None:
        Journal.__init__(self, database)
        PriceBars.__init__(self, database)
        Windows.__init__(self, database)
        self.waiting = lambda: database.waiting
        """How many reads and writes wait for their turn."""
        self.folder = database.folder
        """Where the database's file is; None where it is no file of this machine."""


@asynccontextmanager
async def open_store(url: str, *, read_only: bool = False) -> AsyncIterator[Store]:
    """Open the database at `url` (sqlite:///FILE), migrated to this version; closed when the block ends.

    `read_only` neither creates nor migrates anything. Errors: Misconfigured for a URL nobody understands, NotReady
    for a newer database, a missing driver or file, DataInvalid for some other program's database, StoreUnavailable
    where it cannot be read or written.
    """
    async with open_database(url, read_only=read_only) as database:
        await database.call(lambda: prepare(database, read_only=read_only))
        yield Store(database)
