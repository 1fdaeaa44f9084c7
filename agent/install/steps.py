"""What a step of an installation is, and how a list of them is run. Knows nothing of what the steps install."""

from __future__ import annotations

import errno
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from market.errors import DataInvalid, EdgeclawError, NotReady

Progress = Callable[[str, float], None]
"""(step title, share done from 0 to 1)."""

AGAIN = "Run: edgeclaw install edge-runtime"


class Step(Protocol):
    """One thing to do. `describe` says exactly what `run` would do; `done` is true when nothing is left to do."""

    @property
    def title(self) -> str: ...

    def describe(self) -> str: ...

    def done(self) -> bool: ...

    def run(self, progress: Callable[[float], None]) -> None: ...


def execute(steps: Sequence[Step], progress: Progress = lambda *_: None) -> None:
    """Run the steps that are not done. Raises NotReady, in one sentence, when one cannot be."""
    for step in steps:
        with _plainly(step.title):
            if not step.done():
                progress(step.title, 0.0)
                step.run(partial(progress, step.title))
            progress(step.title, 1.0)


@contextmanager
def _plainly(title: str) -> Iterator[None]:
    """Errors of files and archives as one sentence."""
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
