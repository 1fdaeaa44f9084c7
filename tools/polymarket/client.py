"""The venue's official client with configurable addresses and clock. The only module that uses its private names;
`tests/unit/test_order_signing.py` reports in one sentence which of them a new version has moved.

Version 0.14 takes its addresses from an environment that only a private function makes, and stamps requests with the
system clock. Ours are stamped with the given clock, so that a loopback venue may run at any speed.
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
"""Text of a refusal that comes with the status of a server fault."""


@dataclass(frozen=True, slots=True)
class SigningAccount:
    """Trading account: the signing key, the wallet with the money, and the signature type of its orders (0 to 3)."""

    signer: Signer
    wallet: str
    signature_type: int

    @classmethod
    def of(cls, signer: Signer, wallet: str = "") -> SigningAccount:
        """Build from a key and a wallet; the deposit wallet if none is named. Raises Misconfigured for a wallet of
        another key."""
        own: Wallets = wallets_of(signer.address)
        # Accounts opened since about May 2026 have to trade from their deposit wallet; a plain account is refused.
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
        """Address in an order's signer field."""
        return self.wallet if self.signature_type == DEPOSIT else self.signer.address


def environment(hosts: Hosts) -> Any:
    """The client's environment for the given addresses. Raises NotReady if the installed version has moved it."""
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
    """The client (`polymarket.AsyncSecureClient`) of one account; `secret` is the key's 32 bytes, `relayer` a relayer
    key and its address. Nothing is sent until it is used. Raises NotReady if the installed version is not the pinned
    one."""
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
    """Stamp every request with the given clock."""

    async def stamped(method: str, path: str, body: str | None) -> Mapping[str, str]:
        second = to_ms(clock.now()) // 1000
        said = (body or "").encode()
        return auth.headers(trader.signer.address, credentials, second, method, path, said)

    transport = client._ctx.secure_clob
    getattr(transport, "_header_resolver")  # noqa: B009 - so that a name that has moved is found out here
    transport._header_resolver = stamped


async def refresh_balance(client: Any, signature_type: int, token: str = "") -> None:
    """Have the venue read a balance from the chain again, of the collateral where no token is named: it caches them."""
    about = {"asset_type": "CONDITIONAL", "token_id": token} if token else {"asset_type": "COLLATERAL"}
    await client._ctx.secure_clob.get_bytes(
        "/balance-allowance/update", params=about | {"signature_type": signature_type}
    )


def _moved(error: Exception) -> NotReady:
    return NotReady(
        f"The installed polymarket-client is not {PINNED}, whose private parts are needed ({error}).",
        next_step="Run: pip install 'edgeclaw[live]'",
    )


async def credentials_of(hosts: Hosts, signer: Signer, clock: Clock) -> Credentials:
    """API credentials of a key: created, or derived if they exist. Raises VenueUnavailable, Misconfigured."""
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
    """Classify a client error on an order: a string is the venue's refusal in its own words, and nothing was accepted;
    an error means that the outcome is unknown."""
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
