"""Events as JSON lines in a file, for people who follow a run with `tail -f`. Best effort, like every observer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.bus import LocalBus
from market.errors import Misconfigured
from market.events import Event
from storage.canonical import plain


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

    def write(event: Event) -> None:
        body = plain(event)
        file.write(json.dumps({"topic": event.topic, **(body if isinstance(body, dict) else {})}) + "\n")

    with file, bus.subscribed(Event, write):
        yield
