"""Scenarios of `python -m tests.faults` that are the venue's doing: what must be seen in health within a bounded time,
and that the run comes to its end with books that agree with the venue's."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.live.keys import play_key
from tests.running import Agent, free_port, page, until, venue
from tests.storm import ask
from tools.polymarket.client import SigningAccount

WITHIN = 60.0
"""Seconds in which a fault has to be told."""
FIXED = "says so in health, stays, and ends with equal books"


@dataclass(frozen=True)
class Trading:
    """An agent that trades at a venue, and its pages."""

    agent: Agent
    port: int

    @property
    def wallet(self) -> str:
        return SigningAccount.of(play_key(self.agent.home / "play.key").signer()).wallet

    def fault(self, name: str, **how: object) -> None:
        ask(f"{self.agent.url}/venue/faults", "POST", {"fault": name, **how})

    def mend(self) -> None:
        ask(f"{self.agent.url}/venue/faults", "DELETE")

    def remarks(self) -> list[str]:
        """What the run complains and warns of."""
        _, text = page(self.port, "readyz")
        return list(json.loads(text)["complaints"]) if text else []

    def told(self, phrase: str, again: Callable[[], None] = lambda: None) -> str:
        """The remark with that phrase, once there is one; `again` is done before each look."""

        def seen() -> bool:
            again()
            time.sleep(0.2)
            return any(phrase in said for said in self.remarks())

        until(f"health says {phrase!r}", seen, WITHIN)
        return next(said for said in self.remarks() if phrase in said)


@contextmanager
def trading(place: Path, *more: str, trades: tuple[str, ...] = ("join_best", "late_favourite")) -> Iterator[Trading]:
    limits = dict.fromkeys(("market_exposure", "total_exposure", "loss", "daily_loss", "drawdown"), "1000000")
    port = free_port()
    config: Mapping[str, Any] = {"risk": limits, "service": {"listen": f"127.0.0.1:{port}", "backfill": False}}
    with venue(*more) as (url, _):
        agent = Agent(url, place / "home", trades, config)
        with agent.running() as process:
            until("it trades", lambda: len(agent.happened("order/filled")) > 0)
            yield Trading(agent, port)
            assert process.poll() is None, agent.said()[-800:]
            process.terminate()
            assert process.wait(120) == 130, agent.said()[-800:]
        if not (agent.home / "halted").exists():
            code, said = agent.ended("--cycles", "1", seconds=300)
            assert code == 0, said[-800:]


def _in_health(phrase: str, name: str, **how: object) -> Callable[[Path, int], str]:
    """A fault that health tells in a phrase, again and again until it does."""

    def scenario(place: Path, _: int) -> str:
        with trading(place) as t:
            said = t.told(phrase, lambda: t.fault(name, **how))
            t.mend()
        return f"{said} Ended with equal books"

    return scenario


def finished_orders_forgotten(place: Path, _: int) -> str:
    with trading(place) as t:
        for name in ("finished_null", "finished_gone"):
            t.fault(name, seconds=600)
            before = len(t.agent.happened("order/ended"))
            until("orders end all the same", lambda b=before: len(t.agent.happened("order/ended")) > b + 2)  # type: ignore[misc]
        assert not any("has no answer" in said for said in t.remarks())
    return "orders end by the list of open ones, nothing waits; ended with equal books"


def trade_never_mined(place: Path, _: int) -> str:
    with trading(place) as t:
        t.fault("never_mined", count=1)
        said = t.told("is not settled yet")
        until("the chain has told", lambda: not any("not settled yet" in one for one in t.remarks()))
    return f"{said} Then settled by the chain; ended with equal books"


def winnings_late(place: Path, _: int) -> str:
    with trading(place, "--no-auto-redeem", trades=("late_favourite",)) as t:
        said = t.told("have not been paid since")
    return f"{said} (no relayer key to redeem with)"


def cash_beside_trading(place: Path, _: int) -> str:
    with trading(place) as t:
        for kind in ("deposit", "maker_rebate", "withdrawal"):
            ask(f"{t.agent.url}/venue/accounts/{t.wallet}", "POST", {"kind": kind, "amount": "3.50"})
        until("they are in the log", lambda: len(t.agent.happened("cash/transferred")) == 3, WITHIN)
        assert not any("differs" in said for said in t.remarks())
    return "a record for each, no difference; ended with equal books"


def another_program(place: Path, _: int) -> str:
    with trading(place) as t:
        found = ask(f"{t.agent.url}/v2/positions?user={t.wallet}&status=OPEN")["data"]
        order = {"token_id": found[-1]["token_id"], "side": "BUY", "price": "0.01", "size": "10"}
        other = ask(f"{t.agent.url}/venue/accounts/{t.wallet}/orders", "POST", order)["orderID"]
        said = t.told("is not of this log")
        until("its own orders are taken back", lambda: not _resting(t) - {other}, WITHIN)
    return f"{said[:140]}... Its own orders are taken back"


def _resting(t: Trading) -> set[str]:
    return {o["id"] for o in ask(f"{t.agent.url}/venue/orders/{t.wallet}") if o["status"] == "LIVE"}


SCENARIOS: tuple[tuple[str, str, Callable[[Path, int], str]], ...] = (
    ("venue: forgets finished orders (null, then 404)", "orders end by a second witness", finished_orders_forgotten),
    ("venue: a page for people instead of data", FIXED, _in_health("page for people", "page_ok", seconds=120)),
    ("venue: 403 with a page", FIXED, _in_health("403", "page_forbidden", seconds=120)),
    ("venue: frames that cannot be read", FIXED, _in_health("could not be decoded", "bad_frame", count=3)),
    ("venue: stamps an hour ahead", FIXED, _in_health("ahead of this clock", "ahead_frame", count=3)),
    ("venue: payouts that cannot be", FIXED, _in_health("records were refused", "odd_payouts", seconds=600, count=3)),
    ("venue: a trade that is never mined", "told as late, then settled by the chain", trade_never_mined),
    ("venue: winnings that are not paid", "says how much is unpaid, and since when", winnings_late),
    (
        "account: a deposit, a rebate, a withdrawal",
        "a record for each, and the comparison goes on",
        cash_beside_trading,
    ),
    ("account: another program trades on it", "halts, takes its own orders back", another_program),
)
