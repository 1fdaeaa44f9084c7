"""A week of an account with an encrypted key file whose winnings the venue does not pay out by itself:

    python -m tests.week --days 7

Windows of a quarter of an hour with two books a minute, at a loopback venue in another process and many times the
pace. The agent runs in a pseudo-terminal, where its passphrase is asked for. Prints one line of JSON: how often it was
asked, what was redeemed, how long the event loop was ever blocked, and how many allow-lists were ever in force.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import secrets
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from backtest.venue.exchange import Pace
from backtest.venue.scenarios import Scenario, listed
from backtest.venue.server import VenueServer, served
from backtest.venue.state import VenueState
from market.clock import ScaledClock, WallClock
from market.types import UNIT
from tests.fakes import book, levels
from tests.running import free_port, page
from tools.keystore import SecretKey, create

_SPEED, _WINDOW = 600.0, 900
_PHRASE = "four words that stay here"
_AGENT = """
import fcntl, sys, termios, threading, time
from pathlib import Path
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from agent.host import egress
seen, place = set(), Path(sys.argv.pop(1))

def look():
    while True:
        names = egress._GUARD.names
        if names is not None and names not in seen:
            seen.add(names)
            place.write_text(str(len(seen)))
        time.sleep(0.02)

threading.Thread(target=look, daemon=True).start()
from agent.cli import main
main()
"""
"""The command line, with a thread beside it that counts the allow-lists that were ever in force."""


@dataclass(frozen=True)
class Quarterly:
    """Windows whose favourite is Up at 90 cents, and wins."""

    asset: str = "btc"
    seconds: int = _WINDOW

    def tape(self, opens_at: datetime) -> Scenario:
        market = listed(self.asset, opens_at, self.seconds, "quarterly")
        at = [opens_at + timedelta(seconds=s) for s in range(-600, self.seconds, 30)]
        sides = {"bids": levels(("0.88", 200)), "asks": levels(("0.90", 200))}
        return Scenario(market, at[0], [book(one, market_id=market.id, **sides) for one in at], [], Decimal(1))


async def _serve(speed: float) -> None:
    clock = ScaledClock(WallClock().now(), speed)
    state = VenueState(clock, [Quarterly()], pace=Pace(paying=None), faucet=100_000 * UNIT)
    async with served(VenueServer(state, secrets.token_bytes(32))) as base:
        sys.stdout.write(base + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


@contextmanager
def _venue(speed: float) -> Iterator[str]:
    line = [sys.executable, "-m", "tests.week", "--serve", str(speed)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@dataclass
class Terminal:
    """The agent in a pseudo-terminal; `asked` counts the questions for its passphrase."""

    process: subprocess.Popen[bytes]
    descriptor: int
    asked: int = 0
    shown: str = ""

    def look(self) -> None:
        """Take in what is there, and answer a question."""
        while select.select([self.descriptor], [], [], 0.05)[0]:
            try:
                more = os.read(self.descriptor, 65536).decode(errors="replace")
            except OSError:
                return
            questions = len(re.findall(r"Passphrase of ", more))
            self.asked, self.shown = self.asked + questions, (self.shown + more)[-20_000:]
            if questions:
                os.write(self.descriptor, f"{_PHRASE}\n".encode())


@contextmanager
def _agent(url: str, place: Path, port: int) -> Iterator[Terminal]:
    home, key = place / "home", SecretKey(secrets.token_bytes(32))
    home.mkdir()
    create(place / "key.json", key, _PHRASE)
    config = place / "config.yaml"
    limits = dict.fromkeys(("market_exposure", "total_exposure", "loss", "daily_loss", "drawdown"), "1000000")
    # A plain account, which sends its redemptions by itself: the relayer is asked in real time, not the venue's.
    venue = {"series": ["btc-15m"], "key_file": str(place / "key.json"), "wallet": key.address}
    service = {"listen": f"127.0.0.1:{port}", "backfill": False, "market_data_timeout": 600}
    config.write_text(json.dumps({"risk": limits, "venue": venue, "service": service}))
    ours, theirs = os.openpty()
    line = [sys.executable, "-c", _AGENT, str(place / "lists"), "run", "--mode", "live", "--venue", url]
    line += ["--engine", "scripted", "--trade-with", "late_favourite", "--config", str(config)]
    line += ["--output", str(place / "events")]
    asked = {**os.environ, "EDGECLAW_HOME": str(home), "TERM": "dumb", "COLUMNS": "120"}
    process = subprocess.Popen(line, env=asked, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _lag(port: int) -> float:
    """Longest block of the event loop in the last ten seconds, in milliseconds."""
    _, text = page(port, "metrics")
    found = re.search(r"^edgeclaw_loop_lag_seconds (\S+)", text, re.MULTILINE)
    return float(found.group(1)) * 1e3 if found else 0.0


def _counted(database: Path, action: str) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
        return int(store.execute("SELECT count(*) FROM records WHERE kind = ?", (action,)).fetchone()[0])


def week(days: float, place: Path, speed: float = _SPEED) -> dict[str, Any]:
    """Run so many days of the venue's; return what was found."""
    port, lags = free_port(), list[float]()
    with _venue(speed) as url, _agent(url, place, port) as terminal:
        ends = time.monotonic() + 120
        while page(port, "readyz")[0] != 200:
            terminal.look()
            assert terminal.process.poll() is None and time.monotonic() < ends, terminal.shown[-3000:]
        ends = time.monotonic() + days * 86_400 / speed
        while time.monotonic() < ends:
            terminal.look()
            assert terminal.process.poll() is None, terminal.shown[-3000:]
            lags.append(_lag(port))
            time.sleep(2.0)
        terminal.process.send_signal(signal.SIGTERM)
        ends = time.monotonic() + 120
        while terminal.process.poll() is None and time.monotonic() < ends:
            terminal.look()
        database = place / "home" / "edgeclaw.db"
        return {
            "days": days,
            "exit": terminal.process.returncode,
            "passphrases_asked": terminal.asked,
            "fills": _counted(database, "fill"),
            "settlements": _counted(database, "settlement"),
            "redeemed": (place / "events").read_text().count('"winnings/redeemed"'),
            "allow_lists": int((place / "lists").read_text()),
            "longest_block_ms": round(max(lags), 1),
            "looks": len(lags),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="A week with late payouts and an encrypted key file.")
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--speed", type=float, default=_SPEED)
    parser.add_argument("--serve", type=float, default=0.0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        asyncio.run(_serve(asked.serve))
        return
    with tempfile.TemporaryDirectory(prefix="edgeclaw-week-") as folder:
        sys.stdout.write(json.dumps(week(asked.days, Path(folder), asked.speed)) + "\n")


if __name__ == "__main__":
    main()
