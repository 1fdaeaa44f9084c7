"""Prices of what a window is about, as they stream: the venue's own feed, its older one, and a public exchange as a
labelled proxy. Each source says how it is asked and reads its own frames; `PriceStream` keeps what came.

The venue settles on averages over a minute (`averages`); the diffusion is about the price itself (`ticks`).
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
"""Ticks kept of a symbol: more than an hour of a price a second."""
_FARTHEST = Decimal(10) ** 12


@dataclass(frozen=True, slots=True)
class Said:
    """A price heard: of the asset ("btc"), at the source's instant. `average` marks the mean of the last minute."""

    asset: str
    at: datetime
    price: Decimal
    average: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Where prices come from. `hello` gives the frames that ask for assets; `read` raises DataInvalid for a frame that
    is not understood, and gives nothing for one that holds no price; `note` says what the prices are."""

    name: str
    url: str
    note: str
    habits: Habits
    hello: Callable[[Sequence[str]], Sequence[str]]
    read: Callable[[bytes], Sequence[Said]]


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
    return Source("polybolt", url, note, Habits(json.dumps({"op": "ping"}), 30.0, 90.0), hello, _read_polybolt)


def _read_polybolt(raw: bytes) -> Sequence[Said]:
    try:
        said = _ENVELOPE.decode(raw)
    except msgspec.MsgspecError as error:
        raise DataInvalid(f"a frame of the price stream cannot be read: {error}.") from None
    if said.op == "error":
        raise DataInvalid(f"the price stream refuses {said.channel or 'a request'} ({said.code}).")
    if said.channel not in _CHANNELS or said.payload is None:
        return ()
    payload, average = said.payload, _CHANNELS[said.channel]
    points = payload.data
    if points is None:
        points = [_Point(payload.timestamp or 0, payload.value, payload.full_accuracy_value)]
    asset = payload.symbol.lower().removesuffix("usd")
    return [Said(asset, from_ms(p.timestamp), _exact(p), average) for p in points]


def _exact(point: _Point) -> Decimal:
    price = point.full_accuracy_value if point.full_accuracy_value is not None else point.value
    return _sound(price)


def _sound(price: Decimal | None) -> Decimal:
    if price is None or not price.is_finite() or not 0 < price < _FARTHEST:
        raise DataInvalid(f"the price stream says {price}.")
    return price


# -- RTDS: the venue's older stream, while it lasts


class _Old(msgspec.Struct):
    topic: str = ""
    type: str = ""
    payload: _Payload | None = None


_OLD = msgspec.json.Decoder(_Old)


def rtds(url: str = "wss://ws-live-data.polymarket.com") -> Source:
    """Chainlink prices of the venue's deprecated stream, without credentials."""

    def hello(assets: Sequence[str]) -> Sequence[str]:
        topic = {"topic": "crypto_prices_chainlink", "type": "*"}
        wanted = [topic | {"filters": json.dumps({"symbol": f"{a}/usd"})} for a in assets]
        return [json.dumps({"action": "subscribe", "subscriptions": wanted})]

    note = "Reference prices: Chainlink's, by the venue's older stream, which it has announced to switch off."
    return Source("rtds", url, note, Habits("PING", 5.0, 60.0), hello, _read_rtds)


def _read_rtds(raw: bytes) -> Sequence[Said]:
    try:
        said = _OLD.decode(raw)
    except msgspec.MsgspecError as error:
        raise DataInvalid(f"a frame of the price stream cannot be read: {error}.") from None
    if said.topic != "crypto_prices_chainlink" or said.payload is None:
        return ()
    payload = said.payload
    points = payload.data
    if points is None:
        points = [_Point(payload.timestamp or 0, payload.value, payload.full_accuracy_value)]
    asset = payload.symbol.lower().split("/")[0]
    return [Said(asset, from_ms(p.timestamp), _exact(p)) for p in points]


# -- a public exchange, as a proxy


class _Ticker(msgspec.Struct):
    s: str = ""
    E: int = 0
    c: Decimal | None = None


class _Wrapped(msgspec.Struct):
    data: _Ticker | None = None


_TICKER = msgspec.json.Decoder(_Wrapped)


def spot(url: str = "wss://data-stream.binance.vision") -> Source:
    """Last trades of a public exchange in dollars' stablecoin, a second apart; no key is needed."""

    def hello(assets: Sequence[str]) -> Sequence[str]:
        wanted = [f"{a}usdt@miniTicker" for a in assets]
        return [json.dumps({"method": "SUBSCRIBE", "params": wanted, "id": 1})]

    note = "Reference prices: a proxy (Binance spot, USDT), not what the venue settles on."
    return Source("spot", f"{url}/stream", note, Habits("", 20.0, 60.0), hello, _read_spot)


def _read_spot(raw: bytes) -> Sequence[Said]:
    try:
        said = _TICKER.decode(raw).data
    except msgspec.MsgspecError as error:
        raise DataInvalid(f"a frame of the price stream cannot be read: {error}.") from None
    if said is None or not said.s.endswith("USDT"):
        return ()
    return [Said(said.s.removesuffix("USDT").lower(), from_ms(said.E), _sound(said.c))]


def source_of(name: str, url: str, credentials: Mapping[str, str] | None) -> Source:
    """By its name in the configuration. Raises Misconfigured."""
    if name == "polybolt":
        if credentials is None:
            raise Misconfigured(
                "The venue's price stream asks for API credentials, and paper trading has none.",
                next_step="Set venue.reference to spot, rtds or none.",
            )
        return polybolt(url, credentials)
    return rtds() if name == "rtds" else spot()


@dataclass(slots=True)
class _Kept:
    """What came of one asset, in order of receipt, each instant of the source once."""

    ticks: deque[ReferenceTick] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, tick: ReferenceTick) -> bool:
        if self.ticks and tick.at <= self.ticks[-1].at:
            return False
        self.ticks.append(tick)
        return True

    def between(self, after: datetime, until: datetime) -> Sequence[ReferenceTick]:
        return [t for t in self.ticks if after < t.received_at <= until]


class PriceTap(Protocol):
    """Somebody who keeps all that a price stream says."""

    def frame(self, channel: str, raw: bytes, at: datetime) -> None: ...

    def gap(self, channel: str, why: str, at: datetime) -> None: ...

    def price(self, asset: str, tick: ReferenceTick) -> None: ...


class PriceStream:
    """Prices of `assets` from one source, kept as they come. `refused` counts frames that were not understood."""

    def __init__(self, source: Source, assets: Iterable[str], clock: Clock, tap: PriceTap | None = None) -> None:
        self.source, self._assets, self._clock, self._tap = source, tuple(assets), clock, tap
        self.wire = Wire(source.url, source.habits, lambda: source.hello(self._assets), self._hear, self._lost)
        self._prices: dict[str, _Kept] = {a: _Kept() for a in self._assets}
        self._means: dict[str, _Kept] = {a: _Kept() for a in self._assets}
        self.refused = 0
        self.why_refused = ""

    def ticks(self, asset: str, after: datetime, until: datetime) -> Sequence[ReferenceTick]:
        """The price itself, received in (after, until], in order of receipt."""
        kept = self._prices.get(asset)
        return kept.between(after, until) if kept is not None else ()

    def average(self, asset: str, at: datetime) -> Decimal | None:
        """The settlement average of exactly that instant; None where none was heard."""
        kept = self._means.get(asset)
        return next((t.price for t in reversed(kept.ticks) if t.at == at), None) if kept is not None else None

    def _lost(self, why: str) -> None:
        if self._tap is not None:
            self._tap.gap(self.source.name, why, self._clock.now())

    def _hear(self, raw: bytes) -> None:
        if raw in (b"PONG", b"pong"):
            return
        if self._tap is not None:
            self._tap.frame(self.source.name, raw, self._clock.now())
        try:
            said = self.source.read(raw)
        except (DataInvalid, OverflowError, ValueError) as error:
            self.refused, self.why_refused = self.refused + 1, str(error)
            return
        now = self._clock.now()
        for one in said:
            kept: Any = (self._means if one.average else self._prices).get(one.asset)
            if kept is None:
                continue
            tick = ReferenceTick(one.at, max(now, one.at), one.price)
            if kept.add(tick) and self._tap is not None and not one.average:
                self._tap.price(one.asset, tick)
