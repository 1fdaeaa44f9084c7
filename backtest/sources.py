"""Where recorded order books come from: the bundled sample, or a folder of Parquet files in a layout known here.

Knows file layouts; does not know who replays what it opens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from backtest.btc5m import BOOKS as BTC5M_BOOKS
from backtest.btc5m import MARKETS as BTC5M_MARKETS
from backtest.btc5m import read_btc5m
from backtest.columns import Recording
from backtest.replay import ReplayFeed
from backtest.snapshots import BOOKS, MARKETS, read_snapshots
from market.errors import DataInvalid, NotReady

SAMPLE = "sample"
_PACKAGE = "resolvedkit"
_LAYOUTS = f"A folder holds either {BOOKS} with {MARKETS}, or {BTC5M_BOOKS} with {BTC5M_MARKETS}."

Reader = Callable[[Path], tuple[list[Recording], list[str]]]


def open_recorded(where: str) -> ReplayFeed:
    """The bundled sample (`"sample"`) or a folder of recorded books.

    Raises NotReady where the sample is not installed, DataInvalid where a folder or a file in it cannot be used.
    """
    if where == SAMPLE:
        recordings, notes = read_snapshots(sample_folder())
        return ReplayFeed(SAMPLE, recordings, notes=[*_SAMPLE_NOTES, *notes])
    folder = Path(where).expanduser()
    recordings, notes = _reader(folder)(folder)
    return ReplayFeed(folder.name, recordings, notes=notes)


_SAMPLE_NOTES = ("Data by Resolved Markets, CC BY 4.0.",)


def sample_folder() -> Path:
    """The sample's folder inside the installed package, found without running the package."""
    spec = find_spec(_PACKAGE)
    places: Sequence[str] = (spec.submodule_search_locations or ()) if spec else ()
    found = [Path(place) / "sample_data" for place in places]
    for folder in found:
        if (folder / BOOKS).is_file():
            return folder
    raise NotReady("the sample data is not installed.", next_step="Run: pip install 'edgeclaw[sample]'.")


def _reader(folder: Path) -> Reader:
    """The reader for a folder's layout."""
    if not folder.is_dir():
        raise DataInvalid(f"there is no folder {folder}.", next_step="Name a folder of recordings, or `sample`.")
    if not any(folder.iterdir()):
        raise DataInvalid(f"the folder {folder} is empty.", next_step=_LAYOUTS)
    for needed, reader in _known():
        if all(any(folder.glob(pattern)) for pattern in needed):
            return reader
    raise DataInvalid(f"the files in {folder} are in no layout known here.", next_step=_LAYOUTS)


def _known() -> Iterator[tuple[tuple[str, str], Reader]]:
    yield (BOOKS, MARKETS), read_snapshots
    yield (BTC5M_BOOKS, BTC5M_MARKETS), read_btc5m
