"""In-process events for observers. Best effort: a failing handler is logged, and the publisher waits for none.

Code that decides about money must not subscribe here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, TypeVar

from market.events import Event

E = TypeVar("E", bound=Event)
log = logging.getLogger(__name__)


class Bus(Protocol):
    """Receiver of events."""

    def publish(self, event: Event) -> None: ...


class LocalBus:
    """Calls the handlers of an event's class, and of its parent classes, one after the other. `counters` are what
    observers count of themselves, by their name."""

    def __init__(self) -> None:
        self.counters: dict[str, Callable[[], Mapping[str, int]]] = {}
        self._handlers: list[tuple[type[Event], Callable[[Event], None]]] = []

    def publish(self, event: Event) -> None:
        # A copy: a handler may end its own subscription while it runs.
        for kind, handler in list(self._handlers):
            if isinstance(event, kind):
                try:
                    handler(event)
                except Exception:
                    log.exception("event subscriber of %s failed", event.topic)

    @contextmanager
    def subscribed(self, kind: type[E], handler: Callable[[E], None]) -> Iterator[None]:
        """Deliver events of `kind` to `handler` while the block lasts."""

        def typed(event: Event) -> None:
            if isinstance(event, kind):
                handler(event)

        entry: tuple[type[Event], Callable[[Event], None]] = (kind, typed)
        self._handlers.append(entry)
        try:
            yield
        finally:
            self._handlers.remove(entry)
