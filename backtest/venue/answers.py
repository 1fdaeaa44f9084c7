"""HTTP answers and refusals of the loopback venue."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from market.clock import EPOCH

_LAST_SECOND = 253_402_300_799
"""End of the year 9999."""


def said(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """JSON answer, compact as the venue's are."""
    body = json.dumps(payload, separators=(",", ":")).encode()
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def enveloped(rows: Sequence[Any], cursor: str | None = None) -> web.Response:
    """A page in the data service's form; the cursor of the next one, or None on the last."""
    return said({"data": list(rows), "pagination": {"has_more": cursor is not None, "next_cursor": cursor}})


class Refusal(Exception):
    """An answer other than 200, as an exception."""

    def __init__(self, status: int, payload: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(payload))
        self.status, self.payload, self.headers = status, payload, headers

    def response(self) -> web.Response:
        return said(self.payload, self.status, self.headers)


def refused(message: str, status: int = 400) -> Refusal:
    """Refusal in the venue's usual form."""
    return Refusal(status, {"error": message})


def query(request: web.Request, name: str) -> str:
    return request.query.get(name, "")


def whole(request: web.Request, name: str, default: int, *, least: int = 0, most: int = 2**53) -> int:
    """A parameter that is a whole number of plain digits. Raises Refusal for anything else, or beyond its bounds."""
    text = query(request, name)
    if not text:
        return default
    # Twenty digits hold every bound: longer numbers need not be read to be refused.
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and least <= int(text) <= most):
        raise refused(f"invalid {name}")
    return int(text)


def instant(request: web.Request, name: str) -> datetime | None:
    """A parameter in seconds since 1970; None without one. Raises Refusal."""
    return EPOCH + timedelta(seconds=whole(request, name, 0, most=_LAST_SECOND)) if query(request, name) else None


async def payload_of(request: web.Request, complaint: str = "Invalid order payload") -> Any:
    """JSON of a request. Raises Refusal, with the complaint, for anything else."""
    return parsed(await request.read(), complaint)


def parsed(raw: bytes | str, complaint: str) -> Any:
    """JSON of some text. Raises Refusal for anything else, and for what is nested too deeply to be read."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise refused(complaint) from None
