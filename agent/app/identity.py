"""Identity of a run: digests of its code and of its strategies."""

from __future__ import annotations

import hashlib
import inspect
import sys
from dataclasses import is_dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from storage.canonical import digest, plain
from strategies.base import Strategy

PACKAGES = ("agent", "backtest", "market", "storage", "strategies", "tools")


@lru_cache(maxsize=1)
def code_identity() -> str:
    """SHA-256 over the product's own source files, by name and content."""
    seen = hashlib.sha256()
    for package in PACKAGES:
        root = Path(str(resources.files(package)))
        # YAML too: the bundled profiles change decisions as code does.
        for path in sorted(p for p in root.rglob("*") if p.suffix in {".py", ".yaml"}):
            seen.update(f"{package}/{path.relative_to(root).as_posix()}".encode() + b"\0" + path.read_bytes())
    return seen.hexdigest()


def strategy_identity(strategy: Strategy) -> str:
    """SHA-256 over what a strategy is set to and, where it is not the product's own, the file it is written in."""
    kind = type(strategy)
    own = kind.__module__.partition(".")[0] in PACKAGES
    # The product's own sources are in `code_identity` already.
    source = "" if own else inspect.getsource(sys.modules[kind.__module__])
    settings = plain(strategy) if is_dataclass(strategy) else {n: repr(v) for n, v in sorted(vars(strategy).items())}
    return digest([kind.__qualname__, source, settings])
