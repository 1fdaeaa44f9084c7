"""Contract addresses of the venue on Polygon, and the contract that an order is signed for.

Addresses as the official client 0.14.0 has them (October 2026), in the mixed case that payloads carry.
"""

from __future__ import annotations

CHAIN_ID = 137
COLLATERAL = "0xC011a7E12a19f7B1f670d46F03B03f3342E82DFB"
"""pUSD, six decimals."""
CONDITIONAL_TOKENS = "0x4D97DCd97eC945f40cF65F87097ACe5EA0476045"
EXCHANGE = "0xE111180000d2663C0091e4f400237545B87B996B"
NEG_RISK_EXCHANGE = "0xe2222d279d744050d28e00520010520000310F59"
EXCHANGE_V3 = "0xe3333700cA9d93003F00f0F71f8515005F6c00Aa"
COLLATERAL_ADAPTER = "0xAdA100Db00Ca00073811820692005400218FcE1f"
NEG_RISK_COLLATERAL_ADAPTER = "0xadA2005600Dec949baf300f4C6120000bDB6eAab"
PROXY_FACTORY = "0xaB45c5A4B0c941a2F231C04C3f49182e1A254052"
PROXY_IMPLEMENTATION = "0x44e999d5c2F66Ef0861317f9A4805AC2e90aEB4f"
SAFE_FACTORY = "0xaacFeEa03eb1561C4e67d661e40682Bd20E3541b"
SAFE_INIT_CODE_HASH = "0x2bce2127ff07fb632d16c8347c4ebf501f4841168bed00d9e6ef715ddb6fcecf"
DEPOSIT_WALLET_FACTORY = "0x00000000000Fb5C9ADea0298D729A0CB3823Cc07"
DEPOSIT_WALLET_IMPLEMENTATION = "0x58CA52ebe0DadfdF531Cde7062e76746de4Db1eB"
DEPOSIT_WALLET_BEACON = "0x7A18EDfe055488A3128f01F563e5B479D92ffc3a"

_RESERVED = ((1 << 64) - 1) << 40


def is_position_id(token_id: int) -> bool:
    """True if a token is a position of the second protocol, which has an exchange of its own.

    Such an id has 64 zero bits above the lowest five bytes; the others are hashes.
    """
    return token_id & _RESERVED == 0


def exchange_for(token_id: int, neg_risk: bool) -> tuple[str, str]:
    """Version of the signing domain and contract for an order of a token."""
    if is_position_id(token_id):
        return "3", EXCHANGE_V3
    return "2", NEG_RISK_EXCHANGE if neg_risk else EXCHANGE
