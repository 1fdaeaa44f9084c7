"""Addresses: checksums, and the wallets of a key. They follow from the key's address alone (CREATE2)."""

from __future__ import annotations

from dataclasses import dataclass

from tools.polymarket import contracts
from tools.polymarket.typed import DEPOSIT, EOA, PROXY, SAFE, address_word, keccak

_PROXY_CODE = (
    "3d3d606380380380913d393d73{factory}5af4602a57600080fd5b602d8060366000396000f3363d3d373d3d3d363d73{implementation}"
    "5af43d82803e903d91602b57fd5bf352e831dd" + f"{0x20:064x}" + "0" * 64
)
"""Minimal proxy created by the venue's first factory."""
_UUPS_CODE = (
    "60095155f3363d3d373d3d363d7f360894a13ba1a3210667c828492db98dca3e2076"
    "cc3735a920a3ca505d382bbc545af43d6000803e6038573d6000fd5b3d6000f3"
)
_UUPS_PREFIX = 0x61003D3D8160233D3973
_BEACON_CODE = (
    "60195155f3363d3d373d3d363d602036600436635c60da"
    "1b60e01b36527fa3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6c"
    "b3582b35133d50545afa5036515af43d6000803e604d573d6000fd5b3d6000f3"
)
_BEACON_PREFIX = 0x6100523D8160233D3973
"""ERC-1967 proxies with arguments; the number of bytes of the arguments is added to the prefix."""


def checksummed(raw: bytes) -> str:
    """Encode 20 bytes as an address with the mixed case of EIP-55."""
    text = raw.hex()
    nibbles = keccak(text.encode()).hex()
    return "0x" + "".join(c.upper() if int(n, 16) >= 8 else c for c, n in zip(text, nibbles, strict=False))


@dataclass(frozen=True, slots=True)
class Wallets:
    """Addresses that a key can trade from; `deposit` is of the present kind and `deposit_uups` of the previous one."""

    eoa: str
    proxy: str
    safe: str
    deposit: str
    deposit_uups: str

    def signature_type(self, address: str) -> int | None:
        """Signature type of orders from an address; None if it is not of this key."""
        found = {
            self.eoa.lower(): EOA,
            self.proxy.lower(): PROXY,
            self.safe.lower(): SAFE,
            self.deposit.lower(): DEPOSIT,
            self.deposit_uups.lower(): DEPOSIT,
        }
        return found.get(address.lower())


def wallets_of(eoa: str) -> Wallets:
    owner = address_word(eoa)
    args = address_word(contracts.DEPOSIT_WALLET_FACTORY) + owner
    proxy_code = bytes.fromhex(
        _PROXY_CODE.format(
            factory=contracts.PROXY_FACTORY[2:].lower(), implementation=contracts.PROXY_IMPLEMENTATION[2:].lower()
        )
    )
    safe_hash = bytes.fromhex(contracts.SAFE_INIT_CODE_HASH[2:])
    return Wallets(
        eoa=checksummed(owner[12:]),
        proxy=_create2(contracts.PROXY_FACTORY, keccak(owner[12:]), keccak(proxy_code)),
        safe=_create2(contracts.SAFE_FACTORY, keccak(owner), safe_hash),
        deposit=_deposit(_BEACON_PREFIX, contracts.DEPOSIT_WALLET_BEACON, _BEACON_CODE, args),
        deposit_uups=_deposit(_UUPS_PREFIX, contracts.DEPOSIT_WALLET_IMPLEMENTATION, _UUPS_CODE, args),
    )


def _deposit(prefix: int, target: str, code: str, args: bytes) -> str:
    head = (prefix + (len(args) << 56)).to_bytes(10, "big")
    init_code = head + address_word(target)[12:] + bytes.fromhex(code) + args
    return _create2(contracts.DEPOSIT_WALLET_FACTORY, keccak(args), keccak(init_code))


def _create2(factory: str, salt: bytes, code_hash: bytes) -> str:
    return checksummed(keccak(b"\xff" + address_word(factory)[12:] + salt + code_hash)[12:])
