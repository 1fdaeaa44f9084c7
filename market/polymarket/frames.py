"""Strict decoder of market-channel frames into values. Pure.

A frame is one event or an array of them. A deviation from the protocol is refused with a reason and never guessed at;
unknown kinds of event are told apart and ignored. Prices become whole ten-thousandths of a dollar, sizes millionths of
a share, instants milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from market.errors import DataInvalid
from market.types import Micro

LONGEST = 8 * 1024 * 1024
"""Largest accepted frame in bytes; a book with every price of both sides is a twentieth of it."""
PRICES = 10_000
"""Price steps of a dollar: the venue's finest grid."""
_MOST_SHARES = 15
_FINEST = 6
_SCALES: tuple[int, ...] = tuple(10 ** (_FINEST - places) for places in range(_FINEST + 1))
_TICKS: dict[str, int] = {}
_SIZES: dict[str, Micro] = {}
"""Caches of parsed texts: most prices and many sizes recur."""
_MOST_SIZES = 1 << 16
_SIDES = frozenset({"BUY", "SELL"})
_LAST_INSTANT = 4_102_444_800_000


class FrameRefused(DataInvalid):
    """A frame deviates from the protocol; the message is the reason."""


class Change(msgspec.Struct, gc=False):
    """New total at one price of one token's book. After decoding, `ticks` is the price in ten-thousandths and `total`
    the shares in millionths, 0 for a removed level; `bid_ticks` and `ask_ticks` are the venue's best prices, -1 if
    absent. `hash` names the state of the whole book."""

    asset_id: str
    price: str
    size: str
    side: str
    hash: str = ""
    best_bid: str | None = None
    best_ask: str | None = None
    ticks: int = 0
    total: Micro = 0
    bid_ticks: int = -1
    ask_ticks: int = -1


class PriceChanges(msgspec.Struct, tag="price_change", tag_field="event_type"):
    market: str
    timestamp: str
    price_changes: list[Change]
    ms: int = 0
    """Exchange time in milliseconds since 1970, set after decoding."""


class PriceLevel(msgspec.Struct, gc=False):
    price: str
    size: str
    ticks: int = 0
    total: Micro = 0


class Snapshot(msgspec.Struct, tag="book", tag_field="event_type"):
    """A whole book; the order of levels is not defined."""

    market: str
    asset_id: str
    timestamp: str
    bids: list[PriceLevel]
    asks: list[PriceLevel]
    hash: str = ""
    ms: int = 0


class LastTrade(msgspec.Struct, tag="last_trade_price", tag_field="event_type"):
    market: str
    asset_id: str
    price: str
    size: str
    side: str
    timestamp: str
    ticks: int = 0
    total: Micro = 0
    ms: int = 0


class TickChange(msgspec.Struct, tag="tick_size_change", tag_field="event_type"):
    market: str
    asset_id: str
    old_tick_size: str
    new_tick_size: str
    timestamp: str

    @property
    def new_tick(self) -> Decimal:
        return price_at(ticks_of(self.new_tick_size))


class BestBidAsk(msgspec.Struct, tag="best_bid_ask", tag_field="event_type"):
    market: str
    asset_id: str
    best_bid: str
    best_ask: str
    timestamp: str


class MarketResolved(msgspec.Struct, tag="market_resolved", tag_field="event_type"):
    market: str
    assets_ids: list[str]
    winning_asset_id: str
    timestamp: str


class Unknown(msgspec.Struct):
    """An event of a kind that is not decoded here."""

    kind: str


class RefusedEvent(msgspec.Struct, frozen=True):
    """An event that is not what the protocol says, and why. `names` are the ids of the market and tokens it speaks of;
    empty where not even that can be read, so that every book may have missed something."""

    why: str
    names: frozenset[str] = frozenset()


class _Kind(msgspec.Struct):
    event_type: str


_Known = Snapshot | PriceChanges | LastTrade | TickChange | BestBidAsk | MarketResolved
Message = _Known | Unknown | RefusedEvent
_KINDS = ("book", "price_change", "last_trade_price", "tick_size_change", "best_bid_ask", "market_resolved")
_ONE: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Known)
_MANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[_Known])
_RAW = msgspec.json.Decoder(list[msgspec.Raw])
_KIND = msgspec.json.Decoder(_Kind)


def read_frame(raw: bytes, wanted: Container[str] | None = None) -> Sequence[Message]:
    """Decode the events of a frame, in its order. An event that cannot be decoded becomes a `RefusedEvent` in its place
    and spoils nothing beside it. Price changes are limited to the `wanted` tokens, if given: those of a market's other
    token repeat the same change mirrored, and are neither decoded nor checked. Raises nothing."""
    if len(raw) > LONGEST:
        return [RefusedEvent(f"a frame has {len(raw)} bytes.")]
    try:
        messages = _MANY.decode(raw) if raw[:1] == b"[" else (_ONE.decode(raw),)
        for message in messages:
            if type(message) is PriceChanges:
                _check_changes(message, wanted)
            else:
                _check(message)
    except (FrameRefused, msgspec.MsgspecError, ValueError, RecursionError) as error:
        return _read_mixed(raw, wanted, error)
    return messages


def _read_mixed(raw: bytes, wanted: Container[str] | None, why: Exception) -> Sequence[Message]:
    """Decode a frame that holds unknown kinds of event, or an invalid one, event by event."""
    try:
        parts = [bytes(p) for p in _RAW.decode(raw)] if raw[:1] == b"[" else [raw]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return [RefusedEvent(f"a frame cannot be read: {why}.")]
    return [_read_one(part, wanted) for part in parts]


def _read_one(part: bytes, wanted: Container[str] | None) -> Message:
    try:
        message = _read_event(part)
        if type(message) is PriceChanges:
            _check_changes(message, wanted)
        else:
            _check(message)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return RefusedEvent(f"an event cannot be read: {error}.", _names(part))
    except FrameRefused as error:
        return RefusedEvent(str(error), _names(part))
    return message


def _names(part: bytes) -> frozenset[str]:
    """Ids of the market and the tokens that an event names, read as leniently as can be."""
    try:
        said = msgspec.json.decode(part)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return frozenset()
    if not isinstance(said, dict):
        return frozenset()
    changes = said.get("price_changes")
    rows = [said, *(changes if isinstance(changes, list) else ())]
    found = (row.get(key) for row in rows if isinstance(row, dict) for key in ("market", "asset_id"))
    return frozenset(one for one in found if isinstance(one, str))


def _read_event(part: bytes) -> Message:
    kind = _KIND.decode(part).event_type
    if kind not in _KINDS:
        return Unknown(kind[:64])
    message: Message = _ONE.decode(part)
    return message


def _check_changes(message: PriceChanges, wanted: Container[str] | None) -> None:
    """Decode price changes: the hot path, by far the most frequent frame. Raises FrameRefused."""
    # Look-ups in the caches are inlined to save a call per price and size.
    known, sizes, kept = _TICKS.get, _SIZES.get, []
    for change in message.price_changes:
        if wanted is not None and change.asset_id not in wanted:
            continue
        ticks, total = known(change.price), sizes(change.size)
        change.ticks = ticks_of(change.price) if ticks is None else ticks
        change.total = micro_of(change.size) if total is None else total
        if change.side not in _SIDES:
            raise FrameRefused(f"a change is on the side {change.side[:16]!r}.")
        if bid := change.best_bid:
            ticks = known(bid)
            change.bid_ticks = ticks_of(bid) if ticks is None else ticks
        if ask := change.best_ask:
            ticks = known(ask)
            change.ask_ticks = ticks_of(ask) if ticks is None else ticks
        kept.append(change)
    message.price_changes = kept
    message.ms = instant(message.timestamp)


def _check(message: Message) -> None:
    """Convert prices and sizes to numbers, once. Raises FrameRefused."""
    match message:
        case Snapshot():
            for level in (*message.bids, *message.asks):
                level.ticks, level.total = ticks_of(level.price), micro_of(level.size)
            message.ms = instant(message.timestamp)
        case LastTrade():
            message.ticks, message.total = ticks_of(message.price), micro_of(message.size)
            message.ms = instant(message.timestamp)
        case TickChange() if not 0 < ticks_of(message.new_tick_size) < PRICES:
            raise FrameRefused(f"{message.new_tick_size[:24]!r} is no tick.")
        case BestBidAsk():
            ticks_of(message.best_bid), ticks_of(message.best_ask)
        case MarketResolved() if message.winning_asset_id not in message.assets_ids:
            raise FrameRefused("a market is won by none of its tokens.")
        case _:
            pass


def ticks_of(text: str) -> int:
    """Parse a price into ten-thousandths of a dollar, 0 to 10,000. Raises FrameRefused."""
    known = _TICKS.get(text)
    if known is not None:
        return known
    number = _decimal(text, 8) * PRICES
    if number != number.to_integral_value() or not 0 <= number <= PRICES:
        raise FrameRefused(f"{text[:24]!r} is no price.")
    # One price has several spellings ("0.5", "0.50"); the bound keeps a hostile server from filling the memory.
    if len(_TICKS) < 4 * PRICES:
        _TICKS[text] = int(number)
    return int(number)


def micro_of(text: str) -> Micro:
    """Parse shares into millionths. Raises FrameRefused if finer, negative, or beyond the possible."""
    whole, _, part = text.partition(".")
    if len(whole) <= _MOST_SHARES and len(part) <= _FINEST and (digits := whole + part).isdigit() and digits.isascii():
        if len(_SIZES) >= _MOST_SIZES:
            _SIZES.clear()
        total = _SIZES[text] = int(digits) * _SCALES[len(part)]
        return total
    number = _decimal(text, 32) * 1_000_000
    if number != number.to_integral_value() or not 0 <= number < 10 ** (_MOST_SHARES + 6):
        raise FrameRefused(f"{text[:24]!r} is no number of shares.")
    return int(number)


def _decimal(text: str, longest: int) -> Decimal:
    """Parse digits with at most one point; no sign, exponent, or name."""
    if len(text) > longest or not text.isascii() or not text.replace(".", "", 1).isdigit():
        raise FrameRefused(f"{text[:24]!r} is no number.")
    return Decimal(text)


@lru_cache(maxsize=PRICES + 1)
def price_at(ticks: int) -> Decimal:
    """Convert ten-thousandths to dollars, without needless zeros."""
    price = Decimal(ticks).scaleb(-4).normalize()
    return price if price.as_tuple().exponent != 0 else price.quantize(Decimal(1))


def instant(text: str) -> int:
    """Parse milliseconds since 1970 from a string. Raises FrameRefused."""
    if not (text.isascii() and text.isdigit() and len(text) <= 14) or (at := int(text)) > _LAST_INSTANT:
        raise FrameRefused(f"{text[:24]!r} is no instant.")
    return at


def snapshot_of(raw: bytes) -> Snapshot:
    """Decode a book answered by REST. Raises FrameRefused."""
    try:
        body = _BODY.decode(raw)
        book = Snapshot(body.market, body.asset_id, body.timestamp, body.bids, body.asks, body.hash)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameRefused(f"a book cannot be read: {error}.") from None
    _check(book)
    return book


class _Body(msgspec.Struct):
    market: str
    asset_id: str
    timestamp: str
    bids: list[PriceLevel]
    asks: list[PriceLevel]
    hash: str = ""


_BODY = msgspec.json.Decoder(_Body)
