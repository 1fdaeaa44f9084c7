"""Times of imported tables as milliseconds since 1970: numbers in a declared unit, or timestamps with a zone.

A time without a zone is refused unless the map names one: stamps of New York that are taken for UTC show a market four
hours of its future. Nothing is guessed from how the numbers look.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market.clock import from_ms, to_ms
from market.columns import Int64
from market.errors import DataInvalid, Misconfigured

TimeUnit = Literal["s", "ms", "us", "ns"]
_PER_SECOND: dict[TimeUnit, int] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_NAME_A_ZONE = "Write `units: {zone: UTC}`, or the zone that they are in, into the map."


def milliseconds(column: pa.ChunkedArray, unit: TimeUnit, zone: str, what: str) -> Int64:
    """A column of times; 0 where there is none. `unit` is that of numbers, `zone` that of timestamps without one.
    Raises DataInvalid, naming `what`, for times whose meaning is not declared."""
    kind: Any = column.type
    try:
        if pa.types.is_timestamp(kind):
            return _stamps(column, zone, what)
        if pa.types.is_integer(kind):
            return _integers(column, unit)
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            seconds = np.nan_to_num(column.cast(pa.float64()).to_numpy()) / _PER_SECOND[unit]
            rounded: Int64 = np.rint(seconds * 1000).astype(np.int64)
            return rounded
    except (pa.ArrowException, OverflowError) as damage:
        raise DataInvalid(f"{what} has a time that cannot be: {damage}.", next_step="Correct the file.") from None
    raise DataInvalid(
        f"{what} has something other than numbers or timestamps where times are wanted ({kind}).",
        next_step="Name another column in the map, or convert this one to numbers or to timestamps with a zone.",
    )


def instant(value: object, unit: TimeUnit, zone: str) -> datetime:
    """One time, from a number, a timestamp or a text of either. Raises ValueError with the reason."""
    found = from_ms(_one(value, unit, zone))
    if not 2020 <= found.year < 2100:
        raise ValueError(f"the time {value} is not in {unit} since 1970")
    return found


def must_be_a_zone(zone: str) -> None:
    """Raises Misconfigured where there is no zone of that name."""
    try:
        _zone(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Misconfigured(
            f"units.zone: {zone!r} is no time zone.", next_step="Write a name such as UTC or America/New_York."
        ) from None


@lru_cache(maxsize=8)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _stamps(column: pa.ChunkedArray, zone: str, what: str) -> Int64:
    if column.type.tz is None:
        if not zone:
            raise DataInvalid(f"{what} has times without a zone.", next_step=_NAME_A_ZONE)
        # An hour that a clock change repeats or leaves out is refused rather than chosen.
        column = pc.assume_timezone(column, zone, ambiguous="raise", nonexistent="raise")
    found: Int64 = column.cast(pa.timestamp("ms", tz="UTC"), safe=False).cast(pa.int64()).fill_null(0).to_numpy()
    return found


def _integers(column: pa.ChunkedArray, unit: TimeUnit) -> Int64:
    """Exactly: nanoseconds since 1970 have more digits than a float keeps."""
    whole: Int64 = column.cast(pa.int64()).fill_null(0).to_numpy()
    per = _PER_SECOND[unit]
    return whole * (1000 // per) if per < 1000 else (whole + per // 2000) // (per // 1000)


def _one(value: object, unit: TimeUnit, zone: str) -> int:
    if isinstance(value, datetime):
        return to_ms(_placed(value, zone))
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        return to_ms(_placed(_iso(text), zone))
    if text.lstrip("+-").isdigit():
        return round(int(text) * 1000 / _PER_SECOND[unit])
    return round(number * 1000 / _PER_SECOND[unit])


def _iso(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"the time {text!r} is neither a number nor an ISO timestamp") from None


def _placed(at: datetime, zone: str) -> datetime:
    if at.tzinfo is not None:
        return at
    if not zone:
        raise ValueError(f"the time {at} has no zone, and the map names none (units.zone)")
    found = at.replace(tzinfo=_zone(zone))
    if found.utcoffset() != found.replace(fold=1).utcoffset():
        raise ValueError(f"the time {at} is not one instant in {zone}: clocks were changed in that hour")
    return found


def outside(received: Int64, opens_at: datetime, closes_at: datetime) -> int:
    """Books received before their market opened or after it closed."""
    return int(((received < to_ms(opens_at)) | (received > to_ms(closes_at))).sum())
