"""The command line as a user runs it: a process of its own, a home folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Edgeclaw = Callable[..., Ran]


def command(home: Path, *args: str) -> tuple[list[str], dict[str, str]]:
    """The command line and environment of one call."""
    return [sys.executable, "-m", "agent", *args], {**os.environ, "EDGECLAW_HOME": str(home), "COLUMNS": "160"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def edgeclaw(home: Path) -> Edgeclaw:
    def call(*args: str, at: Path = home) -> Ran:
        line, env = command(at, *args)
        done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=300, check=False)
        return Ran(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def sample() -> None:
    if find_spec("resolvedkit") is None:
        pytest.skip("the sample extra is not installed: pip install 'edgeclaw[sample]'")
