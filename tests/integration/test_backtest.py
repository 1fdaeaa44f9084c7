"""Backtests with strategies that misbehave: one that looks ahead, one that raises, one that cannot be loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from agent.app import backtests, recordings
from agent.app.backtests import Backtested, BacktestPlan, once, run_backtest
from agent.app.identity import strategy_identity
from agent.config.load import load_config
from agent.config.places import database_url
from agent.research.lookahead import leaks
from agent.research.parity import Parity, parity
from agent.research.report import report
from agent.trading.bus import LocalBus
from backtest.replay import ReplayFeed
from market.columns import Columns, Mask
from market.errors import Misconfigured
from market.types import UNIT, Book, Market, Micro, Outcome, Side
from storage.store import StoredIntent
from strategies.base import OrderIntent, View
from strategies.baselines import Threshold
from tests.fakes import after, book, levels, market, prices, recorded
from tests.stores import open_store


@dataclass(frozen=True)
class Knows:
    """Wants to see only books that a dearer one follows."""

    name: str = "knows"
    once: bool = False

    def decide(self, view: View) -> OrderIntent | None:
        ask = view.book.best_ask
        held = view.held_yes or ask is None
        return None if held else OrderIntent(Outcome.YES, Side.BUY, ask or Decimal(1), 5 * UNIT, "it will rise")

    def worth(self, market: Market, books: Columns, held_yes: Micro, held_no: Micro) -> Mask:
        dearer: Mask = books.asks.best < books.asks.best[-1]
        return dearer


@dataclass(frozen=True)
class Raises:
    name: str = "raises"
    once: bool = True

    def decide(self, view: View) -> OrderIntent | None:
        raise ZeroDivisionError("no volatility")


class Bare:
    """A strategy that is no dataclass."""

    name, once = "bare", True

    def __init__(self, worth: object = None) -> None:
        self.answer = worth

    def decide(self, view: View) -> OrderIntent | None:
        return None

    def worth(self, market: Market, books: Columns, held_yes: Micro, held_no: Micro) -> object:
        if self.answer is None:
            raise KeyError("no such feature")
        return self.answer


def _world() -> ReplayFeed:
    """Three windows in which the ask rises by a cent every ten seconds."""
    made = []
    for number in range(3):
        books: list[Book] = []
        for step in range(40):
            price = f"{0.30 + step / 100:.2f}"
            below = f"{0.28 + step / 100:.2f}"
            books.append(
                book(
                    after(900 * number + 10 * step),
                    market_id=market(number).id,
                    bids=levels((below, 100)),
                    asks=levels((price, 100)),
                )
            )
        made.append(recorded(*books, number=number))
    return ReplayFeed("rising", made)


Backtest = Callable[..., tuple[Backtested, list[str], BacktestPlan]]


@pytest.fixture
def backtest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Backtest:
    monkeypatch.setenv("EDGECLAW_HOME", str(tmp_path))
    monkeypatch.setattr(recordings, "open_recorded", lambda _: _world())

    def play(*names: str) -> tuple[Backtested, list[str], BacktestPlan]:
        plan = BacktestPlan(load_config(None, {}, profile="recorded"), "rising", names)

        async def run() -> tuple[Backtested, list[str]]:
            done = await run_backtest(plan, LocalBus())
            async with open_store(database_url(plan.config), read_only=True) as store:
                return done, await leaks(plan, done, store, lambda _: None)

        done, found = asyncio.run(run())
        return done, found, plan

    return play


def _offers(monkeypatch: pytest.MonkeyPatch, *objects: str) -> None:
    """Pretend that an installed package offers these objects of this module."""
    made = [EntryPoint(name.lower(), f"{__name__}:{name}", backtests.STRATEGY_GROUP) for name in objects]
    monkeypatch.setattr(backtests, "entry_points", lambda group: made)


def test_a_strategy_that_looks_ahead_is_caught_and_an_honest_one_is_not(
    backtest: Backtest, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offers(monkeypatch, "Knows")
    done, found, _ = backtest("knows", "threshold")
    assert done.failed == {}
    (said,) = found
    assert said.startswith("knows looks ahead: with data up to ")


def test_a_strategy_that_raises_ends_alone_in_one_sentence(backtest: Backtest, monkeypatch: pytest.MonkeyPatch) -> None:
    _offers(monkeypatch, "Raises")
    done, _, plan = backtest("raises", "threshold")
    assert set(done.runs) == {"threshold"}
    said = done.failed["raises"]
    assert said.startswith("The strategy raises raised ZeroDivisionError on btc-updown-15m-")
    assert "no volatility" in said and "\n" not in said

    async def told() -> list[tuple[str, bool]]:
        async with open_store(database_url(plan.config), read_only=True) as store:
            return [(t.name, t.judgement is not None) for t in (await report(store, done)).tried]

    assert asyncio.run(told()) == [("threshold", True), ("raises", False)]


SHORT = Bare(np.ones(1, np.bool_))
NUMBERS = Bare(np.ones(40))


@pytest.mark.parametrize(
    ("offered", "said"),
    [("Bare", "raised KeyError"), ("SHORT", "answered `worth` wrongly"), ("NUMBERS", "answered `worth` wrongly")],
)
def test_a_strategy_that_cannot_say_what_it_has_to_see_ends_in_one_sentence(
    backtest: Backtest, monkeypatch: pytest.MonkeyPatch, offered: str, said: str
) -> None:
    _offers(monkeypatch, offered)
    done, _, _ = backtest("bare", "threshold")
    assert said in done.failed["bare"] and "\n" not in done.failed["bare"]
    assert set(done.runs) == {"threshold"}


def test_a_strategy_that_was_edited_or_set_otherwise_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    own, foreign = Threshold(), Bare()
    before = {strategy_identity(s) for s in (own, replace(own, size=UNIT), foreign, Bare(1))}
    assert len(before) == 4
    monkeypatch.setattr("inspect.getsource", lambda module: "another text")
    assert strategy_identity(own) in before
    assert strategy_identity(foreign) not in before


def test_a_second_backtest_is_compared_with_the_first_and_counts_no_trial_twice(backtest: Backtest) -> None:
    first, _, plan = backtest("threshold", "late_favourite")
    second, _, _ = backtest("threshold", "late_favourite")
    assert {n: r.head for n, r in first.runs.items()} == {n: r.head for n, r in second.runs.items()}

    async def trials() -> set[int]:
        async with open_store(database_url(plan.config), read_only=True) as store:
            made = await report(store, second)
            return {t.judgement.trials for t in made.tried if t.judgement is not None}

    assert asyncio.run(trials()) <= {1, 2}


def test_parity_names_what_a_changed_delay_changed(backtest: Backtest, tmp_path: Path) -> None:
    done, _, plan = backtest("threshold")
    slow = replace(plan, config=load_config(None, {"trading.network_delay": 30.0}, profile="recorded"))

    async def compared(other: BacktestPlan) -> Parity:
        async with (
            open_store(database_url(plan.config), read_only=True) as store,
            once(other, "threshold") as here,
        ):
            return await parity((store, done.runs["threshold"]), here)

    assert asyncio.run(compared(plan)).exact
    late = asyncio.run(compared(slow))
    assert not late.exact
    assert late.notes == ("The recorded run had another configuration, or another number of cycles.",)
    orders, fills = late.compared[1:]
    assert (orders.kind, fills.kind) == ("orders", "fills")
    assert any(text.startswith("fill at ") for text in late.differences)


@pytest.mark.parametrize(
    ("offered", "said"),
    [("Missing", "cannot be used: AttributeError"), ("Twin", "two strategies with the name threshold")],
)
def test_a_strategy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, offered: str, said: str) -> None:
    _offers(monkeypatch, offered)
    with pytest.raises(Misconfigured, match=said):
        backtests.strategies()


class Twin(Raises):
    def __init__(self) -> None:
        super().__init__(name="threshold")


def _referenced() -> ReplayFeed:
    """One window whose reference price, 100 at the open, rises to 101 three minutes in while the book stays at 0.50."""
    ticks = [(float(10 * n), f"{100 + 0.02 * (n % 2) + (n >= 18):.2f}") for n in range(60)]
    books = [book(after(5 + 5 * n)) for n in range(100)]
    one = recorded(*books)
    return ReplayFeed(
        "referenced",
        [replace(one, market=replace(one.market, price_to_beat=Decimal(100)), reference=prices(*ticks))],
    )


def test_the_diffusion_buys_once_the_reference_price_has_risen_and_not_before(
    backtest: Backtest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "open_recorded", lambda _: _referenced())
    done, found, plan = backtest("diffusion")
    assert found == []

    async def orders() -> list[StoredIntent]:
        async with open_store(database_url(plan.config), read_only=True) as store:
            return await store.intents(done.runs["diffusion"].id)

    (only,) = asyncio.run(orders())
    assert (only.order.outcome, only.order.side) == (Outcome.YES, Side.BUY)
    risen = after(180 + 1)
    assert risen <= only.order.placed_at < risen + timedelta(seconds=10)


def test_where_there_is_no_reference_price_the_diffusion_says_so(backtest: Backtest) -> None:
    done, _, plan = backtest("diffusion")

    async def said() -> tuple[str, ...]:
        async with open_store(database_url(plan.config), read_only=True) as store:
            return (await report(store, done)).coverage.notes

    assert any(note.startswith("diffusion never trades here") for note in asyncio.run(said()))
