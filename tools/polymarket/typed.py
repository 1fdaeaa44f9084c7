"""Orders as EIP-712 typed data: the digest that identifies an order, and the digest to sign for each kind of wallet.

Encoded by hand with all constants hashed once: signing is on the path between a tick and the market. Knows no keys and
no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from Crypto.Hash import keccak as _keccak

from tools.polymarket.contracts import CHAIN_ID, exchange_for

ORDER_TYPE = (
    b"Order(uint256 salt,address maker,address signer,uint256 tokenId,uint256 makerAmount,uint256 takerAmount,"
    b"uint8 side,uint8 signatureType,uint256 timestamp,bytes32 metadata,bytes32 builder)"
)
_DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_AUTH_DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId)"
_AUTH_TYPE = b"ClobAuth(address address,string timestamp,uint256 nonce,string message)"
_AUTH_MESSAGE = b"This message attests that I control the given wallet"
_WRAP_TYPE = (
    b"TypedDataSign(Order contents,string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
    + ORDER_TYPE
)
_CALL_TYPE = b"Call(address target,uint256 value,bytes data)"
_BATCH_TYPE = b"Batch(address wallet,uint256 nonce,uint256 deadline,Call[] calls)" + _CALL_TYPE
_NONE = bytes(32)
EOA, PROXY, SAFE, DEPOSIT = range(4)
"""Signature types: the kind of wallet that an order is signed for."""


def keccak(data: bytes) -> bytes:
    return _keccak.new(digest_bits=256, data=data).digest()


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")


@lru_cache(maxsize=256)
def address_word(address: str) -> bytes:
    """Encode an address as 32 bytes. Raises ValueError for anything else."""
    raw = bytes.fromhex(address.removeprefix("0x"))
    if len(raw) != 20:
        raise ValueError("an address has 20 bytes")
    return bytes(12) + raw


ORDER_TYPEHASH = keccak(ORDER_TYPE)
WRAP_TYPEHASH = keccak(_WRAP_TYPE)
_DOMAIN_TYPEHASH = keccak(_DOMAIN_TYPE)
_NAME = keccak(b"Polymarket CTF Exchange")
_CHAIN = _word(CHAIN_ID)
_CALL_TYPEHASH, _BATCH_TYPEHASH = keccak(_CALL_TYPE), keccak(_BATCH_TYPE)
_WALLET_DOMAIN = keccak(b"DepositWallet") + keccak(b"1") + _CHAIN
_AUTH_DOMAIN = keccak(keccak(_AUTH_DOMAIN_TYPE) + keccak(b"ClobAuthDomain") + keccak(b"1") + _CHAIN)
_AUTH_TYPEHASH, _AUTH_SAID = keccak(_AUTH_TYPE), keccak(_AUTH_MESSAGE)
_TRAILER = ORDER_TYPE + len(ORDER_TYPE).to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class VenueOrder:
    """An order in its signed form. Amounts are millionths of what `maker` gives and gets; `side` is 0 to buy and 1 to
    sell; `timestamp` is milliseconds since 1970, which with `salt` makes the order unique."""

    salt: int
    maker: str
    signer: str
    token_id: int
    maker_amount: int
    taker_amount: int
    side: int
    signature_type: int
    timestamp: int
    metadata: bytes = _NONE
    builder: bytes = _NONE


@lru_cache(maxsize=8)
def domain_separator(version: str, contract: str) -> bytes:
    return keccak(_DOMAIN_TYPEHASH + _NAME + keccak(version.encode()) + _CHAIN + address_word(contract))


def order_domain(order: VenueOrder, neg_risk: bool) -> bytes:
    """Domain separator of the exchange that trades an order's token."""
    return domain_separator(*exchange_for(order.token_id, neg_risk))


def contents_hash(order: VenueOrder) -> bytes:
    """EIP-712 struct hash of an order. Raises OverflowError for numbers that do not fit their type."""
    return keccak(
        ORDER_TYPEHASH
        + _word(order.salt)
        + address_word(order.maker)
        + address_word(order.signer)
        + _word(order.token_id)
        + _word(order.maker_amount)
        + _word(order.taker_amount)
        + _word(order.side)
        + _word(order.signature_type)
        + _word(order.timestamp)
        + order.metadata
        + order.builder
    )


def order_digest(domain: bytes, contents: bytes) -> bytes:
    """Order id at the venue, and the digest signed by a plain account's key."""
    return keccak(b"\x19\x01" + domain + contents)


def wallet_digest(domain: bytes, contents: bytes, wallet: str) -> bytes:
    """Digest signed by the key behind a deposit wallet on its behalf (ERC-7739)."""
    wrapped = keccak(WRAP_TYPEHASH + contents + _WALLET_DOMAIN + address_word(wallet) + _NONE)
    return keccak(b"\x19\x01" + domain + wrapped)


def wrapped(signature: bytes, domain: bytes, contents: bytes) -> bytes:
    """Signature of a deposit wallet: its key's, and the data that the wallet needs to rebuild the digest."""
    return signature + domain + contents + _TRAILER


def unwrapped(signature: bytes, domain: bytes, contents: bytes) -> bytes | None:
    """The key's part of a deposit wallet's signature; None if the rest does not belong to this order."""
    own, rest = signature[:65], signature[65:]
    return own if rest == domain + contents + _TRAILER else None


def auth_digest(address: str, timestamp: str, nonce: int) -> bytes:
    """Digest that proves the possession of a key in a request for API credentials."""
    said = _AUTH_TYPEHASH + address_word(address) + keccak(timestamp.encode()) + _word(nonce) + _AUTH_SAID
    return keccak(b"\x19\x01" + _AUTH_DOMAIN + keccak(said))


@dataclass(frozen=True, slots=True)
class BatchCall:
    """One call of a batch that a deposit wallet's key signs for the relayer."""

    target: str
    value: int
    data: bytes


def batch_digest(wallet: str, nonce: int, deadline: int, calls: Sequence[BatchCall]) -> bytes:
    """Digest signed by the key behind a deposit wallet, which lets the relayer execute these calls until the
    deadline."""
    hashes = b"".join(keccak(_CALL_TYPEHASH + address_word(c.target) + _word(c.value) + keccak(c.data)) for c in calls)
    batch = keccak(_BATCH_TYPEHASH + address_word(wallet) + _word(nonce) + _word(deadline) + keccak(hashes))
    domain = keccak(_DOMAIN_TYPEHASH + _WALLET_DOMAIN + address_word(wallet))
    return keccak(b"\x19\x01" + domain + batch)
