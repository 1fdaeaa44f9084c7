"""Authentication at the venue: once with the key for API credentials, then with those on every request.

Header names and signed content as in docs.polymarket.com and the official client 0.14.0. The same functions serve the
client and the loopback venue, which checks the client's requests.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from tools.polymarket import typed
from tools.polymarket.signing import Signer, recovered

ADDRESS, SIGNATURE, TIMESTAMP, NONCE = "POLY_ADDRESS", "POLY_SIGNATURE", "POLY_TIMESTAMP", "POLY_NONCE"
API_KEY, PASSPHRASE = "POLY_API_KEY", "POLY_PASSPHRASE"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """API credentials issued for a key's signature; never displayed."""

    key: str
    secret: str
    passphrase: str

    def __repr__(self) -> str:
        return "Credentials(...)"


def first_headers(signer: Signer, second: int, nonce: int = 0) -> dict[str, str]:
    """Headers of a request for API credentials (level 1); `second` is the venue's time."""
    signature = signer.auth(str(second), nonce)
    return {
        ADDRESS: signer.address,
        SIGNATURE: f"0x{signature.hex()}",
        TIMESTAMP: str(second),
        NONCE: str(nonce),
    }


def proven(headers: Mapping[str, str]) -> tuple[str, int, int] | None:
    """Verify level-1 headers: address, time and nonce; None if the proof fails."""
    try:
        second, nonce = int(headers[TIMESTAMP]), int(headers[NONCE])
        digest = typed.auth_digest(headers[ADDRESS], headers[TIMESTAMP], nonce)
        signature = bytes.fromhex(headers[SIGNATURE].removeprefix("0x"))
    except (KeyError, ValueError, OverflowError):
        return None
    address = recovered(digest, signature)
    # A signature always recovers to some address: only the claimed one proves anything.
    if address is None or address.lower() != headers[ADDRESS].lower():
        return None
    return address, second, nonce


def request_signature(secret: str, second: int, method: str, path: str, body: bytes = b"") -> str:
    """HMAC-SHA256 over time, method, path without query, and the body exactly as sent."""
    key = base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
    digest = hmac.digest(key, f"{second}{method}{path}".encode() + body, "sha256")
    return base64.urlsafe_b64encode(digest).decode()


def headers(
    address: str, credentials: Credentials, second: int, method: str, path: str, body: bytes = b""
) -> dict[str, str]:
    """Headers of every authenticated request (level 2); `address` belongs to the key that the credentials were issued
    for."""
    return {
        ADDRESS: address,
        API_KEY: credentials.key,
        PASSPHRASE: credentials.passphrase,
        SIGNATURE: request_signature(credentials.secret, second, method, path, body),
        TIMESTAMP: str(second),
    }


def authentic(sent: Mapping[str, str], credentials: Credentials, method: str, path: str, body: bytes) -> int | None:
    """Verify level-2 headers and return their time; None if they are not of these credentials."""
    try:
        second = int(sent[TIMESTAMP])
        expected = request_signature(credentials.secret, second, method, path, body)
    except (KeyError, ValueError, binascii.Error):
        return None
    # Both in constant time, and both always, so that the time of a refusal tells nothing.
    same = hmac.compare_digest(expected.encode(), sent.get(SIGNATURE, "").encode())
    known = hmac.compare_digest(credentials.passphrase.encode(), sent.get(PASSPHRASE, "").encode())
    return second if same and known else None
