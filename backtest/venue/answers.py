"""HTTP answers and refusals of the loopback venue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web


def said(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """JSON answer, compact as the venue's are."""
    body = json.dumps(payload, separators=(",", ":")).encode()
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


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


async def payload_of(request: web.Request) -> Any:
    """JSON of a request. Raises Refusal for anything else."""
    try:
        return json.loads(await request.text())
    except ValueError:
        raise refused("Invalid order payload") from None
