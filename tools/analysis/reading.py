"""Loading of the user's files as data frames: CSV, Excel or Parquet, times and numbers recognised, nothing sent
anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import polars as pl
from polars.exceptions import PolarsError

from market.errors import Misconfigured
from tools.analysis.excel import read_excel
from tools.analysis.numerals import DecimalMark, Reading, read_numbers
from tools.analysis.table import Column, ColumnKind, Profile

_FEW, _SHARE = 50, 0.2
"""A text column is a category if it has at most so many values, or so small a share of the rows."""
_UNTYPED = frozenset({".csv", ".tsv"})
"""Files that do not say which columns are text."""
_LONGEST_LINE = 1 << 20
_TRIED, _MOST_OF_FEW, _NEARLY_ALL = 1000, 0.9, 0.99
"""Number of texts tried as times first, share of those that must be times, and share of all."""


@dataclass(frozen=True, slots=True)
class LoadedTable:
    """The rows of a file, and by its name a sentence on each column that looks like numbers and is not understood."""

    frame: pl.DataFrame
    remarks: Mapping[str, str]


def read_table(path: Path) -> pl.DataFrame:
    """The rows of a file, as `load_table` reads them."""
    return load_table(path).frame


def load_table(path: Path, decimal: str = "") -> LoadedTable:
    """Load the whole file; `decimal` is point or comma where its numbers do not show which. Raises Misconfigured in one
    sentence if its content does not match its name."""
    readers: Mapping[str, Callable[[Path], pl.DataFrame]] = {
        ".csv": _csv, ".tsv": _csv, ".xlsx": read_excel, ".xls": read_excel, ".parquet": pl.read_parquet
    }  # fmt: skip
    path, mark = path.expanduser(), _mark(decimal)
    kind = path.suffix.lower()
    reader = readers.get(kind)
    if reader is None:
        raise Misconfigured(f"{path.name} is none of {', '.join(readers)}.", next_step="Convert it to CSV or Parquet.")
    if not path.is_file():
        raise Misconfigured(f"there is no file {path}.", next_step="Check the path.")
    try:
        frame = reader(path)
    except (PolarsError, OSError, ValueError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Misconfigured(f"{path.name} cannot be read: {said}", next_step="Open it and check its format.") from None
    if not frame.height or not frame.width:
        raise Misconfigured(f"{path.name} has no rows.", next_step="Check the file.")
    return _in_order(frame.rename({name: name.strip() or "unnamed" for name in frame.columns}), mark, kind in _UNTYPED)


def _mark(decimal: str) -> DecimalMark:
    try:
        return DecimalMark(decimal)
    except ValueError:
        raise Misconfigured(f"{decimal!r} is no decimal mark.", next_step="Say point or comma.") from None


def _csv(path: Path) -> pl.DataFrame:
    separator = "\t" if path.suffix.lower() == ".tsv" else _separator(path)
    # All as text: types inferred from the first rows would take the zeros from an id, and fail at a later row.
    return pl.read_csv(path, separator=separator, infer_schema=False)


def _separator(path: Path) -> str:
    """The usual separator that occurs most in the first line, outside of quotes."""
    with path.open(encoding="utf-8", errors="replace") as file:
        first = re.sub('"[^"]*"', "", file.readline(_LONGEST_LINE))
    return max(",;\t|", key=first.count)


def _in_order(frame: pl.DataFrame, decimal: DecimalMark, untyped: bool) -> LoadedTable:
    """Parse text columns that are numbers, flags or times, and sort the rows of a file with a column of times by it."""
    texts = [c for c in frame.columns if frame[c].dtype == pl.String]
    read = [_parsed(frame[c], decimal, untyped) for c in texts]
    frame = frame.with_columns(one.series for one in read)
    times = [c for c in frame.columns if frame[c].dtype.is_temporal()]
    frame = frame.sort(times[0], maintain_order=True) if times and not frame[times[0]].is_sorted() else frame
    return LoadedTable(frame, {one.series.name: one.remark for one in read if one.remark})


def _parsed(series: pl.Series, decimal: DecimalMark, untyped: bool) -> Reading:
    """A text column as numbers or flags if all values are, as times if nearly all are, else unchanged. A thousand
    values are tried before all are: a failed parse takes longer than reading the row."""
    known = series.drop_nulls()
    few = known.gather_every(max(1, known.len() // _TRIED))
    if untyped and _flags(few) and _flags(known):
        return Reading((series.str.to_lowercase() == "true").alias(series.name))
    if _times(few, _MOST_OF_FEW) is not None:
        made = _times(series, _NEARLY_ALL)
        return Reading(series if made is None else made)
    return read_numbers(series, decimal=decimal, typed=not untyped)


def _flags(texts: pl.Series) -> bool:
    return bool(texts.len()) and texts.str.to_lowercase().is_in(["true", "false"]).all()


def _times(texts: pl.Series, share: float) -> pl.Series | None:
    """Parse texts as times; None if fewer than that share of the present ones are."""
    try:
        made = texts.str.to_datetime(strict=False)
    except PolarsError:
        return None
    known = texts.len() - texts.null_count()
    return made if known and made.len() - made.null_count() >= share * known else None


def profile(frame: pl.DataFrame, remarks: Mapping[str, str] = MappingProxyType({})) -> Profile:
    """Profile of each column, with what there is to remark on it by its name."""
    return Profile(frame.height, tuple(_column(frame[name], remarks.get(name, "")) for name in frame.columns))


def _column(series: pl.Series, remark: str) -> Column:
    missing = series.null_count()
    distinct = series.drop_nulls().n_unique()
    return Column(series.name, _kind(series, distinct), missing, distinct, remark)


def _kind(series: pl.Series, distinct: int) -> ColumnKind:
    kind = series.dtype
    if not distinct:
        return ColumnKind.EMPTY
    if kind == pl.Boolean:
        return ColumnKind.FLAG
    if kind.is_numeric():
        return ColumnKind.NUMBER
    if kind.is_temporal():
        return ColumnKind.TIME
    return ColumnKind.CATEGORY if distinct <= _FEW or distinct <= _SHARE * series.len() ** 0.5 else ColumnKind.TEXT
