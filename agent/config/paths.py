"""Paths of files: those that edgeclaw installs, and those that its owner asks for."""

from __future__ import annotations

import os
from pathlib import Path

from market.errors import Misconfigured


def home() -> Path:
    """The folder in EDGECLAW_HOME, else `.edgeclaw` in the user's own."""
    # Read at each call: nothing may depend on when this module was imported.
    return Path(os.environ.get("EDGECLAW_HOME") or Path.home() / ".edgeclaw")


def own_database() -> str:
    """Address of the database where `storage.url` names none."""
    return f"sqlite:///{home() / 'edgeclaw.db'}"


def folder(path: Path) -> Path:
    """The folder, made where it is missing. Raises Misconfigured where it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(
            f"The folder {path} cannot be made: {error.strerror}.", next_step="Choose another."
        ) from None
    return path
