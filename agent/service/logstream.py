"""The log stream of a live process: structlog's lines and those of the standard `logging`, by one renderer.

Written by a thread of its own: an output that is slow, closed or full neither ends nor delays a run. Lines that
could not be kept or written are counted, and the next line that comes through says how many.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import select
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from market.clock import WallClock

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
"""Names of the levels, from the most talkative."""
_OURS = ("agent", "backtest", "market", "storage", "strategies", "tools")
"""Loggers at the configured level. Others say warnings alone: an HTTP client that debugs prints its headers."""
_TOLD_OTHERWISE = "agent.service.jobs"
"""A logger whose results are events of the bus, too: only its failures count here."""
_WAITING = 10_000
"""Lines that may wait to be written; more are dropped."""
_LONGEST = 16_000
"""Characters of a text that are kept: journald parts longer lines."""
_LAST = 2.0
"""Seconds in which the last lines must be written when the stream closes."""
_READY = 1_000
"""Milliseconds to wait for a descriptor that does not block and is not ready."""
_PRIORITIES: Mapping[str, int] = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Priorities of syslog, which journald reads from the beginning of a line."""

Fields = MutableMapping[str, Any]


class _Out(Protocol):
    """A place for lines. Raises OSError or ValueError where one could not be written whole."""

    def write(self, line: str) -> None: ...


@dataclass(slots=True)
class _Descriptor:
    """A file descriptor, which no redirection of `sys.stderr` concerns. `torn` is True after half a line."""

    number: int
    torn: bool = False

    def write(self, line: str) -> None:
        left = (("\n" if self.torn else "") + line + "\n").encode(errors="backslashreplace")
        whole = len(left)
        try:
            while left:
                left = left[self._some(left) :]
        finally:
            self.torn = bool(left) and (self.torn or len(left) < whole)

    def _some(self, text: bytes) -> int:
        try:
            return os.write(self.number, text)
        except BlockingIOError:
            # Whoever shares the descriptor made it one that does not block.
            ready = select.poll()
            ready.register(self.number, select.POLLOUT)
            if not ready.poll(_READY):
                raise
            return 0


@dataclass(frozen=True, slots=True)
class _Screen:
    """Standard output or error by name, as it is at the moment: the live view takes its place, and prints above
    itself."""

    name: str

    def write(self, line: str) -> None:
        stream: TextIO = getattr(sys, self.name)
        stream.write(f"{line}\n")
        stream.flush()


class LogStream:
    """A bounded queue of lines, and the thread that renders and writes them. `written`, `dropped` (no room) and
    `failed` (not written) count."""

    def __init__(self, out: _Out, renderers: tuple[Processor, ...], level: str) -> None:
        self._out, self._queue = out, SimpleQueue[Callable[[], None] | None]()
        self.written = self.dropped = self.failed = self._unreported = 0
        self.logger: FilteringBoundLogger = structlog.wrap_logger(
            _Sink(self._write),
            processors=[structlog.processors.format_exc_info, _redacted, _ordered, *renderers],
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
            context_class=dict,
        )
        self._thread = Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, work: Callable[[], None]) -> None:
        """Have the thread do `work`, which logs through `logger`; never blocks, and drops it where too much waits."""
        if self._queue.qsize() < _WAITING:
            self._queue.put(work)
        else:
            self.dropped += 1

    def counts(self) -> Mapping[str, int]:
        return {"written": self.written, "dropped": self.dropped, "failed": self.failed}

    def close(self) -> None:
        """Write what waits, for a limited time. A thread that hangs in a write is left behind."""
        self._queue.put(None)
        self._thread.join(_LAST)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            self._report()
            self._do(work)
        self._report()

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # whatever cannot be rendered is a line that is missing, and no more
            self.failed += 1

    def _report(self) -> None:
        """Say in the log that lines of it are missing."""
        missing = self.dropped + self.failed
        if missing > self._unreported:
            before = self.failed
            self._do(lambda: self.logger.warning("gap", at=WallClock().now(), missing=missing - self._unreported))
            if self.failed == before:
                self._unreported = missing
            else:
                self.failed = before  # the report itself is no line that anybody misses

    def _write(self, line: str) -> None:
        self._out.write(line)
        self.written += 1


class _Sink:
    """What structlog hands rendered lines to: every level to one place."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = write


_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?P<kept>\b[a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE), r"\g<kept>***@"),
    (re.compile(r"(?P<kept>[?&][^=\s&]{1,64}=)[^&\s'\"]+"), r"\g<kept>***"),
    # A key may be part of a node's address, as of wss://host/v2/KEY.
    (re.compile(r"(?P<kept>\b(?:https?|wss?)://[^\s'\"]*/)[A-Za-z0-9_-]{24,}(?=[/\s'\"]|$)"), r"\g<kept>***"),
    (re.compile(r"(?P<kept>\b(?:bearer|basic)\s+)[^\s'\"]+", re.IGNORECASE), r"\g<kept>***"),
    (
        re.compile(
            r"(?P<kept>(?:api[_-]?key|secret|pass(?:word|phrase|wd)|private[_-]?key|authorization|poly_signature)"
            r"['\"]?\s*[=:]\s*['\"]?)(?!\s|\*\*\*)[^\s'\",;&)}]+",
            re.IGNORECASE,
        ),
        r"\g<kept>***",
    ),
)
"""Forms of secrets in free text, and what stays of each. A private key cannot be told from an order's id, so no
configuration is ever logged."""


def redacted(text: str) -> str:
    """The text without passwords, keys and signatures of the known forms."""
    for pattern, kept in _SECRETS:
        text = pattern.sub(kept, text)
    return text


def _redacted(_: Any, __: str, line: Fields) -> Fields:
    for name, value in line.items():
        # Free text alone: an id or a number has none of these.
        if isinstance(value, str) and (" " in value or "/" in value or "=" in value):
            line[name] = redacted(value[:_LONGEST])
    return line


def _ordered(_: Any, level: str, line: Fields) -> Fields:
    """What happened and when come first, in every line."""
    at = line.pop("at")
    told = {"at": iso(at), "level": level, "action": line.pop("event")}
    return told | {name: value for name, value in line.items() if value is not None}


def iso(at: datetime) -> str:
    """An instant as UTC text to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _as_json(_: Any, __: str, line: Fields) -> str:
    # ASCII alone: control characters of a hostile text cannot break a line or move a cursor.
    return json.dumps(line, default=str)


def _with_priority(_: Any, level: str, line: Any) -> str:
    """A rendered line as journald takes it."""
    return f"<{_PRIORITIES[level]}>{line}"


_CONTROL, _LONG_ID = re.compile(r"[\x00-\x1f\x7f-\x9f]"), re.compile(r"(0x[0-9a-f]{8})[0-9a-f]{56}")


def _short(_: Any, __: str, line: Fields) -> Fields:
    """A line for a terminal: ids by their first digits, a market by its slug, lists as words; and no text moves the
    cursor."""
    line["at"] = line["at"][5:19].replace("T", " ")
    if "slug" in line:
        line.pop("market", None)
    for name, value in line.items():
        if isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        if name != "exception":
            line[name] = _LONG_ID.sub(r"\1…", _CONTROL.sub(" ", str(value)))
    return line


def _readable(*, colours: bool) -> tuple[Processor, ...]:
    renderer = structlog.dev.ConsoleRenderer(
        colors=colours,
        pad_event_to=10,
        sort_keys=False,
        event_key="action",
        timestamp_key="at",
        exception_formatter=structlog.dev.plain_traceback,
    )
    return (_short, renderer)


def _for_journald(number: int, environment: Mapping[str, str]) -> bool:
    """True if systemd's journal is what reads the descriptor: it says so by device and inode."""
    with suppress(OSError):
        seen = os.fstat(number)
        return environment.get("JOURNAL_STREAM", "") == f"{seen.st_dev}:{seen.st_ino}"
    return False


def open_stream(level: str, stream: TextIO, environment: Mapping[str, str] = os.environ) -> LogStream:
    """The log on `stream`, standard output or error: for reading on a terminal, else JSON."""
    screen = _Screen(next((name for name in ("stdout", "stderr") if vars(sys)[name] is stream), "stderr"))
    if stream.isatty():
        return LogStream(screen, _readable(colours="NO_COLOR" not in environment), level)
    try:
        number = stream.fileno()
    except (io.UnsupportedOperation, ValueError):
        return LogStream(screen, (_as_json,), level)
    journald = _for_journald(number, environment)
    renderers: tuple[Processor, ...] = (_as_json, _with_priority) if journald else (_as_json,)
    return LogStream(_Descriptor(number), renderers, level)


class _Routed(logging.Handler):
    """Takes what the standard `logging` is given. The message is made at once, since its arguments may change."""

    def __init__(self, stream: LogStream) -> None:
        super().__init__()
        self.stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:
            message = str(record.msg)
        self.stream.put(lambda: self._log(record, message))

    def _log(self, record: logging.LogRecord, message: str) -> None:
        at = datetime.fromtimestamp(record.created, UTC)
        action = getattr(record, "action", "log")
        # Levels between the five are those of the next lower one, as `logging` orders them.
        level = max((n for n in (10, 20, 30, 40, 50) if n <= record.levelno), default=logging.DEBUG)
        self.stream.logger.log(level, action, at=at, message=message, logger=record.name, exc_info=record.exc_info)


@contextmanager
def routed(stream: LogStream, level: str) -> Iterator[None]:
    """Send the standard `logging`, and Python's warnings, to the stream while the block lasts."""
    root, handler = logging.getLogger(), _Routed(stream)
    levels = {name: logging.getLogger(name).level for name in (*_OURS, _TOLD_OTHERWISE)}
    for name in _OURS:
        logging.getLogger(name).setLevel(LEVELS[level])
    logging.getLogger(_TOLD_OTHERWISE).setLevel(logging.ERROR)
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)
