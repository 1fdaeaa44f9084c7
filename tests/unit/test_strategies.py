"""Edge, size and baselines: never a trade without an edge, never beyond a cap."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.app.backtests import STRATEGIES
from market.clock import to_ms
from market.columns import Columns, Ladder
from market.fees import schedule
from market.rules import on_grid, size_allowed
from market.types import UNIT, Book, Level, Outcome, Side, notional
from strategies.base import Scanning, Strategy, View
from strategies.baselines import Diffusion, LateFavourite, MarketMid, Threshold, diffusion
from strategies.belief import Belief
from strategies.edge import best_edge, decide, plausible_edge
from strategies.logit import logit, sigmoid
from strategies.sizing import kelly_stake, shares_for
from tests.fakes import START, book, levels, market
from tests.values import RULE, SIZING

cents = st.integers(2, 97)
shifts = st.floats(-2, 2)


def view(bid: int, ask: int, *, size: int = 100, cash: int = 1000 * UNIT, left: int = 300) -> View:
    m = market()
    at = m.closes_at - timedelta(seconds=left)
    seen = Book(m.id, at, at, (Level(Decimal(bid) / 100, size * UNIT),), (Level(Decimal(ask) / 100, size * UNIT),))
    return View(m, seen, schedule("crypto", at), at, cash)


def belief(shift: float, *, sd: float = 0.01, share: float = 1.0, support: int = 200) -> Belief:
    return Belief("0x0000", START, START + timedelta(hours=1), shift, sd, share, support)


@given(bid=cents, gap=st.integers(1, 20), shift=shifts, cash=st.integers(0, 5000), size=st.integers(0, 500))
def test_a_wish_always_has_an_edge_a_legal_price_and_a_size_within_every_cap(
    bid: int, gap: int, shift: float, cash: int, size: int
) -> None:
    seen = view(bid, min(bid + gap, 99), size=size, cash=cash * UNIT)
    intent, reason = decide(seen, belief(shift), RULE, SIZING)
    if intent is None:
        assert reason
        return
    p = belief(shift).probability(float(seen.book.mid or 0))
    p = p if intent.outcome is Outcome.YES else 1 - p
    fee = seen.fees.per_share(intent.price)
    assert p > float(intent.price + fee + RULE.buffer)
    assert on_grid(intent.price, seen.market.tick) and size_allowed(intent.size, seen.market.min_size)
    spent = notional(intent.price, intent.size) + seen.fees.taker(intent.price, intent.size)
    assert spent <= min(cash * UNIT, SIZING.max_order) + 10
    assert intent.size <= size * UNIT and intent.side is Side.BUY


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        (belief(0.5), "take"),
        (belief(0.0), "no_verified_claim"),
        (belief(0.5, support=49), "no_verified_claim"),
        (belief(0.5, share=0.79), "low_verified_share"),
        (belief(0.5, sd=5.0), "edge_uncertain"),
        (belief(0.05), "edge_below_costs"),
    ],
)
def test_abstains_with_the_reason(held: Belief, reason: str) -> None:
    assert decide(view(49, 50), held, RULE, SIZING)[1] == reason


def test_an_expired_belief_trades_nothing() -> None:
    old = replace(belief(0.5), expires_at=START)
    assert decide(view(49, 50), old, RULE, SIZING)[1] == "belief_expired"


@given(threshold=st.floats(0, 1), tighter=st.floats(0, 1), shift=shifts, sd=st.floats(0.001, 1))
def test_a_higher_threshold_never_adds_a_trade(threshold: float, tighter: float, shift: float, sd: float) -> None:
    low, high = sorted((threshold, tighter))
    seen, held = view(49, 50), belief(shift, sd=sd)
    if decide(seen, held, replace(RULE, threshold=high), SIZING)[0] is not None:
        assert decide(seen, held, replace(RULE, threshold=low), SIZING)[0] is not None


@given(p=st.floats(0.01, 0.99), shift=st.floats(0, 1))
def test_the_plausible_edge_bounds_every_shift(p: float, shift: float) -> None:
    for s in (shift, -shift, shift / 2):
        assert abs(sigmoid(logit(p) + s) - p) <= plausible_edge(p, shift) + 1e-9


def test_the_no_side_is_the_mirrored_book() -> None:
    edge = best_edge(view(49, 50), belief(-0.5), RULE)
    assert edge is not None and edge.outcome is Outcome.NO and edge.price == Decimal("0.51")


@given(p=st.floats(0, 1), cost=cents, cash=st.integers(0, 10**9), risk=st.integers(0, 10**8))
def test_kelly_stakes_nothing_without_edge_and_respects_caps(p: float, cost: int, cash: int, risk: int) -> None:
    stake = kelly_stake(p, Decimal(cost) / 100, cash, risk, SIZING)
    assert 0 <= stake <= min(cash, SIZING.max_order, max(0, SIZING.max_market - risk))
    if p <= cost / 100:
        assert stake == 0


@given(stake=st.integers(0, 10**9), cost=cents, available=st.integers(0, 10**9))
def test_shares_never_cost_more_than_the_stake(stake: int, cost: int, available: int) -> None:
    price = Decimal(cost) / 100
    shares = shares_for(stake, price, available=available)
    assert shares % 10_000 == 0 and shares <= available and notional(price, shares) <= stake + 1


def test_the_market_mid_never_trades() -> None:
    assert MarketMid().decide(view(49, 51)) is None


@pytest.mark.parametrize(
    ("bid", "ask", "left", "outcome"),
    [
        (69, 70, 100, Outcome.YES),
        (30, 31, 100, Outcome.NO),
        (69, 70, 121, None),
        (93, 95, 60, None),
        (49, 51, 60, None),
    ],
)
def test_late_favourite(bid: int, ask: int, left: int, outcome: Outcome | None) -> None:
    intent = LateFavourite().decide(view(bid, ask, left=left))
    assert (intent.outcome if intent else None) is outcome


def test_late_favourite_buys_once() -> None:
    assert LateFavourite().decide(replace(view(69, 70, left=100), held_yes=UNIT)) is None


def test_diffusion() -> None:
    assert diffusion(100.0, 100.0, 0.0001, 300) == pytest.approx(0.5)
    assert diffusion(101.0, 100.0, 0.0001, 300) > 0.99
    assert diffusion(100.0, 100.0, 0.0, 0) == 1.0, "a tie is Up"
    with pytest.raises(ValueError, match="positive"):
        diffusion(0.0, 100.0, 0.1, 1)


def test_a_crossed_or_one_sided_book_has_no_edge() -> None:
    crossed = book(bids=levels(("0.52", 10)), asks=levels(("0.51", 10)))
    assert best_edge(replace(view(49, 50), book=crossed), belief(0.5), RULE) is None
    assert best_edge(replace(view(49, 50), book=book(asks=())), belief(0.5), RULE) is None


POSTING = replace(RULE, post=Decimal("0.005"))


@given(bid=cents, gap=st.integers(1, 20), shift=shifts, cash=st.integers(0, 5000), left=st.integers(0, 900))
def test_an_order_that_waits_pays_less_than_it_is_worth_and_never_crosses(
    bid: int, gap: int, shift: float, cash: int, left: int
) -> None:
    seen = view(bid, min(bid + gap, 99), cash=cash * UNIT, left=left)
    before, why = decide(seen, belief(shift), RULE, SIZING)
    intent, reason = decide(seen, belief(shift), POSTING, SIZING)
    if before is not None or intent is None:
        assert (intent, reason) == (before, why), "posting never stands in the way of taking, nor hides why not"
        return
    p = belief(shift).probability(float(seen.book.mid or 0))
    p = p if intent.outcome is Outcome.YES else 1 - p
    side = seen.book.of(intent.outcome)
    assert intent.post_only
    assert intent.price == side.best_bid
    assert side.best_ask is not None
    assert intent.price < side.best_ask
    assert p > float(intent.price + RULE.buffer) + 0.005
    assert size_allowed(intent.size, seen.market.min_size)
    assert notional(intent.price, intent.size) <= min(cash * UNIT, SIZING.max_order)
    assert intent.good_until is not None
    assert seen.at < intent.good_until <= seen.market.closes_at - timedelta(seconds=30)
    assert reason == "post"


def test_without_leave_to_wait_nothing_changes() -> None:
    assert decide(view(49, 60), belief(0.2), RULE, SIZING) == (None, "edge_below_costs")
    intent, reason = decide(view(49, 60), belief(0.2), POSTING, SIZING)
    assert intent is not None
    assert (reason, intent.price, intent.post_only) == ("post", Decimal("0.49"), True)


@st.composite
def sides(draw: st.DrawFn) -> Book:
    """Any two sides around the middle, an empty or a crossed one now and then."""
    bids = sorted(draw(st.sets(st.integers(5, 70), max_size=2)), reverse=True)
    asks = sorted(draw(st.sets(st.integers(30, 95), max_size=2)))
    at = market().closes_at - timedelta(milliseconds=draw(st.integers(-2_000, 300_000)))
    shown = [tuple(Level(Decimal(p) / 100, 50 * UNIT) for p in side) for side in (bids, asks)]
    return Book(market().id, at, at, shown[0], shown[1])


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if isinstance(s, Scanning)], ids=lambda s: s.name)
@given(seen=sides(), yes=st.sampled_from([0, 7 * UNIT]), no=st.sampled_from([0, 7 * UNIT]))
def test_a_book_that_is_not_worth_a_look_holds_nothing_to_wish_for(
    strategy: Strategy, seen: Book, yes: int, no: int
) -> None:
    assert isinstance(strategy, Scanning)
    m, received = market(), np.array([to_ms(seen.received_at)], np.int64)
    columns = Columns(received, Ladder.of([seen.bids]), Ladder.of([seen.asks]))
    looks = View(m, seen, schedule("crypto", seen.at), seen.received_at, 10**12, held_yes=yes, held_no=no)
    if strategy.decide(looks) is not None:
        assert strategy.worth(m, columns, yes, no).tolist() == [True]


def test_a_threshold_buys_low_sells_high_and_never_on_credit() -> None:
    rule, cheap, dear = Threshold(), view(45, 47), view(53, 55)
    intent = rule.decide(cheap)
    assert intent is not None
    assert (intent.side, intent.price, intent.size) == (Side.BUY, Decimal("0.47"), 10 * UNIT)
    assert rule.decide(replace(cheap, cash=4 * UNIT)) is None
    assert rule.decide(replace(cheap, held_yes=UNIT)) is None
    sale = rule.decide(replace(dear, held_yes=3 * UNIT))
    assert sale is not None
    assert (sale.side, sale.price, sale.size) == (Side.SELL, Decimal("0.53"), 3 * UNIT)
    assert rule.decide(dear) is None


@given(bid=cents, gap=st.integers(1, 20), reference=st.floats(0, 1), cash=st.integers(0, 50))
def test_the_diffusion_buys_only_what_the_reference_says_is_worth_more_than_it_costs(
    bid: int, gap: int, reference: float, cash: int
) -> None:
    seen, rule = view(bid, min(bid + gap, 99), cash=cash * UNIT), Diffusion()
    assert rule.decide(seen) is None
    intent = rule.decide(replace(seen, reference=reference))
    if intent is None:
        return
    cost = intent.price + seen.fees.per_share(intent.price)
    worth = reference if intent.outcome is Outcome.YES else 1 - reference
    assert worth > float(cost + rule.margin) - 1e-9
    assert (
        notional(intent.price, intent.size) + seen.fees.taker(intent.price, intent.size)
        <= min(cash * UNIT, rule.stake) + 10
    )
    assert intent.size >= seen.market.min_size and intent.side is Side.BUY
    assert rule.decide(replace(seen, reference=reference, held_no=UNIT)) is None


def test_the_diffusion_takes_the_side_that_the_reference_favours() -> None:
    seen, rule = view(49, 51), Diffusion()
    up, down = (rule.decide(replace(seen, reference=p)) for p in (0.7, 0.3))
    assert up is not None and (up.outcome, up.price) == (Outcome.YES, Decimal("0.51"))
    assert down is not None and (down.outcome, down.price) == (Outcome.NO, Decimal("0.51"))
