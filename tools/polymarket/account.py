"""Reports on an account's own orders and trades, from the user channel or REST, as one kind of value.

Frames are decoded strictly, but no order depends on them alone: the channel loses and garbles some, so its reports are
early hints, and REST is read for the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

from market.clock import EPOCH
from market.errors import DataInvalid
from market.types import Micro, OrderStatus, Side, Transfer, TransferKind, complement, micro

_LONGEST = 1 << 20


class TradeStatus(StrEnum):
    """Settlement state of a trade; MATCHED is provisional, CONFIRMED and FAILED are final."""

    MATCHED = "MATCHED"
    MINED = "MINED"
    CONFIRMED = "CONFIRMED"
    RETRYING = "RETRYING"
    FAILED = "FAILED"

    @property
    def final(self) -> bool:
        return self in (TradeStatus.CONFIRMED, TradeStatus.FAILED)

    @property
    def mined(self) -> bool:
        """True if the trade is on the chain."""
        return self in (TradeStatus.MINED, TradeStatus.CONFIRMED)


_STATUSES = {s.value: s for s in TradeStatus} | {"MATCHED_NOT_BROADCASTED": TradeStatus.MATCHED}


@dataclass(frozen=True, slots=True)
class Part:
    """One maker's order in a trade. `price` is of the maker's token."""

    order_id: str
    token: str
    side: Side
    price: Decimal
    size: Micro


@dataclass(frozen=True, slots=True)
class TradeSaid:
    """A trade as reported by the venue: one taker's order against one or more makers'."""

    id: str
    taker_order_id: str
    market_id: str
    token: str
    side: Side
    price: Decimal
    size: Micro
    status: TradeStatus
    matched_at: datetime
    parts: tuple[Part, ...]
    transaction: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """Part of a trade that one of our orders got; `number` tells shares of one trade apart, `price` is of the order's
    own token."""

    number: int
    order_id: str
    price: Decimal
    size: Micro
    maker: bool


@dataclass(frozen=True, slots=True)
class OrderSaid:
    """An order as reported by the venue. `matched` is None if the report omits it, and so is `created_at`."""

    id: str
    status: OrderStatus
    reason: str
    matched: Micro | None
    created_at: datetime | None = None


def shares(trade: TradeSaid, order_id: str) -> Sequence[Share]:
    """Shares of a trade that an order got, one for each price.

    A taker trades at each maker's price, or at its complement if the maker traded the other token. A trade without
    makers is at its own price.
    """
    if trade.taker_order_id == order_id:
        if not trade.parts:
            return [Share(0, order_id, trade.price, trade.size, False)]
        return [
            Share(n, order_id, p.price if p.token == trade.token else complement(p.price), p.size, False)
            for n, p in enumerate(trade.parts)
        ]
    return [Share(n, order_id, p.price, p.size, True) for n, p in enumerate(trade.parts) if p.order_id == order_id]


def order_status(text: str, matched: Micro, size: Micro) -> tuple[OrderStatus, str]:
    """Status and reason from the venue's status text."""
    name = text.upper().removeprefix("ORDER_STATUS_")
    if name in ("LIVE", "DELAYED", "MATCHED"):
        return OrderStatus(name.lower()), ""
    if name.startswith("CANCELED"):
        return OrderStatus.CANCELED, text[len("CANCELED") :].lstrip("_")
    if name in ("UNMATCHED", "INVALID"):
        return OrderStatus.CANCELED, name.lower()
    # A text that is not known, or none, must not end an order that may still trade: it counts as live until it is full.
    return (OrderStatus.MATCHED, "") if matched >= size else (OrderStatus.LIVE, text)


# -- frames of the user channel


class _Part(msgspec.Struct):
    order_id: str
    matched_amount: Decimal
    price: Decimal
    asset_id: str = ""
    side: str = ""


class _Trade(msgspec.Struct, tag="trade", tag_field="event_type"):
    id: str
    taker_order_id: str
    market: str
    asset_id: str
    side: str
    size: Decimal
    price: Decimal
    status: str
    match_time: str = "0"
    transaction_hash: str | None = ""
    maker_orders: list[_Part] = []


class _Order(msgspec.Struct, tag="order", tag_field="event_type"):
    id: str
    original_size: Decimal
    # A string and not a number: the venue has sent "" for killed FOK orders (seen 2026-05-03).
    size_matched: str = ""
    status: str = ""
    type: str = ""


_FRAME = msgspec.json.Decoder(_Trade | _Order | list[Any])
_ONE = _Trade | _Order


def read_user_frame(raw: bytes) -> Sequence[TradeSaid | OrderSaid]:
    """Decode a frame of the user channel. Raises DataInvalid with the reason; an event of another kind is one."""
    if len(raw) > _LONGEST:
        raise DataInvalid(f"a frame of the user channel has {len(raw)} bytes.")
    try:
        said = _FRAME.decode(raw)
        events = [msgspec.convert(one, _ONE) for one in said] if isinstance(said, list) else [said]
        return [_trade(e) if isinstance(e, _Trade) else _order(e) for e in events]
    except (msgspec.MsgspecError, ValueError, ArithmeticError, KeyError) as error:
        raise DataInvalid(f"a frame of the user channel cannot be read: {error}.") from None


def _trade(said: _Trade) -> TradeSaid:
    return TradeSaid(
        id=said.id,
        taker_order_id=said.taker_order_id,
        market_id=said.market,
        token=said.asset_id,
        side=Side(said.side.lower()),
        price=_priced(said.price),
        size=micro(said.size),
        status=trade_status(said.status),
        matched_at=EPOCH + timedelta(seconds=int(said.match_time)),
        parts=tuple(_part(p, said) for p in said.maker_orders),
        transaction=said.transaction_hash or "",
    )


def _part(said: _Part, trade: _Trade) -> Part:
    """Convert a maker's part. Older payloads omit its token or side: then it was on the other side of the taker's
    token."""
    other = Side.SELL if trade.side == "BUY" else Side.BUY
    side = Side(said.side.lower()) if said.side else other
    return Part(said.order_id, said.asset_id or trade.asset_id, side, _priced(said.price), micro(said.matched_amount))


def _priced(price: Decimal) -> Decimal:
    if not 0 <= price <= 1:
        raise ValueError(f"a price of {price}")
    return price


def trade_status(text: str) -> TradeStatus:
    """Trade status from the venue's text. Raises KeyError for an unknown one."""
    return _STATUSES[text.upper().removeprefix("TRADE_STATUS_")]


def _order(said: _Order) -> OrderSaid:
    matched = micro(Decimal(said.size_matched)) if said.size_matched else None
    # A cancellation may carry another status; its type decides.
    text = "CANCELED" if said.type == "CANCELLATION" and not said.status.startswith("CANCELED") else said.status
    status, reason = order_status(text, matched or 0, micro(said.original_size))
    return OrderSaid(said.id, status, reason, matched)


# -- models of the official client, read by REST


def of_trade(said: Any) -> TradeSaid:
    """Convert the client's `ClobTrade`."""
    parts = tuple(
        Part(m.order_id, str(m.asset_id), Side(m.side.lower()), m.price, micro(m.matched_amount))
        for m in said.maker_orders
    )
    return TradeSaid(
        id=said.id,
        taker_order_id=said.taker_order_id,
        market_id=str(said.condition_id),
        token=str(said.asset_id),
        side=Side(said.side.lower()),
        price=said.price,
        size=micro(said.size),
        status=trade_status(said.status),
        matched_at=said.matched_at,
        parts=parts,
        transaction=said.transaction_hash or "",
    )


def of_order(said: Any) -> OrderSaid:
    """Convert the client's `OpenOrder`."""
    matched = micro(said.size_matched)
    status, reason = order_status(said.status, matched, micro(said.original_size))
    return OrderSaid(said.id, status, reason, matched, said.created_at)


_KINDS = {kind.name: kind for kind in TransferKind if kind is not TransferKind.BOOKED}
ACTIVITIES = tuple(_KINDS)
"""Kinds of the venue's activity that move cash beside trading."""


def of_activities(rows: Sequence[Any]) -> list[Transfer]:
    """Convert rows of the client's activity, oldest first. One transaction may hold several of a kind: they are
    numbered."""
    found, seen = list[Transfer](), Counter[str]()
    for row in rows:
        kind = _KINDS.get(str(row.type))
        if kind is None:
            continue  # the venue ignores filters that it does not know
        name = f"{kind.value}/{row.transaction_hash}"
        amount = int(row.amount.scaleb(6).to_integral_value())  # a number with a point as the venue sends it
        found.append(
            Transfer(
                id=f"{name}/{seen[name]}",
                kind=kind,
                amount=-amount if kind is TransferKind.WITHDRAWAL else amount,
                at=row.timestamp,
                transaction=str(row.transaction_hash),
            )
        )
        seen[name] += 1
    return found
