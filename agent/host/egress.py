"""Egress allow-list of this process, enforced at the socket under every library.

An audit hook of the interpreter sees each name look-up and each connection of the process, in any code that makes
it; a library that opens sockets in C without telling the interpreter, or a child process, is held by the unit file
instead. Loopback is always allowed. The content of a connection is not inspected.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from market.errors import EgressRefused
from market.polymarket.hosts import is_loopback

_CONNECTING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_LOOKING_UP = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_Resolver = Callable[..., Any]


@dataclass(slots=True)
class _Guard:
    """The allowed names and the addresses that they resolved to; `names` is None while nothing is guarded."""

    names: frozenset[str] | None = None
    addresses: set[str] = field(default_factory=set)
    installed: bool = False

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """The audit hook. It cannot be removed once installed, so it returns at once where nothing is guarded."""
        if self.names is None:
            return
        if event in _CONNECTING:
            self._connecting(args[0], args[1])
        elif event in _LOOKING_UP:
            self._looking_up(args[0])

    def _connecting(self, made: socket.socket, address: Any) -> None:
        if made.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
            return
        host = str(address[0])
        if not self._allowed(host) and _plain(host) not in self.addresses:
            raise refusal(host)

    def _looking_up(self, host: Any) -> None:
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if name and not self._allowed(str(name)) and _plain(str(name)) not in self.addresses:
            raise refusal(str(name))

    def _allowed(self, host: str) -> bool:
        return is_loopback(_plain(host)) or host.lower().rstrip(".") in (self.names or ())

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
def confined(names: Iterable[str]) -> Iterator[None]:
    """Context in which connections leave this process only to loopback and to these hosts; nested, it can only narrow
    the list. Any other connection or look-up raises `EgressRefused`."""
    _install()
    wanted = frozenset(n.lower().rstrip(".") for n in names if n)
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


def _install() -> None:
    if not _GUARD.installed:
        _GUARD.installed = True
        socket.getaddrinfo = _GUARD.learning(socket.getaddrinfo)
        sys.addaudithook(_GUARD.hear)


def host_of(url: str) -> str:
    """The host named by a URL, or an empty string."""
    return urlsplit(url).hostname or ""
