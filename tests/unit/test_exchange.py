from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from backtest.exchange import PaperExchange
from market.clock import ManualClock
from market.errors import DataInvalid, LedgerMismatch, Misconfigured
from market.types import (
    UNIT,
    Book,
    Fill,
    FillEvidence,
    Micro,
    Order,
    OrderStatus,
    Outcome,
    PayoutSource,
    Resolution,
    Settlement,
    Side,
    TimeInForce,
)
from tests.fakes import START, after, book, levels, market, recorded, replay

CASH = 1_000 * UNIT
ID = market().id
DELAY = timedelta(milliseconds=250)
TAKE = Order(ID, Outcome.YES, Side.BUY, Decimal("0.52"), 10 * UNIT, TimeInForce.FAK, START, "k")
BID = replace(TAKE, price=Decimal("0.45"), tif=TimeInForce.GTC)


def exchange(*books: Book, cash: Micro = CASH, clock: ManualClock | None = None) -> tuple[PaperExchange, ManualClock]:
    clock = clock or ManualClock(START)
    return PaperExchange(replay(recorded(*books)), clock, cash=cash, run="test"), clock


async def send(venue: PaperExchange, order: Order) -> str:
    signed = await venue.sign(order)
    ack = await venue.send(signed)
    assert ack.status is OrderStatus.DELAYED, ack
    return signed.id


def play(books: Sequence[Book], *orders: Order, until: float = 60) -> tuple[list[Fill], list[tuple[OrderStatus, str]]]:
    """Fills and last words after every order was sent at its own time."""

    async def run() -> tuple[list[Fill], list[tuple[OrderStatus, str]]]:
        venue, clock = exchange(*books)
        ids = []
        for order in orders:
            clock.advance_to(order.placed_at)
            ids.append(await send(venue, order))
        clock.advance_to(after(until))
        fills = list(await venue.fills())
        acks = [ack for i in ids if (ack := await venue.status(i))]
        return fills, [(a.status, a.reason) for a in acks]

    return asyncio.run(run())


def test_an_order_meets_the_book_of_its_arrival_not_of_its_sending() -> None:
    books = [book(), book(after(0.25), asks=levels(("0.52", 4))), book(after(0.251), asks=levels(("0.51", 99)))]
    fills, words = play(books, TAKE)
    assert [(f.price, f.size, f.at) for f in fills] == [(Decimal("0.52"), 4 * UNIT, START + DELAY)]
    assert words[0][0] is OrderStatus.CANCELED


def test_nothing_is_matched_before_the_order_arrives() -> None:
    async def run() -> None:
        venue, clock = exchange(book())
        await send(venue, TAKE)
        clock.advance_to(START + DELAY - timedelta(microseconds=1))
        assert await venue.fills() == []
        assert (await venue.account()).reserved > TAKE.cost
        clock.advance_to(START + DELAY)
        assert [f.size for f in await venue.fills()] == [10_196_078], "what 5.20 dollars buy at 51 cents"
        assert (await venue.account()).reserved == 0

    asyncio.run(run())


def test_an_order_long_in_the_making_does_not_meet_an_old_book() -> None:
    async def run() -> None:
        venue, clock = exchange(book(), book(after(5), asks=()))
        clock.advance_to(after(10))
        await send(venue, TAKE)
        clock.advance_to(after(20))
        assert await venue.fills() == []

    asyncio.run(run())


def test_a_taker_walks_the_levels_at_their_prices_up_to_its_limit() -> None:
    deep = book(asks=levels(("0.50", 2), ("0.51", 3), ("0.53", 50)), bids=())
    fills, words = play([deep], TAKE)
    assert [(f.price, f.size) for f in fills] == [(Decimal("0.50"), 2 * UNIT), (Decimal("0.51"), 3 * UNIT)]
    assert [f.fee for f in fills] == [35_000, 52_480]
    assert {f.evidence for f in fills} == {FillEvidence.BOOK_CROSS}
    assert words == [(OrderStatus.CANCELED, "the rest found no match")]


def test_fill_or_kill_is_all_or_nothing() -> None:
    shallow = book(asks=levels(("0.50", 9)), bids=())
    fills, words = play([shallow], replace(TAKE, tif=TimeInForce.FOK))
    assert fills == []
    assert "fully filled or killed" in words[0][1]
    fills, words = play([shallow], replace(TAKE, tif=TimeInForce.FOK, size=9 * UNIT))
    assert fills == [], "4.68 dollars buy more than nine shares at 50 cents"
    fills, words = play([shallow], replace(TAKE, tif=TimeInForce.FOK, size=9 * UNIT, price=Decimal("0.50")))
    assert [f.size for f in fills] == [9 * UNIT]
    assert words[0][0] is OrderStatus.MATCHED


def test_a_marketable_limit_order_takes_and_rests_with_the_remainder() -> None:
    books = [book(asks=levels(("0.50", 4)), bids=()), book(after(5), asks=levels(("0.48", 3)), bids=())]
    fills, words = play(books, replace(TAKE, tif=TimeInForce.GTC))
    assert [(f.price, f.size, f.maker, f.fee) for f in fills] == [
        (Decimal("0.50"), 4 * UNIT, False, 70_000),
        (Decimal("0.52"), 3 * UNIT, True, 0),
    ]
    assert words[0][0] is OrderStatus.LIVE


@pytest.mark.parametrize("ask", ["0.45", "0.46"])
def test_a_touch_is_no_evidence_for_a_resting_order(ask: str) -> None:
    fills, words = play([book(), book(after(5), bids=levels(("0.44", 9)), asks=levels((ask, 900)))], BID)
    assert fills == []
    assert words[0][0] is OrderStatus.LIVE


def test_a_resting_order_fills_at_its_limit_when_the_market_trades_through() -> None:
    through = book(after(5), bids=levels(("0.40", 9)), asks=levels(("0.43", 3), ("0.44", 4), ("0.45", 100)))
    fills, words = play([book(), through], BID)
    (fill,) = fills
    assert (fill.price, fill.size, fill.fee, fill.at) == (Decimal("0.45"), 7 * UNIT, 0, after(5))
    assert (fill.maker, fill.evidence) == (True, FillEvidence.TRADE_THROUGH)
    assert words[0][0] is OrderStatus.LIVE


def test_a_resting_sale_of_the_other_token_fills_too() -> None:
    books = [book(), book(after(5), bids=levels(("0.30", 9)), asks=levels(("0.33", 20)))]
    buy_no = replace(TAKE, outcome=Outcome.NO)
    sell_no = replace(buy_no, side=Side.SELL, price=Decimal("0.60"), tif=TimeInForce.GTC, placed_at=after(1))
    fills, _ = play(books, buy_no, sell_no)
    assert [(f.outcome, f.side, f.price, f.maker) for f in fills] == [
        (Outcome.NO, Side.BUY, Decimal("0.51"), False),
        (Outcome.NO, Side.SELL, Decimal("0.60"), True),
    ]


def test_one_displayed_share_fills_only_once_while_it_stands() -> None:
    standing = levels(("0.51", 12))
    books = [book(after(s), bids=levels((f"0.4{s % 8}", 1)), asks=standing) for s in range(5)]
    fills, _ = play(books, *(replace(TAKE, placed_at=after(n), key=str(n)) for n in range(4)))
    assert [f.size for f in fills] == [10_196_078, 1_803_922], "twelve in all"


def test_both_tokens_draw_on_the_same_displayed_shares() -> None:
    buy_no = replace(TAKE, outcome=Outcome.NO, price=Decimal("0.60"), size=5 * UNIT, key="no")
    held = book(bids=levels(("0.40", 6)), asks=levels(("0.50", 12)))
    sell_no = replace(buy_no, side=Side.SELL, price=Decimal("0.50"), placed_at=after(1))
    fills, _ = play([held], buy_no, replace(TAKE, placed_at=after(1), key="yes"), replace(sell_no, key="sell"))
    assert [(f.outcome, f.side, f.size) for f in fills] == [
        (Outcome.NO, Side.BUY, 5 * UNIT),
        (Outcome.YES, Side.BUY, 10_400_000),
        (Outcome.NO, Side.SELL, 1_600_000),
    ]


def test_a_level_that_grew_offers_what_it_grew_by_and_one_that_came_back_is_new() -> None:
    def shows(second: float, size: int) -> Book:
        return book(after(second), asks=levels(("0.51", size)) if size else levels(("0.60", 1)))

    orders = [replace(TAKE, placed_at=after(n), key=str(n)) for n in (0, 2, 4)]
    fills, _ = play([shows(0, 10), shows(1, 13), shows(2.5, 0), shows(3, 7)], *orders)
    assert [f.size for f in fills] == [10 * UNIT, 3 * UNIT, 7 * UNIT]


@pytest.mark.parametrize(
    ("faulty", "reason"),
    [
        (book(bids=levels(("0.53", 9)), asks=levels(("0.51", 9))), "the book was crossed"),
        (book(bids=levels(("0.01", 900)), asks=levels(("0.99", 900))), "no orders found"),
        (book(bids=(), asks=()), "no orders found"),
        (book(after(30)), "there was no book"),
    ],
)
def test_a_book_that_means_nothing_fills_nothing(faulty: Book, reason: str) -> None:
    fills, words = play([faulty], replace(TAKE, price=Decimal("0.99")))
    assert fills == []
    assert words[0][0] is OrderStatus.CANCELED
    assert reason in words[0][1]


def test_a_limit_order_waits_for_the_first_sound_book_and_pays_as_a_taker() -> None:
    crossed = book(bids=levels(("0.53", 9)), asks=levels(("0.51", 9)))
    fills, _ = play([crossed, book(after(2), asks=levels(("0.50", 30)))], replace(TAKE, tif=TimeInForce.GTC))
    assert [(f.price, f.maker, f.at) for f in fills] == [(Decimal("0.50"), False, after(2))]
    assert fills[0].fee > 0


def test_the_better_of_two_resting_prices_is_served_first() -> None:
    through = book(after(5), bids=(), asks=levels(("0.44", 10)))
    worse, better = BID, replace(BID, price=Decimal("0.46"), key="better")
    no_better = replace(BID, outcome=Outcome.NO, price=Decimal("0.47"), key="no")
    fills, _ = play([book(), through], worse, better)
    assert [(f.price, f.size) for f in fills] == [(Decimal("0.46"), 10 * UNIT)]
    fallen = book(after(5), bids=levels(("0.56", 10)), asks=())
    fills, _ = play([book(), fallen], replace(no_better, price=Decimal("0.45")), no_better)
    assert [(f.outcome, f.price, f.size) for f in fills] == [(Outcome.NO, Decimal("0.47"), 10 * UNIT)]


def test_a_crossed_book_is_no_evidence_of_a_trade_through() -> None:
    crossed = book(after(5), bids=levels(("0.46", 9)), asks=levels(("0.40", 900)))
    assert play([book(), crossed], BID)[0] == []


def test_post_only_is_rejected_on_arrival_when_it_would_cross() -> None:
    fills, words = play([book()], replace(TAKE, tif=TimeInForce.GTC, post_only=True))
    assert fills == []
    assert words == [(OrderStatus.REJECTED, "invalid post-only order: order crosses book")]


def test_a_marketable_purchase_below_a_dollar_is_rejected_on_arrival() -> None:
    cheap = book(bids=(), asks=levels(("0.10", 50)))
    fills, words = play([cheap], replace(TAKE, tif=TimeInForce.GTC, price=Decimal("0.10"), size=5 * UNIT))
    assert fills == []
    assert words[0] == (OrderStatus.REJECTED, "invalid amount for a marketable BUY order ($0.50), min size: $1")


def test_the_close_cancels_what_is_left_and_later_books_count_for_nothing() -> None:
    end = 900.0
    books = [book(), book(after(end), bids=(), asks=levels(("0.02", 900)))]
    fills, words = play(books, BID, until=end + 5)
    assert fills == []
    assert words == [(OrderStatus.CANCELED, "the market closed")]


def test_an_order_that_would_arrive_after_the_close_is_refused() -> None:
    async def run() -> None:
        venue, clock = exchange(book())
        clock.advance_to(market().closes_at - DELAY)
        ack = await venue.send(await venue.sign(replace(TAKE, placed_at=clock.now())))
        assert (ack.status, ack.reason) == (OrderStatus.REJECTED, "the market is closed")

    asyncio.run(run())


def test_a_cancelled_order_does_not_fill_later() -> None:
    async def run() -> None:
        venue, clock = exchange(book(), book(after(5), bids=(), asks=levels(("0.30", 900))))
        order_id = await send(venue, BID)
        clock.advance_to(after(4))
        assert await venue.cancel(order_id)
        clock.advance_to(after(60))
        assert await venue.fills() == []
        assert await venue.cancel(order_id) is False

    asyncio.run(run())


def test_a_fill_that_happened_first_beats_the_cancel() -> None:
    async def run() -> None:
        venue, clock = exchange(book(), book(after(5), bids=(), asks=levels(("0.30", 900))))
        order_id = await send(venue, BID)
        clock.advance_to(after(6))
        assert await venue.cancel(order_id) is False
        assert [f.size for f in await venue.fills()] == [10 * UNIT]

    asyncio.run(run())


def test_an_order_under_a_false_name_is_refused() -> None:
    async def run() -> None:
        venue, _ = exchange(book())
        signed = await venue.sign(TAKE)
        ack = await venue.send(replace(signed, order=replace(TAKE, size=20 * UNIT)))
        assert (ack.status, ack.reason) == (OrderStatus.REJECTED, "invalid signature")
        assert (await venue.send(signed)).status is OrderStatus.DELAYED

    asyncio.run(run())


def test_runs_sign_with_their_own_names() -> None:
    async def run() -> None:
        feed, clock = replay(recorded(book())), ManualClock(START)
        ids = {(await PaperExchange(feed, clock, cash=0, run=r).sign(TAKE)).id for r in ("one", "two", "one")}
        assert len(ids) == 2
        assert all(i.startswith("0x") and len(i) == 66 for i in ids)

    asyncio.run(run())


def test_cash_reserved_by_one_order_cannot_back_another() -> None:
    async def run() -> None:
        venue, _ = exchange(book(), cash=8 * UNIT)
        await send(venue, BID)
        ack = await venue.send(await venue.sign(replace(BID, key="second")))
        assert (ack.status, "balance" in ack.reason) == (OrderStatus.REJECTED, True)

    asyncio.run(run())


def test_a_resolution_before_its_time_pays_nothing() -> None:
    async def run() -> None:
        venue, clock = exchange(book())
        await send(venue, TAKE)
        clock.advance_to(after(5))
        early = Resolution(ID, Decimal(1), PayoutSource.OFFICIAL, after(6))
        assert await venue.settle(early) == []
        clock.advance_to(after(6))
        assert len(await venue.settle(early) or ()) == 1

    asyncio.run(run())


def test_a_resolution_ends_the_orders_of_its_market() -> None:
    async def run() -> None:
        venue, clock = exchange(book())
        await send(venue, TAKE)
        clock.advance_to(after(1))
        order_id = await send(venue, replace(BID, side=Side.SELL, price=Decimal("0.60")))
        clock.advance_to(after(5))
        assert len(await venue.settle(Resolution(ID, Decimal(0), PayoutSource.OFFICIAL, after(5))) or ()) == 1
        assert (await venue.account()).open_orders == ()
        word = await venue.status(order_id)
        assert word is not None
        assert (word.status, word.reason) == (OrderStatus.CANCELED, "the market closed")

    asyncio.run(run())


def test_an_unknown_fee_stops_the_order_before_it_is_taken() -> None:
    async def run() -> None:
        clock = ManualClock(START)
        feed = replay(recorded(book()))
        venue = PaperExchange(feed, clock, cash=CASH, run="r", markets=lambda _: market(category="cats"))
        with pytest.raises(DataInvalid, match="no fee schedule"):
            await venue.send(await venue.sign(TAKE))
        assert (await venue.account()).open_orders == ()

    asyncio.run(run())


def test_after_a_crash_cash_shares_and_filled_orders_are_remembered() -> None:
    async def run() -> None:
        feed = replay(recorded(book()))
        clock = ManualClock(START)
        venue = PaperExchange(feed, clock, cash=CASH, run="r")
        signed = await venue.sign(TAKE)
        await venue.send(signed)
        clock.advance_to(after(1))
        fills, before = await venue.fills(), await venue.account()
        again = PaperExchange(feed, clock, cash=CASH, run="r", restored=fills)
        assert await again.account() == before
        assert (await again.send(signed)).status is OrderStatus.MATCHED
        clock.advance_to(after(60))
        assert await again.fills() == []
        clock.advance_to(market().closes_at + timedelta(minutes=2))
        settled = await again.settle(Resolution(ID, Decimal(1), PayoutSource.OFFICIAL, clock.now())) or ()
        third = PaperExchange(feed, clock, cash=CASH, run="r", restored=fills, settled=settled)
        assert await third.account() == await again.account()
        assert await third.settle(Resolution(ID, Decimal(1), PayoutSource.OFFICIAL, clock.now())) == []

    asyncio.run(run())


def test_a_history_that_does_not_add_up_is_refused() -> None:
    feed, clock = replay(recorded(book())), ManualClock(START)
    ghost = Settlement(ID, Outcome.YES, UNIT, Decimal(1), PayoutSource.OFFICIAL, START)
    with pytest.raises(LedgerMismatch, match="shares"):
        PaperExchange(feed, clock, cash=CASH, run="r", settled=[ghost])
    with pytest.raises(Misconfigured):
        PaperExchange(feed, clock, cash=-1, run="r")


def test_two_markets_share_one_purse_and_report_fills_in_order() -> None:
    async def run() -> None:
        one = [book(after(s), market_id=ID, bids=(), asks=levels(("0.40", 20))) for s in (0, 6)]
        twin = replace(
            recorded(book(after(3), bids=(), asks=levels(("0.44", 20)))), market=replace(market(), id="0xzz")
        )
        clock = ManualClock(START)
        venue = PaperExchange(replay(recorded(*one), twin), clock, cash=9 * UNIT, run="t")
        await send(venue, replace(BID, price=Decimal("0.44")))
        waits = replace(BID, market_id="0xzz", price=Decimal("0.46"))
        clock.advance_to(after(1))
        await send(venue, waits)
        clock.advance_to(after(60))
        fills = await venue.fills()
        assert [(f.market_id, f.at) for f in fills] == [(ID, START + DELAY), ("0xzz", after(3))]

    asyncio.run(run())


@pytest.mark.parametrize(("falls_at", "filled"), [(20, True), (40, False)])
def test_an_order_with_an_end_fills_before_it_and_not_after(falls_at: int, filled: bool) -> None:
    bids, asks = levels(("0.40", 50)), levels(("0.44", 50))
    books = [book(), book(after(falls_at), bids=bids, asks=asks), book(after(50), bids=bids, asks=asks)]
    fills, words = play(books, replace(BID, good_until=after(30)))
    assert bool(fills) is filled
    assert words == ([(OrderStatus.MATCHED, "")] if filled else [(OrderStatus.CANCELED, "its time was over")])


def test_what_had_ended_promises_nothing_whenever_anybody_asks() -> None:
    """Asked every second or only once, the order is gone at the same instant."""

    async def run(steps: Sequence[float]) -> tuple[Micro, int]:
        venue, clock = exchange(book(), book(after(25)), book(after(45)))
        await send(venue, replace(BID, good_until=after(30)))
        for at in steps:
            clock.advance_to(after(at))
            await venue.fills()
        account = await venue.account()
        return account.reserved, len(account.open_orders)

    assert asyncio.run(run([29.9])) == (BID.cost, 1)
    assert asyncio.run(run([30.1])) == (0, 0)
    assert asyncio.run(run([float(n) for n in range(1, 32)])) == (0, 0)


def test_an_order_whose_end_is_before_its_arrival_never_fills() -> None:
    fills, words = play([book()], replace(BID, price=Decimal("0.55"), good_until=after(0.01)))
    assert words[0][0] in (OrderStatus.MATCHED, OrderStatus.CANCELED)
    assert all(f.at == START + DELAY for f in fills), "it may meet the book it arrives at, and nothing later"
