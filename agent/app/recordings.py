"""Recordings by name: opened, looked through, brought in from tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from backtest.importing import Imported, bring_in, read_map
from backtest.quality import Quality, quality
from backtest.recorded import gaps
from backtest.replay import ReplayFeed
from backtest.sources import BETWEEN, SAMPLE, open_recorded

__all__ = ["SAMPLE", "Imported", "Quality", "import_tables", "look_through", "open_recording", "several"]


def several(names: Sequence[str]) -> str:
    """One name for recordings that are replayed together; the sample's where there are none."""
    return BETWEEN.join(names or [SAMPLE])


async def open_recording(where: str) -> ReplayFeed:
    """A recording by name, folder or file; read off the event loop."""
    return await asyncio.to_thread(open_recorded, where)


async def look_through(where: str) -> Quality:
    """Quality of a recording; read off the event loop."""

    def look() -> Quality:
        place = Path(where).expanduser()
        return quality(open_recorded(where).recordings, gaps(place) if place.is_dir() else ())

    return await asyncio.to_thread(look)


def import_tables(
    books: Sequence[Path], markets: Path, mapping: Path, folder: Path | None, told: Callable[[int, int], None]
) -> Imported:
    """Check tables of order books against the map of their columns in a YAML file and write them to an empty folder;
    without a folder only check. `told` hears how many books of how many are written. Raises DataInvalid,
    Misconfigured."""
    return bring_in(books, markets, read_map(mapping), folder, told)
