"""Decoder of Gamma's market records into values. Pure.

Lists arrive as JSON inside JSON strings or as plain arrays, depending on the age of the record. Gamma's prices are
cached for minutes and are not read at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

from market.clock import EPOCH
from market.errors import DataInvalid
from market.fees import FEE_TYPES
from market.types import Market, Micro, micro

_MOST_BYTES = 64 * 1024 * 1024
_CRYPTO = "crypto_fees"
_USUAL_TICK, _LEAST = Decimal("0.01"), micro(5)


class _Metadata(msgspec.Struct, rename="camel"):
    price_to_beat: Decimal | None = None


class _Event(msgspec.Struct, rename="camel"):
    slug: str | None = None
    start_time: str | None = None
    event_metadata: _Metadata | None = None


class _Fees(msgspec.Struct, rename="camel"):
    rate: Decimal | None = None
    exponent: Decimal | None = None
    taker_only: bool | None = None


class _Record(msgspec.Struct, rename="camel"):
    """Of a market's 86 keys those that are needed. Gamma sends null for most of what a market does not have: null is
    absent, and every key but the id may be."""

    condition_id: str
    slug: str | None = None
    question: str | None = None
    outcomes: str | list[str] | None = None
    clob_token_ids: str | list[str] | None = None
    position_ids: list[str] | None = None
    version: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    event_start_time: str | None = None
    fees_enabled: bool | None = None
    fee_type: str | None = None
    fee_schedule: _Fees | None = None
    order_price_min_tick_size: Decimal | None = None
    order_min_size: Decimal | None = None
    neg_risk: bool | None = None
    closed: bool | None = None
    accepting_orders: bool | None = None
    liquidity_num: float | None = None
    events: list[_Event] | None = None


class _Page(msgspec.Struct):
    markets: list[msgspec.Raw] | None = None
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class GammaMarket:
    """A discovered market. `liquidity` is in dollars and only for choosing among markets."""

    market: Market
    accepting: bool
    closed: bool
    liquidity: float = 0.0


@dataclass(frozen=True, slots=True)
class MarketPage:
    """One page of a list; `refused` are sentences about records that cannot be traded on."""

    listed: Sequence[GammaMarket]
    refused: Sequence[str]
    next_cursor: str = ""


def read_market(raw: bytes) -> GammaMarket:
    """Decode one market. Raises DataInvalid with the defect."""
    if len(raw) > _MOST_BYTES:
        raise DataInvalid(f"a market's record has {len(raw)} bytes.")
    try:
        return _listed(_RECORD.decode(raw))
    except (msgspec.MsgspecError, ValueError, ArithmeticError) as error:
        raise DataInvalid(f"a market's record cannot be read: {error}.") from None


def read_page(raw: bytes) -> MarketPage:
    """Decode a page of the keyset list. One bad record spoils itself alone; raises DataInvalid if the page itself
    cannot be read."""
    if len(raw) > _MOST_BYTES:
        raise DataInvalid(f"a page of markets has {len(raw)} bytes.")
    try:
        page = _PAGE.decode(raw)
    except msgspec.MsgspecError as error:
        raise DataInvalid(f"a page of markets cannot be read: {error}.") from None
    listed, refused = [], []
    for one in page.markets or ():
        try:
            listed.append(read_market(bytes(one)))
        except DataInvalid as error:
            refused.append(str(error))
    return MarketPage(listed, refused, page.next_cursor or "")


_RECORD, _PAGE = msgspec.json.Decoder(_Record), msgspec.json.Decoder(_Page)


def _listed(record: _Record) -> GammaMarket:
    tokens = _tokens(record)
    labels = _pair(record.outcomes, "outcomes")
    event = record.events[0] if record.events else _Event()
    closes_at = _instant(record.end_date, "endDate")
    # startDate is when the record was made; only the event has the opening of its window.
    opens_at = _instant(record.event_start_time or event.start_time or record.start_date, "startDate")
    if opens_at >= closes_at:
        _reject(f"it opens at {opens_at:%Y-%m-%d %H:%M} and closes before")
    market = Market(
        id=record.condition_id,
        slug=record.slug or "",
        question=record.question or "",
        yes_token=tokens[0],
        no_token=tokens[1],
        opens_at=opens_at,
        closes_at=closes_at,
        category="crypto" if (record.fee_type or "").startswith(_CRYPTO) else record.fee_type or "",
        outcomes=labels,
        tick=_tick(record.order_price_min_tick_size),
        min_size=_least(record.order_min_size),
        price_to_beat=_beaten(event.event_metadata),
        fee_rate=_rate(record),
        neg_risk=bool(record.neg_risk),
    )
    closed = bool(record.closed)
    accepting = record.accepting_orders is not False and not closed
    return GammaMarket(market, accepting, closed, record.liquidity_num or 0.0)


def _tokens(record: _Record) -> tuple[str, str]:
    """Of markets of the second protocol the position ids are traded, of others the token ids."""
    version = record.version or "v1"
    if version not in ("v1", "v2"):
        _reject(f"its version {version!r} is not known")
    # An unknown version is refused rather than guessed: orders of the two protocols are signed for different contracts.
    named = record.position_ids if version == "v2" else record.clob_token_ids
    pair = _pair(named, "positionIds" if version == "v2" else "clobTokenIds")
    if not all(t.isdigit() and len(t) <= 78 for t in pair):
        _reject("its token ids are not numbers")
    return pair


def _pair(said: str | list[str] | None, what: str) -> tuple[str, str]:
    values: Any = msgspec.json.decode(said) if isinstance(said, str) and said else said
    if not isinstance(values, list) or len(values) != 2 or not all(isinstance(v, str) for v in values):
        _reject(f"its {what} are not two strings")
    return values[0], values[1]


def _beaten(metadata: _Metadata | None) -> Decimal | None:
    """Price to beat, None until the venue has it. Zero or not a number is no price: the market would be judged wrongly
    by it for as long as its window lasts."""
    beat = metadata.price_to_beat if metadata is not None else None
    if beat is not None and not (beat.is_finite() and beat > 0):
        _reject(f"its price to beat is {beat}")
    return beat


def _least(size: Decimal | None) -> Micro:
    """Smallest order in micro-shares; the venue's usual five shares where the record is silent."""
    if size is None:
        return _LEAST
    if not (size.is_finite() and size >= 0):
        _reject(f"its smallest order is {size}")
    return micro(size)


def _instant(text: str | None, what: str) -> datetime:
    if not text:
        _reject(f"it has no {what}")
    at = datetime.fromisoformat(text)
    if at.tzinfo is None or at < EPOCH:
        _reject(f"its {what} {text!r} is no instant")
    return at


def _tick(tick: Decimal | None) -> Decimal:
    tick = _USUAL_TICK if tick is None else tick
    if not (tick.is_finite() and 0 < tick < 1):
        _reject(f"its tick is {tick}")
    return tick


def _rate(record: _Record) -> Decimal:
    """Dollars of the fee formula: the record's own schedule, else its fee type's. A market that is silent on both is
    refused: a rate that is guessed is a wrong price."""
    if record.fees_enabled is False:
        return Decimal(0)
    fees = record.fee_schedule
    if fees is not None and fees.rate is not None:
        return _scheduled(fees)
    rate = FEE_TYPES.get(record.fee_type or "")
    if rate is None:
        _reject(f"its fees are not known (type {record.fee_type!r}, no schedule)")
    return rate


def _scheduled(fees: _Fees) -> Decimal:
    rate, exponent = fees.rate or Decimal(0), Decimal(1) if fees.exponent is None else fees.exponent
    if exponent != 1 or fees.taker_only is False or not (rate.is_finite() and 0 <= rate < 1):
        _reject(f"its fees (rate {rate}, exponent {exponent}, taker only {fees.taker_only}) are of a new kind")
    return rate


def _reject(what: str) -> NoReturn:
    raise ValueError(what)
