"""The pages: server-rendered, on this machine, with nothing from anywhere else. Every answer is read-only.

A page asks the store and shows what it says. Scripts only make it quicker to use; without them it works as well.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from agent.host.listening import knows_host
from agent.review import pictures
from agent.review.reading import comparison, decision_page, listed_row, overview, run_named, runs_with_decisions
from agent.review.versus import versus
from agent.review.whatif import Changed
from market.errors import EdgeclawError
from market.types import UNIT
from storage.records import DecisionFilter, Run, Sorting
from storage.store import Store

_HERE = Path(__file__).parent
PAGE = 60
_TAIL = 1.0
"""Seconds between two looks for new decisions."""
_COOKIE = "edgeclaw"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_SORTS = {
    Sorting.NEWEST: "newest",
    Sorting.LOST_MOST: "largest loss",
    Sorting.EARNED_MOST: "largest profit",
    Sorting.MOST_TOKENS: "most tokens",
    Sorting.LEAST_VERIFIED: "least verified",
}


def site(store: Store, hosts: frozenset[str], token: str = "") -> Starlette:
    """The pages over a store. `hosts` are the names under which it may be asked; with a `token` nobody is answered who
    does not know it."""
    # Text is escaped by default. Pictures alone are not: they escape the text in them themselves.
    # An unknown name is an error, not an empty place on the page.
    templates = Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    templates.filters |= {"dollars": _dollars, "amount": _amount, "clock": _clock, "number": _number}
    templates.globals["pictures"] = pictures
    pages = _Pages(store, templates)
    routes = [
        Route("/", pages.overview),
        Route("/decisions", pages.decisions),
        Route("/decisions/{id}", pages.decision),
        Route("/compare", pages.compare),
        Route("/compare/runs", pages.versus),
        Route("/tail", pages.tail),
        Mount("/static", StaticFiles(directory=_HERE / "static")),
    ]
    app = Starlette(routes=routes, exception_handlers={EdgeclawError: _not_found})
    app.add_middleware(_Guard, hosts=hosts, token=token)
    return app


def _not_found(_: Request, error: Exception) -> Response:
    """One sentence and the next step, as on the command line."""
    said = error.sentence() if isinstance(error, EdgeclawError) else str(error)
    return PlainTextResponse(said, status_code=404)


class _Guard:
    """Answers only what may be asked: reading, by a known name, and with the token where there is one."""

    def __init__(self, app: Any, hosts: frozenset[str], token: str) -> None:
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refusal(Request(scope))
        if refused is not None:
            refused.headers.update(_HEADERS)
            await refused(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]
            await send(message)

        await self._app(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("Nothing can be changed here.", status_code=405)
        if not knows_host(request.headers.get("host", ""), self._hosts):
            return PlainTextResponse("This site does not go by that name.", status_code=421)
        if not self._token or self._knows(request.cookies.get(_COOKIE, "")):
            return None
        if not self._knows(request.query_params.get("token", "")):
            return PlainTextResponse("Open the address that edgeclaw printed, token and all.", status_code=403)
        # The token moves to a cookie, out of history, bookmarks and links that are passed on.
        rest = [(k, v) for k, v in request.query_params.multi_items() if k != "token"]
        answer = RedirectResponse(f"{request.url.path}{'?' + urlencode(rest) if rest else ''}", status_code=303)
        answer.set_cookie(_COOKIE, self._token, httponly=True, samesite="strict")
        return answer

    def _knows(self, said: str) -> bool:
        # In constant time, so that answers do not give the token away piece by piece.
        return hmac.compare_digest(said.encode(), self._token.encode())


class _Pages:
    """One handler for each page."""

    def __init__(self, store: Store, templates: Environment) -> None:
        self._store, self._templates = store, templates

    async def overview(self, request: Request) -> Response:
        runs = await runs_with_decisions(self._store)
        if not runs:
            return self._page("empty.html", request, [], None)
        run = await run_named(self._store, request.query_params.get("run", ""))
        return self._page("overview.html", request, runs, run, o=await overview(self._store, run))

    async def decisions(self, request: Request) -> Response:
        asked, runs = request.query_params, await runs_with_decisions(self._store)
        run = await run_named(self._store, asked.get("run", ""))
        sorting = Sorting(asked["sort"]) if asked.get("sort") in set(Sorting) else Sorting.NEWEST
        wanted, first = _wanted(asked, run), max(0, _whole(asked.get("after", "")))
        found = await self._store.listed(wanted, sorting=sorting, limit=PAGE + 1, after=first)
        rows = [listed_row(d) for d in found[:PAGE]]
        kept = [(k, v) for k, v in asked.multi_items() if k != "after" and v]
        return self._page(
            "decisions.html", request, runs, run,
            rows=rows, reasons=await self._store.reasons_of(run.id), asked=asked,
            sorts={s.value: says for s, says in _SORTS.items()},
            newer=_link(kept, max(first - PAGE, 0)) if first else "", older=_link(kept, first + PAGE)
            if len(found) > PAGE else "", live=sorting is Sorting.NEWEST and not first,
            query=urlencode([(k, v) for k, v in kept if k != "sort"]),
        )  # fmt: skip

    async def decision(self, request: Request) -> Response:
        asked = request.query_params
        fee = _share(asked.get("fee", ""), 1.0)
        changed = Changed(
            _share(asked.get("threshold", ""), 1.0), _share(asked.get("shrink", ""), 1.0),
            None if fee is None else Decimal(str(fee)),
        )  # fmt: skip
        page = await decision_page(self._store, asked.get("run") or None, request.path_params["id"], changed)
        run = await self._store.run(page.e.run_id)
        return self._page(
            "decision.html", request, [], run, p=page, e=page.e, t=page.e.decision, UNIT=UNIT, changed=changed
        )

    async def compare(self, request: Request) -> Response:
        a, b = (request.query_params.get(name, "") for name in ("a", "b"))
        found = await comparison(self._store, a, b) if a and b else None
        shown = (found.sides, found.rows, found.lines) if found is not None else ((), (), ())
        named = dict(zip(("sides", "rows", "lines"), shown, strict=True))
        return self._page("compare.html", request, [], None, a_id=a, b_id=b, **named)

    async def versus(self, request: Request) -> Response:
        known = await runs_with_decisions(self._store)
        a, b = (request.query_params.get(name, "") for name in ("a", "b"))
        found = None
        if a and b:
            found = await versus(self._store, await run_named(self._store, a), await run_named(self._store, b))
        return self._page("versus.html", request, [], None, known=known, a_id=a, b_id=b, v=found, most=PAGE)

    async def tail(self, request: Request) -> Response:
        """New decisions as they come, each a line of the list, for as long as somebody listens."""
        run = await run_named(self._store, request.query_params.get("run", ""))
        wanted = _wanted(request.query_params, run)
        return StreamingResponse(_tail(self._store, wanted, self._rows), media_type="text/event-stream")

    def _rows(self, rows: Sequence[Mapping[str, Any]]) -> str:
        return self._templates.get_template("rows.html").render(rows=rows)

    def _page(self, name: str, request: Request, runs: Sequence[Run], run: Run | None, **values: Any) -> Response:
        text = self._templates.get_template(name).render(request=request, runs=runs, run=run, **values)
        return HTMLResponse(text)


async def _tail(
    store: Store, wanted: DecisionFilter, rows: Callable[[Sequence[Mapping[str, Any]]], str]
) -> AsyncIterator[str]:
    newest = await store.listed(wanted, limit=1)
    known = {d.id for d in newest}
    yield "retry: 2000\n\n"
    while True:
        # Decisions of one cycle share their instant, hence `>=` and the ids already sent.
        found = [d for d in await store.listed(wanted, limit=PAGE) if not newest or d.at >= newest[0].at]
        fresh = [d for d in found if d.id not in known]
        if fresh:
            known, newest = {d.id for d in found}, found[:1]
            yield f"data: {json.dumps(rows([listed_row(d) for d in fresh]))}\n\n"
        await asyncio.sleep(_TAIL)


def _wanted(asked: QueryParams, run: Run) -> DecisionFilter:
    """The filters of the list; what cannot be understood filters nothing."""
    flags = {"yes": True, "no": False}
    below = _share(asked.get("below", ""))
    return DecisionFilter(
        run_id=run.id,
        action=asked.get("action") or None,
        reason=asked.get("reason") or None,
        slug=asked.get("market") or None,
        since=_instant(asked.get("since", "")),
        until=_instant(asked.get("until", "")),
        below=below,
        searched=flags.get(asked.get("searched", "")),
        corrected=flags.get(asked.get("corrected", "")),
        traded=flags.get(asked.get("traded", "")),
    )


def _instant(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _share(text: str, most: float = 2.0) -> float | None:
    """A number from 0 to `most`; None where it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= most else None


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _link(kept: Sequence[tuple[str, str]], after: int) -> str:
    return "/decisions?" + urlencode([*kept, ("after", str(after))])


def _dollars(micro: float | None, digits: int = 2) -> str:
    if micro is None:
        return "-"
    sign = "-" if micro < 0 else "+" if micro > 0 else ""
    return f"{sign}${abs(micro) / UNIT:,.{digits}f}"


def _amount(micro: float, digits: int = 2) -> str:
    return f"${micro / UNIT:,.{digits}f}"


def _clock(at: datetime | str) -> str:
    when = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
