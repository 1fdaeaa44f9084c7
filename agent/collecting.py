"""How often the interpreter looks for garbage that refers to itself."""

from __future__ import annotations

import gc

_YOUNG, _MIDDLE, _OLD = 50_000, 20, 50


def collect_seldom() -> None:
    """Histories are many values that live long and refer to nothing that refers back: to look through them as often as
    the interpreter does by itself costs a sixth of a backtest, and a pause on the hot path each time."""
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
