"""Order ids and signatures against the reference vectors and the official client's own."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
import inspect
import pickle
import random
import traceback
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import Misconfigured
from tools.polymarket import auth, contracts
from tools.polymarket.signing import Signer, order_id, recovered, signer_of
from tools.polymarket.typed import (
    DEPOSIT,
    EOA,
    ORDER_TYPEHASH,
    PROXY,
    SAFE,
    WRAP_TYPEHASH,
    VenueOrder,
    domain_separator,
)
from tools.polymarket.wallets import wallets_of

SECRET = b"\x11" * 32
SIGNER = Signer(SECRET)
WALLETS = wallets_of(SIGNER.address)
TOKEN = 25968266233034896887180396827466900198780859103374793634057155743131125594489
CLIENT = "0.14."


def order(signature_type: int = EOA, token: int = TOKEN) -> VenueOrder:
    maker = (WALLETS.eoa, WALLETS.proxy, WALLETS.safe, WALLETS.deposit)[signature_type]
    signer = maker if signature_type == DEPOSIT else WALLETS.eoa
    return VenueOrder(123456789, maker, signer, token, 6120000, 12000000, 0, signature_type, 1795403573757)


def test_addresses_of_a_key_are_the_reference_ones() -> None:
    assert WALLETS.eoa == "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
    assert WALLETS.proxy == "0x6Cd089333445c89b55B7693c6009DCc229613738"
    assert WALLETS.safe == "0x75F00B003FBBBA193FABEB06284c3187a4C1232E"
    assert WALLETS.deposit == "0x8154deDBDAAA46c07453E47b5b6C0Ff60B8542b9"
    assert WALLETS.deposit_uups == "0x7a57144fAfde87F5cE4a880D570BAe58eeBC83f2"
    assert [WALLETS.signature_type(a) for a in (WALLETS.eoa, WALLETS.proxy, WALLETS.safe, WALLETS.deposit)] == [
        EOA,
        PROXY,
        SAFE,
        DEPOSIT,
    ]
    assert WALLETS.signature_type(contracts.EXCHANGE) is None


def test_type_hashes_and_domains_are_the_reference_ones() -> None:
    assert ORDER_TYPEHASH.hex() == "bb86318a2138f5fa8ae32fbe8e659f8fcf13cc6ae4014a707893055433818589"
    assert WRAP_TYPEHASH.hex() == "6ba028565cb324c2aa02bb714b9816d0bddd557a2f33bb36cf13272a4256bd42"
    found = {
        c: domain_separator(v, c).hex()[:16]
        for v, c in (("2", contracts.EXCHANGE), ("2", contracts.NEG_RISK_EXCHANGE), ("3", contracts.EXCHANGE_V3))
    }
    assert list(found.values()) == ["3264e159346253e2", "9b858f53327b0bd1", "466c63910185bbd5"]


@pytest.mark.parametrize(
    ("neg_risk", "signature_type", "known"),
    [
        (False, EOA, "0x574a17dc787ed5f733fb5c959e198d730cd73d6d3800228bd54930067240d470"),
        (False, DEPOSIT, "0x2704bce774dd0c0ff2401386ba724fcde3d7655fde8fa0edfbc0d403bd67f5c6"),
        (True, EOA, "0x426f992a5974e20df1d9191d989f383bf82911b69d37178aaca8be152e79a73d"),
        (True, DEPOSIT, "0x9ee26eaf79a8e357891f368c564df682d337c2a514d7c40e829a7c147faad587"),
    ],
)
def test_order_ids_are_the_reference_ones(neg_risk: bool, signature_type: int, known: str) -> None:
    one = order(signature_type)
    signed = SIGNER.order(one, neg_risk=neg_risk)
    assert signed.id == known == order_id(one, neg_risk=neg_risk)
    assert len(signed.signature) == (317 if signature_type == DEPOSIT else 65)
    assert signer_of(one, signed.signature, neg_risk=neg_risk) == WALLETS.eoa


@pytest.mark.parametrize(
    ("signature_type", "known"),
    [
        (EOA, "d32a04b481dd859f882d2d9f04769267ceab7c00b2cf44a1e73f350df16c83fa"),
        (DEPOSIT, "d12de339d6c72153acb5a96266c071f4b09cfecd53f72b8b2a281d745e72bdc4"),
    ],
)
def test_the_third_domain_gives_the_reference_ids(signature_type: int, known: str) -> None:
    from tools.polymarket.typed import contents_hash, order_digest

    domain = domain_separator("3", contracts.EXCHANGE_V3)
    assert order_digest(domain, contents_hash(order(signature_type))).hex() == known


def test_signatures_are_the_reference_ones() -> None:
    assert SIGNER.order(order()).signature.hex() == (
        "113f3efc7279919a82f1f2d67249a6b2fb3ebd46f77509ef20e0cca456ad8d57"
        "62e8a333e8e87a15d3df8b9c60c5dba411bd58028d9580f49f96436547069f8d1c"
    )
    assert SIGNER.auth("1795403573", 0).hex() == (
        "ceae037cfab12645ce00532beaa0341aa2452d9840512d43d9f53ea775daf6e3"
        "78d4039a3af128d27875e3cb022c4811cfdf12840297d8f0010a174345a67cde1b"
    )
    secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    made = auth.request_signature(secret, 1795403573, "DELETE", "/order", b'{"orderID":"0x11"}')
    assert made == "cI7c9ujGHC1ZcWp0mHVH1m0l7g8y0L3Cr57IzKHJKlY="


def test_the_pinned_client_still_has_the_private_names_that_are_relied_on() -> None:
    version = importlib.metadata.version("polymarket-client")
    assert version.startswith(CLIENT), (
        f"polymarket-client is {version}: read its change log, check the names below, then move the pin."
    )
    from polymarket._internal import environment

    missing = [n for n in ("PRODUCTION_CONFIG", "create_environment") if not hasattr(environment, n)]
    assert not missing, f"polymarket-client {version} no longer has {missing}: it cannot be pointed at another host."
    assert set(inspect.signature(environment.create_environment).parameters) == {"name", "config"}
    fields = {f.name for f in dataclasses.fields(environment.PRODUCTION_CONFIG)}
    needed = {"clob_url", "gamma_url", "data_url", "relayer_url", "rpc_url", "clob_market_ws_url", "clob_user_ws_url"}
    assert needed <= fields, f"polymarket-client {version} no longer takes the addresses {sorted(needed - fields)}."
    from polymarket import AsyncSecureClient

    made = inspect.signature(AsyncSecureClient._create).parameters
    asked = {"private_key", "wallet", "environment", "credentials", "api_key", "validate_credentials"}
    assert asked <= set(made), f"polymarket-client {version} is no longer made with {sorted(asked - set(made))}."


def test_requests_of_the_pinned_client_can_be_stamped_with_our_clock() -> None:
    """One sentence where the place for it has moved, and none of the requests is stamped by the machine."""
    from market.clock import ManualClock
    from market.polymarket.hosts import Hosts
    from tools.polymarket.auth import Credentials
    from tools.polymarket.client import SigningAccount, open_client

    async def scenario() -> str:
        known = Credentials("key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "phrase")
        clock = ManualClock(datetime(2001, 1, 1, tzinfo=UTC))
        trader = SigningAccount.of(Signer.of_hex("0x" + "11" * 32))
        async with open_client(Hosts(), trader, b"\x11" * 32, known, clock) as client:
            headers = await client._ctx.secure_clob._header_resolver("GET", "/data/orders", None)
        return str(headers["POLY_TIMESTAMP"])

    assert asyncio.run(scenario()) == "978307200", "polymarket-client stamps requests somewhere else now"


def test_random_orders_are_signed_as_the_official_client_signs_them() -> None:
    must_sign_as_the_official_client(500)


@pytest.mark.soak
def test_ten_thousand_random_orders_are_signed_as_the_official_client_signs_them() -> None:
    must_sign_as_the_official_client(10_000)


def must_sign_as_the_official_client(count: int) -> None:
    from eth_account import Account
    from polymarket._internal.actions.orders.typed_data import build_order_signature, build_order_typed_data
    from polymarket._internal.actions.orders.types import UnsignedOrder
    from polymarket.types import HexString

    account, chance = Account.from_key(SECRET), random.Random(4)
    seen = set()
    for _ in range(count):
        one, neg_risk, ours = _random_order(chance)
        version, contract = contracts.exchange_for(one.token_id, neg_risk)
        theirs = UnsignedOrder(**_as_the_client_has_it(one, version, contract))
        raw = account.sign_typed_data(full_message=build_order_typed_data(theirs)).signature
        made = build_order_signature(theirs, HexString("0x" + raw.hex()))
        assert "0x" + ours.hex() == made
        seen.add((one.signature_type, version, neg_risk, one.side))
    assert len(seen) == 4 * 2 * 3, "every kind of wallet, side and domain was drawn"


def _as_the_client_has_it(one: VenueOrder, version: str, contract: str) -> dict[str, Any]:
    return {
        "builder": "0x" + one.builder.hex(),
        "chain_id": contracts.CHAIN_ID,
        "exchange_address": contract,
        "expiration": 0,
        "maker": one.maker,
        "maker_amount": one.maker_amount,
        "metadata": "0x" + one.metadata.hex(),
        "order_type": "GTC",
        "salt": one.salt,
        "side": "SELL" if one.side else "BUY",
        "signature_type": one.signature_type,
        "signer": one.signer,
        "taker_amount": one.taker_amount,
        "timestamp": one.timestamp,
        "token_id": str(one.token_id),
        "protocol_version": version,
    }


def _random_order(chance: random.Random) -> tuple[VenueOrder, bool, bytes]:
    signature_type, position, neg_risk = chance.randrange(4), chance.random() < 0.3, chance.random() < 0.5
    token = (chance.randrange(1, 4) << 248) | (chance.getrandbits(144) << 104) | chance.randrange(2)
    one = VenueOrder(
        chance.getrandbits(53),
        order(signature_type).maker,
        order(signature_type).signer,
        token if position else chance.getrandbits(256) | (1 << 70),
        chance.getrandbits(40) + 1,
        chance.getrandbits(40) + 1,
        chance.randrange(2),
        signature_type,
        chance.getrandbits(43),
        chance.randbytes(32),
        chance.randbytes(32),
    )
    neg_risk = neg_risk and not position
    return one, neg_risk, SIGNER.order(one, neg_risk=neg_risk).signature


@given(st.integers(0, 64), st.integers(1, 255), st.sampled_from([EOA, DEPOSIT]))
def test_a_signature_with_one_byte_changed_is_of_somebody_else(place: int, change: int, signature_type: int) -> None:
    one = order(signature_type)
    signature = bytearray(SIGNER.order(one).signature)
    signature[place] ^= change
    assert signer_of(one, bytes(signature)) != WALLETS.eoa


@given(st.binary(max_size=400))
def test_garbage_is_nobodys_signature(garbage: bytes) -> None:
    assert signer_of(order(), garbage) != WALLETS.eoa
    assert signer_of(order(DEPOSIT), garbage) is None
    assert recovered(bytes(32), garbage) != WALLETS.eoa


def test_a_key_is_not_shown_and_not_written_down() -> None:
    assert SECRET.hex() not in repr(SIGNER) + str(SIGNER)
    with pytest.raises(TypeError):
        pickle.dumps(SIGNER)
    for text in ("0x" + "11" * 31, "no key", "0x" + "00" * 32, "ff" * 32):
        with pytest.raises(Misconfigured) as raised:
            Signer.of_hex(text)
        told = "".join(traceback.format_exception(raised.value)) + raised.value.sentence()
        assert text.removeprefix("0x") not in told.replace("test_order_signing", "")


def test_first_headers_prove_their_sender_and_nothing_else() -> None:
    sent = auth.first_headers(SIGNER, 1795403573, 2)
    assert auth.proven(sent) == (WALLETS.eoa, 1795403573, 2)
    for name, value in ((auth.NONCE, "3"), (auth.TIMESTAMP, "1795403574"), (auth.ADDRESS, WALLETS.safe)):
        assert auth.proven(sent | {name: value}) is None
    assert auth.proven({}) is None
    assert auth.proven(sent | {auth.SIGNATURE: "0x12"}) is None


def test_request_headers_are_of_one_body_and_one_path() -> None:
    own = auth.Credentials("key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "phrase")
    sent = auth.headers(WALLETS.eoa, own, 1795403573, "POST", "/order", b"{}")
    assert auth.authentic(sent, own, "POST", "/order", b"{}") == 1795403573
    assert auth.authentic(sent, own, "POST", "/order", b"{} ") is None
    assert auth.authentic(sent, own, "POST", "/orders", b"{}") is None
    assert auth.authentic(sent | {auth.PASSPHRASE: "other"}, own, "POST", "/order", b"{}") is None
    assert auth.authentic(sent | {auth.TIMESTAMP: "soon"}, own, "POST", "/order", b"{}") is None
    assert "phrase" not in repr(own)
