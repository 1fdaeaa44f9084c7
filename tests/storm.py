"""Fault storm: an agent at a loopback venue under random faults, killed at random instants; run by hand or by a test:

    python -m tests.storm --kills 200 --seed 7

One venue lives through it all. Agents are forked one after the other, each trades until it is killed with SIGKILL, and
the next continues from the disk. At the end the faults stop, a last agent runs to its end and compares its books with
the venue's to the micro-unit, and the records of both are compared here. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.app.live import run_live
from agent.app.live_plan import LivePlan
from agent.config.load import load_config
from agent.live.keys import play_key
from agent.trading.bus import LocalBus
from backtest.venue.faults import MODES, Fault
from market.errors import EdgeclawError
from storage.records import RecordKind
from storage.store import open_store
from tools.halts import KillSwitch
from tools.polymarket.client import SigningAccount

TRADERS = ("late_favourite", "join_best")
_NO_LIMITS = ("risk.market_exposure", "risk.total_exposure", "risk.loss", "risk.daily_loss", "risk.drawdown")
"""Risk limits lifted for the storm, which must not stop trading."""

LEFT_OUT = frozenset({Fault.NEVER_MINED, Fault.MINED_SILENTLY})
"""Faults that the storm does not inject. A trade that stays matched for good leaves books that differ from the venue's
for good, or an agent that rightly trades no more; the storm ends with a comparison to the micro-unit. What is no fault
but a command (payments, orders that the key never signed) is not injected either, for the same reason."""


@dataclass
class Storm:
    """State of the storm. `place` holds the database, the key and a log; `rate` is faults a second."""

    url: str
    place: Path
    chance: random.Random
    rate: float = 3.0
    ordered: Counter[str] = field(default_factory=Counter)
    exits: Counter[int] = field(default_factory=Counter)

    @property
    def database(self) -> str:
        return f"sqlite:///{self.place / 'edgeclaw.db'}"

    def agent(self, cycles: int | None) -> int:
        """Fork an agent; return its process id."""
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        # Whatever happens below, the child leaves by `_exit`: it must not run the parent's handlers.
        code = 70
        try:
            log = os.open(self.place / "agents.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = self._trade(cycles)
        finally:
            os._exit(code)

    def _trade(self, cycles: int | None) -> int:
        asked = {
            "edge.runtime": "scripted",
            "venue.loopback": self.url,
            "venue.key_file": str(self.place / "play.key"),
            "storage.url": self.database,
            **dict.fromkeys(_NO_LIMITS, "1000000"),
        }
        try:
            asyncio.run(run_live(LivePlan(load_config(None, asked), TRADERS, cycles), LocalBus()))
        except EdgeclawError as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            return error.exit_code
        except BaseException:
            traceback.print_exc()
            return 70
        return 0

    def live(self, seconds: float) -> None:
        """Run one agent: trade among faults, then die. Every second one begins without faults, so that it comes to
        trade before it dies."""
        if self.chance.random() < 0.5:
            ask(f"{self.url}/venue/faults", "DELETE")
        pid, ends = self.agent(None), time.monotonic() + seconds
        while time.monotonic() < ends:
            # Exponential waits: faults come independently of each other, `rate` a second.
            time.sleep(min(self.chance.expovariate(self.rate), max(ends - time.monotonic(), 0.0)))
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self.exits[os.waitstatus_to_exitcode(status)] += 1
                return
            self.command(self.chance.choice([f for f in Fault if f not in LEFT_OUT]))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        self.exits[os.waitstatus_to_exitcode(status)] += 1

    def command(self, fault: Fault) -> None:
        how: dict[str, object] = {"fault": fault.value}
        how |= {"seconds": self.chance.uniform(5, 30)} if fault in MODES else {"count": self.chance.randint(1, 3)}
        self.ordered[fault.value] += 1
        ask(f"{self.url}/venue/faults", "POST", how)

    def last(self, cycles: int, seconds: float) -> int:
        """Stop the faults and run an agent to its end; return its exit code."""
        ask(f"{self.url}/venue/faults", "DELETE")
        pid, ends = self.agent(cycles), time.monotonic() + seconds
        while time.monotonic() < ends:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return -1


def ask(url: str, method: str = "GET", body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - a loopback address
        return json.loads(answer.read())


async def compared(storm: Storm) -> dict[str, object]:
    """Compare the agent's log with the venue's record of the same orders and money."""
    wallet = SigningAccount.of(play_key(storm.place / "play.key").signer()).wallet
    placed = ask(f"{storm.url}/venue/orders/{wallet}")
    ledger = ask(f"{storm.url}/venue/ledger/{wallet}")
    async with open_store(storm.database, read_only=True) as store:
        runs = await store.runs()
        intents = [i for r in runs for i in await store.intents(r.id)]
        fills = [f for r in runs for f in await store.fills(r.id)]
        settled = [s for r in runs for s in await store.settlements(r.id)]
        acks = [a for r in runs for a in await store.records(r.id, RecordKind.ACK)]
        problems = [p.sentence for r in runs for p in await store.verify(r.id)]
        cash = runs[0].about.initial_cash + sum(f.cash for f in fills) + sum(s.cash for s in settled)
    known = {i.order_id for i in intents}
    # Terminal by the log alone: an order without such a record has been lost sight of.
    over = {a.body["order_id"] for a in acks if a.body["status"] in ("matched", "canceled", "rejected")}
    keys = Counter(i.order.key for i in intents)
    return {
        "runs": len(runs),
        "intents": len(intents),
        "orders_at_venue": len(placed),
        "filled_in_part": sum(1 for p in placed if 0 < float(p["size_matched"]) < float(p["original_size"])),
        "cancelled": sum(1 for p in placed if str(p["status"]).startswith("CANCELED")),
        "fills": len([f for f in fills if f.size > 0]),
        "taken_back": len([f for f in fills if f.size < 0]),
        "settlements": len(settled),
        "orders_unknown_to_the_log": len([p for p in placed if p["id"] not in known]),
        "intents_without_an_end": len(known - over),
        "keys_used_twice": len([k for k, n in keys.items() if n > 1]),
        "cash_here": cash,
        "cash_at_venue": ledger["held"].get("cash", 0),
        "bound_at_venue": ledger["bound"],
        "damage_in_the_log": problems,
    }


def faults(kills: int, seed: int, speed: float, place: Path) -> dict[str, object]:
    """Run the whole storm. Times are of the system clock."""
    serve = [sys.executable, "-m", "agent", "venue", "serve", "--port", "0", "--speed", str(speed), "--json"]
    began = time.monotonic()
    os.environ["EDGECLAW_HOME"] = str(place)
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as venue:
        try:
            assert venue.stdout is not None
            storm = Storm(json.loads(venue.stdout.readline())["url"], place, random.Random(seed))
            play_key(place / "play.key")
            while storm.exits[-signal.SIGKILL] < kills and storm.exits.total() < 3 * kills:
                storm.live(storm.chance.uniform(0.3, 5.0))
            code = storm.last(2, 180)
            found = asyncio.run(compared(storm))
            state = ask(f"{storm.url}/venue/state")
        finally:
            venue.terminate()
            with suppress(subprocess.TimeoutExpired):
                venue.wait(10)
    return {
        "kills": storm.exits.get(-signal.SIGKILL, 0),
        "gave_up": {str(c): n for c, n in sorted(storm.exits.items()) if c != -signal.SIGKILL},
        "last_exit": code,
        "halted": str(KillSwitch(place).read() or ""),
        "seconds": round(time.monotonic() - began, 1),
        "speed": speed,
        "seed": seed,
        "faults_ordered": dict(sorted(storm.ordered.items())),
        "faults_seen": state["faults"],
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Trade through faults and kills, then compare every book.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--speed", type=float, default=60.0)
    parser.add_argument("--keep", type=Path, help="a folder for the database and the agents' log")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = asked.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        sys.stdout.write(json.dumps(faults(asked.kills, asked.seed, asked.speed, place)) + "\n")


if __name__ == "__main__":
    main()
