"""Orders in the venue's terms: maker and taker amounts in millionths, exactly. Pure.

An order that rests asks for shares at its price. A purchase that does not rest asks for as many shares as its dollars
buy, in cents and ten-thousandths of a share, as the venue demands (docs.polymarket.com, autumn 2026).
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from decimal import Decimal

from market.clock import to_ms
from market.errors import DataInvalid
from market.types import Market, Micro, Order, Side, TimeInForce, notional
from storage.canonical import canonical
from tools.polymarket.typed import VenueOrder

_CENT, _FINEST = 10_000, 100
_SALT_BITS = 53
_EARLY, _LEAST_LIFE = timedelta(seconds=60), timedelta(seconds=120)
"""The venue expires an order a minute before its expiration, and refuses one that is too near."""


def amounts(order: Order) -> tuple[Micro, Micro]:
    """Maker and taker amounts. Raises DataInvalid if either would be zero or finer than a millionth."""
    exact = order.price * order.size
    if order.side is Side.SELL:
        given, taken = order.size, notional(order.price, order.size)
    elif order.tif is TimeInForce.GTC:
        given, taken = notional(order.price, order.size), order.size
    else:
        given = int(exact) // _CENT * _CENT
        # Rounded down, so that the price is not below the limit's place on the grid.
        taken = int(Decimal(given) / order.price) // _FINEST * _FINEST if order.price else 0
        exact = Decimal(int(exact))
    if given <= 0 or taken <= 0 or exact != exact.to_integral_value():
        raise DataInvalid(f"an order of {order.size} at {order.price} cannot be written in millionths.")
    return given, taken


def expiration(order: Order) -> int:
    """Expiration of an order in seconds since 1970; 0 if it has none, or one so near that the venue would refuse it:
    then it is cancelled by us, or by the venue once our heartbeats stop."""
    if order.good_until is None or order.good_until - order.placed_at < _LEAST_LIFE:
        return 0
    return to_ms(order.good_until + _EARLY) // 1000


def salt_of(order: Order) -> int:
    """53 bits that follow from the order alone, so that the same order always has the same id at the venue."""
    seen = hashlib.sha256(canonical(order).encode()).digest()
    # The salt travels as a JSON number: 53 bits are exact in every reader.
    return int.from_bytes(seen[:8], "big") >> (64 - _SALT_BITS)


def venue_order(order: Order, market: Market, maker: str, signer: str, signature_type: int) -> VenueOrder:
    """The order in its signed form, stamped with the time of the decision."""
    given, taken = amounts(order)
    return VenueOrder(
        salt=salt_of(order),
        maker=maker,
        signer=signer,
        token_id=int(market.token(order.outcome)),
        maker_amount=given,
        taker_amount=taken,
        side=0 if order.side is Side.BUY else 1,
        signature_type=signature_type,
        timestamp=to_ms(order.placed_at),
    )
