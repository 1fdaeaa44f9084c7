"""A book kept change by change, against the plainest model of one."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.clock import EPOCH
from market.polymarket.depth import Depth
from market.polymarket.frames import (
    FrameRefused,
    MarketResolved,
    PriceChanges,
    RefusedEvent,
    Snapshot,
    TickChange,
    Unknown,
    micro_of,
    price_at,
    read_frame,
    ticks_of,
)
from market.types import UNIT, Outcome

CHANGE = st.tuples(st.integers(1, 9_999), st.booleans(), st.integers(0, 5))


def frame(**said: object) -> bytes:
    return json.dumps({"market": "0xm", "timestamp": "1000", **said}).encode()


def changes(*those: tuple[int, bool, int], ms: int = 1000) -> PriceChanges:
    rows = [
        {"asset_id": "1", "price": f"{t / 10_000:.4f}", "size": str(size), "side": "BUY" if bid else "SELL", "hash": ""}
        for t, bid, size in those
    ]
    (message,) = read_frame(frame(event_type="price_change", price_changes=rows, timestamp=str(ms)))
    assert isinstance(message, PriceChanges)
    return message


def snapshot(bids: dict[int, int], asks: dict[int, int], ms: int, name: str = "s") -> Snapshot:
    rows = [[{"price": f"{t / 10_000:.4f}", "size": str(size)} for t, size in side.items()] for side in (bids, asks)]
    (message,) = read_frame(
        frame(event_type="book", asset_id="1", bids=rows[0], asks=rows[1], hash=name, timestamp=str(ms))
    )
    assert isinstance(message, Snapshot)
    return message


@given(st.lists(CHANGE, max_size=60))
def test_changes_in_order_make_the_book_a_plain_table_makes(those: list[tuple[int, bool, int]]) -> None:
    depth, plain = Depth("1"), {True: dict[int, int](), False: dict[int, int]()}
    bids, asks = dict[int, int](), dict[int, int]()
    for ms, one in enumerate(those):
        depth.apply_change(changes(one, ms=ms).price_changes[0], ms)
        ticks, bid, size = one
        plain[bid][ticks] = size
        bids, asks = ({t: s for t, s in plain[b].items() if s} for b in (True, False))
        assert depth.best_ticks == (max(bids, default=0), min(asks, default=10_000))
    book = depth.book("0xm", EPOCH, EPOCH, Outcome.YES)
    assert (
        [(ticks_of(str(p)), s // UNIT) for p, s in book.bids] == sorted(bids.items(), reverse=True) if those else True
    )
    assert [(ticks_of(str(p)), s // UNIT) for p, s in book.asks] == sorted(asks.items()) if those else True


@given(st.lists(CHANGE, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_changes_in_any_order_of_arrival_make_the_same_book(those: list[tuple[int, bool, int]], chance: object) -> None:
    stamped = [(changes(one).price_changes[0], ms) for ms, one in enumerate(those)]
    ordered, mixed = Depth("1"), Depth("1")
    for change, ms in stamped:
        ordered.apply_change(change, ms)
    chance.shuffle(stamped)  # type: ignore[attr-defined]
    for change, ms in stamped:
        mixed.apply_change(change, ms)
    assert mixed.book("0xm", EPOCH, EPOCH, Outcome.YES) == ordered.book("0xm", EPOCH, EPOCH, Outcome.YES)
    assert mixed.best_ticks == ordered.best_ticks


def test_a_whole_book_replaces_what_is_older_and_leaves_what_is_newer() -> None:
    depth = Depth("1")
    depth.apply_snapshot(snapshot({4000: 5, 4100: 7}, {4200: 3}, 1000, "a"))
    depth.apply_change(changes((4150, True, 9), ms=3000).price_changes[0], 3000)
    late = snapshot({4000: 6}, {4200: 3, 4300: 1}, 2000, "b")
    assert "bids at 0.4" in depth.differs(late)
    depth.apply_snapshot(late)
    book = depth.book("0xm", EPOCH, EPOCH, Outcome.YES)
    assert [str(p) for p, _ in book.bids] == ["0.415", "0.4"] and [str(p) for p, _ in book.asks] == ["0.42", "0.43"]
    assert depth.differs(late) == ""


def test_a_book_can_be_forgotten_and_cut() -> None:
    depth = Depth("1")
    depth.apply_snapshot(snapshot({4000: 5, 4100: 7}, {4200: 3}, 1000))
    assert len(depth.book("0xm", EPOCH, EPOCH, Outcome.YES, 1).bids) == 1
    depth.forget()
    assert (depth.best_bid, depth.best_ask, depth.newest) == (None, None, 0)


@pytest.mark.parametrize(
    "text", ["", "-0.1", "1.00001", "1e-2", "NaN", "0.1 ", "\u0660.\u0661", "0..1", "0.12345", "2"]
)
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(FrameRefused):
        ticks_of(text)


@pytest.mark.parametrize("text", ["", "-1", "1e5", "inf", "0.0000001", "1.2.3", "9" * 17, "+1", "\u0661"])
def test_what_is_no_number_of_shares_is_refused(text: str) -> None:
    with pytest.raises(FrameRefused):
        micro_of(text)


def test_numbers_are_exact() -> None:
    assert (ticks_of("0.9999"), ticks_of("0"), ticks_of("1"), ticks_of(".5")) == (9999, 0, 10_000, 5000)
    assert (micro_of("12329.83"), micro_of("0"), micro_of("0.000001"), micro_of("5.")) == (
        12_329_830_000,
        0,
        1,
        5 * UNIT,
    )
    assert (price_at(5000), price_at(1), price_at(0)) == (Decimal("0.5"), Decimal("0.0001"), Decimal(0))


def test_other_kinds_are_told_apart_and_spoil_nothing() -> None:
    known = json.loads(frame(event_type="tick_size_change", asset_id="1", old_tick_size="0.01", new_tick_size="0.001"))
    raw = json.dumps([{"event_type": "new_market", "id": "7"}, known]).encode()
    first, second = read_frame(raw)
    assert isinstance(first, Unknown) and first.kind == "new_market"
    assert isinstance(second, TickChange) and second.new_tick == Decimal("0.001")
    (ended,) = read_frame(frame(event_type="market_resolved", assets_ids=["1", "2"], winning_asset_id="2"))
    assert isinstance(ended, MarketResolved)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[",
        b"null",
        b"[1]",
        b"PONG",
        b"{}",
        b'{"event_type":7}',
        b"[" * 100_000,
        frame(event_type="book", asset_id="1", bids=[], asks=[{"price": "2", "size": "1"}]),
        frame(event_type="book", asset_id="1", bids=[], asks=[], timestamp="soon"),
        frame(event_type="market_resolved", assets_ids=["1", "2"], winning_asset_id="3"),
    ],
)
def test_a_frame_that_is_wrong_is_refused_with_a_reason(raw: bytes) -> None:
    for message in read_frame(raw):
        assert isinstance(message, RefusedEvent) and message.why.endswith(".")


def test_an_event_that_cannot_be_read_spoils_itself_alone_and_names_its_market() -> None:
    row = {"asset_id": "1", "price": "0.5", "size": "5", "side": "BUY"}
    good = json.loads(frame(event_type="price_change", price_changes=[row]))
    bad = json.loads(frame(market="0xother", event_type="price_change", price_changes=[row | {"price": "2"}]))
    nameless = {"event_type": "book", "market": 7}
    found = read_frame(json.dumps([good, bad, nameless, good]).encode())
    assert [type(message) for message in found] == [PriceChanges, RefusedEvent, RefusedEvent, PriceChanges]
    _, second, third, _ = found
    assert isinstance(second, RefusedEvent) and second.names == {"0xother", "1"} and "'2' is no price" in second.why
    assert isinstance(third, RefusedEvent) and not third.names


@pytest.mark.parametrize("tick", ["0", "1", "0.00001"])
def test_a_tick_of_nothing_or_a_dollar_is_refused(tick: str) -> None:
    raw = frame(event_type="tick_size_change", asset_id="1", old_tick_size="0.01", new_tick_size=tick)
    (refused,) = read_frame(raw)
    assert isinstance(refused, RefusedEvent) and refused.names == {"0xm", "1"}
