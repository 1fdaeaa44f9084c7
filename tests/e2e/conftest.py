"""The command line as a user types it, each time in a home folder of its own."""

from __future__ import annotations

import gc
import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from agent import cli


@dataclass(frozen=True, slots=True)
class Ran:
    """Exit and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Edgeclaw = Callable[..., Ran]
SAMPLE_RUN = ("run", "--feed", "sample", "--engine", "scripted", "--json")


def command(home: Path, *args: str) -> tuple[list[str], dict[str, str]]:
    """The command line and environment of one call."""
    return [sys.executable, "-m", "agent", *args], {**os.environ, **_environment(home)}


def _environment(home: Path) -> dict[str, str]:
    return {"EDGECLAW_HOME": str(home), "COLUMNS": "160"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def edgeclaw(home: Path) -> Edgeclaw:
    """Call the command line in this process: its own entry point, arguments, environment, output and exit code. What a
    process of its own would add is its start, which costs more than most calls."""

    def call(*args: str, at: Path = home) -> Ran:
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
        with _as_a_process(at, args), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert isinstance(code, int)
        return Ran(code, _text(out), _text(err))

    return call


@contextmanager
def _as_a_process(home: Path, args: tuple[str, ...]) -> Iterator[None]:
    """Arguments and environment of the call, and afterwards those of the tests again, with their garbage collection."""
    often = gc.get_threshold()
    with patch.object(sys, "argv", ["edgeclaw", *args]), patch.dict(os.environ, _environment(home)):
        try:
            yield
        finally:
            gc.enable()
            gc.set_threshold(*often)


def _text(said: io.TextIOWrapper) -> str:
    said.flush()
    buffer = said.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


@pytest.fixture
def edgeclaw_process(home: Path) -> Edgeclaw:
    """Call it as a process of its own, where that is what is tested or what it leaves in a process would show."""
    script = Path(sys.executable).with_name("edgeclaw")

    def call(*args: str, at: Path = home) -> Ran:
        env = {**os.environ, **_environment(at)}
        done = subprocess.run([script, *args], env=env, capture_output=True, text=True, timeout=300, check=False)
        return Ran(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def sample() -> None:
    if find_spec("resolvedkit") is None:
        pytest.skip("the sample extra is not installed: pip install 'edgeclaw[sample]'")


@pytest.fixture(scope="session")
def done(sample: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One finished run over the whole sample, by a process of its own, for tests that only read it: its home, and what
    it printed."""
    home = tmp_path_factory.mktemp("finished")
    line, env = command(home, *SAMPLE_RUN)
    ran = subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert ran.returncode == 0, ran.stderr
    return home, json.loads(ran.stdout)


@pytest.fixture
def done_here(done: tuple[Path, dict[str, Any]], home: Path) -> dict[str, Any]:
    """The same for tests that write: a copy of the finished run's database in their own home, and what it printed."""
    home.mkdir()
    with (
        closing(sqlite3.connect(done[0] / "edgeclaw.db")) as source,
        closing(sqlite3.connect(home / "edgeclaw.db")) as to,
    ):
        source.backup(to)
    return done[1]
