"""How the loopback venue answers and refuses over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web


def said(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer, compact as the venue's are."""
    body = json.dumps(payload, separators=(",", ":")).encode()
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


class Refusal(Exception):
    """An answer other than 200, raised where it is found out."""

    def __init__(self, status: int, payload: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(payload))
        self.status, self.payload, self.headers = status, payload, headers

    def response(self) -> web.Response:
        return said(self.payload, self.status, self.headers)


def refused(message: str, status: int = 400) -> Refusal:
    """In the venue's usual form."""
    return Refusal(status, {"error": message})


def query(request: web.Request, name: str) -> str:
    return request.query.get(name, "")


async def payload_of(request: web.Request) -> Any:
    """The JSON of a request. Raises Refusal where there is none."""
    try:
        return json.loads(await request.text())
    except ValueError:
        raise refused("Invalid order payload") from None
