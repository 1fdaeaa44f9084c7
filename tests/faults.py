"""Fault injection on a trading box: real faults done to a live agent, with the expected and the observed behaviour:

    python -m tests.faults [--kills 200] [--only NAME] [--json]

Each fault is a scenario of its own against a loopback venue in another process. Prints a table; exits 1 if something
was not as expected, and lists scenarios that this machine cannot run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agent.live.keys import play_key
from storage.wal import damage
from tests import venue_faults
from tests.running import Agent, free_port, page, until, venue
from tests.storm import ask, faults
from tests.tiny_model import write_model
from tools.polymarket.client import SigningAccount

FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
_MODEL = [sys.executable, "-m", "tests.model_server"]
SETTLED = 4
"""Exit code of an agent that has halted."""


class CannotBeTried(Exception):
    """This machine lacks a prerequisite of the scenario."""


@dataclass(frozen=True)
class Scenario:
    fault: str
    expected: str
    run: Callable[[Path, int], str]


@dataclass(frozen=True)
class Outcome:
    """Result of a scenario. `ok` is None if it could not run."""

    fault: str
    expected: str
    found: str
    ok: bool | None
    seconds: float


def records(agent: Agent) -> list[str]:
    """Hashes of all records in the log, in order."""
    with closing(sqlite3.connect(f"file:{agent.home / 'edgeclaw.db'}?mode=ro", uri=True)) as database:
        return [str(row[0]) for row in database.execute("SELECT hash FROM records ORDER BY run_id, seq")]


def must_go_on(agent: Agent, before: list[str]) -> str:
    """Check the recovery: nothing acknowledged is lost, the log is whole, and a run comes to its end with books that
    agree with the venue's."""
    code, said = agent.ended("--cycles", "1")
    assert code == 0, said[-800:]
    kept = set(records(agent))
    assert kept >= set(before), f"{len(set(before) - kept)} acknowledged records are gone"
    verified = agent.call("log", "verify", "--json")
    assert verified.returncode == 0 and json.loads(verified.stdout) == [], verified.stdout + verified.stderr
    return f"{len(before)} records kept, log whole, books agree"


def must_trade_again(agent: Agent, before: list[str]) -> str:
    """The same check where venue time is real time, and the end of a run would take too long."""
    begun = len(agent.happened("cycle/started"))
    with agent.running() as process:
        until("it decides again", lambda: len(agent.happened("cycle/started")) > begun + 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 130, agent.said()[-800:]
    assert set(records(agent)) >= set(before), "acknowledged records are gone"
    verified = agent.call("log", "verify", "--json")
    assert verified.returncode == 0 and json.loads(verified.stdout) == [], verified.stdout + verified.stderr
    return f"{len(before)} records kept, log whole"


def trading(agent: Agent, orders: int = 3) -> Callable[[], bool]:
    """By what the agent says and the venue has: an order that is on its way may still be refused."""
    return lambda: len(agent.happened("order/placed")) >= orders and bool(at_venue(agent))


def killed_while_trading(agent: Agent) -> list[str]:
    """Let it trade, and kill it; return the records written so far. Its files stay as the kill left them."""
    with agent.running() as process:
        until("it trades", trading(agent, 9))  # so that there is a middle of the log to damage
        process.kill()
        process.wait()
    wal = agent.home / "edgeclaw.db-wal"
    left = wal.read_bytes()
    before = records(agent)
    wal.write_bytes(left)  # the last reader of a database removes its log
    return before


def at_venue(agent: Agent) -> list[dict[str, Any]]:
    """The orders that the venue has had of it."""
    wallet = SigningAccount.of(play_key(agent.home / "play.key").signer()).wallet
    placed: list[dict[str, Any]] = ask(f"{agent.url}/venue/orders/{wallet}")
    return placed


def nothing_rests(agent: Agent) -> bool:
    """True if the venue shows no open order."""
    placed = at_venue(agent)
    assert placed, "there were orders"
    return not any(o["status"] == "LIVE" for o in placed)


def killed(place: Path, kills: int) -> str:
    found = faults(kills, 7, 60.0, place)
    wrong = {
        name: found[name]
        for name in ("orders_unknown_to_the_log", "intents_without_an_end", "keys_used_twice", "damage_in_the_log")
        if found[name]
    }
    assert not wrong and found["last_exit"] == 0, found
    assert found["cash_here"] == found["cash_at_venue"], found
    return (
        f"{found['kills']} kills among {sum(dict(found['faults_ordered']).values())} venue faults: "  # type: ignore[call-overload]
        f"{found['intents']} orders, {found['fills']} fills, cash equal to the micro-dollar"
    )


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """Mount a file system of its own."""
    folder = place / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        raise CannotBeTried("mounting a small disk needs root")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if made.returncode:
        raise CannotBeTried("this machine does not let us mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def disk_filled(place: Path, _: int) -> str:
    with small_disk(place, "24m") as disk, venue() as (url, _venue):
        agent = Agent(url, disk / "home", beside=place)
        with agent.running() as process:
            until("it trades", trading(agent))
            before = records(agent)
            with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
                while True:  # without a buffer, which would be written once more when the file is closed
                    filler.write(b"\0" * 65_536)
            code = process.wait(120)
        assert code == SETTLED and "full" in agent.said() and "Traceback" not in agent.said(), agent.said()[-800:]
        assert (agent.home / "halted").exists(), "it stays halted"
        assert nothing_rests(agent), "resting orders were cancelled"
        (disk / "filler").unlink()
        assert agent.call("resume", "--reason", "made room").returncode == 0
        return f"exit 4, halted, nothing rests; with room and a resume: {must_go_on(agent, before)}"


def read_only(place: Path, _: int) -> str:
    with small_disk(place, "24m") as disk, venue() as (url, _venue):
        agent = Agent(url, disk / "home")
        before = killed_while_trading(agent)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        outside = Agent(url, place / "outside", environment={"EDGECLAW_HOME": str(agent.home)})
        code, said = outside.ended()
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert code in (3, SETTLED) and "Traceback" not in said and len(said.splitlines()) < 4, said[-800:]
        return f"exit {code}: {said.split('.')[0]}; writable again: {must_go_on(agent, before)}"


def database_busy(place: Path, _: int) -> str:
    with venue() as (url, _venue):
        agent = Agent(url, place / "home")
        with agent.running() as process:
            until("it trades", trading(agent))
            with closing(sqlite3.connect(agent.home / "edgeclaw.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                before = records(agent)
                code = process.wait(120)
        assert code == SETTLED and "locked" in agent.said() and "Traceback" not in agent.said(), agent.said()[-800:]
        assert (agent.home / "halted").exists() and nothing_rests(agent)
        assert agent.call("resume", "--reason", "stopped the other program").returncode == 0
        return f"exit 4 after 5 s, halted, nothing rests; resumed: {must_go_on(agent, before)}"


def log_damaged(place: Path, _: int) -> str:
    with venue() as (url, _venue):
        agent = Agent(url, place / "home")
        before = killed_while_trading(agent)
        wal = agent.home / "edgeclaw.db-wal"
        whole = wal.read_bytes()
        torn = bytearray(whole)
        torn[len(whole) // 2] ^= 1
        wal.write_bytes(bytes(torn))
        assert damage(wal) is not None, "there were too few changes to damage one in the middle"
        code, said = agent.ended()
        assert code == SETTLED and "damaged" in said and "Traceback" not in said, said[-800:]
        assert wal.read_bytes() == bytes(torn), "nothing is touched"
        wal.write_bytes(whole)
        return f"exit 4 before anything is opened, file untouched; with the whole log: {must_go_on(agent, before)}"


class Wrist:
    """A clock for one process that is set while it runs."""

    def __init__(self, place: Path) -> None:
        if FAKETIME is None:
            raise CannotBeTried("libfaketime is not installed (Debian package faketime)")
        self._file = place / "clock"
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: int) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{seconds:+d}s")
        draft.replace(self._file)


def skipped(agent: Agent) -> set[str]:
    return {str(event["reason"]) for event in agent.happened("cycle/skipped")}


@contextmanager
def by_the_worlds_time(place: Path) -> Iterator[tuple[Agent, Wrist]]:
    """An agent with a settable clock, at a venue on real time. It trades four markets: one alone may offer nothing to
    trade for the minutes before its window ends."""
    wrist, assets = Wrist(place), ("aa", "bb", "cc", "dd")
    with venue(*(word for asset in assets for word in ("--asset", asset)), speed=1) as (url, _):
        series = [f"{asset}-5m" for asset in assets]
        config = {"trading": {"cadence": 1}, "service": {"backfill": False}, "venue": {"series": series}}
        yield Agent(url, place / "home", ("join_best", "agent"), config, wrist.environment), wrist


def clock_forward(place: Path, _: int) -> str:
    with by_the_worlds_time(place) as (agent, wrist):
        with agent.running() as process:
            until("it trades", trading(agent))
            wrist.set(3600)
            until("the clock is not believed", lambda: "clock_differs" in skipped(agent))
            placed = len(agent.happened("order/placed"))
            time.sleep(5)
            assert len(agent.happened("order/placed")) == placed, "nothing is opened meanwhile"
            until("nothing rests", lambda: nothing_rests(agent))
            assert process.poll() is None
            before = records(agent)
            wrist.set(0)
            code = process.wait(120)
        assert code == 5 and "set back by 3600 s" in agent.said(), agent.said()[-800:]
        return (
            f"skips slots as {' and '.join(sorted(skipped(agent)))}, opens nothing, nothing rests; set right again: "
            f"exit 5, and a start recovers: {must_trade_again(agent, before)}"
        )


def clock_back(place: Path, _: int) -> str:
    with by_the_worlds_time(place) as (agent, wrist):
        with agent.running() as process:
            until("it trades", trading(agent))
            before = records(agent)
            wrist.set(-3600)
            code = process.wait(120)
        assert code == 5 and "set back by 3600 s" in agent.said(), agent.said()[-800:]
        until("nothing rests", lambda: nothing_rests(agent))  # a cancel on the wrong time is refused: no heartbeat
        wrong, said = agent.ended()
        assert wrong == 3 and "away from the venue" in said, said[-800:]
        wrist.set(0)
        return f"exit 5, nothing rests; a start on the wrong time: exit 3; set right: {must_trade_again(agent, before)}"


def feed_frozen(place: Path, _: int) -> str:
    port, notify = free_port(), place / "notify"
    with venue() as (url, market), closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as keeper:
        keeper.bind(str(notify))
        keeper.setblocking(False)
        said: list[str] = []

        def fed() -> int:
            while True:
                try:
                    said.append(keeper.recv(4096).decode())
                except BlockingIOError:
                    return said.count("WATCHDOG=1")

        asked = {"NOTIFY_SOCKET": str(notify), "WATCHDOG_USEC": "600000"}
        service = {"service": {"listen": f"127.0.0.1:{port}", "market_data_timeout": 3}}
        agent = Agent(url, place / "home", config=service, environment=dict(asked))
        with agent.running() as process:
            until("it trades", lambda: fed() and trading(agent)())
            market.send_signal(signal.SIGSTOP)
            until("the silence is noticed", lambda: page(port, "healthz")[0] == 503)
            before, placed = fed(), len(agent.happened("order/placed"))
            time.sleep(3)
            assert fed() == before, "the watchdog is not fed"
            assert len(agent.happened("order/placed")) == placed, "nothing is ordered on old books"
            market.send_signal(signal.SIGCONT)
            until("all is well again", lambda: page(port, "healthz")[0] == 200 and fed() > before)
            process.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            assert process.wait(120) == 130
            took = time.monotonic() - begun
        agent.environment.clear()
        return (
            f"healthz 503, watchdog not fed, nothing ordered; heard again: well; SIGTERM ends it in {took:.1f} s; "
            f"{must_go_on(agent, records(agent))}"
        )


def said_of_engine(port: int) -> list[str]:
    """A run's complaints about its model server; it may have others on a busy box."""
    status, says = page(port, "readyz")
    return [c for c in json.loads(says)["complaints"] if "server at" in c] if status == 503 else []


def engine_hung(place: Path, _: int) -> str:
    port, listen = free_port(), free_port()
    with (
        venue() as (url, _venue),
        subprocess.Popen(
            [*_MODEL, "model", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server,
    ):
        try:
            until("the model server listens", lambda: page(port, "metrics")[0] == 200)
            write_model(place)  # the tokenizer: such a server counts no tokens
            remote = {"url": f"http://127.0.0.1:{port}", "timeout": 2, "tokenizer": str(place), "context": 2048}
            config = {
                "edge": {"remote": remote, "shadow_search": True, "strategy": "fixed"},
                "trading": {"min_support": 1},
                "service": {"listen": f"127.0.0.1:{listen}"},
            }
            agent = Agent(url, place / "home", ("agent",), config)
            with agent.running("--engine", "mlc") as process:
                decided = lambda: [e for e in agent.happened("decision/made") if e["phase_tokens"]]  # noqa: E731
                until("the model has been asked", decided, 120)
                server.send_signal(signal.SIGSTOP)
                until("it says so", lambda: said_of_engine(listen))
                slots, count = agent.happened("cycle/started"), len(agent.happened("decision/made"))
                until("cycles go on", lambda: len(agent.happened("cycle/started")) > len(slots) + 2)
                later = agent.happened("decision/made")[count:]
                assert later and all(e["action"] == "abstain" for e in later), "nothing is decided on"
                says = said_of_engine(listen)
                assert says, "it is unwell as long as the engine does not answer"
                server.send_signal(signal.SIGCONT)
                until("it is well again", lambda: page(listen, "readyz")[0] == 200)
                process.send_signal(signal.SIGTERM)
                assert process.wait(120) == 130
            reasons = sorted({str(e["reason"]) for e in later})
            return f"readyz 503 ({says[0]}), cycles go on and abstain ({', '.join(reasons)}); back: well"
        finally:
            server.send_signal(signal.SIGCONT)
            server.kill()


_STOPS = "halts with exit 4, takes orders back, stays halted, loses nothing"
SCENARIOS = (
    Scenario(
        "killed with SIGKILL at random instants, among faults of the venue",
        "starting is recovering: no order unknown, none twice, books agree to the micro-dollar",
        killed,
    ),
    Scenario("disk filled", _STOPS, disk_filled),
    Scenario("disk read-only at the start", "does not start, one sentence, loses nothing", read_only),
    Scenario("database locked by another program", _STOPS, database_busy),
    Scenario("write-ahead log damaged in the middle", "does not start, exit 4, touches nothing", log_damaged),
    Scenario(
        "clock set forward an hour, then right",
        "opens nothing until the venue's clock agrees; set back ends it with exit 5, and it recovers",
        clock_forward,
    ),
    Scenario(
        "clock set back an hour, then right",
        "ends with exit 5, does not start on the wrong time, recovers",
        clock_back,
    ),
    Scenario("feed frozen", "unwell, watchdog not fed, nothing ordered, goes on when heard again", feed_frozen),
    Scenario("engine hung", "unwell, cycles go on and abstain, goes on when it answers again", engine_hung),
    *(Scenario(fault, expected, run) for fault, expected, run in venue_faults.SCENARIOS),
)


def tried(scenario: Scenario, kills: int) -> Outcome:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgeclaw-fault-") as folder:
        try:
            found, ok = scenario.run(Path(folder), kills), True
        except CannotBeTried as why:
            found, ok = f"not tried: {why}", None
        except (AssertionError, subprocess.TimeoutExpired, LookupError, ValueError, OSError) as error:
            here = (__file__, venue_faults.__file__)
            line = next(f.lineno for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename in here)
            found, ok = f"line {line}: {type(error).__name__}: {error}"[:1500], False
    return Outcome(scenario.fault, scenario.expected, found, ok, round(time.monotonic() - begun, 1))


def shown(outcomes: list[Outcome]) -> Table:
    table = Table("fault", "expected", "found", "", "s", show_lines=True)
    marks = {True: "[green]as expected[/]", False: "[red]not so[/]", None: "[yellow]not tried[/]"}
    for o in outcomes:
        table.add_row(o.fault, o.expected, o.found, marks[o.ok], f"{o.seconds:.0f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Do to a live agent what goes wrong on a trading box.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--only", default="", help="scenarios whose fault has this in its name")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    screen = Console(width=160)
    outcomes = []
    for scenario in (s for s in SCENARIOS if asked.only in s.fault):
        sys.stderr.write(f"... {scenario.fault}\n")
        outcomes.append(tried(scenario, asked.kills))
    if asked.json:
        sys.stdout.write(json.dumps([asdict(o) for o in outcomes], indent=2) + "\n")
    else:
        screen.print(shown(outcomes))
    sys.exit(any(o.ok is False for o in outcomes))


if __name__ == "__main__":
    main()
