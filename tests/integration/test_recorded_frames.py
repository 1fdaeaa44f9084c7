"""The market channel as it was recorded: every frame is read, and the books that come out are the venue's."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from market.errors import DataInvalid
from market.polymarket.depth import Depth
from market.polymarket.frames import (
    BestBidAsk,
    PriceChanges,
    RefusedEvent,
    Snapshot,
    read_frame,
    snapshot_of,
    ticks_of,
)
from market.polymarket.gamma import read_market, read_page
from tools.polymarket import account

FIXTURES = Path(__file__).parents[2].parent / "shared" / "data" / "fixtures"
RECORDED = FIXTURES / "market-ws_2026-04-21T21-53-33Z.jsonl.gz"
pytestmark = pytest.mark.skipif(not RECORDED.is_file(), reason="the recorded frames are not beside the checkout")


def payloads() -> list[dict[str, Any]]:
    with gzip.open(RECORDED) as lines:
        return [json.loads(line)["payload"] for line in lines]


def frames() -> list[bytes]:
    return [json.dumps(p, separators=(",", ":")).encode() for p in payloads()]


def test_every_recorded_frame_is_read() -> None:
    kinds = Counter(type(m).__name__ for raw in frames() for m in read_frame(raw))
    assert kinds == {"PriceChanges": 5185, "Snapshot": 144, "BestBidAsk": 144, "LastTrade": 71}


def test_best_prices_are_those_the_venue_says() -> None:
    """All but eight times out of 10,501: each of those is cleared up by a frame that came a moment too late."""
    books: dict[str, Depth] = {}
    said: Counter[tuple[str, bool]] = Counter()
    for raw in frames():
        for message in read_frame(raw):
            match message:
                case Snapshot():
                    books.setdefault(message.asset_id, Depth(message.asset_id)).apply_snapshot(message)
                case PriceChanges():
                    for change in message.price_changes:
                        if change.asset_id in books:
                            books[change.asset_id].apply_change(change, message.ms)
                    for change in {c.asset_id: c for c in message.price_changes}.values():
                        if change.asset_id in books:
                            best = ticks_of(change.best_bid or ""), ticks_of(change.best_ask or "")
                            said["change", books[change.asset_id].best_ticks == best] += 1
                case BestBidAsk() if message.asset_id in books:
                    best = ticks_of(message.best_bid), ticks_of(message.best_ask)
                    said["best", books[message.asset_id].best_ticks == best] += 1
                case _:
                    pass
    assert said == {("change", True): 10357, ("change", False): 4, ("best", True): 140, ("best", False): 4}


def test_the_changes_in_order_of_their_stamps_rebuild_every_snapshot() -> None:
    """The state that each book names is the state after the change of that name; 138 of 140 exactly, and the two
    others once the second half of their change, which came in a frame of its own, is in too."""
    recorded = payloads()
    changes: dict[str, list[tuple[int, int, dict[str, str]]]] = {}
    for n, p in enumerate(recorded):
        for change in p.get("price_changes", ()):
            changes.setdefault(change["asset_id"], []).append((int(p["timestamp"]), n, change))
    first: dict[str, Snapshot] = {}
    rebuilt: Counter[int] = Counter()
    for p in recorded:
        if p["event_type"] != "book":
            continue
        (snapshot,) = read_frame(json.dumps(p).encode())
        assert isinstance(snapshot, Snapshot)
        if (base := first.setdefault(snapshot.asset_id, snapshot)) is snapshot:
            continue
        own = sorted(changes[snapshot.asset_id], key=lambda c: c[:2])
        names = [c["hash"] for _, _, c in own]
        start = names.index(base.hash) + 1 if base.hash in names else 0
        ends = [n for n, name in enumerate(names) if name == snapshot.hash]
        rebuilt[next((k for k, end in enumerate(ends) if _state(base, own[start : end + 1]) == _of(snapshot)), -1)] += 1
    assert rebuilt == {0: 138, 1: 2}


def _of(snapshot: Snapshot) -> dict[tuple[str, int], int]:
    sides = (("BUY", snapshot.bids), ("SELL", snapshot.asks))
    return {(side, level.ticks): level.total for side, levels in sides for level in levels if level.total}


def _state(base: Snapshot, changes: list[tuple[int, int, dict[str, str]]]) -> dict[tuple[str, int], int]:
    book = _of(base)
    for ms, _, change in changes:
        frame = {"event_type": "price_change", "market": "0x", "timestamp": str(ms), "price_changes": [change]}
        (message,) = read_frame(json.dumps(frame).encode())
        assert isinstance(message, PriceChanges)
        one = message.price_changes[0]
        book[one.side, one.ticks] = one.total
    return {key: size for key, size in book.items() if size}


def test_a_whole_book_puts_ours_right_at_once() -> None:
    books: dict[str, Depth] = {}
    for raw in frames():
        for message in read_frame(raw):
            if isinstance(message, Snapshot):
                depth = books.setdefault(message.asset_id, Depth(message.asset_id))
                depth.apply_snapshot(message)
                assert depth.differs(message) == ""
            elif isinstance(message, PriceChanges):
                for change in message.price_changes:
                    if change.asset_id in books:
                        books[change.asset_id].apply_change(change, message.ms)


PUBLISHED = {
    "ws_messages/book.json": "book",
    "ws_messages/last_trade_price.json": "last_trade_price",
    "ws_messages/price_change_v2.json": "price_change",
    "ws_messages/tick_size_change.json": "tick_size_change",
    "ws_messages/price_change.json": "refused: Object missing required field `price_changes`",
    "ws_messages/order_cancel.json": "order",
    "ws_messages/order_placement.json": "order",
    "ws_messages/user_trade1.json": "trade",
    "ws_messages/user_trade2.json": "trade",
    "ws_messages/user_trade3.json": "trade",
    "ws_messages/user_trade4.json": "trade",
    "ws_messages/trades.json": "refused: Object missing required field `event_type`",
    "http_responses/book.json": "snapshot",
    "http_responses/market.json": "refused: Object missing required field `conditionId`",
    "http_responses/market_slug.json": "refused: its outcomes",
    "http_responses/event.json": "refused: Object missing required field `conditionId`",
    "http_responses/events_list.json": "refused: Expected `object`, got `array`",
    "http_responses/markets_list.json": "refused: Expected `object`, got `array`",
    "http_responses/markets.json": "refused: Object missing required field `conditionId`",
    "http_responses/trades.json": "refused: Expected `object`, got `array`",
}
"""Published payloads: by which reader each is read, or why not (they are of retired endpoints, or cut short)."""


def test_every_published_payload_is_read_or_refused_with_a_reason() -> None:
    folder = FIXTURES / "nautilus_py"
    found = {str(f.relative_to(folder)): _outcome(f.read_bytes(), f.parent.name) for f in folder.rglob("*.json")}
    assert found.keys() == PUBLISHED.keys()
    for name, outcome in found.items():
        assert PUBLISHED[name].removeprefix("refused: ") in outcome, (name, outcome)
        assert outcome.startswith("refused: ") is PUBLISHED[name].startswith("refused: "), (name, outcome)


def _outcome(raw: bytes, folder: str) -> str:
    """The kind of what a payload was read as, or the last reason for which it was refused."""
    kind = json.loads(raw).get("event_type", "") if raw.lstrip()[:1] == b"{" else ""
    try:
        if folder == "ws_messages":
            events = account.read_user_frame(raw) if kind in ("order", "trade", "") else read_frame(raw)
            assert events
            wrong = [event for event in events if isinstance(event, RefusedEvent)]
            return f"refused: {wrong[0].why}" if wrong else str(kind)
        if b'"asset_id"' in raw and b'"bids"' in raw:
            return "snapshot" if snapshot_of(raw) else ""
        return read_market(raw).market.slug
    except DataInvalid as error:
        return f"refused: {error}"


def test_raw_market_records_are_read_with_their_window_fee_and_grid() -> None:
    file = FIXTURES.parent / "gamma_markets_btc5m_2026-06-08.jsonl.gz"
    with gzip.open(file) as lines:
        records = list(lines)
    listed = [read_market(line) for line in records]
    assert len(listed) == 292
    for one in listed:
        market = one.market
        assert market.seconds == 300 and market.slug.endswith(str(int(market.opens_at.timestamp())))
        assert (market.outcomes, str(market.fee_rate), one.closed) == (("Up", "Down"), "0.07", True)
    page = read_page(b'{"markets":[' + b",".join((*records[:3], b'{"slug":"broken"}')) + b'],"next_cursor":"x"}')
    assert (len(page.listed), len(page.refused), page.next_cursor) == (3, 1, "x")


def _damaged(clean: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Frames with bytes changed, cut, doubled, spliced, and numbers and names put where they do not belong."""
    chance = random.Random(seed)
    odd = (b"NaN", b"-1", b"1e999", b"null", b"[]", b'"' + b"9" * 400 + b'"', b"\xff", b'"\\ud800"', b"{" * 50, b"true")
    for _ in range(count):
        raw = bytearray(chance.choice(clean))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(raw) or 1)
            match chance.randrange(5):
                case 0:
                    raw[at : at + 1] = bytes([chance.randrange(256)])
                case 1:
                    del raw[at : at + chance.randint(1, 60)]
                case 2:
                    raw[at:at] = raw[at : at + chance.randint(1, 60)]
                case 3:
                    raw[at : at + chance.randint(0, 8)] = chance.choice(odd)
                case _:
                    other = chance.choice(clean)
                    raw[at:] = other[chance.randrange(len(other)) :]
        yield bytes(raw)


def _fuzz(count: int, seed: int) -> tuple[int, int]:
    """Frames read and refused; whatever is read goes into books. Anything else that is raised is a failure."""
    books: dict[str, Depth] = {}
    good = bad = 0
    for raw in _damaged(frames(), count, seed):
        messages = read_frame(raw)
        refused = any(isinstance(message, RefusedEvent) for message in messages)
        good, bad = good + (not refused), bad + refused
        for message in messages:
            if isinstance(message, Snapshot):
                books.setdefault("", Depth("")).apply_snapshot(message)
            elif isinstance(message, PriceChanges):
                for change in message.price_changes:
                    books.setdefault("", Depth("")).apply_change(change, message.ms)
    return good, bad


def test_damaged_frames_are_read_or_refused_and_all_counted() -> None:
    good, bad = _fuzz(20_000, 1)
    assert good + bad == 20_000 and good > 1_000 and bad > 1_000


@pytest.mark.soak
def test_a_million_damaged_frames_take_no_memory_and_raise_nothing() -> None:
    _fuzz(10_000, 2)
    tracemalloc.start()
    begun, _ = tracemalloc.get_traced_memory()
    good, bad = _fuzz(1_000_000, 3)
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{good} read, {bad} refused, {(peak - begun) / 1e6:.1f} MB at the most")  # noqa: T201 - a soak's figures
    assert good + bad == 1_000_000 and now - begun < 32e6 and peak - begun < 128e6
