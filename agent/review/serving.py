"""Serve the review site at an address of the owner's choosing, for as long as a block lasts."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from agent.config.paths import folder, home
from agent.host.listening import ListenAddress, bound, host_names, listen_address
from market.errors import NotReady
from market.polymarket.hosts import is_loopback
from storage.store import Store, open_store


@dataclass(frozen=True, slots=True)
class ReviewAddress:
    """Address of the site: `place` without the token, for anyone to read; empty `token` where none is needed."""

    place: str
    token: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Address with its token: for the owner's eyes alone, never for health, logs or messages."""
        return f"{self.place}?token={self.token}" if self.token else self.place


def must_serve() -> None:
    """Raises NotReady where the libraries of the site are not installed."""
    if any(find_spec(name) is None for name in ("starlette", "uvicorn", "jinja2")):
        raise NotReady("The review site needs packages.", next_step="Run: pip install 'edgeclaw[review]'")


@asynccontextmanager
async def reviewing(store: Store, listen: str, setting: str = "--listen") -> AsyncIterator[ReviewAddress]:
    """The site over `store` at "HOST:PORT". Beyond this machine a token is made, and needed. Raises Misconfigured, and
    NotReady that names the `setting`."""
    must_serve()
    import uvicorn

    from agent.review.site import site

    address = listen_address(listen)
    # Bound here: uvicorn ends the process where it cannot bind, and does not tell which port 0 became.
    with bound(address, setting) as door:
        at, port = door.getsockname()[:2]
        token = "" if is_loopback(str(at)) else secrets.token_urlsafe(24)
        # No access log: the address of a first visit has the token in it.
        config = uvicorn.Config(
            site(store, host_names(address, door), token), log_config=None, access_log=False, lifespan="off",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[door]))
        try:
            while not server.started and not task.done():  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(0.01)
            yield ReviewAddress(f"http://{ListenAddress(address.host, port)}/", token)
        finally:
            server.should_exit = True
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def beside(url: str, listen: str, told: Callable[[str], None]) -> AsyncIterator[None]:
    """The site beside a run that writes the database at `url`, where `listen` names an address; `told` hears where it
    is. It reads over a connection of its own, so that no cycle waits for a reader. A token is kept in a file of the
    owner's: what `told` hears goes on into health, logs and messages."""
    if not listen:
        yield
        return
    async with (
        open_store(url, read_only=True) as store,
        reviewing(store, listen, "service.review") as served,
    ):
        with _kept(served) as file:
            told(f"read the log at {served.place}" + (f" with the token in {file}" if file else ""))
            yield


@contextmanager
def _kept(served: ReviewAddress) -> Iterator[Path | None]:
    """The file with the whole address, readable by its owner only, while the block lasts; None without a token."""
    if not served.token:
        yield None
        return
    file = folder(home()) / "review.url"
    file.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(f"{served.url}\n")
    except OSError as error:
        raise NotReady(
            f"{file} cannot be written ({error.strerror}).", next_step="Free it, or set service.review to a loopback."
        ) from None
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)
