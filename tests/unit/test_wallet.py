"""Meaning of a wallet's status for a person, and the bytes of calls and transactions against other programs' own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.clock import EPOCH
from market.errors import Misconfigured
from market.types import UNIT
from tools.polymarket import contracts
from tools.polymarket.chain import (
    AUTO_REDEEM,
    OPERATORS,
    SPENDERS,
    UNLIMITED,
    Call,
    Transaction,
    approve,
    approve_shares,
    redeem,
    rlp,
)
from tools.polymarket.signing import Signer
from tools.wallet import Receipt, WalletStatus, advice, pol

pytest.importorskip("eth_abi", reason="the extra `live` is not installed")

SIGNER = Signer(b"\x11" * 32)
MARKET = "0x" + "ab" * 32
STATUS = WalletStatus(
    address=SIGNER.address,
    funder=SIGNER.address,
    kind="plain account",
    signature_type=0,
    balance=100 * UNIT,
    gas=10**18,
    allowances={"exchange": UNLIMITED},
    approvals={"exchange": True},
    missing=(),
    chain_id=137,
    block=1,
    block_at=EPOCH,
)


def test_an_account_that_can_trade_needs_no_advice() -> None:
    assert advice(STATUS) == ()


def test_every_thing_that_is_missing_is_a_sentence_with_the_next_step() -> None:
    bare = replace(STATUS, balance=0, gas=0, missing=("the exchange's allowance to take dollars",))
    told = advice(bare)
    assert len(told) == 3 and all(sentence.endswith(".") for sentence in told)
    assert "deposit" in told[0] and "edgeclaw wallet setup" in told[1] and "0.000000 POL" in told[2]


def test_only_a_plain_account_is_told_to_buy_gas() -> None:
    assert advice(replace(STATUS, gas=0)) != ()
    assert advice(replace(STATUS, gas=0, signature_type=3, kind="deposit wallet")) == ()


def test_an_allowance_below_the_balance_is_named_with_both_amounts() -> None:
    (told,) = advice(replace(STATUS, allowances={"exchange": 40 * UNIT, "neg-risk exchange": 0}))
    assert "exchange may take only 40.000000 of the 100.000000 dollars" in told


def test_a_receipt_says_in_a_word_what_came_of_it() -> None:
    assert Receipt("0x1", True, 1, 2).status == "ok" and Receipt("0x1", False, 1, 2).status == "reverted"


@given(st.integers(0, 10**24))
def test_gas_money_is_never_shown_as_more_than_it_is(wei: int) -> None:
    whole, _, places = pol(wei).partition(".")
    assert len(places) == 6 and 0 <= wei - int(whole + places) * 10**12 < 10**12


# -- calls


def test_calls_are_packed_as_the_official_client_packs_them() -> None:
    theirs = pytest.importorskip("polymarket.calls", reason="the extra `live` is not installed")
    spender = contracts.EXCHANGE
    pairs = [
        (
            approve(spender, 5 * UNIT),
            theirs.erc20_approval_call(token_address=contracts.COLLATERAL, spender=spender, amount=5 * UNIT),
        ),
        (
            approve_shares(spender, True),
            theirs.erc1155_set_approval_for_all_call(token_address=contracts.CONDITIONAL_TOKENS, operator=spender),
        ),
        (
            redeem(MARKET),
            theirs.ctf_redeem_positions_call(
                ctf=contracts.COLLATERAL_ADAPTER, collateral=contracts.COLLATERAL, condition_id=MARKET
            ),
        ),
    ]
    for ours, made in pairs:
        assert "0x" + ours.data.hex() == made.data and ours.target == made.to
    assert redeem(MARKET).data[:4].hex() == "01b7037c"
    assert redeem(MARKET, neg_risk=True).target == contracts.NEG_RISK_COLLATERAL_ADAPTER


def test_addresses_are_the_ones_that_the_official_client_has() -> None:
    config = pytest.importorskip("polymarket._internal.environment", reason="no `live`").PRODUCTION_CONFIG
    known = {str(value).lower() for value in vars(config).values()} if hasattr(config, "__dict__") else set()
    known |= {str(getattr(config, name)).lower() for name in getattr(config, "__dataclass_fields__", ())}
    assert AUTO_REDEEM.lower() in known
    assert {a.lower() for a in (SPENDERS | OPERATORS).values()} <= known


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (approve(contracts.EXCHANGE, 25 * UNIT), "Let the exchange take up to 25.000000 dollars from this account."),
        (approve(contracts.EXCHANGE, 0), "Let the exchange take no dollars any more from this account."),
        (approve(contracts.EXCHANGE, UNLIMITED), "Let the exchange take any amount of dollars from this account."),
        (approve_shares(AUTO_REDEEM, True), "Let the auto-redeem take shares of any market from this account."),
        (approve_shares("0x" + "22" * 20, False), "contract 0x" + "22" * 20 + " take no shares any more"),
        (redeem(MARKET), f"Turn all shares of the market {MARKET} into dollars."),
    ],
)
def test_a_call_says_what_it_does(call: Call, words: str) -> None:
    assert words in call.says


@pytest.mark.parametrize(
    "make",
    [
        lambda: approve(contracts.EXCHANGE, -1),
        lambda: approve(contracts.EXCHANGE, 1 << 256),
        lambda: approve("0x1234", 1),
        lambda: approve_shares("no address", True),
        lambda: redeem("0x12"),
        lambda: redeem("a market"),
    ],
)
def test_amounts_addresses_and_markets_that_are_none_are_refused(make: Any) -> None:
    with pytest.raises(Misconfigured) as raised:
        make()
    assert raised.value.next_step


# -- transactions

numbers = st.integers(0, 1 << 64)
things = st.recursive(st.binary(max_size=70) | numbers, lambda inner: st.lists(inner, max_size=5), max_leaves=20)


@given(things)
def test_the_prefix_encoding_is_the_usual_one(thing: Any) -> None:
    theirs = pytest.importorskip("rlp", reason="the extra `live` is not installed")
    assert rlp(thing) == theirs.encode(thing)


@given(numbers, numbers, numbers, numbers, st.binary(max_size=200), st.integers(1, 1 << 200))
def test_transactions_are_signed_as_another_program_signs_them(
    nonce: int, tip: int, most: int, gas: int, data: bytes, key: int
) -> None:
    account = pytest.importorskip("eth_account", reason="the extra `live` is not installed").Account
    secret = key.to_bytes(32, "big")
    ours = Transaction(nonce, tip, most, gas, Call(contracts.COLLATERAL, data, "")).signed(Signer(secret))
    theirs = account.sign_transaction(
        {
            "type": 2,
            "chainId": 137,
            "nonce": nonce,
            "maxPriorityFeePerGas": tip,
            "maxFeePerGas": most,
            "gas": gas,
            "to": contracts.COLLATERAL,
            "value": 0,
            "data": data,
        },
        secret,
    )
    assert ours == bytes(theirs.raw_transaction)
