"""Installation steps and their execution. Independent of what the steps install."""

from __future__ import annotations

import errno
import fcntl
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from market.errors import DataInvalid, EdgeclawError, NotReady

Progress = Callable[[str, float], None]
"""(step title, fraction done from 0 to 1)."""

AGAIN = "Run: edgeclaw install edge-runtime"


class InstallStep(Protocol):
    """One step. `describe` states exactly what `run` would do; `done` is true when nothing is left to do."""

    @property
    def title(self) -> str: ...

    def describe(self) -> str: ...

    def done(self) -> bool: ...

    def run(self, progress: Callable[[float], None]) -> None: ...


def execute(steps: Sequence[InstallStep], progress: Progress = lambda *_: None) -> None:
    """Run the steps that are not done. Raises NotReady, in one sentence, when one fails."""
    for step in steps:
        with _plainly(step.title):
            if not step.done():
                progress(step.title, 0.0)
                step.run(partial(progress, step.title))
            progress(step.title, 1.0)


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Exclude a second installation into `home` while this one runs. Raises NotReady when it is the second.

    The operating system releases the lock when the process ends, for whatever reason.
    """
    with _plainly("Starting"):
        home.mkdir(parents=True, exist_ok=True)
        file = (home / "installing.lock").open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"Another installation into {home} is running."
            raise NotReady(message, next_step="Wait until it has ended.") from None
        yield


@contextmanager
def _plainly(title: str) -> Iterator[None]:
    """Turn errors of files and archives into NotReady with one sentence."""
    try:
        yield
    except DataInvalid as error:
        raise NotReady(str(error), next_step=error.next_step or AGAIN) from error
    except EdgeclawError:
        raise
    except zipfile.BadZipFile as error:
        raise NotReady("The fetched package is damaged.", next_step=AGAIN) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise NotReady("There is no space left on the disk.", next_step="Free some and try again.") from error
        raise NotReady(f"{title} failed: {error.strerror or error}.", next_step=AGAIN) from error
