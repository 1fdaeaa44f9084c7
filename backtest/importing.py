"""Import of foreign tables: checked against a map, written as an archive that replays like any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from backtest.columns import Recording
from backtest.imported import ImportMap, read_import
from market.errors import DataInvalid, Misconfigured
from storage.ticks import TickArchive
from storage.yaml_files import read_yaml

_MAP = TypeAdapter(ImportMap)
_LISTS = ("bid", "bid_size", "ask", "ask_size")
_AT_ONCE = 50_000
"""Books buffered before they are written."""


@dataclass(frozen=True, slots=True)
class Imported:
    """Summary of an import; `folder` is empty for a dry run."""

    markets: int
    books: int
    resolved: int
    begins: str
    ends: str
    notes: tuple[str, ...]
    folder: str = ""


def read_map(file: Path) -> ImportMap:
    """Column map from a YAML file. Raises Misconfigured, naming the key."""
    try:
        tree: Any = read_yaml(file)
    except (OSError, ValueError):
        raise Misconfigured(f"the map {file} cannot be read as YAML.", next_step="See docs/data.md.") from None
    if isinstance(tree, dict) and isinstance(books := tree.get("books"), dict):
        tree["books"] = books | {n: [books[n]] for n in _LISTS if isinstance(books.get(n), str)}
    try:
        mapping = _MAP.validate_python(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise Misconfigured(
            f"the map {file.name}: {where}: {first['msg'].lower()}.", next_step="See docs/data.md."
        ) from None
    widths = {len(getattr(mapping.books, name)) for name in _LISTS}
    if len(widths) != 1 or 0 in widths:
        raise Misconfigured(
            f"the map {file.name} names different numbers of columns for {', '.join(_LISTS)}.",
            next_step="Name as many levels for each.",
        )
    return mapping


def bring_in(
    books: Sequence[Path], markets: Path, mapping: ImportMap, folder: Path | None, told: Callable[[int, int], None]
) -> Imported:
    """Check everything, then write it to an empty folder; without a folder only check. `told` is called with the number
    of written books and the total. Raises DataInvalid."""
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise DataInvalid(f"{folder} is not empty.", next_step="Name a new folder.")
    recordings, notes = read_import(books, markets, mapping)
    if not recordings:
        raise DataInvalid("no row belongs to a known market.", next_step="Compare the two `market` columns of the map.")
    if folder is not None:
        _write(recordings, folder, told)
    return Imported(
        markets=len(recordings),
        books=sum(map(len, recordings)),
        resolved=sum(r.resolution is not None for r in recordings),
        begins=min(r.market.opens_at for r in recordings).isoformat(),
        ends=max(r.market.closes_at for r in recordings).isoformat(),
        notes=tuple(notes),
        folder="" if folder is None else str(folder),
    )


def _write(recordings: Sequence[Recording], folder: Path, told: Callable[[int, int], None]) -> None:
    archive, total, done = TickArchive(folder), sum(map(len, recordings)), 0
    for one in recordings:
        archive.market(one.market)
        if one.resolution is not None:
            archive.outcome(one.resolution)
        for row in range(len(one)):
            archive.book(one.book(row))
            if archive.waiting >= _AT_ONCE:
                archive.flush()
                told(done + row + 1, total)
        done += len(one)
    archive.flush()
    told(total, total)
