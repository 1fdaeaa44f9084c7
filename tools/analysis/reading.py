"""Loading of the user's files as data frames: CSV, Excel or Parquet, times and numbers recognised, nothing sent
anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from market.errors import Misconfigured
from tools.analysis.table import Column, ColumnKind, Profile

_FEW, _SHARE = 50, 0.2
"""A text column is a category if it has at most so many values, or so small a share of the rows."""
_LOOKED_AT = 10_000
"""Rows of a CSV file from which the column types are inferred."""
_TRIED, _MOST_OF_FEW, _NEARLY_ALL = 1000, 0.9, 0.99
"""Number of texts tried as times first, share of those that must be times, and share of all."""


def read_table(path: Path) -> pl.DataFrame:
    """Load the whole file. Raises Misconfigured in one sentence if its content does not match its name."""
    readers: Mapping[str, Callable[[Path], pl.DataFrame]] = {
        ".csv": _csv, ".tsv": _csv, ".xlsx": _excel, ".xls": _excel, ".parquet": pl.read_parquet
    }  # fmt: skip
    path = path.expanduser()
    reader = readers.get(path.suffix.lower())
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
    return _in_order(frame.rename({name: name.strip() or "unnamed" for name in frame.columns}))


def _csv(path: Path) -> pl.DataFrame:
    separator = "\t" if path.suffix.lower() == ".tsv" else _separator(path)
    return pl.read_csv(path, separator=separator, try_parse_dates=True, infer_schema_length=_LOOKED_AT)


def _separator(path: Path) -> str:
    """The usual separator that occurs most in the first line."""
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    return max(",;\t|", key=first.count)


def _excel(path: Path) -> pl.DataFrame:
    from fastexcel import FastExcelError

    try:
        return pl.read_excel(path)
    except FastExcelError as error:
        raise ValueError(str(error)) from error


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Parse text columns that are times, and sort the rows of a file with a column of times by it."""
    texts = [c for c in frame.columns if frame[c].dtype == pl.String]
    frame = frame.with_columns(_parsed(frame[c]) for c in texts)
    times = [c for c in frame.columns if frame[c].dtype.is_temporal()]
    return frame.sort(times[0], maintain_order=True) if times and not frame[times[0]].is_sorted() else frame


def _parsed(series: pl.Series) -> pl.Series:
    """A text column as times if nearly all values are times, else unchanged. A thousand values are tried before all
    are: a failed parse takes longer than reading the row."""
    known = series.drop_nulls()
    few = known.gather_every(max(1, known.len() // _TRIED))
    made = None if _times(few, _MOST_OF_FEW) is None else _times(series, _NEARLY_ALL)
    return series if made is None else made


def _times(texts: pl.Series, share: float) -> pl.Series | None:
    """Parse texts as times; None if fewer than that share of the present ones are."""
    try:
        made = texts.str.to_datetime(strict=False)
    except PolarsError:
        return None
    known = texts.len() - texts.null_count()
    return made if known and made.len() - made.null_count() >= share * known else None


def profile(frame: pl.DataFrame) -> Profile:
    """Profile of each column."""
    return Profile(frame.height, tuple(_column(frame[name]) for name in frame.columns))


def _column(series: pl.Series) -> Column:
    missing = series.null_count()
    distinct = series.drop_nulls().n_unique()
    return Column(series.name, _kind(series, distinct), missing, distinct)


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
