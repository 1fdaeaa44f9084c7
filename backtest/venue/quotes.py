"""Prices of the loopback venue's tokens, one at a time and in batches. Handlers only; see `payloads`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from aiohttp import web

from backtest.venue import payloads
from backtest.venue.answers import payload_of, query, refused, said
from backtest.venue.state import VenueState
from market.types import Book, Market, Outcome, Side

_NO_BOOK = "No orderbook exists for the requested token id"
_TOO_MANY, _BAD = "Payload exceeds the limit", "Invalid payload"
_MOST = 500
"""Tokens of a batch."""
_SIDES = ("BUY", "SELL")


class QuoteHandlers:
    """Handlers over the state of a venue. A batch leaves unknown tokens out without an error, as at the venue; those of
    markets that are over have no book and are left out likewise."""

    def __init__(self, state: VenueState) -> None:
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/book", self.book),
            web.post("/books", self.books),
            web.get("/price", self.price),
            web.post("/prices", self.prices),
            web.get("/prices", self.prices_by_query),
            web.get("/midpoint", self.midpoint),
            web.post("/midpoints", self.midpoints),
            web.get("/midpoints", self.midpoints_by_query),
            web.get("/spread", self.spread),
            web.post("/spreads", self.spreads),
            web.get("/last-trade-price", self.last_trade_price),
            web.post("/last-trades-prices", self.last_trades_prices),
            web.get("/last-trades-prices", self.last_trades_prices_by_query),
        ]

    # -- one token

    async def book(self, request: web.Request) -> web.Response:
        return said(self._answer(*asked_token(self._state, request)))

    async def price(self, request: web.Request) -> web.Response:
        return said({"price": _price(self._must_stand(request), query(request, "side").upper())})

    async def midpoint(self, request: web.Request) -> web.Response:
        return said({"mid": _mid(self._must_stand(request))})

    async def spread(self, request: web.Request) -> web.Response:
        return said({"spread": _spread(self._must_stand(request))})

    async def last_trade_price(self, request: web.Request) -> web.Response:
        return said(self._last_trade(*asked_token(self._state, request)))

    # -- batches

    async def books(self, request: web.Request) -> web.Response:
        found = self._known(await _tokens(request))
        return said([self._answer(m, o) for m, o in found if self._state.standing(m, o) is not None])

    async def prices(self, request: web.Request) -> web.Response:
        asked = [(str(one.get("token_id", "")), str(one.get("side", ""))) for one in await _rows(request)]
        return self._prices(asked)

    async def prices_by_query(self, request: web.Request) -> web.Response:
        tokens, sides = _listed(request, "token_ids"), _listed(request, "sides")
        if len(tokens) != len(sides):
            raise refused(_BAD)
        return self._prices(list(zip(tokens, sides, strict=True)))

    async def midpoints(self, request: web.Request) -> web.Response:
        return self._each(await _tokens(request), _mid)

    async def midpoints_by_query(self, request: web.Request) -> web.Response:
        return self._each(_listed(request, "token_ids"), _mid)

    async def spreads(self, request: web.Request) -> web.Response:
        return self._each(await _tokens(request), _spread)

    async def last_trades_prices(self, request: web.Request) -> web.Response:
        return self._last_trades(await _tokens(request))

    async def last_trades_prices_by_query(self, request: web.Request) -> web.Response:
        return self._last_trades(_listed(request, "token_ids"))

    # -- shared

    def _known(self, tokens: Sequence[str]) -> list[tuple[Market, Outcome]]:
        self._state.now()
        return [self._state.tokens[t] for t in dict.fromkeys(tokens) if t in self._state.tokens]

    def _each(self, tokens: Sequence[str], figure: Callable[[Book], str]) -> web.Response:
        books = {m.token(o): self._state.standing(m, o) for m, o in self._known(tokens)}
        return said({token: figure(book) for token, book in books.items() if book is not None})

    def _prices(self, asked: Sequence[tuple[str, str]]) -> web.Response:
        self._state.now()
        answer: dict[str, dict[str, str]] = {}
        for token, side in asked:
            if side not in _SIDES:
                raise refused("Invalid side")
            found = self._state.tokens.get(token)
            book = None if found is None else self._state.standing(*found)
            if book is not None:
                answer.setdefault(token, {})[side] = _price(book, side)
        return said(answer)

    def _last_trades(self, tokens: Sequence[str]) -> web.Response:
        rows = [{"token_id": m.token(o)} | self._last_trade(m, o) for m, o in self._known(tokens)]
        return said([row for row in rows if row["side"]])

    def _last_trade(self, market: Market, outcome: Outcome) -> payloads.Payload:
        last = self._state.hall(market).last_trade
        if last is None:
            return {"price": "0.5", "side": ""}
        yes = outcome is Outcome.YES
        side = last[1] if yes else (Side.SELL if last[1] is Side.BUY else Side.BUY)
        return {"price": payloads.price(last[0] if yes else 1 - last[0]), "side": side.upper()}

    def _must_stand(self, request: web.Request) -> Book:
        book = self._state.standing(*asked_token(self._state, request))
        if book is None:
            raise refused(_NO_BOOK, 404)
        return book

    def _answer(self, market: Market, outcome: Outcome) -> payloads.Payload:
        book = self._state.standing(market, outcome)
        if book is None:
            raise refused(_NO_BOOK, 404)
        return payloads.book_answer(market, book, self._state.now(), self._state.hall(market).last_trade)


def asked_token(state: VenueState, request: web.Request, name: str = "token_id") -> tuple[Market, Outcome]:
    """Market and outcome of a token that a request names, after all due events. Raises Refusal."""
    state.now()
    token = query(request, name)
    if not (token.isascii() and token.isdigit()):
        raise refused("Invalid token id")
    if token not in state.tokens:
        raise refused(_NO_BOOK, 404)
    return state.tokens[token]


def _price(book: Book, side: str) -> str:
    return payloads.price((book.best_bid if side == "BUY" else book.best_ask) or Decimal(0))


def _mid(book: Book) -> str:
    return payloads.price(book.mid or Decimal(0))


def _spread(book: Book) -> str:
    return payloads.price(book.spread or Decimal(0))


async def _rows(request: web.Request) -> list[dict[str, object]]:
    asked = await payload_of(request, _BAD)
    if not isinstance(asked, list) or len(asked) > _MOST:
        raise refused(_TOO_MANY)
    return [one for one in asked if isinstance(one, dict)]


async def _tokens(request: web.Request) -> list[str]:
    return [str(one.get("token_id", "")) for one in await _rows(request)]


def _listed(request: web.Request, name: str) -> list[str]:
    given = query(request, name).split(",")
    if len(given) > _MOST:
        raise refused(_TOO_MANY)
    return given
