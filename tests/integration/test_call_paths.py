"""The two lists of files in docs/architecture.md, held against traces of real runs: a book from socket to order at a
loopback venue, and a decision from slot to page in a scripted run."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import pytest

pytest.importorskip("polymarket", reason="the extra `live` is not installed")
pytest.importorskip("starlette", reason="the extra `review` is not installed")

from agent.app.live_plan import LivePlan
from agent.app.live_run import LiveWorld
from agent.app.recorded import PaperPlan, World
from agent.config.load import load_config
from agent.config.schema import Config
from agent.learning.learner import OnlineLearner
from agent.learning.market_history import Memory
from agent.live.account import VenueAccount
from agent.llm.scripted import ScriptedEngine
from agent.review.site import site
from agent.trading.bus import LocalBus
from agent.trading.inhibit import Inhibitor
from backtest.venue.scenarios import Scenario, listed
from market.clock import ScaledClock
from market.events import CycleStarted
from market.feed import ReferenceTick
from market.polymarket.hosts import Hosts
from storage.canonical import digest
from storage.memory_log import InMemoryRunLog
from storage.records import DecisionFilter
from storage.store import Store, open_store
from tests.fakes import START, book, levels
from tests.integration.test_trading import SECONDS, WINDOWS, planted, up
from tests.values import pulse
from tests.venue import KEY, loopback
from tools.keystore import SecretKey
from tools.polymarket.client import SigningAccount

ROOT = Path(__file__).parents[2]
FOLDERS = ("agent", "backtest", "strategies", "tools", "storage", "market")
KEYS = {"trading.shrink": 0.5, "trading.max_shift": 1.0, "trading.max_order": "5"}
SPEED, EARLY = 20, 150
"""How fast the venue's clock runs, and how many of its seconds before a slot it is started."""
GIVEN_UP = 300.0
"""Seconds after which a run that does not trade is a failure, and no longer waited for."""
LEARNT = 50
"""Slots of the planted world at which nothing can be known of it yet."""

VALUES = frozenset(
    {
        *(f"market/{name}.py" for name in ("types", "clock", "fees", "rules", "events", "errors")),
        *(f"storage/{name}.py" for name in ("canonical", "records", "schema")),
        "strategies/logit.py",
    }
)
"""Values, time, dates' rules and codecs: every step uses them."""
COMPOSED = ("agent/app/", "agent/llm/scripted.py", "backtest/")
"""Composition, and what stands in for the model and the venue."""


class Call(NamedTuple):
    """A call of a function of ours: by which task, and by a function in which file."""

    task: object
    file: str
    function: str
    caller: str


@dataclass
class Trace:
    """Calls of our files on this thread: since the last one of the function `since`, until one after which it is
    `over`."""

    since: str = ""
    over: Callable[[Sequence[Call]], bool] = lambda calls: False
    calls: list[Call] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    files: dict[CodeType, str] = field(default_factory=dict)

    @contextmanager
    def running(self) -> Iterator[None]:
        """From the first `start` to the end of the block."""
        try:
            yield
        finally:
            sys.setprofile(None)

    def start(self) -> None:
        if not self.ended.is_set():
            sys.setprofile(self._heard)

    def _heard(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not (file := self._file(frame.f_code)):
            return
        if frame.f_code.co_qualname == self.since:
            self.calls.clear()
        caller = self._file(frame.f_back.f_code) if frame.f_back is not None else ""
        self.calls.append(Call(_task(), file, frame.f_code.co_qualname, caller))
        if self.over(self.calls):
            sys.setprofile(None)
            self.ended.set()

    def _file(self, code: CodeType) -> str:
        """The path of a file of ours, or nothing."""
        if code not in self.files:
            path = Path(code.co_filename)
            inside = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
            self.files[code] = inside if inside.split("/")[0] in FOLDERS else ""
        return self.files[code]


def _task() -> object:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def path(calls: Sequence[Call]) -> list[str]:
    """The files of a way in the order of their first call, by the rule that docs/architecture.md states."""
    return list(dict.fromkeys(call.file for call in calls if _counts(call)))


def _counts(call: Call) -> bool:
    inside_storage = call.file.startswith("storage/") and call.caller.startswith("storage/")
    behind_a_stand_in = call.caller.startswith("backtest/")
    return not (call.file in VALUES or call.file.startswith(COMPOSED) or inside_storage or behind_a_stand_in)


def listed_under(heading: str) -> list[str]:
    """The files of a numbered list in docs/architecture.md, each with its line."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\d+\. `([^`]+)`: \S", section, re.MULTILINE)


def last(calls: Sequence[Call], function: str, before: int | None = None) -> int:
    return max(i for i, call in enumerate(calls[:before]) if call.function == function)


# --- a book, from socket to order


@dataclass(frozen=True)
class Late:
    """The planted world's windows at a loopback venue: dear at the open, fair half a minute later."""

    asset: str = "btc"
    seconds: int = SECONDS

    def tape(self, opens_at: datetime) -> Scenario:
        market = listed(self.asset, opens_at, self.seconds, "planted")
        books = [
            book(
                opens_at + timedelta(seconds=second),
                market_id=market.id,
                bids=levels(("0.49", 300), ("0.48", 300)),
                asks=levels(("0.61" if second <= 20 else "0.51", 90), ("0.63", 60)),
            )
            for second in range(-SECONDS, SECONDS, 10)
        ]
        ticks = [ReferenceTick(b.at, b.at, Decimal(100_000)) for b in books]
        return Scenario(market, opens_at - timedelta(seconds=self.seconds), books, ticks, Decimal(1))


def answered_on_a_book(calls: Sequence[Call]) -> bool:
    """An answer of the venue is noted, to an order that a book led to and no slot."""
    if calls[-1].function != "Execution._note":
        return False
    begun = [c.function for c in calls if c.task is calls[-1].task and c.function in ("AgentTrader.on_book", "act")]
    return begun[-1] == "AgentTrader.on_book"


async def remembered(store: Store, source: str, config: Config) -> None:
    """Sixty-eight windows of the planted world as the history of a live feed."""
    feed = planted(late=True)
    memory = Memory(store, feed, feed, source, OnlineLearner(config.trading.shrink))
    for recording in feed.recordings:
        assert recording.resolution is not None
        await memory.outcome(recording.market, recording.resolution, InMemoryRunLog(), recording.resolution.known_at)


def at(stage: str, then: Callable[[], None]) -> Callable[[str], None]:
    """Do something when a run comes to a stage."""
    return lambda reached: then() if reached == stage else None


async def traded_at_a_venue(folder: Path) -> list[Call]:
    """A live run until it has ordered on a book: its calls."""
    clock = ScaledClock(START + timedelta(seconds=SECONDS * (WINDOWS + 2) - EARLY), SPEED)
    trace = Trace(over=answered_on_a_book)
    async with loopback(series=[Late()], clock=clock) as (_, base), open_store(f"sqlite:///{folder}/e.db") as store:
        config = load_config(None, {**KEYS, "venue.loopback": base})
        hosts, key = Hosts.loopback(base), SecretKey.of_hex(KEY)
        account = VenueAccount(hosts, SigningAccount.of(key.signer()), key)
        await remembered(store, digest([f"live|{hosts.clob}", config.trading.cadence, config.trading.offset]), config)
        async with store.leased(account.name, clock.now()) as lease:
            world = LiveWorld(
                plan=LivePlan(config),
                hosts=hosts,
                account=account,
                clock=clock,
                store=store,
                bus=LocalBus(),
                electricity=None,
                stage=at("trading", trace.start),
                pulse=pulse(),
                inhibitor=Inhibitor(),
                lease=lease,
            )
            with trace.running():
                run = asyncio.create_task(world.run(ScriptedEngine(up)))
                ordered = asyncio.create_task(trace.ended.wait())
                await asyncio.wait((run, ordered), return_when=asyncio.FIRST_COMPLETED, timeout=GIVEN_UP)
            ordered.cancel()
            assert trace.ended.is_set(), run.result() if run.done() else "no order came"
            run.cancel()
            with suppress(asyncio.CancelledError):
                await run
    return trace.calls


def test_the_way_of_a_book_from_socket_to_order_is_the_one_in_the_docs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECLAW_HOME", str(tmp_path))
    calls = asyncio.run(traded_at_a_venue(tmp_path))
    session = [call for call in calls if call.task is calls[-1].task]
    begun = last(session, "TradingLoop._watch", last(session, "decide"))
    heard = calls[: next(i for i, call in enumerate(calls) if call is session[begun])]
    applied = max(i for i, call in enumerate(heard) if call.file == "market/polymarket/depth.py")
    frame = heard[last(heard, "_Connection.on_ws_frame", applied) : applied + 1]
    assert path([*frame, *session[begun:]]) == listed_under("A book, from socket to order")


# --- a decision, from slot to page


def traded_at_a_slot(calls: Sequence[Call]) -> bool:
    """The slot is over, and an order was sent at it."""
    return calls[-1].function == "TradingLoop._watch" and any(c.function == "PaperExchange.send" for c in calls)


async def decided_and_shown(folder: Path) -> tuple[list[Call], list[Call]]:
    """The calls of the first slot of a scripted run that traded, and of the page of such a decision."""
    slot, page = Trace("TradingLoop._lateness", traded_at_a_slot), Trace()
    async with open_store(f"sqlite:///{folder}/e.db") as store:
        bus, slots = LocalBus(), count(1)
        world = World(PaperPlan(load_config(None, KEYS), "planted"), planted(), store, bus)

        def begun(_: CycleStarted) -> None:
            if next(slots) == LEARNT:
                slot.start()

        with slot.running(), bus.subscribed(CycleStarted, begun):
            run, *_ = await world.agent(ScriptedEngine(up))
        taken = (await store.listed(DecisionFilter(run_id=run.id, traded=True), limit=1))[0]
        pages = site(store, frozenset({"here"}))
        with page.running():
            page.start()
            assert await asked(pages, f"/decisions/{taken.id}") == 200
    return slot.calls, page.calls


async def asked(app: Any, path: str) -> int:
    """The status of a page."""
    scope = {
        "type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [(b"host", b"here")],
        "http_version": "1.1", "scheme": "http", "root_path": "",
    }  # fmt: skip
    told: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        told.append(message)

    await app(scope, receive, send)
    return int(told[0]["status"])


def test_the_way_of_a_decision_from_slot_to_page_is_the_one_in_the_docs(tmp_path: Path) -> None:
    slot, page = asyncio.run(decided_and_shown(tmp_path))
    assert path([*slot, *page]) == listed_under("A decision, from slot to page")
