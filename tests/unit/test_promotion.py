"""Real money is earned on paper: enough days, a profit that is more than luck, and by whoever is to trade live."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.app.live_plan import LivePlan, promotion_scope, scope_of
from agent.config.load import load_config
from agent.live.promotion import PaperDays, PromotionRule, PromotionVerdict, daily, judge, promotion, snapshots
from market.fees import FeeSchedule
from market.polymarket.hosts import Hosts
from market.types import (
    UNIT,
    Fill,
    FillEvidence,
    Market,
    Order,
    Outcome,
    PayoutSource,
    Resolution,
    Settlement,
    Side,
    SignedOrder,
    TimeInForce,
)
from storage.records import RunIdentity, RunManifest
from storage.store import RunLog, Store
from strategies.base import View
from tests.fakes import book, levels, market
from tests.stores import open_store

DAY = date(2026, 11, 1)
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
RULE = PromotionRule(days=5, level=0.95)
PLAN = LivePlan(load_config(None), ("late_favourite",), paper=True)


def days(*dollars: float) -> dict[date, int]:
    return {DAY + timedelta(days=n): round(d * UNIT) for n, d in enumerate(dollars)}


@pytest.mark.parametrize(
    ("results", "passed", "said"),
    [
        ((), False, "no paper day"),
        ((3, 4, 3), False, "2 days are still missing"),
        ((3, 4, 3, 5, 4), True, "a day over 5 paper days"),
        ((9, -8, 9, -8, 3), False, "may be nothing"),
        ((-1, -1, -1, -1, -1), False, "may be nothing"),
    ],
)
def test_the_verdict(results: tuple[float, ...], passed: bool, said: str) -> None:
    verdict = judge(PaperDays(days(*results)), RULE)
    assert verdict.passed is passed
    assert said in verdict.sentence
    assert verdict.days == len(results)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30))
def test_nobody_is_promoted_on_a_loss_or_on_too_few_days(results: list[float]) -> None:
    verdict = judge(PaperDays(days(*results)), RULE)
    if sum(results) <= 0 or len(results) < RULE.days:
        assert not verdict.passed


def fill(number: int, at: datetime, side: Side = Side.BUY, cents: int = 50, market_id: str = "m") -> Fill:
    """Ten shares."""
    price = Decimal(cents) / 100
    return Fill(
        f"f{number}", f"o{number}", market_id, Outcome.YES, side, price, 10 * UNIT, 0, at, FillEvidence.BOOK_CROSS
    )  # fmt: skip


def paid(at: datetime, payout: int, shares: int = 10, market_id: str = "m") -> Settlement:
    return Settlement(market_id, Outcome.YES, shares * UNIT, Decimal(payout), PayoutSource.OFFICIAL, at)


def later(**span: int) -> datetime:
    return NOON + timedelta(**span)


def valued(told: Sequence[Fill | Settlement], marks: Mapping[int, str], now: datetime) -> PaperDays:
    """Every share is worth `marks` dollars at the end of the day of that number, and nothing is known on others."""
    closes = snapshots(
        [t for t in told if isinstance(t, Fill)], [t for t in told if isinstance(t, Settlement)], now
    )  # fmt: skip

    def mark(market_id: str, outcome: Outcome, at: datetime) -> Decimal | None:
        found = marks.get((at - timedelta(microseconds=1)).date().day - DAY.day)
        return None if found is None else Decimal(found)

    return daily(closes, mark)


def test_a_day_is_the_change_of_the_marked_value() -> None:
    """Bought at 50 cents, worth 40 at the end of the day, sold at 20 on the next one; others settle at nothing."""
    told: list[Fill | Settlement] = [
        fill(0, NOON),
        fill(1, later(days=1), Side.SELL, 20),
        fill(2, later(days=1, hours=1), market_id="n"),
        paid(later(days=2), 0, market_id="n"),
    ]
    found = valued(told, {0: "0.4", 1: "0.5"}, later(days=9))
    assert found == PaperDays(days(-1, -2, -5))


def test_a_holding_that_cannot_be_marked_counts_as_nothing_and_is_said() -> None:
    found = valued([fill(0, NOON)], {}, later(hours=1))
    assert found == PaperDays(days(-5), 1)
    assert "1 holdings without a price count as nothing" in judge(found, RULE).sentence
    owed = valued([fill(0, NOON, Side.SELL)], {}, later(hours=1))
    assert owed == PaperDays(days(-5), 1), "and what is owed, as much as it may cost"


def test_a_settlement_of_more_shares_is_counted_for_those_that_these_fills_hold() -> None:
    found = valued(
        [fill(0, NOON), paid(later(hours=1), 1, 30), paid(later(days=1), 1, market_id="n")], {}, later(days=3)
    )
    assert found == PaperDays(days(5))


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(list(Side)), st.integers(1, 99), st.sampled_from("mn")),
        max_size=14,
    )
)
def test_all_days_together_are_the_cash_flow_and_the_value_of_what_is_left(
    rows: list[tuple[int, Side, int, str]],
) -> None:
    fills = [fill(n, later(days=day, seconds=n), side, cents, name) for n, (day, side, cents, name) in enumerate(rows)]
    now = later(days=20)
    closes = snapshots(fills, [], now)
    found = daily(closes, lambda *_: Decimal("0.3"))
    shares = sum(f.size if f.side is Side.BUY else -f.size for f in fills)
    assert sum(found.results.values()) == sum(f.cash for f in fills) + shares * 3 // 10
    assert set(found.results) == {f.at.date() for f in fills}


# -- what is on record


@dataclass
class Paper:
    """Paper runs of one account on the venue's real market."""

    store: Store
    number: int = 0
    logs: dict[LivePlan, RunLog] = field(default_factory=dict)

    async def log(self, plan: LivePlan) -> RunLog:
        if plan not in self.logs:
            name = f"paper at {Hosts().clob}"
            about = RunManifest(cash=1000 * UNIT, account=name, config=scope_of(plan))
            label = f"live:{','.join(plan.trade_with)}/1"
            run = await self.store.begin_run(RunIdentity("d", "c", "x", "m", label), about.to_json(), NOON)
            self.logs[plan] = self.store.log(run.id)
        return self.logs[plan]

    async def buy(self, plan: LivePlan, at: datetime, of: Market, bid: str = "0.49") -> None:
        """Ten shares at 50 cents, on a view with that bid."""
        log, self.number = await self.log(plan), self.number + 1
        one = fill(self.number, at, market_id=of.id)
        order = Order(of.id, Outcome.YES, Side.BUY, one.price, one.size, TimeInForce.FAK, at, f"d/{self.number}")
        seen = book(at, market_id=of.id, bids=levels((bid, 100)), asks=levels(("0.99", 100)))
        view = View(of, seen, FeeSchedule(Decimal(0)), at, 0)
        await log.intent("d", SignedOrder(one.order_id, order), at, view=view, why="test")
        await log.fill(one)

    async def win(self, plan: LivePlan, day: int) -> None:
        """Five dollars, on one day."""
        at = later(days=day)
        of = replace(market(), id=f"w{day}", closes_at=at + timedelta(minutes=5))
        await self.buy(plan, at, of)
        await (await self.log(plan)).settlement(paid(at + timedelta(minutes=6), 1, market_id=of.id))

    async def verdict(self, plan: LivePlan, now: datetime) -> PromotionVerdict:
        return await promotion(self.store, RULE, promotion_scope(plan), now)


def on_record(scenario: object) -> None:
    async def scope() -> None:
        async with open_store("sqlite://") as store:
            await scenario(Paper(store))  # type: ignore[operator]

    asyncio.run(scope())


def changed(name: str, value: object) -> LivePlan:
    return replace(PLAN, config=load_config(None, {name: value}))


def test_paper_days_of_other_traders_and_settings_unlock_nothing() -> None:
    async def scenario(paper: Paper) -> None:
        for day in range(6):
            await paper.win(PLAN, day)
        now = later(days=6)
        assert (await paper.verdict(PLAN, now)).passed
        for same in (changed("risk.order", 7), changed("mqtt.host", "box"), changed("trading.cash", 50)):
            assert (await paper.verdict(same, now)).passed
        others = [replace(PLAN, trade_with=("join_best",)), replace(PLAN, trade_with=("late_favourite", "agent"))]
        others += [changed("trading.kelly_fraction", 0.5), changed("venue.series", ["eth-5m"])]
        for other in others:
            verdict = await paper.verdict(other, now)
            assert not verdict.passed and verdict.days == 0
            assert "with these traders and settings" in verdict.sentence

    on_record(scenario)


def test_a_setting_that_came_later_had_its_default() -> None:
    async def scenario(paper: Paper) -> None:
        for day in range(6):
            await paper.win(PLAN, day)
        (run,) = await paper.store.runs()
        config = dict(run.about.config["config"])  # type: ignore[index,call-overload,arg-type]
        config["trading"] = {k: v for k, v in config["trading"].items() if k != "buffer"}
        about = replace(run.about, config={"config": config, "series": ["btc-5m"]})
        old = replace(run, manifest=about.to_json())
        assert type(promotion_scope(PLAN)).of_run(old) == promotion_scope(PLAN)

    on_record(scenario)


def test_a_loss_that_nobody_has_settled_is_counted() -> None:
    """Winners settle, and losers are left open: by what settles alone this had passed."""

    async def scenario(paper: Paper) -> None:
        for day in range(6):
            await paper.win(PLAN, day)
            at = later(days=day, hours=1)
            never = replace(market(), id=f"l{day}", closes_at=at + timedelta(minutes=5))
            for _ in range(2):
                await paper.buy(PLAN, at, never)
        verdict = await paper.verdict(PLAN, later(days=6))
        assert not verdict.passed and verdict.mean == pytest.approx(-5)
        assert "6 holdings without a price" in verdict.sentence

    on_record(scenario)


def test_a_holding_is_worth_the_last_bid_on_record_as_long_as_its_market_is_open() -> None:
    async def scenario(paper: Paper) -> None:
        other, of = replace(PLAN, trade_with=("join_best",)), replace(market(), id="long", closes_at=later(days=40))
        await paper.buy(PLAN, NOON, of, bid="0.45")
        assert (await paper.verdict(PLAN, later(hours=1))).mean == pytest.approx(-0.5)
        # Seen by another trader of the account, and later than the instant that is asked about.
        await paper.buy(other, later(days=1), of, bid="0.20")
        assert (await paper.verdict(PLAN, later(hours=1))).mean == pytest.approx(-0.5)
        assert (await paper.verdict(PLAN, later(days=2))).mean == pytest.approx(-3)
        assert (await paper.verdict(PLAN, later(days=41))).mean == pytest.approx(-5)
        known = Resolution("long", Decimal(1), PayoutSource.OFFICIAL, later(days=40, hours=1))
        await (await paper.log(other)).outcome("long", known, later(days=40, hours=1))
        assert (await paper.verdict(PLAN, later(days=40, minutes=30))).mean == pytest.approx(-5)
        assert (await paper.verdict(PLAN, later(days=41))).mean == pytest.approx(5)

    on_record(scenario)
