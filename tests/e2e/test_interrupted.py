"""Ctrl-C in a terminal with the live view up, as its owner presses it: the sentence, after the panel, and the code."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.cli.run import screen_title
from agent.config.schema import Config
from tests.running import venue

IN_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "agent", *sys.argv[1:]])
"""
"""A program whose terminal is its own: only then does the kernel make a signal of the byte of Ctrl-C."""
PATIENCE = 120.0
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """A pseudo-terminal with edgeclaw in it. `shown` is what was printed so far, without colours."""

    def __init__(self, home: Path, *words: str) -> None:
        self._ours, theirs = os.openpty()
        line = [sys.executable, "-c", IN_A_TERMINAL, *words]
        asked = {**os.environ, "EDGECLAW_HOME": str(home), "COLUMNS": "160", "LINES": "50", "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            line, env=asked, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self._raw = b""

    @property
    def shown(self) -> str:
        return _STYLE.sub("", self._raw.decode(errors="replace"))

    def read(self) -> bool:
        """Take in what is there; False once the other side is closed."""
        if not select.select([self._ours], [], [], 0.2)[0]:
            return True
        try:
            found = os.read(self._ours, 65536)
        except OSError:  # Linux says EIO when the last process of a terminal is gone
            return False
        self._raw += found
        return bool(found)

    def until(self, text: str) -> None:
        ends = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert self.read() and time.monotonic() < ends, self.shown[-2000:]

    def interrupt(self) -> int:
        """Press Ctrl-C, read to the end; return the exit code."""
        os.write(self._ours, b"\x03")
        ends = time.monotonic() + PATIENCE
        while self.read():
            assert time.monotonic() < ends, self.shown[-2000:]
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


SENTENCE = "edgeclaw: Interrupted. Everything recorded is kept; the same command resumes from there."


def interrupted(screen: Screen, title: str) -> None:
    """Press Ctrl-C once the run trades, and look at what is left on the screen."""
    try:
        screen.until(title)
        screen.until("trading")
        code = screen.interrupt()
        shown = screen.shown
    finally:
        screen.close()
    assert code == 130, shown[-2000:]
    assert shown.count(SENTENCE) == 1, shown[-2000:]
    assert shown.rindex("╯") < shown.index(SENTENCE), "the panel covers the sentence"
    assert "Traceback" not in shown


@pytest.mark.sample
def test_ctrl_c_on_recorded_data_says_so_below_the_panel(tmp_path: Path) -> None:
    pytest.importorskip("resolvedkit", reason="the sample data is not installed")
    words = ("run", "--feed", "sample", "--engine", "scripted", "--speed", "300")
    interrupted(Screen(tmp_path, *words), "edgeclaw · paper · sample")


def test_ctrl_c_at_a_venue_says_so_below_the_panel(tmp_path: Path) -> None:
    pytest.importorskip("polymarket", reason="the extra `live` is not installed")
    with venue(speed=20) as (url, _):
        words = ("run", "--mode", "live", "--venue", url, "--engine", "scripted", "--trade-with", "late_favourite")
        interrupted(Screen(tmp_path, *words), f"edgeclaw · live at loopback · {url}")


def test_paper_on_the_live_market_is_not_called_live(tmp_path: Path) -> None:
    pytest.importorskip("polymarket", reason="the extra `live` is not installed")
    with venue(speed=20) as (url, _):
        words = ("run", "--feed", "live", "--venue", url, "--engine", "scripted", "--trade-with", "late_favourite")
        interrupted(Screen(tmp_path, *words), f"edgeclaw · paper · live market at {url}")


def test_real_money_is_called_live_and_nothing_else() -> None:
    assert screen_title(Config(), "live", "sample") == "live · polymarket"
    assert screen_title(Config(), "paper", "live") == "paper · live market at polymarket"
