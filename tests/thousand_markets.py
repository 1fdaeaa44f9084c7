"""A thousand settled markets over sockets, among all faults of the venue at random and money that moves beside trading:

    python -m tests.thousand_markets --markets 1000 --seed 7

One agent with three strategies trades windows of several assets at a loopback venue in another process. After each slot
it compares its account with the venue's, and here the pages, the log and the database are compared with each other.
Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from agent.live.keys import play_key
from backtest.venue.faults import MODES, Fault
from tests.running import Agent, free_port, page, until, venue
from tests.storm import ask
from tools.polymarket.client import SigningAccount

ASSETS = ("aa", "bb", "cc", "dd", "ee")
TRADERS = ("late_favourite", "join_best", "agent")
_KINDS = ("deposit", "withdrawal", "maker_rebate", "taker_rebate", "reward", "yield")
_LIMITS = dict.fromkeys(("market_exposure", "total_exposure", "loss", "daily_loss", "drawdown"), "1000000")
_COUNTED = {
    "order": "edgeclaw_orders_total",
    "fill": "edgeclaw_fills_total",
    "refusal": "edgeclaw_orders_refused_total",
}


def counters(port: int) -> dict[str, float]:
    """All metrics of the agent, summed over their labels, and with the labels of `edgeclaw_counted`."""
    status, text = page(port, "metrics")
    assert status == 200, f"/metrics said {status}"
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name.partition("{")[0]] += float(value)  # type: ignore[assignment]
            found[name] += float(value) if "{" in name else 0.0  # type: ignore[assignment]
    return dict(found)


def settled(database: Path) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
        return int(store.execute("SELECT count(DISTINCT market_id) FROM settlements").fetchone()[0])


def actions(agent: Agent) -> Counter[str]:
    """Lines of the log by their action."""
    lines = (json.loads(line) for line in agent.said().splitlines() if line.startswith("{") and line.endswith("}"))
    return Counter(str(line["action"]) for line in lines if "action" in line)


def spoil(agent: Agent, wallet: str, chance: random.Random, ordered: Counter[str]) -> None:
    """One fault, or one transfer."""
    if chance.random() < 0.1:
        kind = chance.choice(_KINDS)
        ask(f"{agent.url}/venue/accounts/{wallet}", "POST", {"kind": kind, "amount": f"{chance.randint(1, 500) / 100}"})
        ordered[kind] += 1
        return
    fault = chance.choice(list(Fault))
    how: dict[str, object] = {"fault": fault.value}
    how |= {"seconds": chance.uniform(5, 30)} if fault in MODES else {"count": chance.randint(1, 3)}
    ask(f"{agent.url}/venue/faults", "POST", how)
    ordered[fault.value] += 1


def soak(markets: int, seed: int, speed: float, place: Path) -> dict[str, Any]:
    """Trade until so many markets have been settled; return what was found."""
    chance, ordered, port = random.Random(seed), Counter[str](), free_port()
    more = [word for asset in ASSETS for word in ("--asset", asset)]
    config = {
        "risk": _LIMITS,
        "service": {"listen": f"127.0.0.1:{port}", "backfill": False},
        "venue": {"series": [f"{asset}-5m" for asset in ASSETS]},
    }
    begun, silent, looks = time.monotonic(), list[str](), 0
    with venue(*more, speed=speed) as (url, _):
        agent = Agent(url, place / "home", TRADERS, config)
        with agent.running() as process:
            until("it trades", lambda: len(agent.happened("order/filled")) > 0)
            wallet = SigningAccount.of(play_key(agent.home / "play.key").signer()).wallet
            while settled(agent.home / "edgeclaw.db") < markets:
                assert process.poll() is None, agent.said()[-2000:]
                assert not (agent.home / "halted").exists(), (agent.home / "halted").read_text()
                spoil(agent, wallet, chance, ordered)
                time.sleep(min(chance.expovariate(2.0), 3.0))
                looks += 1
                if looks % 20 == 0:
                    ask(f"{url}/venue/faults", "DELETE")
                    silent += silences(agent, port)
            ask(f"{url}/venue/faults", "DELETE")
            time.sleep(5)
            before, metrics, told = actions(agent), counters(port), actions(agent)
            process.terminate()
            assert process.wait(180) == 130, agent.said()[-2000:]
        code, said = agent.ended("--cycles", "1", seconds=600)
        assert code == 0, said[-2000:]
        held = ask(f"{url}/venue/ledger/{wallet}")["held"]
    return {
        "markets": settled(agent.home / "edgeclaw.db"),
        "seconds": round(time.monotonic() - begun),
        "faults": sum(ordered.values()),
        "kinds": len(ordered),
        "compared": metrics['edgeclaw_counted{source="account",what="compared"}'],
        "agreed": metrics['edgeclaw_counted{source="account",what="agreed"}'],
        "differed_for_a_moment": metrics['edgeclaw_counted{source="account",what="differed"}'],
        "last_exit": code,
        "cash_at_venue": held.get("cash", 0),
        **recorded(agent.home / "edgeclaw.db"),
        "log_and_metrics_agree": all(
            before[action] <= metrics.get(name, 0) <= told[action] for action, name in _COUNTED.items()
        ),
        "log": {action: told[action] for action in _COUNTED},
        "waits_without_a_sentence": silent,
    }


def silences(agent: Agent, port: int) -> list[str]:
    """Trades that the venue has not called final for more than three minutes of its time, and of which health says
    nothing."""
    with closing(sqlite3.connect(f"file:{agent.home / 'edgeclaw.db'}?mode=ro", uri=True)) as store:
        fills = [json.loads(row[0]) for row in store.execute("SELECT body FROM records WHERE kind = 'fill'")]
    now = datetime.fromisoformat(str(ask(f"{agent.url}/venue/state")["now"]))
    said = " ".join(json.loads(page(port, "readyz")[1])["complaints"])
    back = {f["id"].removesuffix("/failed") for f in fills if f["id"].endswith("/failed")}
    final = {i for i, status in ask(f"{agent.url}/venue/trades").items() if status in ("CONFIRMED", "FAILED")}
    late = [f for f in fills if f["id"] not in back and now - datetime.fromisoformat(f["at"]) > timedelta(minutes=3)]
    waiting = {f["id"].partition("/")[0] for f in late if not f["id"].endswith("/failed")}
    return sorted(i for i in waiting if i not in final and i not in said)


def recorded(database: Path) -> dict[str, Any]:
    """Cash, holdings and fees by the log, in millionths, and how many records of each kind there are."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
        end = json.loads(store.execute("SELECT body FROM records WHERE kind = 'end' ORDER BY at DESC").fetchone()[0])
        fees = store.execute("SELECT sum(fee) FROM fills").fetchone()[0]
        kinds = dict(store.execute("SELECT kind, count(*) FROM records GROUP BY kind").fetchall())
    return {"cash_here": end["cash"], "holdings": end["holdings"], "fees": fees, "records": kinds}


def main() -> None:
    parser = argparse.ArgumentParser(description="Settle many markets among all faults of the venue.")
    parser.add_argument("--markets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--speed", type=float, default=60.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeclaw-soak-") as folder:
        found = soak(asked.markets, asked.seed, asked.speed, Path(folder))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
