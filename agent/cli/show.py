"""Rendering of values on a terminal: tables, JSON, one palette. Computes nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from storage.canonical import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ACCENT, MUTED, GOOD, BAD, WARN = "cyan", "grey62", "green", "red", "yellow"


def console() -> Console:
    from rich.console import Console  # here, because JSON does without it

    return Console(highlight=False)


def as_json(value: object) -> None:
    """Print a value on standard output as indented JSON."""
    sys.stdout.write(json.dumps(plain(value), indent=2) + "\n")


def as_line(value: object) -> None:
    """Print a value on standard output as one line of JSON, flushed at once for the parent process."""
    sys.stdout.write(json.dumps(plain(value)) + "\n")
    sys.stdout.flush()


def table(title: str, *columns: str, right: Sequence[str] = ()) -> Table:
    """An unboxed table in the house style; `right` names the columns of numbers."""
    from rich.table import Table

    made = Table(
        title=title, title_justify="left", title_style=f"bold {ACCENT}", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", header_style=MUTED, overflow="fold")
    return made


def dollars(micro_dollars: int) -> str:
    """Format signed dollars to the cent."""
    sign = "-" if micro_dollars < 0 else "+" if micro_dollars > 0 else ""
    return f"{sign}${abs(micro_dollars) / 1e6:,.2f}"


def tinted(micro_dollars: int) -> str:
    colour = GOOD if micro_dollars > 0 else BAD if micro_dollars < 0 else MUTED
    return f"[{colour}]{dollars(micro_dollars)}[/]"


def number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def bar(share: float, width: int = 20) -> str:
    """Draw a horizontal bar for a share in [0, 1]."""
    filled = round(min(max(share, 0.0), 1.0) * width)
    return "█" * filled + "░" * (width - filled)
