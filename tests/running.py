"""Processes of the product for tests: a loopback venue, a live agent at it, and waiting for either."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EDGECLAW = [sys.executable, "-m", "agent"]


def free_port() -> int:
    with socket.socket() as found:
        # Another process may take the port before it is used: a rare failure, never a wrong result.
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(what: str, holds: Callable[[], object], seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, f"it never came to that {what}"
        time.sleep(0.05)


def page(port: int, name: str) -> tuple[int, str]:
    """Status and text of a page of the agent; 0 if it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@contextmanager
def venue(*more: str, speed: float = 60) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A loopback venue in a process of its own: its address, and the process."""
    serve = [*EDGECLAW, "venue", "serve", "--port", "0", "--speed", str(speed), "--json", *more]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"], process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


@dataclass
class Agent:
    """Live agents at one venue, one after the other in one home. `trades` are the traders' names, `config` is applied
    over the defaults; `beside` is the folder of their output, by default beside their home."""

    url: str
    home: Path
    trades: tuple[str, ...] = ("join_best", "late_favourite")
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    beside: Path | None = None

    @contextmanager
    def running(self, *more: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run an agent until the block ends; its output is in `out`, its events in `events`."""
        self.home.mkdir(exist_ok=True)
        config = self.home / "config.yaml"
        # JSON is YAML.
        config.write_text(json.dumps(self.config))
        traders = [word for name in self.trades for word in ("--trade-with", name)]
        line = [*EDGECLAW, "run", "--mode", "live", "--venue", self.url, "--engine", "scripted", *traders]
        line += ["--config", str(config), "--json", "--output", str(self.events), *more]
        asked = {**os.environ, "EDGECLAW_HOME": str(self.home), **self.environment, **environment}
        with self.out.open("w") as out, subprocess.Popen(line, env=asked, stdout=out, stderr=out) as process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGCONT)
                process.kill()

    def ended(self, *more: str, seconds: float = 120, **environment: str) -> tuple[int, str]:
        """Run an agent that ends by itself; return its exit code and output."""
        with self.running(*more, **environment) as process:
            return process.wait(seconds), self.said()

    @property
    def out(self) -> Path:
        return (self.beside or self.home.parent) / f"{self.home.name}.out"

    @property
    def events(self) -> Path:
        return (self.beside or self.home.parent) / f"{self.home.name}.events"

    def said(self) -> str:
        return self.out.read_text()

    def happened(self, topic: str) -> list[dict[str, Any]]:
        """Events of a topic, of all agents so far."""
        if not self.events.exists():
            return []
        # A line that is still being written does not end with a brace.
        lines = [json.loads(line) for line in self.events.read_text().splitlines() if line.endswith("}")]
        return [event for event in lines if event["topic"] == topic]

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in this home."""
        asked = {**os.environ, "EDGECLAW_HOME": str(self.home)}
        return subprocess.run([*EDGECLAW, *words], env=asked, capture_output=True, text=True, check=False)
