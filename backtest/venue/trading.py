"""Authenticated endpoints of the loopback venue: orders, cancels, trades, balances, heartbeats. Handlers only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from backtest.venue import payloads
from backtest.venue.answers import Refusal, query, refused, said, whole
from backtest.venue.auth import Authenticator, Caller
from backtest.venue.balances import CASH
from backtest.venue.clob_markets import LAST
from backtest.venue.exchange import Placed, VenueRefusal, VenueTrade
from backtest.venue.faults import Fault
from backtest.venue.rpc import LoopbackChain
from backtest.venue.state import VenueState
from tools.polymarket.chain import UNLIMITED

# Limits of the venue; cancels a request were 3,000 until 2026-06-15.
_BATCH, _MOST_CANCELS = 15, 1000
_ASSET_TYPES = ("COLLATERAL", "CONDITIONAL", "CONDITIONAL-V2")
_CANCEL_ONLY = "Trading is currently cancel-only. New orders are not accepted, but cancels are allowed."
_DISABLED = "Trading is currently disabled. Check polymarket.com for updates"
_POST_ONLY = "post-only mode: only post-only orders and cancels are allowed"


class TradingHandlers:
    """Handlers over the state of a venue, for authenticated callers."""

    def __init__(self, state: VenueState, door: Authenticator, chain: LoopbackChain) -> None:
        self._state, self._door, self._chain = state, door, chain
        self._beats: dict[str, str] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/auth/api-key", self.create_key),
            web.get("/auth/derive-api-key", self.derive_key),
            web.get("/auth/api-keys", self.keys),
            web.get("/auth/ban-status/closed-only", self.closed_only),
            web.post("/order", self.order),
            web.post("/orders", self.orders),
            web.delete("/order", self.cancel),
            web.delete("/orders", self.cancel_many),
            web.delete("/cancel-all", self.cancel_all),
            web.delete("/cancel-market-orders", self.cancel_market),
            web.get("/data/order/{id}", self.one_order),
            web.get("/data/orders", self.open_orders),
            web.get("/data/trades", self.trades),
            web.get("/balance-allowance", self.balance),
            web.get("/balance-allowance/update", self.update_balance),
            web.get("/order-scoring", self.scoring),
            web.post("/orders-scoring", self.scorings),
            web.post("/v1/heartbeats", self.heartbeat),
            web.get("/deployed", self.deployed),
        ]

    # -- keys

    async def create_key(self, request: web.Request) -> web.Response:
        return said(self._door.create_key(request.headers, self._state.now()))

    async def derive_key(self, request: web.Request) -> web.Response:
        return said(self._door.derive_key(request.headers, self._state.now()))

    async def keys(self, request: web.Request) -> web.Response:
        caller, _ = await self._enter(request)
        return said({"apiKeys": [caller.key]})

    async def closed_only(self, request: web.Request) -> web.Response:
        await self._enter(request)
        return said({"closed_only": False})

    async def deployed(self, request: web.Request) -> web.Response:
        return said({"deployed": self._door.knows_wallet(query(request, "address"))})

    # -- orders

    async def order(self, request: web.Request) -> web.Response:
        caller, body = await self._enter(request)
        # Placed before the answer can be lost: the client is left with an order of unknown outcome.
        answer = self._place(caller, body)
        if self._state.faults.happens(Fault.LOST_ANSWER):
            return await _hang_up(request)
        return said(answer)

    async def orders(self, request: web.Request) -> web.Response:
        caller, body = await self._enter(request)
        if not isinstance(body, list) or not body:
            raise refused("Invalid order payload")
        if len(body) > _BATCH:
            raise refused(f"Too many orders in payload: {len(body)}, max allowed: {_BATCH}")
        answers = []
        for one in body:
            try:
                answers.append(self._place(caller, one))
            except Refusal as refusal:
                message = refusal.payload.get("error", "") if isinstance(refusal.payload, dict) else ""
                # The venue marks a refused entry of a batch as a success with a message and without an id.
                answers.append(_EMPTY | {"errorMsg": message})
        if self._state.faults.happens(Fault.LOST_ANSWER):
            return await _hang_up(request)
        return said(answers)

    def _place(self, caller: Caller, body: Any) -> payloads.Payload:
        self._trading_allowed(body)
        if self._state.faults.happens(Fault.VERSION_MISMATCH):
            raise refused("order_version_mismatch")
        submission = self._door.submission(caller, body, self._state.now(), self._state.tokens)
        # The id is the order's digest, so a body that is sent again cannot become a second order.
        if submission.id in self._state.exchange.orders:
            raise refused(f"order {submission.id} is invalid. Duplicated.")
        self._chain.advance()
        market = self._state.exchange.halls[submission.order.market_id].market
        if not self._state.may_trade(submission.address, market):
            need = submission.order.cost or submission.order.size
            short = f"the allowance is not enough -> allowance: 0, order amount: {need}"
            raise refused(f"not enough balance / allowance: {short}")
        try:
            return payloads.order_answer(self._state.exchange.place(submission))
        except VenueRefusal as refusal:
            raise refused(str(refusal)) from None

    def _trading_allowed(self, body: Any) -> None:
        """Enforce the venue's modes without orders, or with some only. Raises Refusal."""
        faults, now = self._state.faults, self._state.now()
        if faults.lasts(Fault.DISABLED, now):
            raise refused(_DISABLED, 503)
        if faults.lasts(Fault.CANCEL_ONLY, now):
            raise refused(_CANCEL_ONLY, 503)
        post_only = isinstance(body, dict) and body.get("postOnly") is True
        if not post_only and (left := faults.lasts(Fault.POST_ONLY, now)):
            payload = {"error": _POST_ONLY, "code": "post_only_mode", "retry_after_seconds": int(left) + 1}
            raise Refusal(503, payload)

    async def cancel(self, request: web.Request) -> web.Response:
        caller, body = await self._enter(request)
        order_id = body.get("orderID") if isinstance(body, dict) else None
        return self._cancelled(caller, [str(order_id)])

    async def cancel_many(self, request: web.Request) -> web.Response:
        caller, body = await self._enter(request)
        if not isinstance(body, list) or len(body) > _MOST_CANCELS:
            raise refused("Invalid order payload")
        return self._cancelled(caller, [str(one) for one in body])

    async def cancel_all(self, request: web.Request) -> web.Response:
        caller, _ = await self._enter(request)
        return self._cancelled(caller, _ids(self._state.exchange.working(caller.key)))

    async def cancel_market(self, request: web.Request) -> web.Response:
        caller, body = await self._enter(request)
        asked = body if isinstance(body, dict) else {}
        market, token = str(asked.get("market") or ""), str(asked.get("asset_id") or "")
        return self._cancelled(caller, _ids(self._state.exchange.working(caller.key, market, token)))

    def _cancelled(self, caller: Caller, ids: Sequence[str]) -> web.Response:
        done, not_done = self._state.exchange.cancel(ids, caller.key)
        return said({"canceled": done, "not_canceled": not_done})

    # -- queries

    async def one_order(self, request: web.Request) -> web.Response:
        caller, _ = await self._enter(request)
        placed = self._state.exchange.orders.get(request.match_info["id"])
        if placed is None or placed.submission.owner != caller.key:
            raise refused("order not found", 404)
        if not placed.open:  # the real venue forgets them, and has said so in both ways
            if self._state.faults.lasts(Fault.FINISHED_GONE, self._state.now()):
                raise refused("order not found", 404)
            if self._state.faults.lasts(Fault.FINISHED_NULL, self._state.now()):
                return said(None)
        return said(payloads.open_order(placed))

    async def open_orders(self, request: web.Request) -> web.Response:
        caller, _ = await self._enter(request)
        found = self._state.exchange.working(caller.key, query(request, "market"), query(request, "asset_id"))
        wanted = query(request, "id")
        return _page([payloads.open_order(p) for p in found if wanted in ("", p.submission.id)])

    async def trades(self, request: web.Request) -> web.Response:
        caller, _ = await self._enter(request)
        wanted, rows = _wanted_trades(request), []
        for trade in self._state.exchange.trades.values():
            placed = trade.views.get(caller.key)
            if placed is not None and wanted(trade):
                said_of = payloads.trade(trade, placed)
                # REST prefixes the status, the user channel does not.
                rows.append(said_of | {"status": f"TRADE_STATUS_{said_of['status']}"})
        return _page(rows)

    async def balance(self, request: web.Request) -> web.Response:
        caller, _ = await self._enter(request)
        address = self._door.wallet(caller, query(request, "signature_type") or "0")
        purse = self._state.purse(address)
        what = _asset(request)
        self._chain.advance()
        # Integers in millionths as strings. Allowances by spender: the client refuses the older single figure.
        allowances = {one: str(self._allowance(address, one, what)) for one in self._door.spenders}
        return said({"balance": str(purse.chain(what)), "allowances": allowances})

    def _allowance(self, address: str, spender: str, what: str) -> int:
        """Amount that a contract may take: of shares all or nothing."""
        if what == CASH:
            return self._chain.allowance(address, spender.lower())
        return UNLIMITED if self._chain.operates(address, spender.lower()) else 0

    async def update_balance(self, request: web.Request) -> web.Response:
        await self._enter(request)
        return said({})

    async def scoring(self, request: web.Request) -> web.Response:
        """Whether an order earns liquidity rewards: none does, since no market here pays any."""
        await self._enter(request)
        if not query(request, "order_id"):
            raise refused("Invalid orderID")
        return said({"scoring": False})

    async def scorings(self, request: web.Request) -> web.Response:
        _, body = await self._enter(request)
        if not isinstance(body, list) or not all(isinstance(one, str) for one in body):
            raise refused("Invalid orderID")
        return said(dict.fromkeys(body, False))

    async def heartbeat(self, request: web.Request) -> web.Response:
        caller, body = await self._enter(request)
        expected = self._beats.get(caller.key, "")
        given = body.get("heartbeat_id") if isinstance(body, dict) else None
        if given not in ("", None) and given != expected:
            raise Refusal(400, {"error_msg": "Invalid Heartbeat ID", "heartbeat_id": expected})
        self._state.exchange.heartbeat(caller.key)
        # An empty id is accepted at any time: it is how a client begins.
        following = self._beats[caller.key] = self._door.beat(caller.key, expected)
        return said({"heartbeat_id": following})

    async def _enter(self, request: web.Request) -> tuple[Caller, Any]:
        """Authenticate the caller; return it with the body. All due events have been processed."""
        return await self._door.enter(request, self._state.now())


_EMPTY = {
    "success": True,
    "errorMsg": "",
    "orderID": "",
    "status": "",
    "makingAmount": "",
    "takingAmount": "",
    "tradeIDs": [],
}


def _asset(request: web.Request) -> str:
    """Asset whose balance is asked for: the collateral, or a token by its number. Raises Refusal."""
    kind, token = query(request, "asset_type"), query(request, "token_id")
    if kind not in _ASSET_TYPES:
        raise refused("Invalid asset type")
    if kind == "COLLATERAL":
        return CASH
    # Digits only: no other name of an asset may be read as a token's.
    if not (token.isascii() and token.isdigit()):
        raise refused("Invalid token id")
    return token


def _ids(placed: Sequence[Placed]) -> list[str]:
    return [p.submission.id for p in placed]


def _wanted_trades(request: web.Request) -> Callable[[VenueTrade], bool]:
    """Filter of trades. Raises Refusal."""
    wanted: Mapping[str, str] = request.query
    after, before = whole(request, "after", 0), whole(request, "before", 2**53)

    def matches(trade: VenueTrade) -> bool:
        tokens = {trade.market.token(p.placed.submission.order.outcome) for p in trade.parts}
        return (
            wanted.get("id", trade.id) == trade.id
            and wanted.get("market", trade.market.id) == trade.market.id
            and (not wanted.get("asset_id") or wanted["asset_id"] in tokens)
            and after <= payloads.seconds(trade.matched_at) <= before
        )

    return matches


def _page(rows: Sequence[payloads.Payload]) -> web.Response:
    return said({"data": list(rows), "next_cursor": LAST, "limit": max(len(rows), 100), "count": len(rows)})


async def _hang_up(request: web.Request) -> web.Response:
    """Cut the connection instead of answering."""
    if request.transport is not None:
        request.transport.abort()
    await asyncio.sleep(0)
    return web.Response(status=500)
