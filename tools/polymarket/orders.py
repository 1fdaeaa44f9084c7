"""Order tool of the venue: the official client behind the order port, with the account's own books beside it.

An order's id is known before it is sent, so nothing is ever signed twice: an unknown outcome is resolved by asking for
the id. The user channel reports early and REST reliably; both are applied to the same books.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from pydantic import ValidationError

from market.clock import Clock
from market.errors import DataInvalid, EdgeclawError, NotReady, VenueUnavailable
from market.incidents import Incidents
from market.types import (
    Ack,
    Fill,
    Market,
    Micro,
    Order,
    OrderStatus,
    Outcome,
    Resolution,
    Settlement,
    Side,
    SignedOrder,
    Transfer,
    micro,
    units,
)
from tools.orders import Account
from tools.polymarket import account as said_by
from tools.polymarket.account import OrderSaid, TradeSaid
from tools.polymarket.amounts import expiration, venue_order
from tools.polymarket.books import AccountBooks, Expected, IndexedTrade, TrackedOrder
from tools.polymarket.client import SigningAccount, refresh_balance, refusal_of
from tools.polymarket.contracts import EXCHANGE, NEG_RISK_EXCHANGE

log = logging.getLogger(__name__)
RESEND_WITHIN = timedelta(seconds=5)
"""Largest age at which an order of unknown outcome is sent again, unchanged: later it is obsolete."""
ARRIVES_WITHIN = timedelta(seconds=30)
"""Longest time from decision to a late arrival at the venue of an order of unknown outcome."""
BEAT = timedelta(seconds=4)
"""Heartbeat interval; the venue wants one every five seconds and cancels after ten."""
_OVERLAP = timedelta(seconds=60)
_MOST_CANCELS = 1000
"""Cancels in one request that the venue takes; 3,000 until 2026-06-15."""
_DUPLICATE = "Duplicated"
_NONE = "0x" + "00" * 32
_EXCHANGES = (("exchange", EXCHANGE), ("neg-risk exchange", NEG_RISK_EXCHANGE))
_LATELY = timedelta(minutes=15)
"""Age of a trade by which another program is taken to be trading on the account now."""
_LOOK_BACK = timedelta(days=1)
"""Span before the newest known transfer that is read again: the venue may list one late."""
_TROUBLE = {
    "refused": "Reports on this account could not be decoded",
    "lost": "The account's channel was lost",
    "unanswered": "The venue did not say how an order stands",
    "unread": "The account's trades could not be read",
    "unlisted": "Trades of earlier runs are not listed any more",
    "unbeaten": "Heartbeats for resting orders had no answer",
}
_ON_REQUEST = "cancelled on request"


class PolymarketOrders:
    """Implements `tools.orders.OrderTool`. `client` is the official one; `markets` finds a market by its id.

    Single event loop. `account` and `status` are answered from local state, so that they cost nothing on the path of an
    order; `sync` reads everything from the venue again. `stale`: something may have been missed.
    """

    def __init__(
        self,
        client: Any,
        trader: SigningAccount,
        clock: Clock,
        markets: Callable[[str], Market | None],
        books: AccountBooks,
    ) -> None:
        self._client, self._trader, self._clock = client, trader, clock
        self._markets, self.books = markets, books
        self._since = books.since
        self.heard, self.stale = 0, True
        self.incidents = Incidents(_TROUBLE)
        self._rests = asyncio.Event()

    # -- the port

    async def sign(self, order: Order) -> SignedOrder:
        market = self._markets(order.market_id)
        if market is None:
            raise DataInvalid(f"there is no market {order.market_id} to sign an order for.")
        trader = self._trader
        wanted = venue_order(order, market, trader.wallet, trader.signs_as, trader.signature_type)
        made = trader.signer.order(wanted, neg_risk=market.neg_risk)
        ends = expiration(order)
        body = {
            "builder": _NONE,
            "expiration": ends,
            "maker": wanted.maker,
            "maker_amount": wanted.maker_amount,
            "metadata": _NONE,
            "order_type": "GTD" if ends else order.tif.upper(),
            "salt": wanted.salt,
            "side": order.side.upper(),
            "signature": f"0x{made.signature.hex()}",
            "signature_type": wanted.signature_type,
            "signer": wanted.signer,
            "taker_amount": wanted.taker_amount,
            "timestamp": wanted.timestamp,
            "token_id": str(wanted.token_id),
            "post_only": order.post_only,
        }
        return SignedOrder(made.id, order, json.dumps(body, sort_keys=True, separators=(",", ":")))

    async def send(self, signed: SignedOrder) -> Ack:
        # Tracked before it is sent: the user channel may report a trade of it before the answer to the request.
        kept = self.books.adopt(signed)
        if kept is None:
            return Ack(signed.id, OrderStatus.REJECTED, "the market is unknown or not open")
        self._rests.set()
        if kept.status is None:
            try:
                await self._post(kept)
            except VenueUnavailable:
                await self._find_out(kept)
        return kept.word()

    async def status(self, order_id: str) -> Ack | None:
        kept = self.books.kept(order_id)
        if kept is not None and kept.status is not None:
            return kept.word()
        said = await self._ask(order_id)
        if kept is None:
            return None if said is None else Ack(order_id, said.status, said.reason)
        if said is not None:
            self.books.note(said)
        elif not kept.booked:
            self._must_be_late(kept)
            self.books.note(OrderSaid(order_id, OrderStatus.CANCELED, "never reached the venue", None))
            return None
        return kept.word()

    def _must_be_late(self, kept: TrackedOrder) -> None:
        """Raise VenueUnavailable for a recently sent order, which may still be on its way."""
        if self._clock.now() - kept.signed.order.placed_at < ARRIVES_WITHIN:
            raise VenueUnavailable("It is not known yet whether the venue took the order.")

    async def cancel(self, order_id: str) -> bool:
        answer = await self._asked(lambda: self._client.cancel_order(order_id=order_id))
        done = order_id in {str(i) for i in answer.canceled}
        said = OrderSaid(order_id, OrderStatus.CANCELED, _ON_REQUEST, None) if done else await self._ask(order_id)
        if said is not None:
            self.books.note(said)
        return done

    async def cancel_many(self, order_ids: Sequence[str]) -> int:
        done: list[str] = []
        for first in range(0, len(order_ids), _MOST_CANCELS):
            part = list(order_ids[first : first + _MOST_CANCELS])
            answer = await self._asked(partial(self._client.cancel_orders, order_ids=part))
            done += [str(order_id) for order_id in answer.canceled]
        for order_id in done:
            self.books.note(OrderSaid(order_id, OrderStatus.CANCELED, _ON_REQUEST, None))
        return len(done)

    async def cancel_all(self) -> int:
        answer = await self._asked(self._client.cancel_all)
        for order_id in answer.canceled:
            self.books.note(OrderSaid(str(order_id), OrderStatus.CANCELED, _ON_REQUEST, None))
        return len(answer.canceled)

    async def fills(self) -> Sequence[Fill]:
        return self.books.drain_fills()

    async def account(self) -> Account:
        return self.books.account()

    async def settle(self, resolution: Resolution) -> Sequence[Settlement] | None:
        """Settle from the books; None also while a trade of it may have been missed."""
        return None if self.stale else self.books.settle(resolution, self._clock.now())

    async def sync(self) -> None:
        """Read trades and open orders from the venue. Raises VenueUnavailable; then something may still be missing."""
        began = self._clock.now()
        after = str(int(self._since.timestamp()))
        async for trade in self._each(self._client.list_account_trades(after=after)):
            self.books.learn(said_by.of_trade(trade))
        open_now = {str(o.id): said_by.of_order(o) async for o in self._each(self._client.list_open_orders())}
        if unlisted := self.books.take_for_final(began - _OVERLAP * 10):
            self.incidents.note("unlisted", f"{len(unlisted)} trades, {unlisted[0]} among them")
        await self._account_for(open_now, after)
        for order_id, said in open_now.items():
            self.books.note(said)
            await self._must_be_wanted(order_id)
        # Back to the oldest trade that is not final, since its status may still change.
        self._since = min(began, self.books.unsettled_since() or began) - _OVERLAP
        self.stale = False

    async def _account_for(self, open_now: Mapping[str, OrderSaid], after: str) -> None:
        """Note how every working order stands. The venue forgets finished orders, and answers for them with null, 404
        or not at all: the list of open orders is the second witness. One that it acknowledged, that is old enough to
        be listed and is not, has ended; the trades are asked for once more before that counts, as one that filled it
        may have come after they were read."""
        gone: dict[str, str] = {}
        for kept in self.books.working():
            order_id = kept.signed.id
            try:
                said = open_now.get(order_id) or await self._ask(order_id)
            except VenueUnavailable as error:
                self.incidents.note("unanswered", error)
                said, why = None, f"not listed as open, and {error}"
            else:
                why = "the venue no longer lists it"
            if said is not None:
                self.books.note(said)
            elif kept.status is not None and self._clock.now() - kept.signed.order.placed_at >= ARRIVES_WITHIN:
                gone[order_id] = why
        if gone:
            async for trade in self._each(self._client.list_account_trades(after=after)):
                self.books.learn(said_by.of_trade(trade))
        for order_id, why in gone.items():
            log.warning("order %s has ended: %s", order_id, why)
            self.books.note(OrderSaid(order_id, OrderStatus.CANCELED, why, None))

    async def _must_be_wanted(self, order_id: str) -> None:
        """Cancel an order of ours that reached the venue after it had been given up."""
        kept = self.books.kept(order_id)
        if kept is not None and kept.over:
            await self._asked(lambda: self._client.cancel_order(order_id=order_id))

    # -- sending and unknown outcomes

    async def _post(self, kept: TrackedOrder) -> None:
        """Send the order. Raises VenueUnavailable if the outcome is unknown."""
        from polymarket.models.clob.orders import SignedOrder as Posted

        try:
            answer = await self._client.post_order(Posted(**json.loads(kept.signed.body)))
        except Exception as error:
            refusal = refusal_of(error)
            if isinstance(refusal, EdgeclawError):
                raise refusal from None
            await self._refused(kept, refusal)
            return
        if not answer.ok:
            await self._refused(kept, answer.message)
            return
        buys = kept.signed.order.side is Side.BUY
        matched = micro(answer.taking_amount if buys else answer.making_amount)
        # "matched" leaves open if all of it was: the status comes from the order itself.
        status = OrderStatus.LIVE if answer.status == "live" else OrderStatus.DELAYED
        self.books.note(OrderSaid(kept.signed.id, status, "", matched))

    async def _refused(self, kept: TrackedOrder, reason: str) -> None:
        """Apply a refusal. A refusal as a duplicate means that the order is there already."""
        if _DUPLICATE in reason:
            said = await self._ask(kept.signed.id)
            if said is None:
                raise VenueUnavailable("The venue has the order and does not show it.")
            self.books.note(said)
        else:
            self.books.note(OrderSaid(kept.signed.id, OrderStatus.REJECTED, reason, None))

    async def _find_out(self, kept: TrackedOrder) -> None:
        """Look up an order of unknown outcome; send the same one again while it is not obsolete. Raises
        VenueUnavailable if the outcome stays unknown."""
        said = await self._ask(kept.signed.id)
        if said is not None:
            self.books.note(said)
        elif self._clock.now() - kept.signed.order.placed_at <= RESEND_WITHIN:
            await self._post(kept)
        else:
            raise VenueUnavailable("It is not known whether the venue took the order.")

    async def _ask(self, order_id: str) -> OrderSaid | None:
        """The venue's report on an order; None if it has none of that id, which it says with 404 or with null."""
        from polymarket.errors import RequestRejectedError, UnexpectedResponseError

        try:
            return said_by.of_order(await self._client.get_order(order_id=order_id))
        except RequestRejectedError as error:
            if error.status == 404:
                return None
            raise VenueUnavailable(f"The venue did not return an order's status ({error.status}).") from None
        except UnexpectedResponseError as error:
            if _was_null(error):
                return None
            raise VenueUnavailable("The venue's report on an order cannot be decoded.") from None
        except Exception as error:
            raise VenueUnavailable(f"The venue did not return an order's status ({_name(error)}).") from None

    async def _asked(self, question: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await question()
        except Exception as error:
            raise VenueUnavailable(f"The venue does not answer ({_name(error)}).") from None

    async def _each(self, pages: Any) -> AsyncIterator[Any]:
        try:
            async for item in pages.iter_items():
                yield item
        except EdgeclawError:
            raise
        except Exception as error:
            raise VenueUnavailable(f"The venue does not list the account's orders ({_name(error)}).") from None

    # -- the user channel

    def hear(self, raw: bytes) -> None:
        """Apply a frame of the user channel; an unreadable one is counted, and triggers a read by REST."""
        if raw == b"PONG":
            return
        self.heard += 1
        try:
            events = said_by.read_user_frame(raw)
        except DataInvalid as error:
            self.incidents.note("refused", error)
            self.stale = True
            return
        for event in events:
            if isinstance(event, TradeSaid):
                self.books.learn(event)
            else:
                self.books.note(event)

    def lost(self, why: str) -> None:
        """The channel broke: missed reports have to be read by REST."""
        self.incidents.note("lost", why)
        self.stale = True

    # -- while orders rest

    async def beat(self) -> None:
        """Send heartbeats while orders rest, so that the venue cancels them if we die; until cancelled. The first goes
        out with the first order: before it, the venue's dead-man switch is not armed."""
        name = ""
        while True:
            due = self._clock.now() + BEAT
            self._rests.clear()
            if not self.books.working():
                await self._rests.wait()
                continue
            try:
                name = await self._beat(name)
            except VenueUnavailable as error:
                self.incidents.note("unbeaten", error)
            await self._clock.wait_until(due)

    async def _beat(self, name: str) -> str:
        """Send one heartbeat; return the id for the next. One with a wrong id does not count, and is sent again at once
        with the id that the venue expected."""
        from polymarket.errors import OrderHeartbeatMismatchError

        for _ in range(2):
            try:
                return str((await self._client.send_order_heartbeat(heartbeat_id=name)).heartbeat_id)
            except OrderHeartbeatMismatchError as error:
                name = str(error.heartbeat_id)
            except Exception as error:
                raise VenueUnavailable(f"The venue rejected the heartbeat ({_name(error)}).") from None
        return name

    # -- before the first order

    async def must_trade(self, *, neg_risk: bool = False) -> None:
        """Raise NotReady if the account may not open positions, or an exchange may not move its dollars: that of
        negative-risk markets too if such are watched."""
        if await self._asked(self._client.get_closed_only_mode):
            raise NotReady("The venue lets this account only close positions.", next_step="Ask the venue why.")
        answer = await self._asked(lambda: self._client.get_balance_allowance(asset_type="COLLATERAL"))
        allowed = {name.lower(): amount for name, amount in answer.allowances.items()}
        for name, exchange in _EXCHANGES[: 2 if neg_risk else 1]:
            if allowed.get(exchange.lower(), 0) < answer.balance:
                raise NotReady(
                    f"The {name} is not allowed to move this account's dollars.", next_step="Run: edgeclaw wallet setup"
                )

    # -- reconciliation

    async def audit(self) -> str:
        """Compare our books with the venue's; return the differences as a sentence, empty if there are none. Raises
        VenueUnavailable."""
        await self.sync()
        await self.see_payments()
        differences, early = list[str](), 0
        # Shares first: those of a closed market that are gone may have been paid before the outcome was told, and may
        # then be among the dollars.
        for one in sorted(self.books.expected(), key=lambda e: not e.token):
            found, expected = await self._found(one.token)
            if expected is None or 0 <= found - expected.amount <= (0 if one.token else early):
                continue
            if not found and expected.closes_at is not None and expected.closes_at <= self._clock.now():
                early += expected.amount
                continue
            told = f"the venue holds {units(found)} where the records say {units(expected.amount)}"
            differences.append(f"{one.what}: {told}")
        return "; ".join(differences)

    async def _found(self, token: str) -> tuple[Micro, Expected | None]:
        """A balance at the venue, of the collateral if no token is named, and what is expected of it then. The venue
        keeps balances for a while, and a trade may be mined between two questions: what differs is read again, from
        the chain."""
        found, expected = await self._balance(token), self.books.expected_of(token)
        if expected is None or found == expected.amount:
            return found, expected
        await self._asked(lambda: refresh_balance(self._client, self._trader.signature_type, token))
        await self.sync()
        return await self._balance(token), self.books.expected_of(token)

    async def meet_others(self) -> None:
        """Look for what another program, or the owner, has at the venue now: open orders, and trades of the last
        quarter of an hour. Raises VenueUnavailable."""
        after = str(int((self._clock.now() - _LATELY).timestamp()))
        trades = [said_by.of_trade(t) async for t in self._each(self._client.list_account_trades(after=after))]
        orders = [said_by.of_order(o) async for o in self._each(self._client.list_open_orders())]
        self.books.meet(trades, orders)

    def foreign(self) -> Mapping[str, str]:
        """A sentence on each order and trade of the account that is not of this log, by its id."""
        return self.books.foreign

    def waits(self, now: datetime) -> Sequence[str]:
        """A sentence on each order without an answer, and each closed market that is held and not decided."""
        return self.books.waits(now)

    def unpaid(self) -> Mapping[tuple[str, Outcome], Settlement]:
        """Winnings still to come."""
        return dict(self.books.unpaid)

    def receive(self, transfer: Transfer) -> None:
        """Book cash that came or went beside trading."""
        self.books.receive(transfer)

    async def traded(self, market_id: str) -> Sequence[IndexedTrade]:
        """Trades of the account in a market since the start, as the venue's index of the chain has them: what was never
        mined is not among them. Raises VenueUnavailable."""
        market, found = self._markets(market_id), list[IndexedTrade]()
        rows = self._client.list_activity(
            condition_id=market_id,
            activity_types=("TRADE",),
            start=int(self.books.since.timestamp()),
            sort_direction="ASC",
            page_size=500,
        )
        async for row in self._each(rows):
            if str(row.type) != "TRADE" or str(row.condition_id) != market_id or market is None:
                continue  # the venue ignores filters that it does not know
            outcome = Outcome.YES if str(row.asset_id) == market.yes_token else Outcome.NO
            size = int(row.shares.scaleb(6).to_integral_value())
            found.append(IndexedTrade(outcome, Side(str(row.side).lower()), size, row.price))
        return found

    async def transfers(self) -> Sequence[Transfer]:
        """Cash that moved beside trading and is not in the books, oldest first. Raises VenueUnavailable."""
        start = max(self.books.since, self.books.transferred_at - _LOOK_BACK)
        rows = self._client.list_activity(
            activity_types=said_by.ACTIVITIES, start=int(start.timestamp()), sort_direction="ASC", page_size=500
        )
        return self.books.unbooked(said_by.of_activities([row async for row in self._each(rows)]))

    async def see_payments(self) -> None:
        """Mark winnings as paid once the winning shares are gone. Raises VenueUnavailable."""
        for key in list(self.books.unpaid):
            market = self._markets(key[0])
            if market is not None and await self._gone(market.token(key[1])):
                self.books.paid(key)

    async def _gone(self, token: str) -> bool:
        """True if nothing of a token is left; the venue keeps balances for a while, so what is left is read again."""
        if await self._balance(token) == 0:
            return True
        await self._asked(lambda: refresh_balance(self._client, self._trader.signature_type, token))
        return await self._balance(token) == 0

    async def _balance(self, token: str) -> int:
        """Millionths of a token on the chain, or of the collateral if none is named."""
        if token:
            answer = await self._asked(
                lambda: self._client.get_balance_allowance(asset_type="CONDITIONAL", asset_id=token)
            )
        else:
            answer = await self._asked(lambda: self._client.get_balance_allowance(asset_type="COLLATERAL"))
        return int(answer.balance)


def _was_null(error: Exception) -> bool:
    """Whether the client could not read an answer because it was JSON's null."""
    cause = error.__cause__
    return isinstance(cause, ValidationError) and any(e["loc"] == () and e["input"] is None for e in cause.errors())


def _name(error: Exception) -> str:
    return type(error).__name__
