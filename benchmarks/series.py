"""One market's quotes from a seed: what every engine in `benchmarks.replay` is given. Needs numpy alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

TICK = 0.001
STEP_MS = 100
BEGINS_MS = 1_782_864_000_000
"""2026-07-01 00:00 UTC."""
SIZE = 1000
"""Shares on each side of every quote."""
LOW, HIGH, SHARES = 0.47, 0.53, 10
"""The rule: buy so many shares at or below the one, sell them at or above the other."""

Ticks = npt.NDArray[np.int32]


def quotes(count: int, seed: int = 7) -> tuple[Ticks, Ticks]:
    """Bids and asks in thousandths of a dollar, (n,) each: a mean-reverting mid with a spread of two to six ticks."""
    chance = np.random.default_rng(seed)
    noise = chance.normal(0.0, 0.0033, count)
    mid, x = np.empty(count), 0.0
    for n, shock in enumerate(noise.tolist()):
        x += -0.0026 * x + shock
        mid[n] = x
    half = chance.integers(1, 4, count)
    middle = np.clip(np.rint((0.5 + mid) / TICK), 20, 980).astype(np.int32)
    return (middle - half).astype(np.int32), (middle + half).astype(np.int32)


def written(count: int, folder: Path) -> Path:
    """The quotes as a file for other processes."""
    bid, ask = quotes(count)
    path = folder / f"quotes_{count}.npz"
    np.savez(path, bid=bid, ask=ask)
    return path
