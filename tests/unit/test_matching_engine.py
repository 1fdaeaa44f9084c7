"""Matching of orders of several owners: price, then time, at the price of the one that was there."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from backtest.matching_engine import NOT_FULL, SELF_MATCH, MatchedTrade, MatchingEngine, Working, affordable
from market.types import UNIT, Book, Micro, Order, OrderStatus, Outcome, Side, SignedOrder, TimeInForce, notional
from tests.fakes import START, book, levels
from tests.profiles import examples

EMPTY = book(bids=(), asks=())


@dataclass
class Floor:
    """Keeps what it is told."""

    executions: list[MatchedTrade] = field(default_factory=list)
    ends: dict[str, tuple[OrderStatus, str]] = field(default_factory=dict)
    rests: list[str] = field(default_factory=list)

    def traded(self, execution: MatchedTrade) -> None:
        self.executions.append(execution)

    def rested(self, entry: Working) -> None:
        self.rests.append(entry.signed.id)

    def ended(self, entry: Working, status: OrderStatus, reason: str) -> None:
        self.ends[entry.signed.id] = status, reason


class Ring:
    """A pit in which orders arrive one after the other."""

    def __init__(self, displayed: Book = EMPTY) -> None:
        self.floor, self.displayed, self.count = Floor(), displayed, 0
        self.pit = MatchingEngine(self.floor)

    def send(
        self,
        price: str,
        size: int,
        side: Side = Side.BUY,
        outcome: Outcome = Outcome.YES,
        tif: TimeInForce = TimeInForce.GTC,
        owner: str = "",
        budget: Micro | None = None,
    ) -> Working:
        self.count += 1
        order = Order("0x0000", outcome, side, Decimal(price), size * UNIT, tif, START, str(self.count))
        left = order.size if budget is None else affordable(budget, order.price)
        owner = owner or f"owner {self.count}"
        entry = Working(SignedOrder(str(self.count), order), START, self.count, left, 0, owner, budget)
        self.pit.admit(entry)
        self.pit.arrive(entry, self.displayed)
        return entry

    @property
    def trades(self) -> list[tuple[str, str, str, int]]:
        """Taker, maker, price and whole shares."""
        return [
            (
                e.taker.signed.id if e.taker else "book",
                e.maker.signed.id if e.maker else "book",
                f"{e.price:.2f}",
                e.size // UNIT,
            )
            for e in self.floor.executions
        ]


def test_the_best_price_is_taken_first_and_at_one_price_whoever_came_first() -> None:
    ring = Ring()
    for price in ("0.52", "0.51", "0.51"):
        ring.send(price, 10, Side.SELL)
    ring.send("0.52", 25)
    assert ring.trades == [("4", "2", "0.51", 10), ("4", "3", "0.51", 10), ("4", "1", "0.52", 5)]


def test_what_is_displayed_goes_before_what_rests_at_its_price() -> None:
    ring = Ring(book(bids=(), asks=levels(("0.51", 4))))
    ring.send("0.51", 10, Side.SELL)
    ring.send("0.51", 6)
    assert ring.trades == [("2", "book", "0.51", 4), ("2", "1", "0.51", 2)]


def test_buyers_of_both_outcomes_meet_where_their_prices_make_a_dollar() -> None:
    ring = Ring()
    ring.send("0.60", 10, outcome=Outcome.NO)
    ring.send("0.39", 10)
    assert ring.trades == []
    ring.send("0.41", 4)
    assert ring.trades == [("3", "1", "0.40", 4)]


def test_sellers_of_both_outcomes_meet_where_their_prices_leave_a_dollar() -> None:
    ring = Ring()
    ring.send("0.30", 10, Side.SELL, Outcome.NO)
    ring.send("0.71", 10, Side.SELL)
    assert ring.trades == []
    ring.send("0.65", 4, Side.SELL)
    assert ring.trades == [("3", "1", "0.70", 4)]


def test_an_order_is_cancelled_before_it_meets_one_of_its_owner() -> None:
    ring = Ring(book(bids=(), asks=levels(("0.50", 3))))
    ring.send("0.51", 10, Side.SELL, owner="we")
    ring.send("0.52", 20, owner="we")
    assert ring.trades == [("2", "book", "0.50", 3)]
    assert ring.floor.ends["2"] == (OrderStatus.CANCELED, SELF_MATCH)
    ring.send("0.52", 10, owner="they")
    assert ring.trades[-1] == ("3", "1", "0.51", 10)


def test_dollars_buy_as_many_shares_as_they_pay_for() -> None:
    ring = Ring(book(bids=(), asks=levels(("0.25", 4), ("0.50", 100))))
    entry = ring.send("0.50", 10, tif=TimeInForce.FOK, budget=5 * UNIT)
    assert [(str(e.price), e.size) for e in ring.floor.executions] == [("0.25", 4_000_000), ("0.50", 8_000_000)]
    assert entry.budget == 0 and ring.floor.ends["1"][0] is OrderStatus.MATCHED


def test_dollars_that_cannot_all_be_spent_buy_nothing_where_all_was_asked_for() -> None:
    ring = Ring(book(bids=(), asks=levels(("0.25", 4))))
    ring.send("0.50", 10, tif=TimeInForce.FOK, budget=5 * UNIT)
    assert ring.trades == [] and ring.floor.ends["1"] == (OrderStatus.CANCELED, NOT_FULL)


prices = st.integers(1, 99).map(lambda cents: f"{cents / 100:.2f}")
sent = st.tuples(prices, st.integers(5, 40), st.sampled_from(Side), st.sampled_from(Outcome), st.integers(0, 3))


@examples(200)
@given(st.lists(sent, max_size=30), st.lists(st.tuples(prices, st.integers(1, 50)), max_size=4))
def test_no_order_pays_more_than_its_limit_and_no_two_that_could_meet_both_rest(
    orders: list[tuple[str, int, Side, Outcome, int]], asks: list[tuple[str, int]]
) -> None:
    ring = Ring(book(bids=(), asks=levels(*sorted(dict(asks).items()))))
    entries = [ring.send(p, size, side, outcome, owner=f"owner {who}") for p, size, side, outcome, who in orders]
    for execution in ring.floor.executions:
        for entry, price in ((execution.taker, execution.price), (execution.maker, _own(execution))):
            if entry is not None:
                limit = entry.order.price
                assert price <= limit if entry.order.side is Side.BUY else price >= limit
        assert execution.size > 0
    for entry in entries:
        traded = sum(e.size for e in ring.floor.executions if entry in (e.taker, e.maker))
        assert traded + entry.left == entry.order.size
    displayed = sum(size for p, size in dict(asks).items()) * UNIT
    assert sum(e.size for e in ring.floor.executions if e.maker is None) <= displayed
    resting = [e for e in ring.pit.resting if not e.done]
    yes_bids = [_yes(e) for e in resting if _bids(e)]
    yes_asks = [(_yes(e), e.owner) for e in resting if not _bids(e)]
    assert not [b for b, e in zip(yes_bids, filter(_bids, resting), strict=True) for a, who in yes_asks if b >= a]


def _own(execution: MatchedTrade) -> Decimal:
    """The price the maker trades at, of its own token."""
    return execution.maker.order.price if execution.maker is not None else execution.price


def _bids(entry: Working) -> bool:
    return (entry.order.side is Side.BUY) is (entry.order.outcome is Outcome.YES)


def _yes(entry: Working) -> Decimal:
    return entry.order.price if entry.order.outcome is Outcome.YES else 1 - entry.order.price


@given(st.integers(0, 10**12), prices)
def test_what_dollars_afford_never_costs_more_than_there_is(budget: int, price: str) -> None:
    assert notional(Decimal(price), affordable(budget, Decimal(price))) <= budget
