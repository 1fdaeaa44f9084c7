"""Child processes that never outlive the process that started them. Independent of what they do."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its words and additions to the environment."""

    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([*(f"{key}={shlex.quote(value)}" for key, value in self.env.items()), shlex.join(self.words)])


@dataclass(frozen=True, slots=True)
class Ended:
    """Result of a program; `code` is negative when a signal ended it, and None after a timeout."""

    code: int | None
    out: str
    err: str

    @property
    def said(self) -> str:
        """Last line of its error output (else of its output), at most 300 characters."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"


def run(command: Command, *, timeout: float) -> Ended:
    """Run to completion, or for at most `timeout` seconds. Raises OSError when it cannot be started."""
    with _started(command, subprocess.PIPE, subprocess.PIPE) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return Ended(None, "", f"it was still running after {timeout:.0f} seconds")
    return Ended(process.returncode, out, err)


@contextmanager
def serving(command: Command, log: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that runs as long as the block does, with all its output in `log`."""
    with log.open("w", encoding="utf-8") as file, _started(command, file.fileno(), subprocess.STDOUT) as process:
        yield process


@contextmanager
def _started(command: Command, out: int, err: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(  # noqa: S603 - our own words only
        command.words,
        env={**os.environ, **command.env},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        text=True,
        errors="replace",
        # A session and so a process group of its own: signals reach its children too, and Ctrl-C at the terminal does
        # not.
        start_new_session=True,
        preexec_fn=tie_to_parent(),
    )
    try:
        with process:
            try:
                yield process
            finally:
                _stop(process)
    finally:
        _signal(process, signal.SIGKILL)  # its own children may still be running


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return  # the group is empty


def tie_to_parent() -> Callable[[], None] | None:
    """Function for the child to call before exec, so that on Linux it is killed when this process dies for whatever
    reason; None elsewhere."""
    if sys.platform != "linux":
        return None
    # Loaded here: between fork and exec the child may only do what needs no lock of another thread.
    prctl = ctypes.CDLL(None).prctl

    def tie() -> None:
        prctl(_DIE_WITH_PARENT, signal.SIGKILL)

    return tie


def python(executable: Path | str, *words: str, env: Mapping[str, str] | None = None) -> Command:
    """A command of a Python interpreter."""
    return Command((str(executable), *words), env or {})


def answer(words: Sequence[str], timeout: float = 10.0) -> str | None:
    """Output of a small program, or None when it is missing or fails."""
    try:
        ended = run(Command(tuple(words)), timeout=timeout)
    except OSError:
        return None
    return ended.out if ended.code == 0 else None
