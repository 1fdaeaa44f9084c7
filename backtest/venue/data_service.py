"""Data service of the loopback venue: resolutions, positions, trades and activity of accounts. Handlers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from aiohttp import web

from backtest.venue import payloads
from backtest.venue.activity import TRANSFERS, ActivityQuery, LoopbackActivityKind
from backtest.venue.answers import enveloped, instant, query, refused, whole
from backtest.venue.faults import IMPOSSIBLE_PAYOUTS, Fault
from backtest.venue.state import VenueState
from market.types import Outcome, Side

_PAGE, _MOST = 100, 1000
"""Rows of a page by default, and at most."""
_MOST_CONDITIONS = 20


class DataService:
    """Handlers over the state of a venue. Nothing here needs a key: the real service shows everybody's account."""

    def __init__(self, state: VenueState) -> None:
        self._state = state
        self._odd = cycle(IMPOSSIBLE_PAYOUTS)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v2/resolutions", self.resolutions),
            web.get("/v2/positions", self.positions),
            web.get("/v2/trades", self.trades),
            web.get("/v2/activity", self.activity),
        ]

    async def resolutions(self, request: web.Request) -> web.Response:
        self._state.now()
        wanted = {one for given in request.query.getall("condition_id", []) for one in given.split(",")}
        found = [
            w
            for w in self._state.windows.values()
            if self._state.hall(w.market).resolved and (not wanted or w.market.id in wanted)
        ]
        odd = self._state.faults.happens(Fault.ODD_PAYOUTS) if found else False
        said_odd = {"payouts": next(self._odd)} if odd else {}
        rows = [payloads.resolution(self._state.hall(w.market)) | said_odd for w in found]
        return enveloped(rows)

    async def positions(self, request: web.Request) -> web.Response:
        self._state.now()
        owner, wanted, rows = query(request, "user"), query(request, "status"), []
        purse = self._state.exchange.purses.get(owner.lower())
        for window in self._state.windows.values() if purse else ():
            hall = self._state.hall(window.market)
            for outcome in Outcome:
                size = purse.chain(window.market.token(outcome)) if purse else 0
                if not size:
                    continue
                worth = (
                    (hall.tape.payout if outcome is Outcome.YES else 1 - hall.tape.payout) if hall.resolved else None
                )
                row = self._in_event(payloads.position(window.market, outcome, size, worth, owner))
                if wanted in ("", row["status"]):
                    rows.append(row)
        return _page(request, rows)

    async def trades(self, request: web.Request) -> web.Response:
        self._state.now()
        owner, condition = query(request, "user").lower(), query(request, "condition_id")
        rows = [
            self._in_event(payloads.public_trade(trade, part))
            for trade in self._state.exchange.trades.values()
            for part in trade.parts
            if owner in ("", part.placed.submission.address.lower()) and condition in ("", trade.market.id)
        ]
        return _page(request, rows)

    async def activity(self, request: web.Request) -> web.Response:
        """Movements of one account's money and shares, newest first unless asked otherwise."""
        self._state.now()
        user = query(request, "user").lower()
        if len(user) != 42 or not user.startswith("0x"):
            raise refused("invalid user")
        limit = whole(request, "limit", _PAGE, least=1, most=_MOST)
        rows, after = self._state.exchange.activity.page(user, _activity_query(request), limit)
        return enveloped(
            [self._in_event(payloads.activity(row)) for row in rows], None if after is None else str(after)
        )

    def _in_event(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """A row with the slug of its market's event, where that is another than the market's."""
        window = self._state.windows.get(row.get("condition_id", ""))
        place = None if window is None else window.tape.place
        return row if place is None else {**row, "event_slug": place.slug}


def _page(request: web.Request, rows: Sequence[Mapping[str, Any]]) -> web.Response:
    """One page of rows; the cursor is the number of the next one. Raises Refusal."""
    start, limit = whole(request, "cursor", 0), whole(request, "limit", _PAGE, least=1, most=_MOST)
    following = start + limit
    return enveloped(rows[start:following], str(following) if following < len(rows) else None)


def _activity_query(request: web.Request) -> ActivityQuery:
    """Filter of a request. Raises Refusal."""
    direction, side = query(request, "sort_direction").upper() or "DESC", query(request, "side").lower()
    if direction not in ("ASC", "DESC"):
        raise refused("invalid sort_direction")
    if side not in ("", *Side):
        raise refused("invalid side")
    conditions = frozenset(one.lower() for one in query(request, "condition_id").split(",") if one)
    if len(conditions) > _MOST_CONDITIONS:
        raise refused("too many condition_id values")
    after = whole(request, "cursor", -1)
    return ActivityQuery(
        kinds=_kinds(request),
        conditions=conditions,
        side=Side(side) if side else None,
        since=instant(request, "start"),
        until=instant(request, "end"),
        newest_first=direction == "DESC",
        after=None if after < 0 else after,
    )


def _kinds(request: web.Request) -> frozenset[LoopbackActivityKind]:
    named = [one for one in query(request, "type").upper().split(",") if one]
    if not set(named) <= set(LoopbackActivityKind):
        raise refused("invalid type")
    if named:
        return frozenset(map(LoopbackActivityKind, named))
    # Left out by default, as the official client's explicit `false` implies.
    left_out = frozenset() if query(request, "exclude_deposits_withdrawals").lower() == "false" else TRANSFERS
    return frozenset(LoopbackActivityKind) - left_out
