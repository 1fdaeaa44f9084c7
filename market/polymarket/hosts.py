"""Addresses of the venue's services, in production or all on one loopback port."""

from __future__ import annotations

from dataclasses import dataclass, fields
from ipaddress import ip_address
from urllib.parse import urlsplit

from market.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class Hosts:
    """Base addresses without a trailing path, or with the path of a WebSocket. Production's are those of the official
    client 0.14.0 (October 2026)."""

    clob: str = "https://clob.polymarket.com"
    gamma: str = "https://gamma-api.polymarket.com"
    data: str = "https://data-api.polymarket.com"
    relayer: str = "https://relayer-v2.polymarket.com"
    rpc: str = "https://polygon.drpc.org"
    geoblock: str = "https://polymarket.com/api/geoblock"
    market_stream: str = "wss://ws-subscriptions-clob.polymarket.com/ws/market"
    user_stream: str = "wss://ws-subscriptions-clob.polymarket.com/ws/user"
    price_stream: str = "wss://ws-live-v2.polymarket.com/ws"

    @classmethod
    def loopback(cls, base: str) -> Hosts:
        """Every address on one loopback server. Raises Misconfigured for any other."""
        parts = urlsplit(base.rstrip("/"))
        if parts.scheme != "http" or not is_loopback(parts.hostname or "") or parts.path:
            raise Misconfigured(
                f"{base} is not the address of a loopback venue.", next_step="Give it as http://127.0.0.1:PORT."
            )
        root, sockets = f"http://{parts.netloc}", f"ws://{parts.netloc}"
        return cls(
            clob=root,
            gamma=root,
            data=root,
            relayer=root,
            rpc=root,
            geoblock=f"{root}/api/geoblock",
            market_stream=f"{sockets}/ws/market",
            user_stream=f"{sockets}/ws/user",
            price_stream=f"{sockets}/ws",
        )

    @classmethod
    def named(cls, loopback: str) -> Hosts:
        """The loopback venue at that address, or production if it is empty. Raises Misconfigured."""
        return cls.loopback(loopback) if loopback else cls()

    @property
    def pretend(self) -> bool:
        """True if orders go to a server on this machine, where no money is real."""
        return is_loopback(urlsplit(self.clob).hostname or "")

    def names(self) -> frozenset[str]:
        """Host names for the allow-list of outgoing connections."""
        return frozenset(urlsplit(getattr(self, f.name)).hostname or "" for f in fields(self)) - {""}


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
