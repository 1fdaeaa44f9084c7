"""GC thresholds and the glibc arena limit of this process."""

from __future__ import annotations

import atexit
import ctypes
import gc
import sys

_YOUNG, _MIDDLE, _OLD = 50_000, 20, 50
_M_ARENA_MAX, _ARENAS = -8, 2
"""glibc's M_ARENA_MAX from malloc.h, and the arena limit that is set."""


def collect_seldom() -> None:
    """Raise the GC thresholds. Histories are many long-lived acyclic values: scanning them as often as the default does
    costs a sixth of a backtest, and a pause on the hot path each time."""
    gc.enable()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)


def collect_never() -> None:
    """Switch the garbage collector off, at the end of the process too: for a verb that reads a little and ends, of
    whose time a quarter went into scanning what was just imported."""
    gc.disable()
    atexit.register(gc.freeze)  # the interpreter's last collection skips what is frozen


def share_heaps() -> None:
    """Limit the number of malloc arenas. glibc gives each thread its own, and memory that one thread allocates and
    another frees fragments all of them, which adds up over the months of a service. No effect without glibc."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, _ARENAS)
