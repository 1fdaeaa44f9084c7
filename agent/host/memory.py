"""How this process keeps house with its memory: how often it looks for garbage, and how many heaps there are."""

from __future__ import annotations

import ctypes
import gc
import sys

_YOUNG, _MIDDLE, _OLD = 50_000, 20, 50
_M_ARENA_MAX, _ARENAS = -8, 2
"""glibc's name for the most heaps, in malloc.h, and how many there shall be."""


def collect_seldom() -> None:
    """Histories are many values that live long and refer to nothing that refers back: to look through them as often as
    the interpreter does by itself costs a sixth of a backtest, and a pause on the hot path each time."""
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)


def share_heaps() -> None:
    """Have all threads share few heaps: glibc gives each thread its own, and what one thread asks for and another frees
    leaves holes in all of them, which adds up over the months of a service. Where there is no glibc nothing happens."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, _ARENAS)
