"""Authentication of the loopback venue: API credentials for a key's signature, requests signed with them, orders signed
by their owner.

Credentials derive from the venue's own secret, the key and the nonce, so that deriving them again gives the same. Order
checks come in the order and with the words of the venue as far as they are known.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

import msgspec
from aiohttp import web

from backtest.venue.answers import parsed, refused
from backtest.venue.exchange import Submission
from backtest.venue.payloads import Payload, seconds
from market.clock import EPOCH
from market.types import Market, Micro, Order, Outcome, Side, TimeInForce
from tools.polymarket import auth, contracts
from tools.polymarket.auth import Credentials
from tools.polymarket.signing import order_id, signer_of
from tools.polymarket.typed import DEPOSIT, EOA, VenueOrder
from tools.polymarket.wallets import Wallets, wallets_of

_SKEW = 60
"""Largest difference in seconds between a caller's clock and the venue's."""
_LEAST_LIFE = timedelta(seconds=60)
_HUNDREDTH: Micro = 10_000
_BAD_KEY, _BAD_FIRST = "Unauthorized/Invalid api key", "Invalid L1 Request headers"
_BAD_BODY, _BAD_SIGNATURE = "Invalid order payload", "invalid signature"
_WRONG_OWNER = "the order owner has to be the owner of the API KEY"
_WRONG_SIGNER = "the order signer address has to be the address of the API KEY"
_DEPOSIT_ONLY = "maker address not allowed, please use the deposit wallet flow"
_COARSE = "the market buy orders maker amount supports a max accuracy of 2 decimals, taker amount a max of 4 decimals"
_KINDS = {"GTC": TimeInForce.GTC, "GTD": TimeInForce.GTC, "FAK": TimeInForce.FAK, "FOK": TimeInForce.FOK}


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated account: its API key and its signing key's wallets."""

    key: str
    wallets: Wallets


@dataclass(frozen=True, slots=True)
class _ApiAccount:
    credentials: Credentials
    wallets: Wallets


class Authenticator:
    """Authentication of callers and orders. `admit` is called with every wallet of a new account. `strict_wallets`
    refuses plain key accounts, as the venue does for new ones."""

    def __init__(self, secret: bytes, admit: Callable[[str], object], *, strict_wallets: bool = False) -> None:
        self._secret, self._admit, self._strict = secret, admit, strict_wallets
        self._accounts: dict[str, _ApiAccount] = {}
        self._created: set[tuple[str, int]] = set()
        self._wallets: set[str] = set()
        self.spenders = (
            contracts.EXCHANGE,
            contracts.NEG_RISK_EXCHANGE,
            contracts.NEG_RISK_COLLATERAL_ADAPTER,
            contracts.EXCHANGE_V3,
        )

    # -- credentials

    def create_key(self, headers: Mapping[str, str], now: datetime) -> Payload:
        address, nonce = self._first(headers, now)
        # The venue answers 400 here, and clients fall back to deriving the key.
        if (address, nonce) in self._created:
            raise refused("Could not create api key")
        self._created.add((address, nonce))
        return self._credentials(address, nonce)

    def derive_key(self, headers: Mapping[str, str], now: datetime) -> Payload:
        address, nonce = self._first(headers, now)
        if (address, nonce) not in self._created:
            raise refused("Could not derive api key!")
        return self._credentials(address, nonce)

    def _first(self, headers: Mapping[str, str], now: datetime) -> tuple[str, int]:
        proof = auth.proven(headers)
        if proof is None or abs(proof[1] - seconds(now)) > _SKEW:
            raise refused(_BAD_FIRST, 401)
        return proof[0], proof[2]

    def _credentials(self, address: str, nonce: int) -> Payload:
        seed = hmac.digest(self._secret, f"{address.lower()}|{nonce}".encode(), "sha512")
        text = seed.hex()
        key = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"
        secret = base64.urlsafe_b64encode(seed[16:48]).decode()
        wallets = wallets_of(address)
        if key not in self._accounts:
            self._accounts[key] = _ApiAccount(Credentials(key, secret, text[-32:]), wallets)
            for wallet in (wallets.eoa, wallets.proxy, wallets.safe, wallets.deposit):
                self._wallets.add(wallet.lower())
                self._admit(wallet.lower())
        return {"apiKey": key, "secret": secret, "passphrase": text[-32:]}

    def knows_wallet(self, address: str) -> bool:
        """True if a wallet contract exists at an address: those of the current kinds of every known key do."""
        return address.lower() in self._wallets

    def owner_of(self, address: str) -> str | None:
        """First API key of a wallet's owner, or None."""
        known = self._accounts.items()
        return next((key for key, held in known if held.wallets.signature_type(address) is not None), None)

    def key_of(self, said: Mapping[str, Any]) -> str | None:
        """API key proven by a channel's credentials, or None."""
        held = self._accounts.get(str(said.get("apiKey")))
        if held is None:
            return None
        given = f"{said.get('secret')}|{said.get('passphrase')}"
        right = f"{held.credentials.secret}|{held.credentials.passphrase}"
        # The comparison takes the same time for every wrong secret.
        return held.credentials.key if hmac.compare_digest(given.encode(), right.encode()) else None

    def wallet(self, caller: Caller, signature_type: str) -> str:
        """Wallet of a caller by signature type. Raises Refusal."""
        own = caller.wallets
        try:
            return (own.eoa, own.proxy, own.safe, own.deposit)[int(signature_type)].lower()
        except (ValueError, IndexError):
            raise refused("invalid signature type") from None

    def beat(self, key: str, last: str) -> str:
        """Id of the next heartbeat."""
        text = hashlib.sha256(f"{key}|{last}".encode()).hexdigest()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"

    async def enter(self, request: web.Request, now: datetime) -> tuple[Caller, Any]:
        """Authenticate a request; return the caller, and the JSON body, None without one. Raises Refusal."""
        held = self._accounts.get(request.headers.get(auth.API_KEY, ""))
        raw = await request.read()
        if held is None or request.headers.get(auth.ADDRESS, "").lower() != held.wallets.eoa.lower():
            raise refused(_BAD_KEY, 401)
        try:
            second = auth.authentic(request.headers, held.credentials, request.method, request.path, raw)
        except ValueError:  # headers that are no text
            second = None
        if second is None or abs(second - seconds(now)) > _SKEW:
            raise refused(_BAD_KEY, 401)
        return Caller(held.credentials.key, held.wallets), parsed(raw, _BAD_BODY) if raw else None

    # -- orders

    def submission(
        self, caller: Caller, body: Any, now: datetime, tokens: Mapping[str, tuple[Market, Outcome]]
    ) -> Submission:
        """A signed order in the exchange's form. Raises Refusal in the venue's words."""
        posted = _posted(body)
        signed = posted.order
        if posted.owner != caller.key:
            raise refused(_WRONG_OWNER)
        self._check_wallet(caller, signed)
        if str(signed.token_id) not in tokens:
            raise refused("the market is not yet ready to process new orders")
        market, outcome = tokens[str(signed.token_id)]
        # Any signature recovers to some address, so a wrong exchange or domain shows as a foreign signer.
        who = signer_of(signed, posted.signature, neg_risk=market.neg_risk)
        if who is None or who.lower() != caller.wallets.eoa.lower():
            raise refused(_BAD_SIGNATURE)
        known_as = order_id(signed, neg_risk=market.neg_risk)
        return Submission(
            id=known_as,
            owner=caller.key,
            address=signed.maker.lower(),
            order=posted.as_order(market, outcome, now),
            kind=posted.kind,
            expires_at=_expiry(posted, now),
            budget=posted.budget,
        )

    def _check_wallet(self, caller: Caller, order: VenueOrder) -> None:
        if order.signature_type == EOA and self._strict:
            raise refused(_DEPOSIT_ONLY)
        # Orders of a deposit wallet name the wallet itself as their signer; the key's signature is wrapped (ERC-7739).
        signs = order.maker if order.signature_type == DEPOSIT else caller.wallets.eoa
        if order.signer.lower() != signs.lower():
            raise refused(_WRONG_SIGNER)
        if caller.wallets.signature_type(order.maker) != order.signature_type:
            raise refused(_WRONG_SIGNER)


@dataclass(frozen=True, slots=True)
class _Posted:
    """Parsed body of POST /order."""

    order: VenueOrder
    signature: bytes
    owner: str
    kind: str
    expiration: int
    post_only: bool

    @property
    def buys(self) -> bool:
        return self.order.side == 0

    @property
    def budget(self) -> Micro | None:
        """Spending limit in micro-dollars of a purchase that does not rest."""
        return self.order.maker_amount if self.buys and _KINDS[self.kind] is not TimeInForce.GTC else None

    def as_order(self, market: Market, outcome: Outcome, now: datetime) -> Order:
        """The order in the matching engine's form: an exact price on the grid, and shares. Raises Refusal."""
        given, wanted = self.order.maker_amount, self.order.taker_amount
        dollars, shares = (given, wanted) if self.buys else (wanted, given)
        # A rational number: a float could put a price on the grid next to it.
        exact = Fraction(dollars, shares)
        price = _decimal(exact)
        if self.budget is not None:
            if dollars % _HUNDREDTH or shares % 100:
                raise refused(_COARSE)
            # What it pays at most is rounded up from the limit it was made with.
            price = _floored(exact, market.tick)
        side = Side.BUY if self.buys else Side.SELL
        return Order(
            market_id=market.id,
            outcome=outcome,
            side=side,
            price=price,
            size=shares,
            tif=_KINDS[self.kind],
            placed_at=now,
            key=self.signature.hex()[:16],
            post_only=self.post_only,
        )


def _decimal(value: Fraction) -> Decimal:
    """Convert a price to a decimal; one without a short form is off every grid and is cut, so that the check finds
    it."""
    return Decimal(value.numerator * 10**8 // value.denominator).scaleb(-8).normalize()


def _floored(value: Fraction, tick: Decimal) -> Decimal:
    steps = value / Fraction(tick)
    return tick * (steps.numerator // steps.denominator)


def _expiry(posted: _Posted, now: datetime) -> datetime | None:
    if posted.kind != "GTD":
        if posted.expiration:
            raise refused("invalid expiration")
        return None
    at = EPOCH + timedelta(seconds=posted.expiration)
    # The official client asks for three minutes; the exchange itself for one.
    if at < now + _LEAST_LIFE:
        raise refused("invalid expiration")
    return at


class _WireOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Wire form of an order; the names are the protocol's."""

    salt: int
    maker: str
    signer: str
    tokenId: str  # noqa: N815
    makerAmount: str  # noqa: N815
    takerAmount: str  # noqa: N815
    side: Literal["BUY", "SELL"]
    expiration: str
    signatureType: Literal[0, 1, 2, 3]  # noqa: N815
    timestamp: str
    metadata: str
    builder: str
    signature: str


class _WireBody(msgspec.Struct):
    order: _WireOrder
    owner: str
    orderType: Literal["GTC", "GTD", "FAK", "FOK"]  # noqa: N815
    postOnly: bool = False  # noqa: N815


def _posted(body: Any) -> _Posted:
    """Parse an order. Raises Refusal if the payload is malformed, or a number or address does not fit its type."""
    try:
        wire = msgspec.convert(body, _WireBody)
        said = wire.order
        order = VenueOrder(
            salt=said.salt,
            maker=said.maker,
            signer=said.signer,
            token_id=_number(said.tokenId),
            maker_amount=_number(said.makerAmount),
            taker_amount=_number(said.takerAmount),
            side=0 if said.side == "BUY" else 1,
            signature_type=said.signatureType,
            timestamp=_number(said.timestamp),
            metadata=_bytes(said.metadata, 32),
            builder=_bytes(said.builder, 32),
        )
        signature = _bytes(said.signature)
        posted = _Posted(
            order=order,
            signature=signature,
            owner=wire.owner,
            kind=wire.orderType,
            expiration=_number(said.expiration),
            post_only=wire.postOnly,
        )
        order_id(order)
    except (ValueError, OverflowError):
        raise refused(_BAD_BODY) from None
    if not order.maker_amount or not order.taker_amount:
        raise refused(_BAD_BODY)
    return posted


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("a number in a string")
    return int(text)


def _bytes(text: str, length: int | None = None) -> bytes:
    raw = bytes.fromhex(text.removeprefix("0x"))
    if length not in (None, len(raw)):
        raise ValueError(f"{length} bytes")
    return raw
