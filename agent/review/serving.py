"""Serve the review site at an address of the owner's choosing, for as long as a block lasts."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address

from market.errors import Misconfigured, NotReady
from storage.store import Store, open_store

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class ReviewAddress:
    """Address of the site, with the token in it where one is needed."""

    url: str
    token: str = ""


def must_serve() -> None:
    """Raises NotReady where the libraries of the site are not installed."""
    if any(find_spec(name) is None for name in ("starlette", "uvicorn", "jinja2")):
        raise NotReady("The review site needs packages.", next_step="Run: pip install 'edgeclaw[review]'")


@asynccontextmanager
async def reviewing(store: Store, listen: str) -> AsyncIterator[ReviewAddress]:
    """The site over `store` at "HOST:PORT". Beyond this machine a token is made, and needed. Raises Misconfigured,
    NotReady."""
    must_serve()
    import uvicorn

    from agent.review.site import site

    host, port = _parsed(listen)
    alone = host in _LOOPBACK
    token = "" if alone else secrets.token_urlsafe(24)
    hosts = _LOOPBACK if alone else frozenset({host, socket.gethostname(), *_LOOPBACK, *_addresses(host)})
    # Bound here: uvicorn ends the process where it cannot bind, and does not tell which port 0 became.
    with _listening(host, port, listen) as door:
        # No access log: the address of a first visit has the token in it.
        config = uvicorn.Config(
            site(store, hosts, token), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[door]))
        try:
            while not server.started and not task.done():  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(0.01)
            shown = f"[{host}]" if ":" in host else host
            where = f"http://{shown}:{door.getsockname()[1]}/"
            yield ReviewAddress(f"{where}?token={token}" if token else where, token)
        finally:
            server.should_exit = True
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def beside(url: str, listen: str, told: Callable[[str], None]) -> AsyncIterator[None]:
    """The site beside a run that writes the database at `url`, where `listen` names an address; `told` hears where it
    is. It reads over a connection of its own, so that no cycle waits for a reader."""
    if not listen:
        yield
        return
    async with open_store(url, read_only=True) as store, reviewing(store, listen) as served:
        told(f"read the log at {served.url}")
        yield


def _parsed(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise Misconfigured(f"{listen} is not an address like 127.0.0.1:8765.", next_step="Choose another --listen.")
    return host.strip("[]"), int(port)


def _addresses(host: str) -> set[str]:
    """Addresses of this machine where `host` is a wildcard, else none."""
    try:
        wild = ip_address(host).is_unspecified
    except ValueError:
        return set()
    if not wild:
        return set()
    return {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}


def _listening(host: str, port: int, listen: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, port))
    except OSError as error:
        door.close()
        raise NotReady(
            f"{listen} cannot be listened on ({error.strerror}).", next_step="Choose another --listen."
        ) from None
    return door
