"""Wallet values: balances and approvals of an account as the chain has them, for comparison with the venue's, and their
meaning for the operator. Knows no node, no keys and no venue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from market.types import Micro, units

KINDS = ("plain account", "proxy wallet", "safe", "deposit wallet")
"""Wallet kinds by signature type, 0 to 3."""
_WEI = 10**18
_LITTLE_GAS = _WEI // 10
"""Below a tenth of a POL a few approvals may not be affordable on a busy day."""


@dataclass(frozen=True, slots=True)
class WalletStatus:
    """State of an account on the chain.

    `address` belongs to the key, which pays for gas; `funder` is the wallet with the money, of a `kind` and signature
    type. `balance` is pUSD in micro-dollars, `gas` POL in wei. `allowances` are micro-dollars by the name of the
    spender, `approvals` tell by name if an operator may take shares. `missing` names the approvals that trading
    requires. `block` is the node's latest, made at `block_at`.
    """

    address: str
    funder: str
    kind: str
    signature_type: int
    balance: Micro
    gas: int
    allowances: Mapping[str, Micro]
    approvals: Mapping[str, bool]
    missing: tuple[str, ...]
    chain_id: int
    block: int
    block_at: datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """Receipt of a transaction in a block: success (`ok`) or revert, and the gas it used."""

    transaction: str
    ok: bool
    block: int
    gas_used: int

    @property
    def status(self) -> str:
        return "ok" if self.ok else "reverted"


def advice(status: WalletStatus) -> tuple[str, ...]:
    """Sentences on missing requirements of trading with the next step; empty if there are none."""
    told = []
    if not status.balance:
        told.append(f"The {status.kind} {status.funder} holds no pUSD: deposit some at the venue before trading.")
    told += [f"It is missing {name}: run edgeclaw wallet setup." for name in status.missing]
    told += [
        f"The {name} may take only {units(allowed):f} of the {units(status.balance):f} dollars."
        for name, allowed in status.allowances.items()
        if 0 < allowed < status.balance
    ]
    if status.signature_type == 0 and status.gas < _LITTLE_GAS:
        told.append(
            f"The account {status.address} has {pol(status.gas)} POL for gas: send it some before it has to approve or "
            "redeem anything."
        )
    return tuple(told)


def pol(wei: int) -> str:
    """Wei as POL, cut to six places."""
    return f"{units(wei // 10**12):f}"
