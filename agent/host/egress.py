"""Egress allow-list, enforced at the socket under every library: of this process, or of one's own work in a host's.

An audit hook of the interpreter sees each name look-up and each connection of the process, in any code that makes
it; a library that opens sockets in C without telling the interpreter, or a child process, is held by the unit file
instead. Loopback is always allowed. The content of a connection is not inspected.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from market.errors import EgressRefused
from market.polymarket.hosts import is_loopback

_CONNECTING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_LOOKING_UP = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_Resolver = Callable[..., Any]
_EMBEDDED: ContextVar[bool] = ContextVar("edgeclaw_embedded", default=False)
_OWN: ContextVar[frozenset[str] | None] = ContextVar("edgeclaw_egress", default=None)
"""Hosts of the work under way in this context, where it runs in somebody else's process."""


@dataclass(slots=True)
class _Guard:
    """The allowed names and the addresses that they resolved to; `names` is None while nothing is guarded."""

    names: frozenset[str] | None = None
    addresses: set[str] = field(default_factory=set)
    installed: bool = False
    learns: bool = False

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """The audit hook. It cannot be removed once installed, so it returns at once where nothing is guarded."""
        own = _OWN.get()
        if (self.names is None and own is None) or not (host := _host_of(event, args)):
            return
        if self.names is not None and not _listed(host, self.names) and _plain(host) not in self.addresses:
            raise refusal(host)
        if own is not None and not _listed(host, own) and not _leads_to(own, _plain(host)):
            raise refusal(host)

    def learning(self, resolve: _Resolver) -> _Resolver:
        """A resolver that records the addresses of the names it was allowed to look up."""

        def resolved(host: Any, *args: Any, **kwargs: Any) -> Any:
            # The connect event carries an address without its name: only what an allowed name resolved to is let
            # through.
            found = resolve(host, *args, **kwargs)
            if self.names is not None:
                self.addresses |= {_plain(str(entry[4][0])) for entry in found}
            return found

        return resolved


def _host_of(event: str, args: tuple[Any, ...]) -> str:
    """The host that an audit event is about, by name or address; empty for another event."""
    if event in _LOOKING_UP:
        return args[0].decode("ascii", "replace") if isinstance(args[0], bytes) else str(args[0] or "")
    if event not in _CONNECTING or not isinstance(args[1], tuple):
        return ""
    return str(args[1][0]) if args[0].family in (socket.AF_INET, socket.AF_INET6) else ""


def _listed(host: str, names: frozenset[str]) -> bool:
    return is_loopback(_plain(host)) or host.lower().rstrip(".") in names


def _leads_to(names: frozenset[str], address: str) -> bool:
    """True if one of the names has this address. Looked up here: the resolver of a host's process stays its own."""
    found = _OWN.set(None)
    try:
        for name in names:
            with suppress(OSError):
                if any(_plain(str(entry[4][0])) == address for entry in socket.getaddrinfo(name, None)):
                    return True
        return False
    finally:
        _OWN.reset(found)


_GUARD = _Guard()


def refusal(host: str) -> EgressRefused:
    return EgressRefused(
        f"Something in this process tried to reach {host}, which is not among the hosts it may speak to.",
        next_step="Nothing was sent. `edgeclaw doctor` lists the hosts.",
    )


def _plain(host: str) -> str:
    """An address in one canonical spelling, without its zone; a name unchanged."""
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    # ::ffff:1.2.3.4 reaches the same host as 1.2.3.4, and a dual-stack socket reports the former.
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)


@contextmanager
def embedded() -> Iterator[None]:
    """Context of work in a host's process: `confined` then holds this work alone, in its own task and what it starts,
    and neither the host's sockets nor its resolver."""
    token = _EMBEDDED.set(True)
    try:
        yield
    finally:
        _EMBEDDED.reset(token)


@contextmanager
def confined(names: Iterable[str]) -> Iterator[None]:
    """Context in which connections leave this process only to loopback and to these hosts; nested, it can only narrow
    the list. Any other connection or look-up raises `EgressRefused`."""
    wanted = frozenset(n.lower().rstrip(".") for n in names if n)
    with _own_work(wanted) if _EMBEDDED.get() else _whole_process(wanted):
        yield


@contextmanager
def _own_work(wanted: frozenset[str]) -> Iterator[None]:
    _listen()
    before = _OWN.get()
    token = _OWN.set(wanted if before is None else wanted & before)
    try:
        yield
    finally:
        _OWN.reset(token)


@contextmanager
def _whole_process(wanted: frozenset[str]) -> Iterator[None]:
    _listen()
    _learn()
    before, known = _GUARD.names, _GUARD.addresses
    _GUARD.names = wanted if before is None else wanted & before
    _GUARD.addresses = {_plain(n) for n in _GUARD.names if _is_address(n)}
    try:
        yield
    finally:
        _GUARD.names, _GUARD.addresses = before, known


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _listen() -> None:
    if not _GUARD.installed:
        _GUARD.installed = True
        sys.addaudithook(_GUARD.hear)


def _learn() -> None:
    if not _GUARD.learns:
        _GUARD.learns = True
        socket.getaddrinfo = _GUARD.learning(socket.getaddrinfo)


def host_of(url: str) -> str:
    """The host named by a URL, or an empty string, as for a URL that is none: whoever connects to it refuses it."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
