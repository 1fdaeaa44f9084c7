"""The agent: composition, command line, and the Python interface, `from agent import EdgeAgent`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = ["Analysed", "EdgeAgent", "GoalResult"]

if TYPE_CHECKING:
    from agent.analysis.analysis import Analysed as Analysed
    from agent.api import EdgeAgent as EdgeAgent
    from agent.goals import GoalResult as GoalResult
else:
    _HOMES = {"Analysed": "agent.analysis.analysis", "EdgeAgent": "agent.api", "GoalResult": "agent.goals"}

    def __getattr__(name: str) -> object:
        """Import the Python interface on first use: the command line starts without it."""
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
