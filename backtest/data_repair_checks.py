"""Validation of recordings row by row: a few bad rows are dropped and counted, more refuse the file.

Knows arrays and messages, not file layouts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from market.columns import HUNDREDTH, Int64, Ladder
from market.errors import DataInvalid
from market.types import Market

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

TOLERATED = 0.01
"""Largest share of a file's rows that may be dropped before the file is refused."""
REPAIRABLE_MS = 5_000
"""Largest step back of a collector's clock within one market before the order of the rows is in doubt."""

_EARLIEST_MS, _LATEST_MS = 1_577_836_800_000, 4_102_444_800_000
"""From 2020 until 2100: a time outside is in another unit, or damaged."""
LONGEST = timedelta(days=400)
"""Upper bound of any market's window."""

_FINEST = 10_000
_MOST_SHARES = 1e12
_FETCH_AGAIN = "Fetch the file again, or take it out of the folder."


@dataclass(frozen=True, slots=True)
class RawSide:
    """One side as read: (n, k) prices and sizes in whole units, NaN for no level."""

    price: Floats
    size: Floats


@dataclass(slots=True)
class RowFaults:
    """Unusable rows of one file, each with the first defect found.

    `numbers` are the rows' positions in the file, counted from 1.
    """

    file: str
    numbers: Int64
    bad: Flags
    reasons: dict[str, int]
    first: tuple[int, str] | None = None

    @classmethod
    def of(cls, file: str, numbers: Int64) -> RowFaults:
        return cls(file, numbers, np.zeros(len(numbers), np.bool_), {})

    def add(self, flags: Flags, reason: str) -> None:
        """Mark rows not marked before; `flags` are (n,) by row or (n, k) by level."""
        new = np.asarray(flags if flags.ndim == 1 else flags.any(axis=1)) & ~self.bad
        count = int(new.sum())
        if not count:
            return
        number = int(self.numbers[int(new.argmax())])
        if self.first is None or number < self.first[0]:
            self.first = number, reason
        self.bad |= new
        self.reasons[reason] = self.reasons.get(reason, 0) + count

    def judge(self) -> str:
        """Note on dropped rows, empty if there are none; raises DataInvalid if there are too many."""
        if self.first is None:
            return ""
        dropped = int(self.bad.sum())
        if dropped >= TOLERATED * len(self.bad):
            row, reason = self.first
            raise DataInvalid(f"{self.file} row {row} has {reason}.", next_step=_FETCH_AGAIN)
        what = ", ".join(f"{count} with {reason}" for reason, count in sorted(self.reasons.items()))
        return f"{dropped} {'row' if dropped == 1 else 'rows'} dropped from {self.file}: {what}."


def check_times(times: Int64, findings: RowFaults) -> None:
    """Mark rows whose time is no Unix time in milliseconds."""
    findings.add((times < _EARLIEST_MS) | (times > _LATEST_MS), "a time that is not in milliseconds since 1970")


def check_market(market: Market) -> None:
    """Raise ValueError for a market without a name or with an impossible window."""
    if not (market.id and market.slug and market.question):
        raise ValueError("it has no id, slug or question")
    if not market.opens_at < market.closes_at <= market.opens_at + LONGEST:
        raise ValueError("its window is impossible")


def check_side(side: RawSide, name: str, findings: RowFaults) -> None:
    """Mark rows whose levels are impossible on their own. Crossed and one-sided books are facts, not damage."""
    price, size = side.price, side.size
    has_price, has_size = ~np.isnan(price), ~np.isnan(size)
    findings.add(has_price != has_size, f"a {name} level with only one of price and size")
    present = has_price & has_size
    findings.add(present[:, 1:] & ~present[:, :-1], f"a gap between its {name} levels")
    with np.errstate(over="ignore", invalid="ignore"):
        ticks, hundredths = np.rint(price * _FINEST), np.rint(size * 100)
        steps = np.diff(ticks, axis=1)
    # Negated comparisons: whatever is not plainly inside, infinities included, counts as bad.
    findings.add(present & ~((ticks > 0) & (ticks < _FINEST)), f"a {name} price outside (0, 1)")
    findings.add(present & ~((hundredths > 0) & (size < _MOST_SHARES)), f"an impossible {name} size")
    disorder = steps >= 0 if name == "bid" else steps <= 0
    findings.add(disorder, f"its {name} levels out of order")


def ladder(side: RawSide, bad: Flags) -> Ladder:
    """Convert checked levels to integers: prices to the venue's finest tick, sizes to hundredths of a share. Bad rows
    are left empty."""
    side = RawSide(*(np.where(bad[:, None], np.nan, cells) for cells in (side.price, side.size)))
    present = ~np.isnan(side.price)
    # The tick is rounded before scaling, so that single-precision prices come out exact.
    price = np.rint(np.nan_to_num(side.price) * _FINEST).astype(np.int32) * np.int32(1_000_000 // _FINEST)
    size = np.rint(np.nan_to_num(side.size) * 100).astype(np.int64) * HUNDREDTH
    return Ladder(price, size, present.sum(axis=1).astype(np.int32))


def steady(times: Int64, file: str, numbers: Int64) -> Int64:
    """Receipt times of one market in the order of its rows, made non-decreasing.

    A small step back is a correction of the collector's clock: those rows count as received with the one before them,
    which is later than the truth and so shows nothing early. Raises DataInvalid for a larger step.
    """
    latest = np.maximum.accumulate(times)
    back = latest - times
    if len(back) and int(back.max()) > REPAIRABLE_MS:
        row = int(numbers[int((back > REPAIRABLE_MS).argmax())])
        raise DataInvalid(
            f"{file} row {row} was received long before a row above it: time runs backwards.",
            next_step="Sort the file by time of receipt, or fetch it again.",
        )
    return latest
