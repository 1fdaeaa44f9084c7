"""The log of a live run, read by somebody who was not there: it alone tells how each order ended, as the database has
it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("polymarket", reason="the extra `live` is not installed")
pytest.importorskip("structlog", reason="the extra `live` is not installed")

from market.types import OVER, units
from storage.records import RecordKind
from storage.store import open_store
from tests.running import Agent, free_port, until, venue

ENDS = {"filled": "matched", "cancel": "canceled", "expiry": "canceled", "kill": "canceled", "refusal": "rejected"}
"""Actions that end an order, and the status that the database has for them."""
Line = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """What the database has: final status and filled size of each order, and numbers of records."""

    status: dict[str, str]
    filled: dict[str, Decimal]
    counts: dict[str, int]
    cash: Decimal


def logged(text: str) -> Iterator[Line]:
    """Lines of the log in what a process printed."""
    for line in text.splitlines():
        if line.startswith('{"at"'):
            yield json.loads(line)


async def recorded(home: Path) -> Recorded:
    async with open_store(f"sqlite:///{home / 'edgeclaw.db'}", read_only=True) as store:
        runs = await store.runs()
        intents = [i for r in runs for i in await store.intents(r.id)]
        fills = [f for r in runs for f in await store.fills(r.id)]
        settled = [s for r in runs for s in await store.settlements(r.id)]
        acks = [a.body for r in runs for a in await store.records(r.id, RecordKind.ACK)]
        decisions = [d for r in runs for d in await store.decisions(r.id, limit=10_000)]
    over = {str(status) for status in OVER}
    ended: dict[str, str] = {str(a["order_id"]): str(a["status"]) for a in acks if a["status"] in over}
    filled = {i.order_id: Decimal(0) for i in intents}
    for fill in fills:
        filled[fill.order_id] += units(fill.size)
    statuses = Counter(ended.values())
    counts = {
        "order": len(intents),
        "fill": len(fills),
        "settlement": len(settled),
        "decision": len(decisions),
        **{action: statuses[action] for action in ("matched", "canceled", "rejected")},
    }
    cash = sum((units(f.cash) for f in fills), Decimal(0)) + sum((units(s.cash) for s in settled), Decimal(0))
    return Recorded(ended, filled, counts, cash)


def ends(lines: Sequence[Line]) -> dict[str, tuple[str, Decimal]]:
    """Status and filled size of each order, by the lines that end it."""
    found = {}
    for line in lines:
        if line["action"] in ENDS:
            assert line["order"] not in found, "an order ends once"
            assert line.get("status", "rejected") == ENDS[line["action"]]
            found[line["order"]] = (ENDS[line["action"]], Decimal(line.get("filled", "0")))
    return found


def counted(lines: Sequence[Line]) -> dict[str, int]:
    actions = Counter(line["action"] for line in lines)
    statuses = Counter(ENDS[line["action"]] for line in lines if line["action"] in ENDS)
    return {
        **{action: actions[action] for action in ("order", "fill", "settlement", "decision")},
        **{status: statuses[status] for status in ("matched", "canceled", "rejected")},
    }


def every_order_can_be_followed(lines: Sequence[Line]) -> None:
    """Its lines have the names of its first one, and stand in their order."""
    placed = {line["order"]: line for line in lines if line["action"] == "order"}
    for line in lines:
        if "order" not in line:
            continue
        first = placed[line["order"]]
        for name in ("market", "slug", "outcome", "side"):
            assert line[name] == first[name], line
    for order in placed:
        actions = [line["action"] for line in lines if line.get("order") == order]
        assert actions[0] == "order" and actions[-1] in ENDS and set(actions[1:-1]) <= {"fill"}, actions


def halt(agent: Agent, *, times: int) -> None:
    """Throw the kill switch, and wait until the run has seen it for the n-th time."""
    assert agent.call("halt", "--reason", "a look at the books").returncode == 0
    until("it halts", lambda: len(agent.happened("halt/raised")) >= times)


def test_the_log_alone_tells_how_every_order_ended(tmp_path: Path) -> None:
    with venue(speed=60) as (url, _):
        agent = Agent(url, tmp_path / "home", ("late_favourite", "join_best", "agent"))
        with agent.running() as process:
            until("orders were filled", lambda: len(agent.happened("order/filled")) > 1)
            halt(agent, times=1)
            assert agent.call("resume", "--reason", "looked").returncode == 0
            until("it may order again", lambda: agent.happened("halt/lifted"))
            halt(agent, times=2)
            # Interrupted between two decisions, with no order under way: one that is stopped in the middle of a write
            # has it in the database, and no time left to say so.
            decisions = len(agent.happened("decision/made"))
            until("it has decided", lambda: len(agent.happened("decision/made")) > decisions)
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 130, agent.said()[-2000:]
        assert agent.call("resume", "--reason", "looked again").returncode == 0
        first = list(logged(agent.said()))
        code, said = agent.ended("--cycles", "2", seconds=300)
        assert code == 0, said[-2000:]
        second = list(logged(said))
        lines, known = first + second, asyncio.run(recorded(agent.home))
    assert ends(lines) == {order: (known.status[order], filled) for order, filled in known.filled.items()}
    assert counted(lines) == known.counts
    assert min(known.counts.values()) > 0, "the run had orders of every end"
    every_order_can_be_followed(lines)
    fills = [(line["order"], Decimal(line["size"])) for line in lines if line["action"] == "fill"]
    assert {o: sum((n for order, n in fills if order == o), Decimal(0)) for o in known.filled} == known.filled

    starts = [line for line in lines if line["action"] == "start"]
    assert [(s["mode"], s["resumed"]) for s in starts] == [("loopback", False), ("loopback", True)]
    stops = [(line["finished"], line["reason"]) for line in lines if line["action"] == "stop"]
    assert stops == [(False, "interrupted"), (True, "its slots are done")]
    assert [line["action"] for line in first if line["action"] in ("halt", "resume")] == ["halt", "resume", "halt"]
    assert len([line for line in second if line["action"] == "slot"]) == 2
    # A market's result is what its shares became less what they cost: together the change of the account's cash.
    results = [Decimal(line["result"]) for line in lines if line["action"] == "settlement"]
    assert sum(results) == known.cash
    for name in ("market", "slug", "outcome"):
        assert all(line[name] for line in lines if line["action"] == "settlement"), name


def test_a_start_that_is_refused_is_in_the_log_with_its_reason_and_exit_code(tmp_path: Path) -> None:
    agent = Agent(f"http://127.0.0.1:{free_port()}", tmp_path / "home")
    code, said = agent.ended()
    last = list(logged(said))[-1]
    assert (last["action"], last["exit_code"], last["level"]) == ("exit", code, "error") and code == 5
    assert last["reason"].startswith("No loopback venue answers")


def test_the_level_of_the_log_is_a_setting_and_a_wrong_one_is_one_sentence(tmp_path: Path) -> None:
    agent = Agent(f"http://127.0.0.1:{free_port()}", tmp_path / "home", config={"service": {"log_level": "error"}})
    _, said = agent.ended()
    assert [line["action"] for line in logged(said)] == ["exit"], "stages are no errors"
    wrong = Agent(agent.url, tmp_path / "other", config={"service": {"log_level": "loud"}})
    code, said = wrong.ended()
    assert code == 2 and "service.log_level" in said and len(said.splitlines()) == 1, said
