"""Lists of markets of the loopback venue's exchange, page by page. Handlers only.

Another host than discovery at the real venue: other fields, other cursors, and no price to beat.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

from aiohttp import web

from backtest.venue import payloads
from backtest.venue.answers import query, refused, said, whole
from backtest.venue.state import VenueState, Window

_MOST = 1000
"""Rows of a page, at most and by default."""
LAST = "LTE="
"""Cursor of the last page: minus one. That of the first one is "MA==", zero."""


class ClobMarkets:
    """Handlers over the state of a venue. Sampling markets are those that pay rewards; here all that accept orders."""

    def __init__(self, state: VenueState) -> None:
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/markets", self.markets),
            web.get("/simplified-markets", self.simplified),
            web.get("/sampling-markets", self.sampling),
            web.get("/sampling-simplified-markets", self.sampling_simplified),
            web.get("/markets/{condition:0x[0-9a-fA-F]+}", self.one),
        ]

    async def markets(self, request: web.Request) -> web.Response:
        return self._page(request, self._listed(), self._full)

    async def simplified(self, request: web.Request) -> web.Response:
        return self._page(request, self._listed(), self._short)

    async def sampling(self, request: web.Request) -> web.Response:
        return self._page(request, self._accepting(), self._full)

    async def sampling_simplified(self, request: web.Request) -> web.Response:
        return self._page(request, self._accepting(), self._short)

    async def one(self, request: web.Request) -> web.Response:
        self._state.now()
        window = self._state.windows.get(request.match_info["condition"].lower())
        if window is None:
            raise refused("market not found", 404)
        return said(self._full(window))

    def _listed(self) -> Sequence[Window]:
        now = self._state.now()
        return [w for w in self._state.windows.values() if w.tape.begins <= now]

    def _accepting(self) -> Sequence[Window]:
        return [w for w in self._listed() if self._state.hall(w.market).accepting]

    def _full(self, window: Window) -> payloads.Payload:
        return payloads.clob_listed(window.tape, self._state.hall(window.market), self._state.mid(window.market))

    def _short(self, window: Window) -> payloads.Payload:
        full = self._full(window)
        return {key: full[key] for key in payloads.SIMPLIFIED}

    @staticmethod
    def _page(
        request: web.Request, windows: Sequence[Window], row: Callable[[Window], payloads.Payload]
    ) -> web.Response:
        start, limit = _start(query(request, "next_cursor")), whole(request, "limit", _MOST, least=1)
        following = start + min(limit, _MOST)
        shown = windows[start:following]
        return said(
            {
                "data": [row(w) for w in shown],
                "next_cursor": _cursor(following) if following < len(windows) else LAST,
                "limit": min(limit, _MOST),
                "count": len(shown),
            }
        )


def _cursor(start: int) -> str:
    return base64.b64encode(str(start).encode()).decode()


def _start(cursor: str) -> int:
    """First row of a page. Raises Refusal for what is no cursor, and for the last one, after which nothing comes."""
    if not cursor:
        return 0
    try:
        text = base64.b64decode(cursor, validate=True).decode()
    except ValueError:
        raise refused("Next item should be greater than or equal to 0") from None
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise refused("Next item should be greater than or equal to 0")
    return int(text)
