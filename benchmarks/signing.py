"""Signing an order: ours, the official client's on the same libsecp256k1, and the bare signature that both need.

One run, one order after the other, a thousand different ones; microseconds by the nearest rank.
"""

from __future__ import annotations

import json
import platform
import random
from collections.abc import Callable
from typing import Any

from coincurve import PrivateKey
from eth_account import Account
from polymarket._internal.actions.orders.typed_data import build_order_signature, build_order_typed_data
from polymarket._internal.actions.orders.types import UnsignedOrder
from polymarket.types import HexString

from agent.reports.funnel import latency
from market.clock import monotonic
from tools.polymarket.signing import Signer
from tools.polymarket.typed import DEPOSIT, EOA, VenueOrder
from tools.polymarket.wallets import wallets_of

COUNT = 1_000
SECRET = b"\x11" * 32
_NONE = "0x" + "00" * 32


def orders(signature_type: int) -> list[VenueOrder]:
    chance, own = random.Random(1), wallets_of(Signer(SECRET).address)
    maker = own.deposit if signature_type == DEPOSIT else own.eoa
    return [
        VenueOrder(
            chance.getrandbits(53), maker, maker, chance.getrandbits(255) | 1 << 100, chance.randint(1, 10**9),
            chance.randint(1, 10**9), n % 2, signature_type, 1_795_403_573_757 + n,
        )
        for n in range(COUNT)
    ]  # fmt: skip


def measured(work: Callable[[Any], object], things: list[Any]) -> dict[str, float | None]:
    """Microseconds of each call, after a warm-up."""
    for one in things[:50]:
        work(one)
    times = []
    for one in things:
        begun = monotonic()
        work(one)
        times.append((monotonic() - begun) * 1e6)
    line = latency("", times)
    return {"p50_us": round(line.p50 or 0, 1), "p99_us": round(line.p99 or 0, 1)}


def _theirs(order: VenueOrder) -> Any:
    """The client's own value for an order; what it is made of is not timed."""
    made: Any = UnsignedOrder
    return made(
        builder=_NONE, chain_id=137, exchange_address="0xE111180000d2663C0091e4f400237545B87B996B", expiration=0,
        maker=order.maker, maker_amount=order.maker_amount, metadata=_NONE, order_type="GTC", salt=order.salt,
        side="BUY" if order.side == 0 else "SELL", signature_type=order.signature_type, signer=order.signer,
        taker_amount=order.taker_amount, timestamp=order.timestamp, token_id=str(order.token_id),
        protocol_version="2",
    )  # fmt: skip


def _client_signs(account: Any, order: Any) -> str:
    """As the client does it: typed data, the account's signature, and for a deposit wallet the wrapping."""
    raw = account.sign_typed_data(full_message=build_order_typed_data(order)).signature
    return str(build_order_signature(order, HexString(f"0x{raw.hex()}")))


def main() -> None:
    """Each signature type in turn."""
    key, account, signer = PrivateKey(SECRET), Account.from_key(SECRET), Signer(SECRET)
    digests = [random.Random(n).randbytes(32) for n in range(COUNT)]
    for name, signature_type in (("EOA", EOA), ("deposit wallet", DEPOSIT)):
        made = orders(signature_type)
        floor = measured(lambda d: key.sign_recoverable(d, hasher=None), digests)
        ours = measured(signer.order, made)
        theirs = measured(lambda o: _client_signs(account, o), [_theirs(o) for o in made])
        line = {
            "bench": "signing",
            "wallet": name,
            "n": COUNT,
            "ours": ours,
            "client": theirs,
            "bare_signature": floor,
            "client_over_ours": round((theirs["p50_us"] or 0) / (ours["p50_us"] or 1), 1),
            "ours_over_bare": round((ours["p50_us"] or 0) / (floor["p50_us"] or 1), 2),
            "cpu": platform.processor() or platform.machine(),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
