"""The venue's official client, opened on addresses and a clock of ours. The one place that names its private parts;
`tests/unit/test_order_signing.py` says in one sentence which of them a new version has moved.

Version 0.14 takes its addresses from an environment that only a private function makes, and stamps requests with the
machine's clock. Ours are stamped with the clock given, so that a loopback venue may run at any speed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from market.clock import Clock, to_ms
from market.errors import EdgeclawError, Misconfigured, NotReady, VenueUnavailable
from market.polymarket.hosts import Hosts
from tools.polymarket import auth
from tools.polymarket.auth import Credentials
from tools.polymarket.signing import Signer
from tools.polymarket.typed import DEPOSIT
from tools.polymarket.wallets import Wallets, wallets_of

PINNED = "0.14"
_DISABLED = "trading is currently disabled"
"""A refusal, though it comes with the status of a fault."""


@dataclass(frozen=True, slots=True)
class SigningAccount:
    """Who trades: the key that signs, the wallet the money is in, and how that wallet's orders are signed (0 to 3)."""

    signer: Signer
    wallet: str
    signature_type: int

    @classmethod
    def of(cls, signer: Signer, wallet: str = "") -> SigningAccount:
        """From a key and the wallet meant; the deposit wallet where none is named. Raises Misconfigured for a wallet
        that is not the key's."""
        own: Wallets = wallets_of(signer.address)
        chosen = wallet or own.deposit
        kind = own.signature_type(chosen)
        if kind is None:
            raise Misconfigured(
                f"{chosen} is not a wallet of the key at {signer.address}.",
                next_step=f"Leave venue.wallet empty for its deposit wallet ({own.deposit}), or name one of its own.",
            )
        return cls(signer, chosen, kind)

    @property
    def signs_as(self) -> str:
        """The address that an order names as its signer."""
        return self.wallet if self.signature_type == DEPOSIT else self.signer.address


def environment(hosts: Hosts) -> Any:
    """The client's environment for addresses of ours. Raises NotReady where the installed version has moved it."""
    try:
        from polymarket._internal.environment import PRODUCTION_CONFIG, create_environment

        config = dataclasses.replace(
            PRODUCTION_CONFIG,
            clob_url=hosts.clob,
            gamma_url=hosts.gamma,
            data_url=hosts.data,
            relayer_url=hosts.relayer,
            rpc_url=hosts.rpc,
            clob_market_ws_url=hosts.market_stream,
            clob_user_ws_url=hosts.user_stream,
            realtime_ws_url=hosts.price_stream,
        )
        return create_environment(name="edgeclaw", config=config)
    except (ImportError, TypeError) as error:
        raise _moved(error) from None


@asynccontextmanager
async def open_client(
    hosts: Hosts,
    trader: SigningAccount,
    secret: bytes,
    credentials: Credentials,
    clock: Clock,
    relayer: tuple[str, str] | None = None,
) -> AsyncIterator[Any]:
    """The client (`polymarket.AsyncSecureClient`) of one trader; `secret` is the key's 32 bytes, `relayer` a relayer
    key and the address it is for. Nothing is sent until it is used. Raises NotReady where the installed version is not
    the one this was written for."""
    from polymarket import AsyncSecureClient, RelayerApiKey
    from polymarket.models.clob import ApiKeyCreds

    creds = ApiKeyCreds(key=credentials.key, secret=credentials.secret, passphrase=credentials.passphrase)
    try:
        client = await AsyncSecureClient._create(
            private_key=f"0x{secret.hex()}",
            wallet=trader.wallet,
            environment=environment(hosts),
            credentials=creds,
            api_key=None if relayer is None else RelayerApiKey(key=relayer[0], address=relayer[1]),
            validate_credentials=False,
        )
        _on_clock(client, trader, credentials, clock)
    except (AttributeError, TypeError) as error:
        raise _moved(error) from None
    try:
        yield client
    finally:
        await client.close()


def _on_clock(client: Any, trader: SigningAccount, credentials: Credentials, clock: Clock) -> None:
    """Have every request stamped with our clock."""

    async def stamped(method: str, path: str, body: str | None) -> Mapping[str, str]:
        second = to_ms(clock.now()) // 1000
        said = (body or "").encode()
        return auth.headers(trader.signer.address, credentials, second, method, path, said)

    transport = client._ctx.secure_clob
    getattr(transport, "_header_resolver")  # noqa: B009 - so that a name that has moved is found out here
    transport._header_resolver = stamped


def _moved(error: Exception) -> NotReady:
    return NotReady(
        f"The installed polymarket-client is not {PINNED}, whose private parts are needed ({error}).",
        next_step="Run: pip install 'edgeclaw[live]'",
    )


async def credentials_of(hosts: Hosts, signer: Signer, clock: Clock) -> Credentials:
    """API credentials for a key: made, or the ones that were made before. Raises VenueUnavailable, Misconfigured."""
    import aiohttp

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10.0), trust_env=False) as session:
        # Once more, so that a request that was only slow, and therefore stamped too long ago, is not taken for a lie.
        for method, path in 2 * (("POST", "/auth/api-key"), ("GET", "/auth/derive-api-key")):
            headers = auth.first_headers(signer, to_ms(clock.now()) // 1000)
            try:
                async with session.request(method, hosts.clob + path, headers=headers) as answer:
                    said = await answer.json(content_type=None)
                    status = answer.status
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise VenueUnavailable(f"{hosts.clob} gave no API credentials ({type(error).__name__}).") from None
            if status == 200:
                return _credentials(said)
            if status >= 500 or status in (425, 429):
                raise VenueUnavailable(f"{hosts.clob} gave no API credentials (it said {status}).")
    if status == 401:
        raise Misconfigured(
            "The venue does not accept the key's signature.",
            next_step="Compare this machine's clock with the venue's: edgeclaw doctor",
        )
    raise VenueUnavailable(f"{hosts.clob} gave no API credentials (it said {status}).")


def _credentials(said: object) -> Credentials:
    names = ("apiKey", "secret", "passphrase")
    if not isinstance(said, dict) or not all(isinstance(said.get(n), str) for n in names):
        raise VenueUnavailable("The venue's API credentials have an unknown form.")
    return Credentials(*(said[n] for n in names))


def refusal_of(error: Exception) -> EdgeclawError | str:
    """What an error of the client means for an order: a string is the venue's refusal in its own words, and nothing
    was taken; an error says that the outcome is unknown."""
    from polymarket import errors

    if isinstance(error, errors.RateLimitError):
        return "the venue limits our rate"
    if isinstance(error, errors.RequestRejectedError):
        if error.restriction is not None:
            return f"the venue is {error.restriction.replace('_', '-')}"
        if error.status < 500 or _DISABLED in str(error).lower():
            return str(error)
    if isinstance(error, errors.UserInputError):
        return str(error)
    return VenueUnavailable(f"The venue's answer to an order did not come ({type(error).__name__}).")
