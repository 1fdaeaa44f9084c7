"""Recorded reference price series as arrays, exact to 1e-18 dollars and shared by all markets that it prices.

Knows nothing of files, markets or feeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np
import numpy.typing as npt

from market.clock import from_ms, to_ms
from market.feed import ReferenceTick

SCALE = 18
"""Stored decimal places: those of the Chainlink streams."""
_ONE = 10**SCALE
_MOST = 10**SCALE
"""Largest whole dollars that fit."""

_Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceSeries:
    """A price series. All four arrays are (n,) and in order of receipt: `received` and `at` in milliseconds since 1970,
    the price as `whole` dollars and `fraction` in 1e-18 dollars, so that no decimal is lost."""

    received: _Int64
    at: _Int64
    whole: _Int64
    fraction: _Int64

    def __post_init__(self) -> None:
        if np.any(np.diff(self.received) < 0):
            raise ValueError("reference ticks must be in order of receipt")

    def __len__(self) -> int:
        return len(self.received)

    def until(self, milliseconds: int) -> ReferenceSeries:
        """The series as received by an instant; the arrays are views, not copies."""
        end = slice(0, int(self.received.searchsorted(milliseconds, "right")))
        return ReferenceSeries(self.received[end], self.at[end], self.whole[end], self.fraction[end])

    def between(self, after: int, until: int) -> list[ReferenceTick]:
        """Ticks received in (after, until]."""
        # A Decimal made from text is exact whatever the context's precision.
        first, last = self.received.searchsorted((after, until), "right").tolist()
        columns = (c[first:last].tolist() for c in (self.at, self.received, self.whole, self.fraction))
        return [
            ReferenceTick(from_ms(at), from_ms(received), Decimal(f"{whole}.{fraction:018d}"))
            for at, received, whole, fraction in zip(*columns, strict=True)
        ]

    @classmethod
    def of(cls, ticks: Sequence[ReferenceTick]) -> ReferenceSeries:
        """Build from ticks in order of receipt. Raises ValueError for a price that is not positive, finer than 1e-18 or
        too large."""
        parts = [_split(t.price) for t in ticks]
        return cls(
            np.array([to_ms(t.received_at) for t in ticks], np.int64),
            np.array([to_ms(t.at) for t in ticks], np.int64),
            np.array([whole for whole, _ in parts], np.int64),
            np.array([fraction for _, fraction in parts], np.int64),
        )


def _split(price: Decimal) -> tuple[int, int]:
    with localcontext(prec=60):
        if not (price.is_finite() and 0 < price < _MOST):
            raise ValueError(f"{price} is no price that can be kept")
        scaled = price.scaleb(SCALE)
        if scaled != scaled.to_integral_value():
            raise ValueError(f"{price} is finer than 1e-{SCALE}")
        whole, fraction = divmod(int(scaled), _ONE)
    return whole, fraction
