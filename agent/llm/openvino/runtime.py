"""The pinned OpenVINO package, imported without its telemetry.

`import openvino` sends an event to a statistics service before any function is called, unless its telemetry package
cannot be imported. Here it never can, whether it is installed or not: nothing leaves this machine.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from market.errors import NotReady

PACKAGE = "openvino"
PINNED = "2026.4.1"
INSTALL = "Run: edgeclaw install edge-runtime --engine openvino"

_TELEMETRY = "openvino_telemetry"


def installed() -> bool:
    """True if the pinned package is installed; it is not imported."""
    try:
        return importlib.util.find_spec(PACKAGE) is not None and version(PACKAGE) == PINNED
    except PackageNotFoundError:
        return False


def load_openvino() -> Any:
    """The package. Raises NotReady when it is missing, cannot be loaded or was loaded with its telemetry."""
    if not installed():
        raise NotReady(f"OpenVINO {PINNED} is not installed.", next_step=INSTALL)
    if sys.modules.get(_TELEMETRY) is not None:
        raise NotReady(
            "Another part of this process has loaded OpenVINO with its telemetry.",
            next_step=f"Uninstall the package {_TELEMETRY.replace('_', '-')}.",
        )
    modules: dict[str, Any] = sys.modules
    modules[_TELEMETRY] = None  # an import of it now fails, as documented
    try:
        return importlib.import_module(PACKAGE)
    except (ImportError, OSError) as error:
        raise NotReady(f"OpenVINO cannot be loaded: {error}.", next_step=INSTALL) from error


@cache
def core() -> Any:
    """The one `openvino.Core` of this process, kept until it ends. Raises NotReady.

    The CPU plugin of a core gives the thread that makes it a stack of its own for signals, and takes that stack's
    memory away with the core, even where the thread still stands on it: with two cores let go in turn, the next signal
    ends the process (seen in 2026.4.1).
    """
    return load_openvino().Core()
