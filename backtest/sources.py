"""Sources of recorded order books: the bundled sample, or a folder or a file in a supported layout.

Knows file layouts; independent of the replay.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from backtest.btc5m import BOOKS as BTC5M_BOOKS
from backtest.btc5m import MARKETS as BTC5M_MARKETS
from backtest.btc5m import read_btc5m
from backtest.btc5m_ladder import FILES as LADDERS
from backtest.btc5m_ladder import read_ladder
from backtest.columns import Recording
from backtest.recorded import BOOKS as RECORDED_BOOKS
from backtest.recorded import MARKETS as RECORDED_MARKETS
from backtest.recorded import read_recorded
from backtest.replay import ReplayFeed
from backtest.snapshots import BOOKS, MARKETS, read_snapshots
from market.errors import DataInvalid, NotReady

SAMPLE = "sample"
BETWEEN = os.pathsep
"""Separator of recordings that are replayed together."""
_PACKAGE = "resolvedkit"
_FILES = f"A file to name is one called {LADDERS}."
_LAYOUTS = (
    f"A folder holds {BOOKS} with {MARKETS}, {BTC5M_BOOKS} with {BTC5M_MARKETS}, or what `edgeclaw data record` wrote."
)

Reader = Callable[[Path], tuple[list[Recording], list[str]]]


def open_recorded(where: str) -> ReplayFeed:
    """Open the bundled sample (`"sample"`), a folder of recorded books, a file of them, or several of these joined by
    `BETWEEN`, as one feed.

    Raises NotReady if the sample is not installed, DataInvalid if a folder or a file cannot be used, or if they do not
    go together.
    """
    if BETWEEN in where and not Path(where).expanduser().exists():
        return _together([open_recorded(part) for part in where.split(BETWEEN) if part])
    if where == SAMPLE:
        recordings, notes = read_snapshots(sample_folder())
        return ReplayFeed(SAMPLE, recordings, notes=[*_SAMPLE_NOTES, *notes])
    place = Path(where).expanduser()
    if place.is_file():
        return _opened_file(place)
    recordings, notes = _reader(place)(place)
    return ReplayFeed(place.name, recordings, notes=notes)


def _together(feeds: Sequence[ReplayFeed]) -> ReplayFeed:
    name = " and ".join(feed.info.name for feed in feeds)
    if len({bool(feed.info.instants) for feed in feeds}) > 1:
        raise DataInvalid(
            f"{name} cannot be replayed together: one of them holds single snapshots and another whole books.",
            next_step="Name them one at a time.",
        )
    recordings = [one for feed in feeds for one in feed.recordings]
    if len({one.market.id for one in recordings}) < len(recordings):
        raise DataInvalid(f"{name} hold the same market.", next_step="Name only one of them.")
    notes = [f"{feed.info.name}: {note}" for feed in feeds for note in feed.info.notes]
    instants = sorted(at for feed in feeds for at in feed.info.instants)
    traded = all(feed.info.has_trades for feed in feeds)
    return ReplayFeed(name, recordings, notes=notes, has_trades=traded, instants=instants)


def _opened_file(file: Path) -> ReplayFeed:
    if not file.match(LADDERS):
        raise DataInvalid(f"the file {file} is in no layout known here.", next_step=f"{_FILES} {_LAYOUTS}")
    read = read_ladder(file)
    return ReplayFeed(file.name, read.recordings, notes=read.notes, instants=read.instants)


_SAMPLE_NOTES = ("Data by Resolved Markets, CC BY 4.0.",)


def sample_folder() -> Path:
    """The sample's folder inside the installed package, located without importing the package. Raises NotReady."""
    spec = find_spec(_PACKAGE)
    places: Sequence[str] = (spec.submodule_search_locations or ()) if spec else ()
    found = [Path(place) / "sample_data" for place in places]
    for folder in found:
        if (folder / BOOKS).is_file():
            return folder
    raise NotReady("the sample data is not installed.", next_step="Run: pip install 'edgeclaw[sample]'.")


def _reader(folder: Path) -> Reader:
    """Reader for a folder's layout. Raises DataInvalid."""
    if not folder.is_dir():
        message = f"there is no folder or file {folder}."
        raise DataInvalid(message, next_step="Name a folder or a file of recordings, or `sample`.")
    if not any(folder.iterdir()):
        raise DataInvalid(f"the folder {folder} is empty.", next_step=_LAYOUTS)
    for needed, reader in _known():
        if all(any(folder.glob(pattern)) for pattern in needed):
            return reader
    raise DataInvalid(f"the files in {folder} are in no layout known here.", next_step=_LAYOUTS)


def _known() -> Iterator[tuple[tuple[str, str], Reader]]:
    yield (BOOKS, MARKETS), read_snapshots
    yield (BTC5M_BOOKS, BTC5M_MARKETS), read_btc5m
    yield (RECORDED_BOOKS, RECORDED_MARKETS), read_recorded
