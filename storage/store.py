"""The store: decision log, prices, finished windows, outcomes and audit over one database. Does not decide what is
stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from storage.chain_marks import ChainMarks
from storage.connection import Database, open_database
from storage.journal import Journal
from storage.log import RunLog
from storage.log_reader import LogReader
from storage.migrate import prepare
from storage.prices import PriceBars
from storage.records import DecisionSummary, Problem, StoredIntent
from storage.windows import Windows

__all__ = ["DecisionSummary", "Problem", "RunLog", "Store", "StoredIntent", "open_store"]


class Store(LogReader, PriceBars, Windows, ChainMarks):
    """All stored data, over one database. Calls run one after the other in the database's own thread."""

    def __init__(self, database: Database) -> None:
        Journal.__init__(self, database)
        PriceBars.__init__(self, database)
        Windows.__init__(self, database)
        ChainMarks.__init__(self, database)
        self.waiting = lambda: database.waiting
        """Number of queued reads and writes."""
        self.folder = database.folder
        """Folder of the database file; None if it is no file of this machine."""


@asynccontextmanager
async def open_store(url: str, *, read_only: bool = False) -> AsyncIterator[Store]:
    """Open the database at `url` (sqlite:///FILE), migrated to this version; closed when the block ends.

    `read_only` neither creates nor migrates anything. Errors: Misconfigured for an invalid URL, NotReady for a newer
    database, a missing driver or file, DataInvalid for another program's database, StoreUnavailable if it cannot be
    read or written.
    """
    async with open_database(url, read_only=read_only) as database:
        await database.call(lambda: prepare(database, read_only=read_only))
        yield Store(database)
