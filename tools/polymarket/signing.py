"""The private key and all signatures made with it. The key appears nowhere else: not in a repr, a pickle, an error or a
log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from coincurve import PrivateKey, PublicKey

from market.errors import Misconfigured
from tools.polymarket import typed
from tools.polymarket.typed import DEPOSIT, VenueOrder
from tools.polymarket.wallets import checksummed

_V = 27
_BAD_KEY = "The private key is not 32 bytes in hexadecimal."


@dataclass(frozen=True, slots=True)
class SignedDigest:
    """An order's id, 0x and 64 hexadecimal digits, and its signature, 65 bytes or 317 for a deposit wallet."""

    id: str
    signature: bytes


class Signer:
    """Signer of one key. `address` is the key's own."""

    __slots__ = ("__key", "address")

    def __init__(self, secret: bytes) -> None:
        try:
            self.__key = PrivateKey(secret)
        except (ValueError, TypeError):
            raise Misconfigured(_BAD_KEY, next_step="Check the key file.") from None
        self.address = checksummed(_account(self.__key.public_key))

    @classmethod
    def of_hex(cls, text: str) -> Signer:
        """Parse hexadecimal digits, with or without 0x. Raises Misconfigured, which does not repeat them."""
        try:
            raw = bytes.fromhex(text.strip().removeprefix("0x"))
        except ValueError:
            raise Misconfigured(_BAD_KEY, next_step="Check the key file.") from None
        if len(raw) != 32:
            raise Misconfigured(_BAD_KEY, next_step="Check the key file.")
        return cls(raw)

    def __repr__(self) -> str:
        return f"Signer({self.address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer is never written down")

    def digest(self, digest: bytes) -> bytes:
        """Sign a digest: 65 bytes, r, s and v."""
        made = self.__key.sign_recoverable(digest, hasher=None)
        return made[:64] + bytes((made[64] + _V,))

    def order(self, order: VenueOrder, *, neg_risk: bool = False) -> SignedDigest:
        """Sign for the wallet that the order's signature type names."""
        domain, contents = typed.order_domain(order, neg_risk), typed.contents_hash(order)
        digest = typed.order_digest(domain, contents)
        if order.signature_type != DEPOSIT:
            return SignedDigest("0x" + digest.hex(), self.digest(digest))
        own = self.digest(typed.wallet_digest(domain, contents, order.signer))
        return SignedDigest("0x" + digest.hex(), typed.wrapped(own, domain, contents))

    def auth(self, timestamp: str, nonce: int) -> bytes:
        """Signature for a request for API credentials."""
        return self.digest(typed.auth_digest(self.address, timestamp, nonce))


def recovered(digest: bytes, signature: bytes) -> str | None:
    """Address of the key that made a signature of 65 bytes; None for an invalid one."""
    if len(signature) != 65 or signature[64] not in (_V, _V + 1):
        return None
    try:
        key = PublicKey.from_signature_and_message(signature[:64] + bytes((signature[64] - _V,)), digest, hasher=None)
    except Exception:  # the library has no type of its own for what is not a point
        return None
    return checksummed(_account(key))


def signer_of(order: VenueOrder, signature: bytes, *, neg_risk: bool = False) -> str | None:
    """Address of the key that signed an order, for any kind of wallet; None if the signature is not of this order."""
    domain, contents = typed.order_domain(order, neg_risk), typed.contents_hash(order)
    if order.signature_type != DEPOSIT:
        return recovered(typed.order_digest(domain, contents), signature)
    own = typed.unwrapped(signature, domain, contents)
    return None if own is None else recovered(typed.wallet_digest(domain, contents, order.signer), own)


def order_id(order: VenueOrder, *, neg_risk: bool = False) -> str:
    """Id of an order at the venue; computable before it is signed."""
    digest = typed.order_digest(typed.order_domain(order, neg_risk), typed.contents_hash(order))
    return "0x" + digest.hex()


def _account(key: PublicKey) -> bytes:
    return typed.keccak(key.format(compressed=False)[1:])[12:]
