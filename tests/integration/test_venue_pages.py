"""Answers of the venue that are none: pages for people, payouts that cannot be."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from polymarket import AsyncPublicClient

from backtest.venue.balances import CASH
from backtest.venue.faults import IMPOSSIBLE_PAYOUTS, Fault
from market.clock import ScaledClock, WallClock
from market.errors import DataInvalid, VenueUnavailable
from market.polymarket.feed import Watch, open_feed
from market.polymarket.hosts import Hosts
from market.polymarket.rest import _resolution, _ResolutionRow, reader
from market.types import Outcome, PayoutSource, Settlement
from tests.servers import until
from tests.venue import PLAY, QUICK, Flat, address_of, command, environment, loopback, open_market, told

NOW = datetime(2026, 9, 28, tzinfo=UTC)
SOON = replace(QUICK, resolving=timedelta(seconds=1), paying=timedelta(seconds=1))


@pytest.mark.parametrize("fault", [Fault.PAGE_OK, Fault.PAGE_FORBIDDEN])
def test_a_page_for_people_is_a_venue_that_does_not_answer(fault: Fault) -> None:
    async def scenario() -> None:
        clock = ScaledClock(WallClock().now(), 10)
        async with loopback(series=[Flat(seconds=3600)], clock=clock, pace=QUICK) as (server, base):
            market = open_market(server)
            await command(base, fault, seconds=3600)
            async with reader(Hosts.loopback(base), clock) as asked:
                for question in (
                    asked.time, asked.version, asked.place, asked.page,
                    lambda: asked.market(market.slug), lambda: asked.book(market.yes_token),
                    lambda: asked.resolution(market.id),
                ):  # fmt: skip
                    with pytest.raises(VenueUnavailable) as said:
                        await question()
                    assert said.value.exit_code == 5

    asyncio.run(scenario())


def test_while_the_venue_shows_pages_the_feed_counts_them_and_goes_on_after() -> None:
    async def scenario() -> None:
        clock = ScaledClock(WallClock().now(), 20)
        async with loopback(series=[Flat(seconds=3600)], clock=clock, pace=QUICK) as (server, base):
            market = open_market(server)
            await command(base, Fault.PAGE_OK, seconds=60)
            async with open_feed(Hosts.loopback(base), clock, Watch(slugs=(market.slug,))) as feed:
                await until(lambda: feed.health.counted["unanswered"] > 0, 10)
                assert "page for people" in feed.health.why["unanswered"]
                await until(lambda: feed.market(market.id) is not None, 20)
                assert feed.health.counted["records"] == 0, "no record was wrong: there was none"

    asyncio.run(scenario())


@pytest.mark.parametrize("payouts", [[], [1], [1, 0, 0], [0, 0], [-1, 2], ["NaN", 1]])
def test_a_payout_that_cannot_be_is_refused(payouts: list[object]) -> None:
    with pytest.raises(DataInvalid, match="payouts of 0xm"):
        _resolution(_ResolutionRow("0xm", "resolved", [Decimal(str(p)) for p in payouts]), NOW)


@pytest.mark.parametrize(("payouts", "yes"), [("1 0", "1"), ("500000 500000", "0.5"), ("0 1000000", "0")])
def test_payouts_are_shares_of_what_is_paid(payouts: str, yes: str) -> None:
    found = _resolution(_ResolutionRow("0xm", "resolved", [Decimal(p) for p in payouts.split()]), NOW)
    assert found.payout == Decimal(yes)


def test_payouts_that_cannot_be_are_said_for_a_while_and_put_right() -> None:
    async def scenario() -> None:
        clock = ScaledClock(WallClock().now(), 50)
        async with loopback(series=[Flat(seconds=60)], clock=clock, pace=SOON) as (server, base):
            *_, window = server.state.windows.values()
            market = window.market
            await command(base, Fault.ODD_PAYOUTS, count=len(IMPOSSIBLE_PAYOUTS))
            async with reader(Hosts.loopback(base), clock) as asked:
                assert await asked.resolution(market.id) is None, "nothing odd is said before there is an outcome"
                await until(lambda: server.state.hall(market).resolved, 20)
                for payouts in IMPOSSIBLE_PAYOUTS:
                    with suppress(DataInvalid, VenueUnavailable):
                        assert await asked.resolution(market.id) is None and payouts == [], payouts
                found = await asked.resolution(market.id)
                assert found is not None and found.payout == 1
            assert server.state.faults.seen[Fault.ODD_PAYOUTS] == len(IMPOSSIBLE_PAYOUTS)

    asyncio.run(scenario())


def test_a_void_market_pays_halves_and_a_late_correction_changes_what_is_said() -> None:
    async def scenario() -> None:
        clock = ScaledClock(WallClock().now(), 50)
        async with loopback(series=[Flat(seconds=60)], clock=clock, pace=SOON) as (server, base):
            market, purse = open_market(server), server.state.purse(address_of(0))
            purse.put(market.yes_token, 3_000_001)
            purse.put(market.no_token, 5_000_000)
            await told(base, f"/venue/markets/{market.id}", payout="0.5")
            await until(lambda: purse.has(market.yes_token) == 0, 20)
            assert purse.held == {CASH: PLAY + 1_500_000 + 2_500_000}
            async with AsyncPublicClient(environment=environment(base)) as client:
                (row,) = await client.get_resolutions(condition_ids=[market.id])
                assert (row.status, row.payouts, row.price) == (
                    "resolved",
                    (Decimal("0.5"), Decimal("0.5")),
                    Decimal("0.5"),
                )
                await told(base, f"/venue/markets/{market.id}", payout="0")
                (row,) = await client.get_resolutions(condition_ids=[market.id])
                assert row.payouts == (Decimal(0), Decimal(1))
                await told(base, f"/venue/markets/{market.id}/payouts", payouts=[1_000_000, 0])
                (row,) = await client.get_resolutions(condition_ids=[market.id])
                assert row.payouts == (Decimal(1), Decimal(0))
            assert purse.has(CASH) == PLAY + 4_000_000, "what was paid stays paid"
            for wrong in ("1.5", "-1", "half", "0.1234567", None):
                await told(base, f"/venue/markets/{market.id}", status=400, payout=wrong)

    asyncio.run(scenario())


def test_half_of_an_odd_number_of_millionths_is_rounded_down_as_the_contract_does() -> None:
    half = Settlement("0xm", Outcome.YES, 1_000_001, Decimal("0.5"), PayoutSource.OFFICIAL, NOW)
    assert half.cash == 500_000
