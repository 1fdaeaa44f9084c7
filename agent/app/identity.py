"""What makes a run the run it is, and where its owner keeps it: code, strategies, database, hosts."""

from __future__ import annotations

import hashlib
import inspect
import sys
from dataclasses import is_dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from agent.config import Config
from agent.egress import host_of
from agent.paths import home
from storage.canonical import digest, plain
from strategies.base import Strategy

PACKAGES = ("agent", "backtest", "market", "storage", "strategies", "tools")


def own_hosts(config: Config) -> frozenset[str]:
    """The hosts that belong to the owner: of the model server, of the database and of the broker."""
    return frozenset({host_of(config.edge.remote.url), host_of(config.storage.url), config.mqtt.host}) - {""}


def database_url(config: Config) -> str:
    """Where the store is: as configured, else in the home folder."""
    return config.storage.url or f"sqlite:///{home() / 'edgeclaw.db'}"


@lru_cache(maxsize=1)
def code_identity() -> str:
    """SHA-256 over the product's own source files, by name and content."""
    seen = hashlib.sha256()
    for package in PACKAGES:
        root = Path(str(resources.files(package)))
        for path in sorted(p for p in root.rglob("*") if p.suffix in {".py", ".yaml"}):
            seen.update(f"{package}/{path.relative_to(root).as_posix()}".encode() + b"\0" + path.read_bytes())
    return seen.hexdigest()


def strategy_identity(strategy: Strategy) -> str:
    """SHA-256 over what a strategy is set to and, where it is not the product's own, the file it is written in."""
    kind = type(strategy)
    own = kind.__module__.partition(".")[0] in PACKAGES
    source = "" if own else inspect.getsource(sys.modules[kind.__module__])
    settings = plain(strategy) if is_dataclass(strategy) else {n: repr(v) for n, v in sorted(vars(strategy).items())}
    return digest([kind.__qualname__, source, settings])
