"""The account's books: whatever comes late, twice or in the wrong order, the same money comes out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.live.recovery import AccountHistory
from market.errors import VenueUnavailable
from market.types import (
    UNIT,
    Fill,
    FillEvidence,
    Order,
    OrderStatus,
    Outcome,
    PayoutSource,
    Resolution,
    Settlement,
    Side,
    SignedOrder,
    TimeInForce,
)
from tests.fakes import START, market
from tools.polymarket.account import OrderSaid, Part, TradeSaid, TradeStatus
from tools.polymarket.books import AccountBooks, AccountSnapshot

CASH = 1_000 * UNIT
MARKETS = {m.id: m for m in (market(0), market(1))}
GOOD = (TradeStatus.MATCHED, TradeStatus.MINED, TradeStatus.CONFIRMED)
BAD = (TradeStatus.MATCHED, TradeStatus.RETRYING, TradeStatus.FAILED)


def books(
    fills: Sequence[Fill] = (),
    orders: Sequence[SignedOrder] = (),
    ended: Sequence[SignedOrder] = (),
    settlements: Sequence[Settlement] = (),
) -> AccountBooks:
    return AccountBooks(MARKETS.get, AccountSnapshot(CASH, START, fills, settlements, orders, ended))


def signed(number: int, *, price: str = "0.50", size: int = 10) -> SignedOrder:
    """A resting bid for the first market's YES."""
    bid = Decimal(price)
    order = Order(market(0).id, Outcome.YES, Side.BUY, bid, size * UNIT, TimeInForce.GTC, START, f"d/{number}")
    return SignedOrder(f"0x{number:064x}", order, "{}")


_NUMBER = count()


def trade(one: SignedOrder, size: int, status: TradeStatus, *, name: str = "", price: str = "0.50") -> TradeSaid:
    """A trade in which the order took `size` shares from somebody."""
    m = MARKETS[one.order.market_id]
    part = Part("0xother", m.yes_token, Side.SELL, Decimal(price), size * UNIT)
    return TradeSaid(
        name or f"t{next(_NUMBER)}",
        one.id,
        m.id,
        m.yes_token,
        one.order.side,
        Decimal(price),
        size * UNIT,
        status,
        START + timedelta(seconds=1),
        (part,),
    )


@given(
    trades=st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=6),
    seed=st.integers(0, 2**32),
    repeats=st.integers(1, 3),
)
def test_news_in_any_order_and_any_number_of_times_come_to_the_same_money(
    trades: list[tuple[int, bool]], seed: int, repeats: int
) -> None:
    chance, ours = random.Random(seed), books()
    one = signed(1, size=60)
    ours.adopt(one)
    news = [
        trade(one, size, status, name=f"t{n}")
        for n, (size, fails) in enumerate(trades)
        for status in (BAD if fails else GOOD)
    ] * repeats
    chance.shuffle(news)
    for said in news:
        ours.learn(said)
    stand = sum(size for size, fails in trades if not fails)
    fills = ours.drain_fills()
    assert ours.account().cash == CASH + sum(f.cash for f in fills)
    assert ours.account().held(market(0).id, Outcome.YES) == stand * UNIT == sum(f.size for f in fills)
    assert len({f.id for f in fills}) == len(fills)
    assert {e.what: e.amount for e in ours.expected()}["dollars"] == ours.account().cash
    assert ours.unsettled_since() is None


def test_a_failed_trade_gives_back_exactly_what_it_took() -> None:
    ours = books()
    one = signed(1, price="0.37", size=13)
    ours.adopt(one)
    ours.learn(trade(one, 13, TradeStatus.MATCHED, name="t", price="0.37"))
    assert ours.account().cash < CASH
    ours.learn(trade(one, 13, TradeStatus.FAILED, name="t", price="0.37"))
    first, second = ours.drain_fills()
    assert (ours.account().cash, dict(ours.account().holdings)) == (CASH, {})
    assert (second.id, second.size, second.cash) == (f"{first.id}/failed", -first.size, -first.cash)


def test_an_order_is_not_over_before_its_trades_are_known() -> None:
    ours = books()
    kept = ours.adopt(one := signed(1))
    assert kept is not None
    with pytest.raises(VenueUnavailable):
        kept.word()
    ours.note(OrderSaid(one.id, OrderStatus.MATCHED, "", 10 * UNIT))
    assert (kept.word().status is OrderStatus.DELAYED and ours.account().reserved == 0) or ours.working() == [kept]
    ours.learn(trade(one, 10, TradeStatus.MATCHED))
    assert kept.word().status is OrderStatus.MATCHED and ours.working() == []


def test_an_order_that_is_over_does_not_come_back_to_life() -> None:
    ours = books()
    kept = ours.adopt(one := signed(1))
    assert kept is not None
    ours.note(OrderSaid(one.id, OrderStatus.CANCELED, "cancelled on request", 0))
    ours.note(OrderSaid(one.id, OrderStatus.LIVE, "", 0))
    assert kept.word().status is OrderStatus.CANCELED


def test_what_rests_is_reserved_with_its_fee_and_released_as_it_fills() -> None:
    ours = books()
    ours.adopt(one := signed(1))
    ours.note(OrderSaid(one.id, OrderStatus.LIVE, "", 0))
    before = ours.account()
    assert before.reserved == 5 * UNIT + 175_000, "ten shares at half a dollar, and the taker's fee they may cost"
    ours.learn(trade(one, 4, TradeStatus.MATCHED))
    assert ours.account().reserved == 3 * UNIT + 105_000
    assert ours.account().free <= before.free


def test_a_maker_pays_no_fee_and_gets_its_own_price() -> None:
    ours = books()
    ours.adopt(one := signed(1, price="0.40"))
    m = market(0)
    part = Part(one.id, m.yes_token, Side.BUY, Decimal("0.40"), 6 * UNIT)
    said = TradeSaid(
        "t", "0xtaker", m.id, m.no_token, Side.BUY, Decimal("0.60"), 6 * UNIT, TradeStatus.MATCHED, START, (part,)
    )
    ours.learn(said)
    (fill,) = ours.drain_fills()
    assert (fill.price, fill.size, fill.fee, fill.maker) == (Decimal("0.40"), 6 * UNIT, 0, True)


def test_a_taker_pays_each_maker_its_price_across_both_tokens() -> None:
    ours = books()
    ours.adopt(one := signed(1, price="0.60", size=20))
    m = market(0)
    parts = (
        Part("0xa", m.yes_token, Side.SELL, Decimal("0.55"), 5 * UNIT),
        Part("0xb", m.no_token, Side.BUY, Decimal("0.42"), 7 * UNIT),
    )
    ours.learn(
        TradeSaid(
            "t", one.id, m.id, m.yes_token, Side.BUY, Decimal("0.57"), 12 * UNIT, TradeStatus.MATCHED, START, parts
        )
    )
    assert [(f.price, f.size) for f in ours.drain_fills()] == [
        (Decimal("0.55"), 5 * UNIT),
        (Decimal("0.58"), 7 * UNIT),
    ]


def test_winnings_count_once_everything_is_final_and_are_expected_until_paid() -> None:
    ours = books()
    ours.adopt(one := signed(1))
    ours.note(OrderSaid(one.id, OrderStatus.MATCHED, "", 10 * UNIT))
    ours.learn(trade(one, 10, TradeStatus.MATCHED, name="t"))
    ended = Resolution(market(0).id, Decimal(1), PayoutSource.OFFICIAL, START)
    assert ours.settle(ended, START) is None, "its trade may still fail"
    spent = CASH - ours.account().cash
    ours.learn(trade(one, 10, TradeStatus.CONFIRMED, name="t"))
    settled = ours.settle(ended, START)
    assert settled is not None and [s.cash for s in settled] == [10 * UNIT]
    assert ours.settle(ended, START) == []
    assert ours.account().cash == CASH - spent + 10 * UNIT
    assert {e.what: e.amount for e in ours.expected()}["dollars"] == CASH - spent, "not paid yet"
    ours.paid(next(iter(ours.unpaid)))
    assert {e.what: e.amount for e in ours.expected()}["dollars"] == ours.account().cash


def test_shares_that_are_heard_of_after_their_market_was_settled_count_when_it_is_told_again() -> None:
    """Nothing is remembered of a market in which nothing was held, of which there are hundreds an hour."""
    ours = books()
    ours.adopt(one := signed(1))
    ours.note(OrderSaid(one.id, OrderStatus.CANCELED, "", 0))
    ended = Resolution(market(0).id, Decimal(1), PayoutSource.OFFICIAL, START)
    assert ours.settle(ended, START) == []
    ours.learn(trade(one, 10, TradeStatus.CONFIRMED, name="t"))
    settled = ours.settle(ended, START)
    assert settled is not None and [s.cash for s in settled] == [10 * UNIT]
    assert ours.settle(ended, START) == []


def test_what_was_mined_in_a_market_leaves_out_what_is_late_and_what_was_taken_back() -> None:
    made = books()
    for number, status in enumerate((TradeStatus.MINED, TradeStatus.MATCHED, TradeStatus.MATCHED), 1):
        made.adopt(signed(number))
        made.learn(trade(signed(number), 10 * number, status, name=f"t{number}"))
    made.conclude("t2", TradeStatus.FAILED)
    market_id = signed(1).order.market_id
    assert [row.size for row in made.mined(market_id)] == [10 * UNIT]
    made.conclude("t3", TradeStatus.CONFIRMED)
    assert [row.size for row in made.mined(market_id)] == [10 * UNIT, 30 * UNIT]


def test_a_late_trade_that_an_earlier_run_had_settled_is_not_late_again() -> None:
    """The venue still calls it matched after a restart: its dollars are spent all the same."""
    before = books()
    one = signed(1)
    before.adopt(one)
    said = trade(one, 10, TradeStatus.MATCHED, name="t")
    before.learn(said)
    before.conclude("t", TradeStatus.CONFIRMED)
    before.note(OrderSaid(one.id, OrderStatus.MATCHED, "", 10 * UNIT))
    resolution = Resolution(one.order.market_id, Decimal(0), PayoutSource.OFFICIAL, START)
    settled = before.settle(resolution, said.matched_at + timedelta(days=1))
    assert settled
    after = books(fills=before.drain_fills(), settlements=settled)
    after.learn(said)
    assert after.unsettled_since() is None
    assert [e.amount for e in after.expected() if not e.token] == [after.account().cash]


def test_a_trade_that_was_taken_back_stays_so_after_a_restart_whatever_the_venue_says() -> None:
    before = books()
    one = signed(1)
    before.adopt(one)
    said = trade(one, 10, TradeStatus.MATCHED, name="t")
    before.learn(said)
    before.conclude("t", TradeStatus.FAILED)
    after = books(fills=before.drain_fills(), orders=[one])
    after.learn(said)
    assert after.unsettled_since() is None and after.overdue(said.matched_at + timedelta(days=1)) == []
    assert after.drain_fills() == [] and after.account().cash == before.account().cash


@pytest.mark.parametrize("restarted", [False, True])
def test_a_trade_that_was_taken_for_failed_and_is_mined_after_all_is_booked_once_more(restarted: bool) -> None:
    made = books()
    one = signed(1)
    made.adopt(one)
    said = trade(one, 10, TradeStatus.MATCHED, name="t")
    made.learn(said)
    once = made.account()
    made.conclude("t", TradeStatus.FAILED)
    made.learn(said)
    fills = made.drain_fills()
    made = books(fills=fills, orders=[one]) if restarted else made
    for status in (TradeStatus.MATCHED, TradeStatus.MINED, TradeStatus.CONFIRMED, TradeStatus.CONFIRMED):
        made.learn(replace(said, status=status))
    again = made.drain_fills()
    assert [f.id for f in again] == ["t/0/late"]
    assert (made.account().cash, made.account().holdings) == (once.cash, once.holdings)
    later = books(fills=[*fills, *again], orders=[one])
    later.learn(replace(said, status=TradeStatus.CONFIRMED))
    assert later.drain_fills() == [] and later.account().holdings == once.holdings


def test_what_is_remembered_is_not_booked_again_and_what_is_foreign_is_seen() -> None:
    before = books()
    one = signed(1)
    before.adopt(one)
    said = trade(one, 10, TradeStatus.MATCHED, name="t")
    before.learn(said)
    after = books(fills=before.drain_fills(), orders=[one])
    after.learn(said)
    assert after.drain_fills() == [] and after.account().cash == before.account().cash
    after.learn(trade(signed(2), 3, TradeStatus.MATCHED, name="stranger"))
    assert after.foreign.keys() == {"stranger"}
    own = replace(trade(signed(3), 3, TradeStatus.MATCHED, name="older"), matched_at=START - timedelta(days=1))
    after.learn(own)
    assert after.foreign.keys() == {"stranger"}, "the owner's trades from before the first run are the owner's"


@given(
    trades=st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=6),
    seed=st.integers(0, 2**32),
    over=st.booleans(),
)
def test_a_restart_between_any_two_news_comes_to_the_same_money(
    trades: list[tuple[int, bool]], seed: int, over: bool
) -> None:
    chance, ours = random.Random(seed), books()
    one = signed(1, size=60)
    ours.adopt(one)
    news = [
        trade(one, size, status, name=f"t{n}")
        for n, (size, fails) in enumerate(trades)
        for status in (BAD if fails else GOOD)
    ]
    chance.shuffle(news)
    cut = chance.randint(0, len(news))
    for said in news[:cut]:
        ours.learn(said)
    written = ours.drain_fills()
    written = written[: chance.randint(0, len(written))]  # the rest was not on disk when it stopped
    again = books(written, *(([], [one]) if over else ([one], [])))
    for said in news:  # the venue lists everything again
        again.learn(said)
    stand = sum(size for size, fails in trades if not fails)
    fills = [*written, *again.drain_fills()]
    assert again.account().cash == CASH + sum(f.cash for f in fills)
    assert again.account().held(market(0).id, Outcome.YES) == stand * UNIT == sum(f.size for f in fills)
    assert {e.what: e.amount for e in again.expected()}["dollars"] == again.account().cash
    assert again.unsettled_since() is None and not again.foreign


def test_nothing_is_settled_before_the_venue_said_that_remembered_trades_stand() -> None:
    first = books()
    one = signed(1)
    first.adopt(one)
    first.learn(trade(one, 10, TradeStatus.MATCHED, name="t"))
    again = books(first.drain_fills())
    won = Resolution(market(0).id, Decimal(1), PayoutSource.OFFICIAL, START)
    assert again.settle(won, START) is None
    again.learn(trade(one, 10, TradeStatus.FAILED, name="t"))
    assert again.settle(won, START) == [] and again.account().cash == CASH


def test_winnings_of_an_earlier_run_are_expected_while_their_market_can_be_asked_about() -> None:
    """One that is known may not be paid yet; one that is forgotten was paid long ago."""
    one = signed(1)
    first = books()
    first.adopt(one)
    first.learn(trade(one, 10, TradeStatus.CONFIRMED, name="t"))
    fills = first.drain_fills()
    won = [Settlement(market(0).id, Outcome.YES, 10 * UNIT, Decimal(1), PayoutSource.OFFICIAL, START)]
    cash = CASH + fills[0].cash + 10 * UNIT
    known = AccountBooks(MARKETS.get, AccountSnapshot(CASH, START, fills, won))
    assert next(iter(known.expected())).amount == cash - 10 * UNIT
    forgotten = AccountBooks(lambda _: None, AccountSnapshot(CASH, START, fills, won))
    assert next(iter(forgotten.expected())).amount == cash == forgotten.account().cash


@pytest.mark.parametrize("kept", [0, 1, 2])
@pytest.mark.parametrize("payout", ["0", "0.5", "1"])
def test_a_process_that_dies_between_two_settlements_leaves_the_second_to_the_next(kept: int, payout: str) -> None:
    """Both outcomes of a market are held; `kept` of the two settlements were written before it died."""
    m, fills = market(0), list[Fill]()
    for number, outcome in enumerate(Outcome):
        fills.append(
            Fill(
                id=f"t{number}/0",
                order_id=f"0x{number}",
                market_id=m.id,
                outcome=outcome,
                side=Side.BUY,
                price=Decimal("0.4"),
                size=10 * UNIT,
                fee=0,
                at=START,
                evidence=FillEvidence.VENUE,
            )
        )
    ended = Resolution(m.id, Decimal(payout), PayoutSource.OFFICIAL, START)

    def reported(ours: AccountBooks) -> AccountBooks:
        for number, outcome in enumerate(Outcome):
            part = Part("0xother", m.token(outcome), Side.SELL, Decimal("0.4"), 10 * UNIT)
            ours.learn(
                TradeSaid(
                    id=f"t{number}",
                    taker_order_id=f"0x{number}",
                    market_id=m.id,
                    token=m.token(outcome),
                    side=Side.BUY,
                    price=Decimal("0.4"),
                    size=10 * UNIT,
                    status=TradeStatus.CONFIRMED,
                    matched_at=START,
                    parts=(part,),
                )
            )
        return ours

    whole = reported(books(fills))
    written = whole.settle(ended, START)
    assert written is not None and len(written) == 2
    past = AccountHistory(CASH, START, fills=fills, settlements=written[:kept], markets={m.id: m})
    assert (m.id in past.unsettled) == (kept < 2)
    left = past.exposure().positions().costs
    assert left == ({m.id: (8 - 4 * kept) * UNIT} if kept < 2 else {}), "each settlement counts the cost of its shares"
    again = reported(AccountBooks(MARKETS.get, AccountSnapshot(CASH, START, fills, written[:kept])))
    rest = again.settle(ended, START)
    assert rest == written[kept:]
    assert again.account() == whole.account() and again.account().holdings == {}
    assert again.settle(ended, START) == []
