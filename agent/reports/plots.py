"""Style of all figures. Needs the extra `research`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, RULE = "#1f2430", "#6b7280", "#e3e6eb"
BLUE, SKY, GREEN, RED, AMBER, PINK = "#0072b2", "#56b4e9", "#009e73", "#d55e00", "#e69f00", "#cc79a7"
"""Colours that people who see few colours tell apart (Okabe and Ito)."""


def drawable() -> bool:
    """True where matplotlib is installed."""
    return find_spec("matplotlib") is not None


@contextmanager
def house_style() -> Iterator[None]:
    """No screen, one type size and palette, and files that are the same each time."""
    import matplotlib as mpl

    mpl.use("agg")
    settings: Any = {
        "font.size": 9.5,
        "font.family": "DejaVu Sans",
        # Ids in an SVG are random without it, and every run would change the file.
        "svg.hashsalt": "edgeclaw",
        "text.color": INK,
        "axes.edgecolor": QUIET,
        "axes.labelcolor": QUIET,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
    }
    with mpl.rc_context(settings):
        yield


def saved(figure: Figure, stem: Path) -> Path:
    """Written as PNG and SVG; the path of the SVG."""
    from matplotlib import pyplot as plt

    figure.savefig(stem.with_suffix(".png"), dpi=160)
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)
    return stem.with_suffix(".svg")


def bare(axis: Axes) -> None:
    """Two spines and horizontal rules."""
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.grid(axis="y", color=RULE, lw=0.8)
    axis.set_axisbelow(True)
