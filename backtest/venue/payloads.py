"""Wire payloads of the loopback venue: values to JSON, key by key as the protocol has them (docs.polymarket.com and the
official client's models, autumn 2026). Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from backtest.venue.activity import LoopbackActivity
from backtest.venue.exchange import Hall, Placed, TradePart, VenueTrade
from backtest.venue.scenarios import Scenario
from market.clock import to_ms
from market.types import UNIT, Book, Level, Market, Micro, Outcome, Side, complement, units

Payload = dict[str, Any]
HOUSE = "0x" + "00" * 20
"""Address named as the counterparty for the displayed book."""


def amount(size: Micro) -> str:
    """Format shares or dollars as a decimal string without needless zeros."""
    return f"{units(size):f}".rstrip("0").rstrip(".") if size else "0"


def price(value: Decimal) -> str:
    return f"{value:f}"


def seconds(at: datetime) -> int:
    return to_ms(at) // 1000


def iso(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


# -- books


def levels(side: Iterable[Level]) -> list[Payload]:
    """Price levels with the best last, as the venue lists them."""
    return [{"price": price(p), "size": amount(s)} for p, s in reversed(tuple(side))]


def book_hash(book: Book) -> str:
    """Hash of the levels; opaque to clients."""
    said = "|".join(f"{p}:{s}" for side in (book.bids, book.asks) for p, s in side)
    return hashlib.sha256(f"{book.market_id}|{book.outcome}|{said}".encode()).hexdigest()[:40]


def book(market: Market, own: Book, at: datetime) -> Payload:
    """A token's book as in GET /book and the `book` event; `own` is of that token."""
    return {
        "market": market.id,
        "asset_id": market.token(own.outcome),
        "timestamp": str(to_ms(at)),
        "hash": book_hash(own),
        "bids": levels(own.bids),
        "asks": levels(own.asks),
    }


def book_answer(market: Market, own: Book, at: datetime, last: tuple[Decimal, Side] | None) -> Payload:
    trade = last[0] if last and own.outcome is Outcome.YES else complement(last[0]) if last else None
    return book(market, own, at) | {
        "min_order_size": amount(market.min_size),
        "tick_size": price(market.tick),
        "neg_risk": market.neg_risk,
        "last_trade_price": "" if trade is None else price(trade),
    }


def price_change(market: Market, changes: Sequence[tuple[bool, Level]], yes: Book, at: datetime) -> Payload:
    """New totals of YES levels, (is a bid, level), and their mirror images of the other token."""
    said = []
    for own in (yes, yes.mirrored()):
        common = {
            "asset_id": market.token(own.outcome),
            "hash": book_hash(own),
            "best_bid": price(own.best_bid or Decimal(0)),
            "best_ask": price(own.best_ask or Decimal(1)),
        }
        for is_bid, level in changes:
            mine = is_bid is (own.outcome is Outcome.YES)
            at_price = level.price if own.outcome is Outcome.YES else complement(level.price)
            side = "BUY" if mine else "SELL"
            said.append({"price": price(at_price), "size": amount(level.size), "side": side, **common})
    return {"event_type": "price_change", "market": market.id, "price_changes": said, "timestamp": str(to_ms(at))}


def best_bid_ask(market: Market, own: Book, at: datetime) -> Payload:
    bid, ask = own.best_bid or Decimal(0), own.best_ask or Decimal(1)
    return {
        "event_type": "best_bid_ask",
        "market": market.id,
        "asset_id": market.token(own.outcome),
        "best_bid": price(bid),
        "best_ask": price(ask),
        "spread": price(ask - bid),
        "timestamp": str(to_ms(at)),
    }


def last_trade(trade: VenueTrade, at: datetime) -> Payload:
    return {
        "event_type": "last_trade_price",
        "market": trade.market.id,
        "asset_id": trade.market.token(trade.outcome),
        "price": price(trade.price),
        "size": amount(trade.size),
        "side": trade.side.upper(),
        "fee_rate_bps": "0",
        "transaction_hash": trade.transaction,
        "timestamp": str(to_ms(at)),
    }


def tick_size_change(market: Market, old: Decimal, new: Decimal, outcome: Outcome, at: datetime) -> Payload:
    return {
        "event_type": "tick_size_change",
        "market": market.id,
        "asset_id": market.token(outcome),
        "old_tick_size": price(old),
        "new_tick_size": price(new),
        "timestamp": str(to_ms(at)),
    }


def resolved(market: Market, number: int, winner: Outcome, at: datetime) -> Payload:
    return {
        "event_type": "market_resolved",
        "id": str(number),
        "market": market.id,
        "assets_ids": [market.yes_token, market.no_token],
        "winning_asset_id": market.token(winner),
        "winning_outcome": market.label(winner),
        "timestamp": str(to_ms(at)),
    }


# -- orders and trades


def order_answer(placed: Placed) -> Payload:
    """Answer to an accepted POST /order. The amounts are what was traded at once, empty if nothing was."""
    buys = placed.submission.order.side is Side.BUY
    # Named from the maker of the order: a purchase makes dollars and takes shares. No transaction hashes: the venue
    # left them out on 2026-07-24.
    making, taking = (placed.spent, placed.matched) if buys else (placed.matched, placed.spent)
    status = {"LIVE": "live", "MATCHED": "matched", "DELAYED": "delayed"}.get(placed.status)
    return {
        "success": True,
        "errorMsg": "",
        "orderID": placed.submission.id,
        "status": status or ("matched" if placed.matched else "unmatched"),
        "makingAmount": amount(making) if placed.matched else "",
        "takingAmount": amount(taking) if placed.matched else "",
        "tradeIDs": list(placed.trades),
    }


def open_order(placed: Placed) -> Payload:
    """An order as in GET /data/order/{id} and the rows of /data/orders."""
    order = placed.submission.order
    return {
        "id": placed.submission.id,
        "status": placed.status,
        "owner": placed.submission.owner,
        "maker_address": placed.submission.address,
        "market": placed.market.id,
        "asset_id": placed.market.token(order.outcome),
        "side": order.side.upper(),
        "original_size": amount(order.size),
        "size_matched": amount(placed.matched),
        "price": price(order.price),
        "outcome": placed.market.label(order.outcome),
        "order_type": placed.submission.kind,
        "expiration": str(seconds(placed.submission.expires_at)) if placed.submission.expires_at else "0",
        "created_at": seconds(placed.created_at),
        "associate_trades": list(placed.trades),
    }


def order_event(placed: Placed, kind: str, at: datetime) -> Payload:
    said = open_order(placed)
    return said | {
        "event_type": "order",
        "type": kind,
        "order_owner": placed.submission.owner,
        # Seconds: the official client drops an event with milliseconds or a date here.
        "created_at": str(said["created_at"]),
        "timestamp": str(to_ms(at)),
    }


def trade(one: VenueTrade, viewer: Placed) -> Payload:
    """A trade from the view of the owner of one of its orders."""
    return {
        "id": one.id,
        "taker_order_id": one.taker.submission.id if one.taker else _house(one),
        "market": one.market.id,
        "asset_id": one.market.token(one.outcome),
        "side": one.side.upper(),
        "size": amount(one.size),
        "fee_rate_bps": "0",
        "price": price(one.price),
        "status": one.status.value,
        "match_time": str(seconds(one.matched_at)),
        "last_update": str(seconds(one.updated_at)),
        "outcome": one.market.label(one.outcome),
        "bucket_index": 0,
        "owner": viewer.submission.owner,
        "maker_address": viewer.submission.address,
        "transaction_hash": one.transaction,
        "trader_side": "TAKER" if viewer is one.taker else "MAKER",
        "maker_orders": [_maker(one, number) for number in range(len(one.fills))],
    }


def _maker(one: VenueTrade, number: int) -> Payload:
    """A resting side: an order, or the displayed book on the other side of the taker's token."""
    fill = one.fills[number]
    if fill.maker is None:
        side = Side.SELL if one.side is Side.BUY else Side.BUY
        who, address, order_id, outcome, at_price = "", HOUSE, _house(one, number), one.outcome, fill.price
    else:
        order = fill.maker.submission.order
        who, address, order_id = fill.maker.submission.owner, fill.maker.submission.address, fill.maker.submission.id
        side, outcome, at_price = order.side, order.outcome, order.price
    return {
        "order_id": order_id,
        "owner": who,
        "maker_address": address,
        "matched_amount": amount(fill.size),
        "price": price(at_price),
        "fee_rate_bps": "0",
        "asset_id": one.market.token(outcome),
        "outcome": one.market.label(outcome),
        "side": side.upper(),
    }


def _house(one: VenueTrade, number: int = 0) -> str:
    """Id of an order of somebody else in a trade."""
    return "0x" + hashlib.sha256(f"house|{one.id}|{number}".encode()).hexdigest()


def trade_event(one: VenueTrade, viewer: Placed, at: datetime) -> Payload:
    return trade(one, viewer) | {
        "event_type": "trade",
        "type": "TRADE",
        "trade_owner": viewer.submission.owner,
        "timestamp": str(to_ms(at)),
    }


# -- discovery


def gamma_market(tape: Scenario, number: int, now: datetime, mid: Decimal | None, ended: bool) -> Payload:
    """A market as Gamma lists it, without its event. The price to beat appears only once the window is open."""
    market = tape.market
    yes = tape.payout if ended else mid if mid is not None else Decimal("0.5")
    return {
        "id": str(number),
        "question": market.question,
        "conditionId": market.id,
        "slug": market.slug,
        "resolutionSource": "https://data.chain.link/streams/btc-usd-twap-60s-streams" if tape.place is None else "",
        "startDate": iso(tape.begins),
        "endDate": iso(market.closes_at),
        # Lists as JSON inside a string, as Gamma sends them.
        "outcomes": json.dumps(market.outcomes),
        "outcomePrices": json.dumps([price(yes), price(1 - yes)]),
        "clobTokenIds": json.dumps([market.yes_token, market.no_token]),
        "version": "v1",
        "active": True,
        "closed": ended,
        "archived": False,
        "restricted": False,
        "enableOrderBook": True,
        "acceptingOrders": now < market.closes_at,
        "acceptingOrdersTimestamp": iso(tape.begins),
        "orderPriceMinTickSize": float(market.tick),
        "orderMinSize": int(units(market.min_size)),
        "negRisk": market.neg_risk,
        "feesEnabled": True,
        "feeType": "crypto_fees_v2" if market.category == "crypto" else market.category,
        "feeSchedule": {"exponent": 1, "rate": float(market.fee_rate or 0), "takerOnly": True, "rebateRate": 0.2},
        "umaResolutionStatuses": '["resolved"]' if ended else "[]",
        "volumeNum": 0,
        "liquidityNum": 0,
        "questionID": question_id(tape),
        **_placed(tape),
    }


def _placed(tape: Scenario) -> Payload:
    """What only a window of a series has, or only a market of a negative-risk event."""
    if tape.place is None:
        return {"eventStartTime": iso(tape.market.opens_at)}
    return {
        "groupItemTitle": tape.place.answer,
        "groupItemThreshold": str(tape.place.index),
        "negRiskMarketID": tape.place.market_id,
        "negRiskRequestID": "",
        "negRiskOther": False,
    }


def gamma_event_head(tape: Scenario, number: int, now: datetime) -> Payload:
    """Event of a market, without its markets."""
    market, place = tape.market, tape.place
    common = {"id": str(number), "startDate": iso(tape.begins), "endDate": iso(market.closes_at)}
    if place is not None:
        return common | {
            "slug": place.slug,
            "title": place.title,
            "negRisk": True,
            "enableNegRisk": True,
            "negRiskAugmented": False,
            "negRiskMarketID": place.market_id,
            "negRiskFeeBips": 0,
            "cumulativeMarkets": False,
        }
    asset, _, span = market.slug.split("-")[:3]
    known: Payload = {}
    if market.price_to_beat is not None and now >= market.opens_at:
        known["priceToBeat"] = float(market.price_to_beat)
    return common | {
        "slug": market.slug,
        "title": market.question,
        "seriesSlug": f"{asset}-up-or-down-{span}",
        "startTime": iso(market.opens_at),
        "eventMetadata": known or None,
    }


def clob_market(market: Market, accepting: bool) -> Payload:
    """A market as in GET /clob-markets/{condition}."""
    return {
        "c": market.id,
        "t": [{"t": market.token(o), "o": market.label(o)} for o in Outcome],
        "mos": int(units(market.min_size)),
        "mts": float(market.tick),
        "mbf": 1000,
        "tbf": 1000,
        "ao": accepting,
        "cbos": False,
        "aot": iso(market.opens_at),
        "nr": market.neg_risk,
        "fd": {"r": float(market.fee_rate or 0), "e": 1, "to": True},
        "v": "v1",
        # Takers of crypto markets are delayed.
        "itode": market.category == "crypto",
        "ibce": False,
        "rfqe": False,
    }


SIMPLIFIED = ("condition_id", "tokens", "rewards", "active", "closed", "archived", "accepting_orders")
"""Fields of a market in the lists that are called simplified."""


def clob_listed(tape: Scenario, hall: Hall, mid: Decimal | None) -> Payload:
    """A market as in the exchange's own lists. Prices are of the displayed book, or what the market paid."""
    market = tape.market
    yes = tape.payout if hall.resolved else Decimal("0.5") if mid is None else mid
    prices = {Outcome.YES: yes, Outcome.NO: 1 - yes}
    return {
        "enable_order_book": True,
        "active": True,
        "closed": hall.resolved,
        "archived": False,
        "accepting_orders": hall.accepting,
        "accepting_order_timestamp": iso(tape.begins),
        "minimum_order_size": int(units(market.min_size)),
        "minimum_tick_size": float(market.tick),
        "condition_id": market.id,
        "question_id": question_id(tape),
        "question": market.question,
        "description": "",
        "market_slug": market.slug,
        "end_date_iso": iso(market.closes_at),
        "game_start_time": None,
        "seconds_delay": 0,
        "fpmm": "",
        "maker_base_fee": 1000,
        "taker_base_fee": 1000,
        "notifications_enabled": True,
        "neg_risk": market.neg_risk,
        "neg_risk_market_id": "" if tape.place is None else tape.place.market_id,
        "neg_risk_request_id": "",
        "icon": "",
        "image": "",
        "rewards": {"rates": None, "min_size": 0, "max_spread": 0},
        "is_50_50_outcome": hall.resolved and tape.payout == Decimal("0.5"),
        "tokens": [
            {
                "token_id": market.token(o),
                "outcome": market.label(o),
                "price": float(prices[o]),
                "winner": hall.resolved and prices[o] == 1,
            }
            for o in Outcome
        ],
        "tags": ["All"],
    }


def question_id(tape: Scenario) -> str:
    if tape.place is not None:
        return tape.place.question_id
    return "0x" + hashlib.sha256(tape.market.slug.encode()).hexdigest()


def price_tick(symbol: str, exact: Decimal, at: datetime) -> Payload:
    """A spot price of the price stream."""
    return {
        "symbol": symbol,
        "value": float(exact),
        "full_accuracy_value": price(exact),
        "timestamp": to_ms(at),
        "source": "pyth",
    }


def average_tick(symbol: str, mean: Decimal, at: datetime, window: int) -> Payload:
    """An averaged settlement price of the price stream."""
    return {
        "symbol": symbol,
        "value": float(mean),
        "full_accuracy_value": price(mean),
        "timestamp": to_ms(at),
        "source": "chainlink",
        "window_seconds": window,
    }


_NOT_KEPT = (
    "avg_price", "entry_cost_usdc", "entry_fees_usdc", "total_cost_usdc", "realized_pnl", "unrealized_pnl", "total_pnl",
    "percent_pnl", "percent_realized_pnl",
)  # fmt: skip
"""Fields of a position that the real venue reports and this one does not compute."""


def position(market: Market, outcome: Outcome, size: Micro, worth: Decimal | None, owner: str) -> Mapping[str, Any]:
    """A row of /v2/positions; `worth` is dollars per share once the market is resolved."""
    redeemable = worth is not None
    price = Decimal("0.5") if worth is None else worth
    status = "OPEN" if worth is None else "REDEEMABLE" if worth else "REDEEMABLE_LOST"
    return {
        "proxy_wallet": owner,
        "token_id": market.token(outcome),
        "condition_id": market.id,
        "current_size": float(units(size)),
        "total_size": float(units(size)),
        "current_price": float(price),
        "current_value": float(units(size) * price),
        **dict.fromkeys(_NOT_KEPT, 0.0),
        "status": status,
        "redeemable": redeemable,
        "mergeable": False,
        "negative_risk": market.neg_risk,
        "archived": False,
        "verified": True,
        "title": market.question,
        "slug": market.slug,
        "event_slug": market.slug,
        "outcome": market.label(outcome),
        "outcome_index": 0 if outcome is Outcome.YES else 1,
        "opposite_token_id": market.token(outcome.other),
        "end_date": market.closes_at.date().isoformat(),
    }


def resolution(hall: Hall) -> Payload:
    """A row of /v2/resolutions. Payouts are millionths of a dollar per share, unless a command says other ones."""
    yes = int(hall.tape.payout * UNIT)
    return {
        "question_id": question_id(hall.tape),
        "condition_id": hall.market.id,
        "status": "resolved",
        "extended_review": False,
        "was_disputed": False,
        "new_version_q": False,
        "price": float(hall.tape.payout),
        "last_update_timestamp": seconds(hall.market.closes_at),
        "payouts": [yes, UNIT - yes] if hall.payouts_said is None else hall.payouts_said[0],
        "resolved_at": iso(hall.market.closes_at),
    }


def public_trade(one: VenueTrade, part: TradePart) -> Payload:
    """A row of /v2/trades: one order's part in a trade."""
    placed, outcome = part.placed, part.placed.submission.order.outcome
    return {
        "proxy_wallet": placed.submission.address,
        "token_id": one.market.token(outcome),
        "condition_id": one.market.id,
        "side": placed.submission.order.side.upper(),
        "size": amount(part.size),
        "price": price(part.price),
        "timestamp": seconds(one.matched_at),
        "transaction_hash": one.transaction,
        **_named(one.market),
        **_outcome(one.market, outcome),
    }


def activity(row: LoopbackActivity) -> Payload:
    """A row of /v2/activity; amounts are numbers."""
    said: Payload = {
        "proxy_wallet": row.address,
        "timestamp": seconds(row.at),
        "type": row.kind.value,
        "usdc_size": float(units(row.dollars)),
        "transaction_hash": row.transaction,
        "is_combo": False,
    }
    if row.market is not None:
        # A redemption has a price of zero, whatever it paid.
        said |= {"condition_id": row.market.id, "size": float(units(row.size)), "price": float(row.price)}
        said |= _named(row.market)
        if row.outcome is not None:
            said |= {"token_id": row.market.token(row.outcome), **_outcome(row.market, row.outcome)}
        if row.side is not None:
            said["side"] = row.side.upper()
    return said


def _named(market: Market) -> Payload:
    return {"title": market.question, "slug": market.slug, "event_slug": market.slug}


def _outcome(market: Market, outcome: Outcome) -> Payload:
    return {"outcome": market.label(outcome), "outcome_index": 0 if outcome is Outcome.YES else 1}
