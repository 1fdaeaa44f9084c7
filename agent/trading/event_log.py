"""Event log: events as JSON lines in a file, for `tail -f`. Best effort, like every observer."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from agent.trading.bus import LocalBus
from market.errors import Misconfigured
from market.events import Event
from storage.canonical import plain

log = logging.getLogger(__name__)


@contextmanager
def event_log(bus: LocalBus, path: Path) -> Iterator[None]:
    """Append each event to `path` while the block lasts; raises Misconfigured where the file cannot be opened."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise Misconfigured(
            f"cannot write to {path}: {error.strerror}.", next_step="Choose another --output."
        ) from None

    with bus.subscribed(Event, _Writer(file).write):
        yield
    with suppress(OSError):
        file.close()


class _Writer:
    """Writes until the file fails once; then logs a warning and stops, because a run never waits for an observer."""

    def __init__(self, file: TextIO) -> None:
        self._file: TextIO | None = file

    def write(self, event: Event) -> None:
        if self._file is None:
            return
        body = plain(event)
        try:
            self._file.write(json.dumps({"topic": event.topic, **(body if isinstance(body, dict) else {})}) + "\n")
        except OSError as error:
            log.warning("event log stopped: %s", error.strerror)
            self._file = None
