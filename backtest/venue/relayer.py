"""Relayer of the loopback venue: executes the batches that a deposit wallet's key has signed, and pays the gas.

Only batches of deposit wallets; those of the older proxies and safes are refused in a sentence.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from backtest.venue.answers import payload_of, query, refused, said
from backtest.venue.payloads import seconds
from backtest.venue.rpc import LoopbackChain
from backtest.venue.state import VenueState
from tools.polymarket.signing import recovered
from tools.polymarket.typed import BatchCall, batch_digest
from tools.polymarket.wallets import wallets_of

_KIND = "WALLET"


@dataclass(frozen=True, slots=True)
class _Submitted:
    id: str
    wallet: str
    hash: str


class RelayerHandlers:
    """Handlers over a venue's chain."""

    def __init__(self, state: VenueState, chain: LoopbackChain) -> None:
        self._state, self._chain = state, chain
        self._nonces: dict[str, int] = {}
        self._sent: dict[str, _Submitted] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/account/transactions/params", self.params),
            web.get("/v1/account/transactions/{id}", self.one),
            web.post("/submit", self.submit),
        ]

    async def params(self, request: web.Request) -> web.Response:
        """Nonce of the wallet's next batch."""
        address = query(request, "address")
        _must_be_wallet(query(request, "type"))
        return said({"address": address, "nonce": str(self._nonces.get(_wallet_of(address), 0))})

    async def submit(self, request: web.Request) -> web.Response:
        """Accept a signed batch; it is executed in the next block, whole or not at all."""
        body = await payload_of(request)
        try:
            owner, wallet, nonce, deadline, calls, signature = _read(body)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise refused("invalid transaction payload") from None
        if request.headers.get("RELAYER_API_KEY_ADDRESS", "").lower() != owner.lower():
            raise refused("invalid authorization", 401)
        if wallet not in (wallets_of(owner).deposit.lower(), wallets_of(owner).deposit_uups.lower()):
            raise refused("deposit wallet does not belong to the signer")
        expected = self._nonces.get(wallet, 0)
        if nonce != expected:
            raise refused(f"batch nonce {nonce} does not match on-chain nonce {expected}")
        if deadline <= seconds(self._state.now()):
            raise refused("batch deadline has passed")
        signer = recovered(batch_digest(wallet, nonce, deadline, calls), signature)
        if signer is None or signer.lower() != owner.lower():
            raise refused("invalid signature")
        # Used up even if the batch reverts, as a nonce on the chain is.
        self._nonces[wallet] = nonce + 1
        known_as = self._chain.relay(wallet, [(c.target.lower(), c.data) for c in calls])
        made = _Submitted(secrets.token_hex(16), wallet, known_as)
        self._sent[made.id] = made
        return said({"transactionID": made.id, "transactionHash": "", "state": "STATE_NEW"})

    async def one(self, request: web.Request) -> web.Response:
        """Status of a batch."""
        sent = self._sent.get(request.match_info["id"])
        if sent is None:
            raise refused("transaction not found", 404)
        ok = self._chain.outcome(sent.hash)
        state = "STATE_EXECUTED" if ok is None else "STATE_CONFIRMED" if ok else "STATE_FAILED"
        error = "execution reverted" if ok is False else ""
        return said({"transaction_id": sent.id, "transaction_hash": sent.hash, "state": state, "error_msg": error})


def _must_be_wallet(kind: str) -> None:
    if kind != _KIND:
        raise refused(f"the loopback venue's relayer takes batches of deposit wallets, not {kind or 'nothing'}")


def _wallet_of(owner: str) -> str:
    try:
        return wallets_of(owner).deposit.lower()
    except ValueError:
        raise refused("invalid address") from None


def _read(body: Any) -> tuple[str, str, int, int, Sequence[BatchCall], bytes]:
    _must_be_wallet(body["type"])
    inner = body["depositWalletParams"]
    calls = [BatchCall(str(c["target"]), int(c["value"]), _bytes(c["data"])) for c in inner["calls"]]
    owner, wallet = str(body["from"]), str(inner["depositWallet"]).lower()
    nonce, deadline = int(body["nonce"]), int(inner["deadline"])
    wallets_of(owner)
    # Whatever does not fit its word of the signed content cannot have been signed.
    batch_digest(wallet, nonce, deadline, calls)
    return owner, wallet, nonce, deadline, calls, _bytes(body["signature"])


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
