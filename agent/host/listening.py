"""Listening addresses of this process, and the names under which a server there may be asked.

A page elsewhere may let its own name resolve to this machine and then read what a server here answers (DNS rebinding);
such a request bears that page's name in its Host header. Knows no protocol beyond that header.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from market.errors import Misconfigured, NotReady
from market.polymarket.hosts import is_loopback

_SHAPE = "Give it as 127.0.0.1:8765 or [::1]:8765."
_ADDRESS = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<name>[^\[\]:/\s@]+)):(?P<port>[0-9]{1,5})")
_HOST = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<name>[^\[\]:]+))(?::[0-9]*)?")


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A host, by address or name and without brackets, and a TCP port; 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen_address(text: str) -> ListenAddress:
    """Parse "HOST:PORT", an IPv6 address in brackets. Raises Misconfigured."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > 65_535 or (found["six"] and _literal(found["six"]) is None):
        raise Misconfigured(f"{text!r} is not an address to listen on.", next_step=_SHAPE)
    return ListenAddress(found["six"] or found["name"], int(found["port"]))


def bound(address: ListenAddress, setting: str) -> socket.socket:
    """A TCP socket that listens at an address. Raises NotReady in one sentence that names the `setting`."""
    why = ""
    for family in _families(address.host):
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # A name is looked up by bind itself, beneath the egress allow-list: this process does not connect to it.
            made.bind((address.host, address.port))
            made.listen()
        except (OSError, UnicodeError) as error:
            made.close()
            why = getattr(error, "strerror", None) or "it is no name of a host"
        else:
            return made
    raise NotReady(f"{address} cannot be listened on ({why}).", next_step=f"Choose another {setting}.")


def _families(host: str) -> tuple[socket.AddressFamily, ...]:
    """Families to try: a name may have an address of either only."""
    literal = _literal(host)
    if literal is None:
        return (socket.AF_INET, socket.AF_INET6)
    return (socket.AF_INET6,) if literal.version == 6 else (socket.AF_INET,)


def host_names(address: ListenAddress, made: socket.socket) -> frozenset[str]:
    """Names under which a server at a bound socket may be asked, besides loopback addresses: its host and, beyond
    loopback, this machine's name."""
    at = str(made.getsockname()[0])
    own = {socket.gethostname().lower()} if not is_loopback(at) else set()
    return frozenset({_canonical(address.host), _canonical(at), "localhost", *own} - {""})


def knows_host(header: str, names: frozenset[str]) -> bool:
    """True if a Host header bears one of these names or a loopback address. Where a wildcard address is among them, any
    IP address may stand there: a page that is asked by an address has no name to rebind."""
    found = _HOST.fullmatch(header.strip())
    if found is None:
        return False
    host = _canonical(found["six"] or found["name"])
    if host in names or is_loopback(host):
        return True
    return _literal(host) is not None and any(_wildcard(name) for name in names)


def _wildcard(name: str) -> bool:
    literal = _literal(name)
    return literal is not None and literal.is_unspecified


def _canonical(host: str) -> str:
    """A host in one spelling: an address in its shortest, a name in lower case without the dot at its end."""
    literal = _literal(host)
    return host.lower().removesuffix(".") if literal is None else str(literal)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
