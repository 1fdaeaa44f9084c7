"""The venue's relayer: executes calls of wallets that do not pay for gas, for holders of a relayer key.

The official client signs the batch and polls its outcome; nothing is sent a second time by us.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from market.clock import Clock
from market.errors import NotReady, VenueUnavailable
from market.polymarket.hosts import Hosts
from tools.polymarket.auth import Credentials
from tools.polymarket.client import SigningAccount, open_client

if TYPE_CHECKING:
    from tools.polymarket.chain import Call


class Key(Protocol):
    """A private key that can be revealed to the client."""

    def reveal(self) -> bytes: ...


class RelayerAccount(Protocol):
    """Owner of the wallet."""

    @property
    def trader(self) -> SigningAccount: ...

    @property
    def key(self) -> Key: ...

    @property
    def credentials(self) -> Credentials: ...


@dataclass(frozen=True, slots=True)
class RelayerKey:
    """A key issued in the venue's settings, and its address."""

    address: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Relayer:
    """Sender of one account's calls."""

    hosts: Hosts
    account: RelayerAccount
    key: RelayerKey
    clock: Clock

    async def send(self, call: Call) -> str:
        """Execute a call; return the hash of its transaction, which is in a block by then. Raises NotReady if the
        relayer refuses or the call failed, and VenueUnavailable if the outcome is unknown."""
        from polymarket import errors

        made = self._open()
        async with made as client:
            try:
                handle = await client.execute_transaction(calls=[_call(call)], metadata=call.says[:500])
                outcome = await handle.wait()
            except (errors.RequestRejectedError, errors.TransactionFailedError) as error:
                raise NotReady(f"The relayer did not do this: {_message(error)}.", next_step=call.says) from None
            except Exception as error:
                raise VenueUnavailable(
                    f"It is not known whether the relayer did this ({type(error).__name__}): {call.says}",
                    next_step="See edgeclaw wallet status before anything is sent again.",
                ) from None
        return str(outcome.transaction_hash)

    def _open(self) -> Any:
        account = self.account
        return open_client(
            self.hosts, account.trader, account.key.reveal(), account.credentials, self.clock,
            relayer=(self.key.key, self.key.address),
        )  # fmt: skip


def _message(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")


def _call(call: Call) -> Any:
    from polymarket import TransactionCall
    from polymarket.types import EvmAddress, HexString

    return TransactionCall(to=EvmAddress(call.target), data=HexString("0x" + call.data.hex()), value=0)
