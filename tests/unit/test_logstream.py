"""The stream of the log under what happens to a standard error: slow, closed, full, torn, a terminal, journald."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

pytest.importorskip("structlog", reason="the extra `live` is not installed")

from agent.service.logstream import LogStream, open_stream, redacted, routed
from tests.fakes import START


class Pipe:
    """A pipe with a stream at its writing end, and a reader that reads when it is asked to."""

    def __init__(self, level: str, environment: dict[str, str]) -> None:
        ours, theirs = os.pipe()
        self.reader, self.file = os.fdopen(ours), os.fdopen(theirs, "w")
        self.stream = open_stream(level, self.file, environment)

    def text(self) -> str:
        """Close the writing end, and read what was written."""
        self.stream.close()
        self.file.close()
        return self.reader.read()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]

    def close(self) -> None:
        self.reader.close()  # lets a thread go that waits for a reader
        self.stream.close()
        self.file.close()


MakePipe = Callable[..., Pipe]


@pytest.fixture
def make_pipe() -> Iterator[MakePipe]:
    made: list[Pipe] = []

    def make(level: str = "info", **environment: str) -> Pipe:
        made.append(Pipe(level, environment))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def pipe(make_pipe: MakePipe) -> Pipe:
    return make_pipe()


def say(stream: LogStream, action: str, **fields: object) -> None:
    stream.put(lambda: stream.logger.info(action, at=START, **fields))


def until(holds: Callable[[], object]) -> None:
    ends = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < ends, "it never came to that"
        time.sleep(0.005)


def test_a_line_is_json_with_instant_level_and_action_first(pipe: Pipe) -> None:
    say(pipe.stream, "fill", size="5.25", slug=None)
    text = pipe.text()
    assert text == '{"at": "2026-09-28T09:00:00.000Z", "level": "info", "action": "fill", "size": "5.25"}\n'


def test_nobody_waits_for_a_reader_that_does_not_read_and_the_gap_is_told(pipe: Pipe) -> None:
    many = 30_000
    for number in range(many):  # more than the pipe and the queue hold together: blocking here would be for ever
        say(pipe.stream, "fill", number=number)
    dropped = pipe.stream.counts()["dropped"]
    assert 0 < dropped < many
    got: list[dict[str, Any]] = []
    while sum(line["action"] == "fill" for line in got) < many - dropped:
        got.append(json.loads(pipe.reader.readline()))
    got += pipe.lines()
    assert sum(line["missing"] for line in got if line["action"] == "gap") == dropped
    assert pipe.stream.counts() == {"written": len(got), "dropped": dropped, "failed": 0}


def test_closing_does_not_wait_for_a_reader_that_does_not_read(pipe: Pipe) -> None:
    for number in range(9_000):
        say(pipe.stream, "fill", number=number)
    begun = time.monotonic()
    pipe.stream.close()
    assert time.monotonic() - begun < 30


def test_a_closed_pipe_and_a_full_disk_are_counted_and_come_no_further(pipe: Pipe) -> None:
    pipe.reader.close()
    full = open("/dev/full", "w")  # noqa: SIM115 - closed below
    disk = open_stream("info", full, {})
    for stream in (pipe.stream, disk):
        say(stream, "one")
        say(stream, "two")
        stream.close()
        assert (stream.counts()["written"], stream.counts()["failed"]) == (0, 2)
    full.close()


def test_half_a_line_does_not_spoil_the_next_one(pipe: Pipe) -> None:
    os.set_blocking(pipe.file.fileno(), False)
    fcntl.fcntl(pipe.reader.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    say(pipe.stream, "long", message="x" * 9_000)
    until(lambda: pipe.stream.counts()["failed"] == 1)
    torn = os.read(pipe.reader.fileno(), 65536).decode()
    say(pipe.stream, "next")
    lines = (torn + pipe.text()).splitlines()
    assert len(lines) == 3 and lines[0].endswith("x"), "the first line was cut"
    assert [json.loads(line)["action"] for line in lines[1:]] == ["gap", "next"]


def test_a_descriptor_that_does_not_block_loses_nothing_to_a_reader_that_is_slow(pipe: Pipe) -> None:
    """Standard error may be shared with a program that has made it so."""
    os.set_blocking(pipe.file.fileno(), False)
    fcntl.fcntl(pipe.reader.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    for number in range(200):
        say(pipe.stream, "fill", number=number)
    got = [json.loads(pipe.reader.readline())["number"] for _ in range(200)]
    assert got == list(range(200))
    assert pipe.stream.counts()["failed"] == 0


def test_a_line_that_cannot_be_rendered_is_missing_and_no_more(pipe: Pipe) -> None:
    pipe.stream.put(lambda: pipe.stream.logger.info("no instant"))
    say(pipe.stream, "next")
    assert [(line["action"], line.get("missing")) for line in pipe.lines()] == [("gap", 1), ("next", None)]


@pytest.mark.parametrize(
    ("level", "kept"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_a_level_keeps_what_is_at_least_as_grave(make_pipe: MakePipe, level: str, kept: list[str]) -> None:
    pipe = make_pipe(level)
    for name in ("debug", "info", "warning", "error"):
        pipe.stream.put(partial(getattr(pipe.stream.logger, name), "x", at=START))
    assert [line["level"] for line in pipe.lines()] == kept


def test_journald_is_told_the_priority_and_nobody_else_is(make_pipe: MakePipe) -> None:
    ours, theirs = os.pipe()
    seen = os.fstat(theirs)
    with os.fdopen(theirs, "w") as file:
        stream = open_stream("info", file, {"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"})
        stream.put(lambda: stream.logger.error("halt", at=START))
        say(stream, "fill")
        stream.close()
    with os.fdopen(ours) as read:
        assert [line[:4] for line in read] == ["<3>{", "<6>{"]
    elsewhere = make_pipe(JOURNAL_STREAM="1:2")
    say(elsewhere.stream, "fill")
    assert elsewhere.text().startswith("{")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_readable_line_and_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    stream = open_stream("info", screen, {"NO_COLOR": "1"})
    order, market = "0x" + "ab" * 32, "0x" + "cd" * 32
    say(stream, "order", order=order, market=market, slug="btc\x1b[2J\nup", traders=("a", "b"), size="5")
    stream.close()
    text = screen.getvalue()
    assert text.count("\n") == 1 and "\x1b" not in text
    assert market[:6] not in text, "the slug says it"
    for word in ("09-28 09:00:00", "order=0xabababab… ", "slug='btc [2J up'", "traders=a,b", "size=5"):
        assert word in text, text


SECRETS = {
    "wss://user:hunter2hunter2@node.example/v2": "hunter2",
    "postgresql+psycopg://edgeclaw:hunter2@db/edgeclaw": "hunter2",
    "https://node.example/rpc?apikey=hunter2&x=1 timed out": "hunter2",
    "Cannot connect to https://polygon.example/v2/hunter2hunter2hunter2hunter2": "hunter2",
    "Authorization: Bearer hunter2": "hunter2",
    "{'passphrase': 'hunter2', 'apiKey': 'hunter2'}": "hunter2",
    'api_key="hunter2" refused': "hunter2",
    "password=hunter2": "hunter2",
    "private_key: hunter2": "hunter2",
}


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_taken_out_of_texts_and_tracebacks(pipe: Pipe, text: str) -> None:
    with routed(pipe.stream, "info"):
        logging.getLogger("agent.x").warning("it said %s", text)
        try:
            os.stat(f"/nowhere/{text}")
        except OSError:
            logging.getLogger("agent.x").exception("failed")
    said = pipe.text()
    assert SECRETS[text] not in said and said.count("***") >= 2
    assert "Traceback" in said and "FileNotFoundError" in said, "the rest of it stays"


def test_what_is_no_secret_stays() -> None:
    for text in (
        "limit: order cost of $60 exceeds $50",
        "https://clob.polymarket.com/order answered 503",
        "0x14f0a697bcc5df72266379a52c3097cab8e37a197cc3ea4189eddb5e85641b03",
        "late_favourite:0x14f0a697bcc5df72266379a52c3097cab8e37a197cc3ea4189eddb5e85641b03",
        "0xa28f6ea7f791bfce02deed29b47579ddb6f7e15a at http://127.0.0.1:18911",
    ):
        assert redacted(text) == text


@contextmanager
def kept_logging() -> Iterator[None]:
    before = logging.getLogger().handlers[:], logging.getLogger("agent").level, warnings.showwarning
    yield
    assert (logging.getLogger().handlers[:], logging.getLogger("agent").level, warnings.showwarning) == before


def test_the_standard_logging_and_warnings_come_through_the_same_renderer(pipe: Pipe) -> None:
    with kept_logging(), routed(pipe.stream, "info"):
        logging.getLogger("market.polymarket.feed").info("ours")
        logging.getLogger("httpx").info("theirs: HTTP Request with its headers")
        logging.getLogger("httpx").warning("theirs")
        logging.getLogger("agent.service.jobs").warning("told by an event, too")
        logging.getLogger("agent.service.timekeeping").warning("%d s", 5, extra={"action": "clock"})
        logging.getLogger("asyncio").error("a task was never awaited")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning("old", DeprecationWarning, "x.py", 1)
    got = [(line["level"], line["action"], line["message"]) for line in pipe.lines()]
    assert got[:4] == [
        ("info", "log", "ours"),
        ("warning", "log", "theirs"),
        ("warning", "clock", "5 s"),
        ("error", "log", "a task was never awaited"),
    ]
    assert len(got) == 5 and "DeprecationWarning: old" in got[4][2]


def test_debugging_shows_our_debug_lines_and_never_those_of_libraries(make_pipe: MakePipe) -> None:
    pipe = make_pipe("debug")
    with routed(pipe.stream, "debug"):
        logging.getLogger("tools.x").debug("ours")
        logging.getLogger("httpcore.http11").debug("send_request_headers [(b'POLY_SIGNATURE', b'...')]")
    assert [line["message"] for line in pipe.lines()] == ["ours"]


def test_an_event_loop_never_waits_for_the_log(pipe: Pipe) -> None:
    """Ten thousand lines at a reader that reads nothing: the loop is handed back after each."""

    async def scope() -> int:
        turns = 0
        for number in range(10_000):
            say(pipe.stream, "fill", number=number)
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(asyncio.wait_for(scope(), 60)) == 10_000
