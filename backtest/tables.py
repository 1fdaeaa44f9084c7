"""Table files whose damage is reported in one plain sentence.

Knows Parquet and CSV; not the meaning of the columns.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from market.errors import DataInvalid

_AGAIN = "Fetch the file again, or take it out of the folder."


def _require(file: Path, have: Sequence[str], need: Sequence[str]) -> None:
    missing = [c for c in need if c not in have]
    if missing:
        noun = "column" if len(missing) == 1 else "columns"
        raise DataInvalid(f"{file.name} lacks the {noun} {', '.join(missing)}.", next_step=_AGAIN)


def read_parquet(file: Path, columns: Sequence[str]) -> pa.Table:
    """Read columns of a Parquet file. Raises DataInvalid."""
    try:
        # Opened as one file: read as a data set, the folders above it would be taken for columns.
        with pq.ParquetFile(file) as opened:
            _require(file, opened.schema_arrow.names, columns)
            return opened.read(columns=list(columns))
    except (pa.ArrowException, OSError) as damage:
        raise DataInvalid(f"{file.name} cannot be read as a Parquet file.", next_step=_AGAIN) from damage


def read_csv(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read the rows of a CSV file with a header, as text; one named `.gz` is unpacked. Raises DataInvalid."""
    try:
        with _text(file) as opened:
            reader = csv.DictReader(opened)
            _require(file, reader.fieldnames or [], columns)
            return [{c: row[c] or "" for c in columns} for row in reader]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as damage:
        raise DataInvalid(f"{file.name} cannot be read as CSV text.", next_step=_AGAIN) from damage


def _text(file: Path) -> TextIO:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", newline="", encoding="utf-8")
    return file.open(newline="", encoding="utf-8")
