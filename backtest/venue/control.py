"""Control endpoints of the loopback venue under /venue/: its own books, its faults, and what happens to an account
beside its owner's trading. The real venue has none of them.

- `GET /venue/state`, `GET /venue/ledger/{address}`, `GET /venue/orders/{address}`, `GET /venue/trades`: the venue's own
  books.
- `POST /venue/faults` {"fault": NAME, "count": N} or {"fault": NAME, "seconds": S}; `DELETE` removes all. With
  "transaction_hash": true or false a trade that stays matched has a hash or none; without, every second one has.
- `POST /venue/accounts/{address}` {"kind": "deposit", "amount": "12.34"}: money that moves beside trading. Kinds:
  deposit, withdrawal, maker_rebate, taker_rebate, reward, yield, referral_reward; dollars with six decimals at most.
- `POST /venue/accounts/{address}/orders` {"token_id": ID, "side": "BUY", "price": "0.51", "size": "10"}: an order of
  the account that its owner's process never signed, as another holder of the key would place it. "order_type" is GTC,
  FAK or FOK. One that crosses the book is a foreign trade.
- `POST /venue/markets/{condition}` {"payout": "0.5"}: what a share of the first outcome pays, in dollars from 0 to 1;
  one half is a void market. After the resolution it is a late correction: what was paid stays paid.
- `POST /venue/markets/{condition}/payouts` {"payouts": ANYTHING}: what the data service says of it, while the money
  follows the outcome; `DELETE` says the truth again.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from itertools import count
from typing import Any

from aiohttp import web

from backtest.venue import payloads
from backtest.venue.activity import PAYMENTS, LoopbackActivityKind
from backtest.venue.answers import payload_of, refused, said
from backtest.venue.auth import Authenticator
from backtest.venue.exchange import Hall, Submission, VenueRefusal
from backtest.venue.state import VenueState
from market.clock import WallClock, to_ms
from market.errors import Misconfigured
from market.types import Market, Micro, Order, Outcome, Side, TimeInForce, micro, notional
from tools.polymarket.signing import order_id
from tools.polymarket.typed import VenueOrder

PREFIX = "/venue/"
_KINDS = {"GTC": TimeInForce.GTC, "FAK": TimeInForce.FAK, "FOK": TimeInForce.FOK}
_MOST = 10**12
"""Largest number of a command: dollars or shares."""


class ControlHandlers:
    """Handlers over the state of a venue and its accounts."""

    def __init__(self, state: VenueState, door: Authenticator) -> None:
        self._state, self._door = state, door
        self._foreign = count(1)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/venue/state", self.told),
            web.get("/venue/ledger/{address}", self.ledger),
            web.get("/venue/orders/{address}", self.orders),
            web.get("/venue/trades", self.trades),
            web.post("/venue/faults", self.command),
            web.delete("/venue/faults", self.mend),
            web.post("/venue/accounts/{address}", self.pay),
            web.post("/venue/accounts/{address}/orders", self.place),
            web.post("/venue/markets/{condition}", self.revise),
            web.post("/venue/markets/{condition}/payouts", self.misstate),
            web.delete("/venue/markets/{condition}/payouts", self.correct),
        ]

    async def told(self, request: web.Request) -> web.Response:
        """Status of the venue: its time and that of its machine, its pace, and the faults that have happened."""
        now = self._state.now()
        return said(
            {
                "now": now.isoformat(),
                "machine": WallClock().now().isoformat(),
                "speed": getattr(self._state.clock, "speed", 1.0),
                "windows": len(self._state.windows),
                "orders": len(self._state.exchange.orders),
                "trades": len(self._state.exchange.trades),
                "faults": {fault.value: n for fault, n in sorted(self._state.faults.seen.items())},
            }
        )

    async def ledger(self, request: web.Request) -> web.Response:
        """Balances of an address in base units: free, bound by trades, and coming from them."""
        purse = self._state.exchange.purses[self._account(request)]
        return said({"held": purse.held, "bound": purse.bound, "coming": purse.coming})

    async def trades(self, request: web.Request) -> web.Response:
        """Status of every trade by its id."""
        self._state.now()
        return said({trade.id: trade.status.value for trade in self._state.exchange.trades.values()})

    async def orders(self, request: web.Request) -> web.Response:
        """All orders ever placed by an address, oldest first."""
        self._state.now()
        address = request.match_info["address"].lower()
        placed = [p for p in self._state.exchange.orders.values() if p.submission.address == address]
        return said([payloads.open_order(p) for p in placed])

    # -- faults

    async def command(self, request: web.Request) -> web.Response:
        """Inject {"fault": name, "count": n} or, for a mode, {"fault": name, "seconds": s}."""
        asked, now = await _asked(request), self._state.now()
        try:
            number, seconds = int(asked.get("count", 1)), float(asked.get("seconds", 5.0))
            fault = self._state.faults.order(
                str(asked.get("fault")), now, count=number, seconds=seconds, option=asked.get("transaction_hash")
            )
        except (Misconfigured, ValueError, TypeError, OverflowError) as error:
            raise refused(str(error)) from None
        return said({"fault": fault.value, "count": number, "seconds": seconds})

    async def mend(self, request: web.Request) -> web.Response:
        self._state.faults.clear()
        return said({})

    # -- accounts

    async def pay(self, request: web.Request) -> web.Response:
        """Move money beside trading; the answer is the activity row."""
        asked, address = await _asked(request), self._account(request)
        kind, dollars = str(asked.get("kind")).upper(), _amount(asked.get("amount"))
        if kind not in PAYMENTS:
            raise refused(f"kind is one of: {', '.join(sorted(k.lower() for k in PAYMENTS))}")
        try:
            row = self._state.exchange.pay(address, LoopbackActivityKind(kind), dollars)
        except VenueRefusal as refusal:
            raise refused(str(refusal)) from None
        return said(payloads.activity(row))

    async def place(self, request: web.Request) -> web.Response:
        """Place an order that the owner's process never signed; the answer is that of POST /order."""
        asked, address = await _asked(request), self._account(request)
        found = self._state.tokens.get(str(asked.get("token_id")))
        if found is None:
            raise refused("no such token", 404)
        try:
            placed = self._state.exchange.place(self._submission(asked, address, *found))
        except VenueRefusal as refusal:
            raise refused(str(refusal)) from None
        return said(payloads.order_answer(placed))

    def _submission(self, asked: dict[str, Any], address: str, market: Market, outcome: Outcome) -> Submission:
        """The order in the exchange's form, under an id of the right kind. Raises Refusal."""
        owner = self._door.owner_of(address)
        kind, side = str(asked.get("order_type", "GTC")), str(asked.get("side")).lower()
        price, size = _number(asked.get("price")), _amount(asked.get("size"))
        if owner is None or kind not in _KINDS or side not in list(Side) or not size:
            raise refused("Invalid order payload")
        order = Order(
            market_id=market.id,
            outcome=outcome,
            side=Side(side),
            price=price,
            size=size,
            tif=_KINDS[kind],
            placed_at=self._state.now(),
            key="foreign",
        )
        budget = order.cost if order.side is Side.BUY and order.tif is not TimeInForce.GTC else None
        unsigned = self._unsigned(order, address, market.token(outcome))
        known_as = order_id(unsigned, neg_risk=market.neg_risk)
        return Submission(id=known_as, owner=owner, address=address, order=order, kind=kind, budget=budget)

    def _unsigned(self, order: Order, address: str, token: str) -> VenueOrder:
        dollars, buys = notional(order.price, order.size), order.side is Side.BUY
        return VenueOrder(
            salt=next(self._foreign),
            maker=address,
            signer=address,
            token_id=int(token),
            maker_amount=dollars if buys else order.size,
            taker_amount=order.size if buys else dollars,
            side=0 if buys else 1,
            signature_type=0,
            timestamp=to_ms(order.placed_at),
        )

    # -- markets

    async def revise(self, request: web.Request) -> web.Response:
        """Change the outcome of a market."""
        hall, payout = self._hall(request), _number((await _asked(request)).get("payout"))
        if payout > 1 or payout != round(payout, 6):
            raise refused("a payout is dollars a share, from 0 to 1 with six decimals at most")
        if hall.market.neg_risk and payout not in (0, 1):
            raise refused("a question of a negative-risk event is answered by yes or no")
        self._state.revise(hall.market.id, payout)
        return said({"condition_id": hall.market.id, "payout": str(payout)})

    async def misstate(self, request: web.Request) -> web.Response:
        """Say other payouts of a market than the true ones."""
        hall, asked = self._hall(request), await _asked(request)
        hall.payouts_said = (asked.get("payouts"),)
        return said({"condition_id": hall.market.id, "payouts": asked.get("payouts")})

    async def correct(self, request: web.Request) -> web.Response:
        """Say the true payouts of a market again."""
        hall = self._hall(request)
        hall.payouts_said = None
        return said({"condition_id": hall.market.id})

    def _hall(self, request: web.Request) -> Hall:
        """State of a known market. Raises Refusal."""
        self._state.now()
        hall = self._state.exchange.halls.get(request.match_info["condition"])
        if hall is None:
            raise refused("market not found", 404)
        return hall

    def _account(self, request: web.Request) -> str:
        """Address of a known account. Raises Refusal."""
        self._state.now()
        address = request.match_info["address"].lower()
        if address not in self._state.exchange.purses:
            raise refused("no such account", 404)
        return address


async def _asked(request: web.Request) -> dict[str, Any]:
    asked = await payload_of(request)
    if not isinstance(asked, dict):
        raise refused("a command is an object")
    return asked


def _number(given: object) -> Decimal:
    try:
        number = Decimal(str(given))
    except InvalidOperation:
        raise refused(f"{given!r} is not a number") from None
    if not number.is_finite() or not 0 <= number <= _MOST:
        raise refused(f"{given!r} is not a number from 0 to {_MOST}")
    return number


def _amount(given: object) -> Micro:
    """Dollars or shares. Raises Refusal for more than six decimals."""
    number = _number(given)
    try:
        return micro(number)
    except ValueError as error:
        raise refused(str(error)) from None
