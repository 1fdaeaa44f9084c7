"""Where edgeclaw keeps what it installs; it creates nothing."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder in EDGECLAW_HOME, else `.edgeclaw` in the user's own."""
    return Path(os.environ.get("EDGECLAW_HOME") or Path.home() / ".edgeclaw")
