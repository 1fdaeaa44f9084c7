"""The agent: composition, command line, and everything that joins the other folders. `from agent import EdgeAgent`."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """The Python interface, imported when it is asked for: the command line starts without it."""
    if name == "EdgeAgent":
        from agent.api import EdgeAgent

        return EdgeAgent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
