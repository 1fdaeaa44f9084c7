"""Answers of the venue that are none: pages for people, payouts that cannot be."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest

pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from backtest.venue.faults import Fault
from market.clock import ScaledClock, WallClock
from market.errors import DataInvalid, VenueUnavailable
from market.polymarket.feed import Watch, open_feed
from market.polymarket.hosts import Hosts
from market.polymarket.rest import _resolution, _ResolutionRow, reader
from market.types import Outcome, PayoutSource, Settlement
from tests.servers import until
from tests.venue import QUICK, Flat, command, loopback, open_market

NOW = datetime(2026, 9, 28, tzinfo=UTC)


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


def test_half_of_an_odd_number_of_millionths_is_rounded_down_as_the_contract_does() -> None:
    half = Settlement("0xm", Outcome.YES, 1_000_001, Decimal("0.5"), PayoutSource.OFFICIAL, NOW)
    assert half.cash == 500_000
