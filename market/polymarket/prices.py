"""Reference price streams: the venue's own feed, its older one, and a public exchange as a labelled proxy. Each source
defines its subscription and decodes its own frames; `PriceStream` keeps the received ticks.

The venue settles on averages over a minute (`averages`); the diffusion model is about the price itself (`ticks`).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from market.clock import Clock, from_ms
from market.errors import DataInvalid, Misconfigured
from market.feed import ReferenceTick
from market.polymarket.wire import Habits, Wire

KEPT = 4096
"""Ticks kept per symbol: more than an hour at one price a second."""
_MOST_DOLLARS = Decimal(10) ** 12


@dataclass(frozen=True, slots=True)
class PriceUpdate:
    """A received price: of the asset ("btc"), at the source's instant. `average` marks the mean of the last minute."""

    asset: str
    at: datetime
    price: Decimal
    average: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A price source. `hello` gives the subscription frames for assets; `read` raises DataInvalid for a frame that
    cannot be decoded, and returns nothing for one without a price; `note` describes the prices."""

    name: str
    url: str
    note: str
    habits: Habits
    hello: Callable[[Sequence[str]], Sequence[str]]
    read: Callable[[bytes], Sequence[PriceUpdate]]


# -- PolyBolt: the venue's own, for holders of API credentials


class _Point(msgspec.Struct):
    timestamp: int
    value: Decimal | None = None
    full_accuracy_value: Decimal | None = None


class _Payload(msgspec.Struct):
    symbol: str = ""
    timestamp: int | None = None
    value: Decimal | None = None
    full_accuracy_value: Decimal | None = None
    data: list[_Point] | None = None


class _Envelope(msgspec.Struct):
    op: str = ""
    channel: str = ""
    seq: int = 0
    dropped: int = 0
    code: str = ""
    payload: _Payload | None = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_CHANNELS = {"price.crypto": False, "price.crypto.twap": True}


def polybolt(url: str, credentials: Mapping[str, str]) -> Source:
    """The venue's price stream; `credentials` are apiKey, secret and passphrase."""

    def hello(assets: Sequence[str]) -> Sequence[str]:
        wanted = [
            {"channel": channel, "filter": {"symbol": f"{a}usd"} | ({"window_seconds": 60} if averaged else {})}
            for channel, averaged in _CHANNELS.items()
            for a in assets
        ]
        auth = {"op": "auth", "rid": "1", "auth": dict(credentials)}
        return [json.dumps(auth), json.dumps({"op": "subscribe", "rid": "2", "subscriptions": wanted})]

    note = "Reference prices: the venue's own stream; the price itself is Pyth's, the settlement average Chainlink's."
    return Source(
        name="polybolt",
        url=url,
        note=note,
        habits=Habits(json.dumps({"op": "ping"}), 30.0, 90.0),
        hello=hello,
        read=_read_polybolt,
    )


def _read_polybolt(raw: bytes) -> Sequence[PriceUpdate]:
    try:
        update = _ENVELOPE.decode(raw)
    except msgspec.MsgspecError as error:
        raise DataInvalid(f"a frame of the price stream cannot be read: {error}.") from None
    if update.op == "error":
        raise DataInvalid(f"the price stream refuses {update.channel or 'a request'} ({update.code}).")
    if update.channel not in _CHANNELS or update.payload is None:
        return ()
    payload, average = update.payload, _CHANNELS[update.channel]
    points = payload.data
    if points is None:
        points = [_Point(payload.timestamp or 0, payload.value, payload.full_accuracy_value)]
    asset = payload.symbol.lower().removesuffix("usd")
    return [PriceUpdate(asset, from_ms(p.timestamp), _exact(p), average) for p in points]


def _exact(point: _Point) -> Decimal:
    price = point.full_accuracy_value if point.full_accuracy_value is not None else point.value
    return _checked(price)


def _checked(price: Decimal | None) -> Decimal:
    if price is None or not price.is_finite() or not 0 < price < _MOST_DOLLARS:
        raise DataInvalid(f"the price stream says {price}.")
    return price


# -- RTDS: the venue's older stream, while it lasts


class _RtdsMessage(msgspec.Struct):
    topic: str = ""
    type: str = ""
    payload: _Payload | None = None


_RTDS = msgspec.json.Decoder(_RtdsMessage)


def rtds(url: str = "wss://ws-live-data.polymarket.com") -> Source:
    """Chainlink prices of the venue's deprecated stream, without credentials. Its removal was announced for about
    October 2026."""

    def hello(assets: Sequence[str]) -> Sequence[str]:
        topic = {"topic": "crypto_prices_chainlink", "type": "*"}
        wanted = [topic | {"filters": json.dumps({"symbol": f"{a}/usd"})} for a in assets]
        return [json.dumps({"action": "subscribe", "subscriptions": wanted})]

    note = "Reference prices: Chainlink's, by the venue's older stream, which it has announced to switch off."
    return Source(name="rtds", url=url, note=note, habits=Habits("PING", 5.0, 60.0), hello=hello, read=_read_rtds)


def _read_rtds(raw: bytes) -> Sequence[PriceUpdate]:
    try:
        update = _RTDS.decode(raw)
    except msgspec.MsgspecError as error:
        raise DataInvalid(f"a frame of the price stream cannot be read: {error}.") from None
    if update.topic != "crypto_prices_chainlink" or update.payload is None:
        return ()
    payload = update.payload
    points = payload.data
    if points is None:
        points = [_Point(payload.timestamp or 0, payload.value, payload.full_accuracy_value)]
    asset = payload.symbol.lower().split("/")[0]
    return [PriceUpdate(asset, from_ms(p.timestamp), _exact(p)) for p in points]


# -- a public exchange, as a proxy


class _Ticker(msgspec.Struct):
    s: str = ""
    E: int = 0
    c: Decimal | None = None


class _Wrapped(msgspec.Struct):
    data: _Ticker | None = None


_TICKER = msgspec.json.Decoder(_Wrapped)


def spot(url: str = "wss://data-stream.binance.vision") -> Source:
    """Last trades of a public exchange in a dollar stablecoin, one a second; no key is needed."""

    def hello(assets: Sequence[str]) -> Sequence[str]:
        wanted = [f"{a}usdt@miniTicker" for a in assets]
        return [json.dumps({"method": "SUBSCRIBE", "params": wanted, "id": 1})]

    note = "Reference prices: a proxy (Binance spot, USDT), not what the venue settles on."
    return Source(
        name="spot", url=f"{url}/stream", note=note, habits=Habits("", 20.0, 60.0), hello=hello, read=_read_spot
    )


def _read_spot(raw: bytes) -> Sequence[PriceUpdate]:
    try:
        update = _TICKER.decode(raw).data
    except msgspec.MsgspecError as error:
        raise DataInvalid(f"a frame of the price stream cannot be read: {error}.") from None
    if update is None or not update.s.endswith("USDT"):
        return ()
    return [PriceUpdate(update.s.removesuffix("USDT").lower(), from_ms(update.E), _checked(update.c))]


def source_of(name: str, url: str, credentials: Mapping[str, str] | None) -> Source:
    """Source by its name in the configuration. Raises Misconfigured."""
    if name == "polybolt":
        if credentials is None:
            raise Misconfigured(
                "The venue's price stream asks for API credentials, and paper trading has none.",
                next_step="Set venue.reference to spot, rtds or none.",
            )
        return polybolt(url, credentials)
    return rtds() if name == "rtds" else spot()


@dataclass(slots=True)
class _TickBuffer:
    """Ticks of one asset, in order of receipt, each instant of the source once."""

    ticks: deque[ReferenceTick] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, tick: ReferenceTick) -> bool:
        # A subscription begins with a snapshot of the last two minutes, so a reconnect repeats ticks that are held
        # already.
        if self.ticks and tick.at <= self.ticks[-1].at:
            return False
        self.ticks.append(tick)
        return True

    def between(self, after: datetime, until: datetime) -> Sequence[ReferenceTick]:
        return [t for t in self.ticks if after < t.received_at <= until]


class PriceTap(Protocol):
    """Recorder of everything that a price stream sends."""

    def frame(self, channel: str, raw: bytes, at: datetime) -> None: ...

    def gap(self, channel: str, why: str, at: datetime) -> None: ...

    def price(self, asset: str, tick: ReferenceTick) -> None: ...


class PriceStream:
    """Prices of `assets` from one source, kept as received. `refused` counts frames that could not be decoded."""

    def __init__(self, source: Source, assets: Iterable[str], clock: Clock, tap: PriceTap | None = None) -> None:
        self.source, self._assets, self._clock, self._tap = source, tuple(assets), clock, tap
        self.wire = Wire(source.url, source.habits, lambda: source.hello(self._assets), self._on_message, self._on_loss)
        self._prices: dict[str, _TickBuffer] = {a: _TickBuffer() for a in self._assets}
        self._averages: dict[str, _TickBuffer] = {a: _TickBuffer() for a in self._assets}
        self.refused = 0
        self.why_refused = ""

    def ticks(self, asset: str, after: datetime, until: datetime) -> Sequence[ReferenceTick]:
        """Ticks of the price itself, received in (after, until], in order of receipt."""
        kept = self._prices.get(asset)
        return kept.between(after, until) if kept is not None else ()

    def average(self, asset: str, at: datetime) -> Decimal | None:
        """Settlement average of exactly that instant; None if none was received."""
        kept = self._averages.get(asset)
        return next((t.price for t in reversed(kept.ticks) if t.at == at), None) if kept is not None else None

    def _on_loss(self, why: str) -> None:
        if self._tap is not None:
            self._tap.gap(self.source.name, why, self._clock.now())

    def _on_message(self, raw: bytes) -> None:
        if raw in (b"PONG", b"pong"):
            return
        if self._tap is not None:
            self._tap.frame(self.source.name, raw, self._clock.now())
        try:
            update = self.source.read(raw)
        except (DataInvalid, OverflowError, ValueError) as error:
            self.refused, self.why_refused = self.refused + 1, str(error)
            return
        now = self._clock.now()
        for one in update:
            kept: Any = (self._averages if one.average else self._prices).get(one.asset)
            if kept is None:
                continue
            # A source's clock may be ahead of ours. Received before it happened would let a point-in-time read see the
            # future.
            tick = ReferenceTick(one.at, max(now, one.at), one.price)
            if kept.add(tick) and self._tap is not None and not one.average:
                self._tap.price(one.asset, tick)
