"""Address policy of model servers: this machine or the owner's own network, unless allowed otherwise.

Every address that a name resolves to is checked, at the start and again for every connection, so that a name which
later points elsewhere is refused too. Sends nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

from market.errors import EngineUnavailable, Misconfigured
from storage.urls import without_secrets

_OWN = tuple(
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
_SHAPE = "Give it as http://127.0.0.1:8000."
_ALLOW = "Set edge.remote.allow_remote: true if prompts may leave this network."


@dataclass(frozen=True, slots=True)
class Address:
    """A server's `base` URL without a path; `allow_remote` is True if it may be outside the owner's network."""

    base: str
    host: str
    port: int
    allow_remote: bool

    @property
    def short(self) -> str:
        return f"{self.host}:{self.port}"


def address(url: str, *, allow_remote: bool = False) -> Address:
    """Parse a URL. Raises Misconfigured for one that is no plain http(s) address, or is outside without permission."""
    if not url:
        raise Misconfigured("edge.remote.url is not set.", next_step=_SHAPE)
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise Misconfigured(f"edge.remote.url {without_secrets(url)!r} is not an address.", next_step=_SHAPE) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise Misconfigured(f"edge.remote.url {without_secrets(url)!r} is not an address.", next_step=_SHAPE)
    if parts.username is not None or parts.password is not None:
        raise Misconfigured("edge.remote.url must not hold credentials.", next_step="Use edge.remote.api_key_file.")
    if parts.path.rstrip("/") not in ("", "/v1"):
        raise Misconfigured(
            f"edge.remote.url {without_secrets(url)!r} must end after the port, or with /v1.", next_step=_SHAPE
        )
    # Outside the network a prompt or an API key would travel in the clear.
    if allow_remote and parts.scheme != "https" and not _literal(parts.hostname):
        raise Misconfigured(
            "With edge.remote.allow_remote, the address must begin with https://.", next_step="Or remove allow_remote."
        )
    if _is_literal(parts.hostname) and not (allow_remote or own(parts.hostname)):
        raise Misconfigured(f"{parts.hostname} is not an address of this network.", next_step=_ALLOW)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(f"{parts.scheme}://{host}:{port}", parts.hostname, port, allow_remote)


def own(literal: str) -> bool:
    """True if an IP address is this machine's or a private network's."""
    ip = ipaddress.ip_address(literal.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return any((mapped or ip) in network for network in _OWN if network.version == (mapped or ip).version)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _literal(host: str) -> bool:
    return host == "localhost" or (_is_literal(host) and own(host))


async def confirm(where: Address) -> None:
    """Resolve the host once, before anything is sent. Raises Misconfigured or EngineUnavailable."""
    if _is_literal(where.host):
        return
    try:
        await OwnNetwork(where.allow_remote).resolve(where.host, where.port)
    except OSError as error:
        raise EngineUnavailable(
            f"The name {where.host} of the model server cannot be resolved.", next_step="Check edge.remote.url."
        ) from error
    except EngineUnavailable as error:
        raise Misconfigured(str(error), next_step=error.next_step) from None


class OwnNetwork(AbstractResolver):
    """Resolver that refuses a name unless all of its addresses are allowed."""

    def __init__(self, allow_remote: bool) -> None:
        self._allow_remote = allow_remote

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        outside = [str(at[4][0]) for at in found if not own(str(at[4][0]))]
        if outside and not self._allow_remote:
            raise EngineUnavailable(f"{host} is {outside[0]}, which is not in this network.", next_step=_ALLOW)
        return [
            ResolveResult(
                hostname=host,
                host=str(at[4][0]),
                port=port,
                family=at[0],
                proto=at[2],
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for at in found
        ]

    async def close(self) -> None:
        """Nothing to close."""
