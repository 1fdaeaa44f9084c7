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
from market.types import Market, micro

_MOST_BYTES = 64 * 1024 * 1024
_CATEGORIES = {"crypto_fees": "crypto", "crypto_fees_v2": "crypto"}


class _Metadata(msgspec.Struct, rename="camel"):
    price_to_beat: Decimal | None = None


class _Event(msgspec.Struct, rename="camel"):
    slug: str = ""
    start_time: str = ""
    event_metadata: _Metadata | None = None


class _Fees(msgspec.Struct, rename="camel"):
    rate: Decimal = Decimal(0)
    exponent: int = 1
    taker_only: bool = True


class _Record(msgspec.Struct, rename="camel"):
    """The fields in use of a market's 86 keys."""

    condition_id: str
    slug: str = ""
    question: str = ""
    outcomes: str | list[str] = ""
    clob_token_ids: str | list[str] = ""
    position_ids: list[str] | None = None
    version: str = "v1"
    start_date: str = ""
    end_date: str = ""
    event_start_time: str = ""
    fees_enabled: bool = False
    fee_type: str = ""
    fee_schedule: _Fees | None = None
    order_price_min_tick_size: Decimal = Decimal("0.01")
    order_min_size: Decimal = Decimal(5)
    neg_risk: bool = False
    closed: bool = False
    accepting_orders: bool = True
    liquidity_num: float = 0.0
    events: list[_Event] = []


class _Page(msgspec.Struct):
    markets: list[msgspec.Raw] = []
    next_cursor: str = ""


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
    for one in page.markets:
        try:
            listed.append(read_market(bytes(one)))
        except DataInvalid as error:
            refused.append(str(error))
    return MarketPage(listed, refused, page.next_cursor)


_RECORD, _PAGE = msgspec.json.Decoder(_Record), msgspec.json.Decoder(_Page)


def _listed(record: _Record) -> GammaMarket:
    tokens = _tokens(record)
    labels = _pair(record.outcomes, "outcomes")
    event = record.events[0] if record.events else _Event()
    beat = event.event_metadata.price_to_beat if event.event_metadata is not None else None
    closes_at = _instant(record.end_date, "endDate")
    # startDate is when the record was made; only the event has the opening of its window.
    opens_at = _instant(record.event_start_time or event.start_time or record.start_date, "startDate")
    if opens_at >= closes_at:
        _reject(f"it opens at {opens_at:%Y-%m-%d %H:%M} and closes before")
    market = Market(
        id=record.condition_id,
        slug=record.slug,
        question=record.question,
        yes_token=tokens[0],
        no_token=tokens[1],
        opens_at=opens_at,
        closes_at=closes_at,
        category=_CATEGORIES.get(record.fee_type, record.fee_type),
        outcomes=labels,
        tick=_tick(record.order_price_min_tick_size),
        min_size=micro(record.order_min_size),
        price_to_beat=beat,
        fee_rate=_rate(record),
        neg_risk=record.neg_risk,
    )
    return GammaMarket(market, record.accepting_orders and not record.closed, record.closed, record.liquidity_num)


def _tokens(record: _Record) -> tuple[str, str]:
    """Ids of the YES and NO token: position ids for markets of the second protocol, token ids for others."""
    if record.version not in ("v1", "v2"):
        _reject(f"its version {record.version!r} is not known")
    named = record.position_ids or "" if record.version == "v2" else record.clob_token_ids
    # An unknown version is refused rather than guessed: orders of the two protocols are signed for different contracts.
    pair = _pair(named, "positionIds" if record.version == "v2" else "clobTokenIds")
    if not all(t.isdigit() and len(t) <= 78 for t in pair):
        _reject("its token ids are not numbers")
    return pair


def _pair(value: str | list[str], what: str) -> tuple[str, str]:
    values: Any = msgspec.json.decode(value) if isinstance(value, str) and value else value
    if not isinstance(values, list) or len(values) != 2 or not all(isinstance(v, str) for v in values):
        _reject(f"its {what} are not two strings")
    return values[0], values[1]


def _instant(text: str, what: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None or at < EPOCH:
        _reject(f"its {what} {text!r} is no instant")
    return at


def _tick(tick: Decimal) -> Decimal:
    if not 0 < tick < 1:
        _reject(f"its tick is {tick}")
    return tick


def _rate(record: _Record) -> Decimal | None:
    """Rate of the fee formula. None if the record does not give it, so that the dated table decides."""
    if not record.fees_enabled:
        return Decimal(0)
    fees = record.fee_schedule
    if fees is None:
        return None
    # A new kind of schedule is refused: `market.fees` would compute a wrong fee from it, and expected edges with it.
    if fees.exponent != 1 or not fees.taker_only or not 0 <= fees.rate < 1:
        _reject(
            f"its fees (rate {fees.rate}, exponent {fees.exponent}, taker only {fees.taker_only}) are of a new kind"
        )
    return fees.rate


def _reject(what: str) -> NoReturn:
    raise ValueError(what)
