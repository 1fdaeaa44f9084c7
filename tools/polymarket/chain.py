"""On-chain state over a Polygon node: balances, allowances, gas and receipts, independent of the venue; and the few
calls that a plain account sends by itself.

Requests and answers are encoded by the contracts' ABI; calls are signed by our own key and never sent twice. The other
kinds of wallet do not pay for gas: their calls go through the venue's relayer, and are refused here.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from market.clock import EPOCH, Clock
from market.errors import Misconfigured, NotReady, VenueUnavailable
from market.types import Micro, units
from tools.polymarket import contracts
from tools.polymarket.contracts import CHAIN_ID
from tools.polymarket.signing import Signer
from tools.polymarket.typed import EOA, address_word, keccak
from tools.polymarket.wallets import checksummed, wallets_of
from tools.wallet import KINDS, Receipt, WalletStatus, pol

if TYPE_CHECKING:
    import aiohttp

AUTO_REDEEM = "0xa1200000d0002264C9a1698e001292D00E1b00af"
"""Operator that pays winnings automatically if it may take shares; as the official client 0.14.0 has it."""
SPENDERS = {
    "exchange": contracts.EXCHANGE,
    "neg-risk exchange": contracts.NEG_RISK_EXCHANGE,
    "third exchange": contracts.EXCHANGE_V3,
    "collateral adapter": contracts.COLLATERAL_ADAPTER,
    "neg-risk collateral adapter": contracts.NEG_RISK_COLLATERAL_ADAPTER,
}
"""Contracts that may be allowed to take dollars, by name."""
OPERATORS = {
    "exchange": contracts.EXCHANGE,
    "neg-risk exchange": contracts.NEG_RISK_EXCHANGE,
    "collateral adapter": contracts.COLLATERAL_ADAPTER,
    "neg-risk collateral adapter": contracts.NEG_RISK_COLLATERAL_ADAPTER,
    "auto-redeem": AUTO_REDEEM,
}
"""Contracts that may be allowed to take shares, by name."""
UNLIMITED: Micro = 2**256 - 1
"""Allowance that is never used up."""
EXCHANGES, NEG_RISK_EXCHANGES = ("exchange",), ("exchange", "neg-risk exchange", "neg-risk collateral adapter")
"""Contracts that have to take dollars and shares for trading; the latter where negative-risk markets are traded too."""
ADAPTERS, NEG_RISK_ADAPTERS = ("collateral adapter",), ("collateral adapter", "neg-risk collateral adapter")
"""Contracts that have to take shares for redemption."""
_WORD = 1 << 256
_BATCH = 100
"""Tokens per request."""
_BLOCK = timedelta(seconds=2)
_PRIORITY = 25 * 10**9
"""Priority fee in wei per gas; Polygon accepts no transaction for less."""
_DYNAMIC = b"\x02"
"""The type of a transaction with a base fee (EIP-1559)."""
_JSON = {"Content-Type": "application/json"}
_MOST_BYTES = 8 * 1024 * 1024
"""Largest answer in bytes: a truncated one cannot be decoded, and is refused."""


# -- calls


@dataclass(frozen=True, slots=True)
class Call:
    """A contract call, with a sentence on its effect."""

    target: str
    data: bytes
    says: str


def selector(signature: str) -> bytes:
    """First four bytes of the hash of a function's signature."""
    return keccak(signature.encode())[:4]


def packed(signature: str, *values: Any) -> bytes:
    """Encode a function call whose arguments are all of fixed size or arrays: `name(type,...)` and the values."""
    from eth_abi.abi import encode

    types = signature.partition("(")[2].removesuffix(")")
    return selector(signature) + encode([one for one in types.split(",") if one], values)


def approve(spender: str, amount: Micro) -> Call:
    """Allow a contract to take up to that many micro-dollars in all; 0 revokes. Nothing is unlimited unless UNLIMITED
    is given. Raises Misconfigured for an invalid amount."""
    if not 0 <= amount < _WORD:
        raise Misconfigured(f"{amount} is not an amount of dollars.", next_step="Give it in millionths, from 0.")
    if amount == UNLIMITED:
        much = "any amount of dollars"
    else:
        much = f"up to {units(amount):f} dollars" if amount else "no dollars any more"
    says = f"Let the {_named(spender)} take {much} from this account."
    return Call(contracts.COLLATERAL, packed("approve(address,uint256)", _checked(spender), amount), says)


def approve_shares(operator: str, approved: bool) -> Call:
    """Allow a contract to take shares of every market, or revoke it."""
    much = "shares of any market" if approved else "no shares any more"
    says = f"Let the {_named(operator)} take {much} from this account."
    data = packed("setApprovalForAll(address,bool)", _checked(operator), approved)
    return Call(contracts.CONDITIONAL_TOKENS, data, says)


def redeem(market_id: str, *, neg_risk: bool = False) -> Call:
    """Convert the shares of both outcomes of a resolved market (its condition id, 0x and 64 digits) into dollars."""
    condition = _bytes32(market_id)
    # Through the adapter: redeemed at the token contract itself, with pUSD named, the transaction succeeds and pays
    # nothing (reported in 2026 against several clients).
    adapter = contracts.NEG_RISK_COLLATERAL_ADAPTER if neg_risk else contracts.COLLATERAL_ADAPTER
    data = packed(
        "redeemPositions(address,bytes32,bytes32,uint256[])", contracts.COLLATERAL, bytes(32), condition, [1, 2]
    )
    return Call(adapter, data, f"Turn all shares of the market {market_id} into dollars.")


def _bytes32(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise Misconfigured(f"{text!r} is not 0x and 64 digits.", next_step="Give it as edgeclaw log shows it.")
    return raw


def _named(address: str) -> str:
    names = {a.lower(): n for n, a in (OPERATORS | SPENDERS).items()}
    return names.get(address.lower(), f"contract {address}")


# -- transactions


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Limits of a transaction: units of gas, and wei in all."""

    gas: int = 500_000
    wei: int = 10**18


_CEILING = Ceiling()


@dataclass(frozen=True, slots=True)
class Transaction:
    """A call in its signed form; fees are wei per unit of gas."""

    nonce: int
    priority_fee: int
    most_fee: int
    gas: int
    call: Call
    chain_id: int = CHAIN_ID

    def signed(self, signer: Signer) -> bytes:
        """Raw signed transaction. Its hash is the Keccak of these bytes."""
        target = bytes.fromhex(self.call.target.removeprefix("0x"))
        fields: list[Any] = [
            self.chain_id, self.nonce, self.priority_fee, self.most_fee, self.gas, target, 0, self.call.data, [],
        ]  # fmt: skip
        signature = signer.digest(keccak(_DYNAMIC + rlp(fields)))
        r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:64]))
        return _DYNAMIC + rlp([*fields, signature[64] - 27, r, s])


def rlp(item: Any) -> bytes:
    """Encode bytes, whole numbers and lists of them in Ethereum's recursive length prefix format."""
    if isinstance(item, list):
        inner = b"".join(rlp(one) for one in item)
        return _prefixed(0xC0, inner)
    raw = item if isinstance(item, bytes) else item.to_bytes((item.bit_length() + 7) // 8, "big")
    return raw if len(raw) == 1 and raw[0] < 0x80 else _prefixed(0x80, raw)


def _prefixed(kind: int, inner: bytes) -> bytes:
    if len(inner) < 56:
        return bytes((kind + len(inner),)) + inner
    length = len(inner).to_bytes((len(inner).bit_length() + 7) // 8, "big")
    return bytes((kind + 55 + len(length),)) + length + inner


# -- the node


class ChainWallet:
    """Reads and transactions of one key and one of its wallets, over an open node. Made by `open_chain`.

    Every method raises VenueUnavailable where the node does not answer, or not sensibly.
    """

    def __init__(self, web3: Any, host: str, owner: str, wallet: str, clock: Clock, chain_id: int) -> None:
        owner, wallet = _checked(owner), _checked(wallet)
        kind = wallets_of(owner).signature_type(wallet)
        if kind is None:
            raise Misconfigured(
                f"{wallet} is not a wallet of the key at {owner}.",
                next_step=f"Name one of its own, or none for its deposit wallet ({wallets_of(owner).deposit}).",
            )
        self._web3, self._host, self._clock, self._chain_id = web3, host, clock, chain_id
        self._owner, self._wallet, self._kind = owner, wallet, kind

    async def status(self, *, neg_risk: bool = False) -> WalletStatus:
        """Balances and approvals; `neg_risk` if those for negative-risk markets are needed too."""
        with _translated(self._host):
            block, gas, balance, allowances, approvals = await asyncio.gather(
                self._web3.eth.get_block("latest"),
                self._web3.eth.get_balance(self._owner),
                self._number(contracts.COLLATERAL, "balanceOf(address)", self._wallet),
                self._by_name(SPENDERS, contracts.COLLATERAL, "allowance(address,address)"),
                self._by_name(OPERATORS, contracts.CONDITIONAL_TOKENS, "isApprovedForAll(address,address)"),
            )
            made = EPOCH + timedelta(seconds=int(block["timestamp"]))
            number, owned = int(block["number"]), int(gas)
        approved = {name: bool(answer) for name, answer in approvals.items()}
        names = NEG_RISK_EXCHANGES if neg_risk else EXCHANGES
        needed = [(f"the {name}'s allowance to take dollars", allowances[name]) for name in names]
        needed += [(f"the {name}'s approval to take shares", approved[name]) for name in names]
        return WalletStatus(
            address=self._owner,
            funder=self._wallet,
            kind=KINDS[self._kind],
            signature_type=self._kind,
            balance=balance,
            gas=owned,
            allowances=allowances,
            approvals=approved,
            missing=tuple(name for name, there in needed if not there),
            chain_id=self._chain_id,
            block=number,
            block_at=made,
        )

    async def positions(self, tokens: Sequence[str]) -> Mapping[str, Micro]:
        """Micro-shares that the wallet holds of each token of the first protocol, zeros included. Raises Misconfigured
        for positions of the second, which another contract keeps."""
        numbers = [int(token) for token in tokens]
        if other := next((t for t in numbers if contracts.is_position_id(t)), None):
            raise Misconfigured(f"{other} is a position of the second protocol.", next_step="Ask the venue for it.")
        parts = [numbers[n : n + _BATCH] for n in range(0, len(numbers), _BATCH)]
        with _translated(self._host):
            held = await asyncio.gather(*(self._balances(part) for part in parts))
        return dict(zip(tokens, (amount for part in held for amount in part), strict=True))

    async def receipt(self, transaction_hash: str) -> Receipt | None:
        """None where the chain has no such transaction in a block, which it may have later."""
        from web3.exceptions import TransactionNotFound

        raw = _bytes32(transaction_hash)
        with _translated(self._host):
            try:
                answer = await self._web3.eth.get_transaction_receipt(raw)
            except TransactionNotFound:
                return None
            return Receipt(
                "0x" + raw.hex(), int(answer["status"]) == 1, int(answer["blockNumber"]), int(answer["gasUsed"])
            )

    async def send(self, call: Call, signer: Signer, ceiling: Ceiling = _CEILING) -> str:
        """Sign a call and send it once; return the transaction's hash, for its receipt.

        Raises Misconfigured if the key is not the account's, the account is not a plain one or the ceiling is too low;
        NotReady if the contract would refuse or the gas cannot be paid; and VenueUnavailable, which names the hash if
        the outcome is unknown.
        """
        self._check(signer)
        transaction = await self._priced(call, ceiling)
        raw = transaction.signed(signer)
        # Known before it is sent, so that an unknown outcome can be asked for instead of sent again.
        known_as = "0x" + keccak(raw).hex()
        try:
            with _translated(self._host):
                await self._web3.eth.send_raw_transaction(raw)
        except VenueUnavailable as error:
            raise VenueUnavailable(
                f"{error} Whether the chain took the transaction {known_as} is not known.",
                next_step="Ask for its receipt before anything is sent again.",
            ) from None
        return known_as

    async def settled(self, transaction_hash: str, deadline: datetime) -> Receipt:
        """Wait for a transaction's receipt. Raises VenueUnavailable if there is none by the deadline."""
        while (found := await self.receipt(transaction_hash)) is None:
            now = self._clock.now()
            if now >= deadline:
                raise VenueUnavailable(
                    f"The transaction {transaction_hash} is in no block yet.",
                    next_step="Ask for its receipt before anything is sent again.",
                )
            await self._clock.wait_until(min(now + _BLOCK, deadline))
        return found

    def _check(self, signer: Signer) -> None:
        if signer.address.lower() != self._owner.lower():
            raise Misconfigured(
                f"The key is of {signer.address}, not of {self._owner}.", next_step="Open the right key file."
            )
        if self._kind != EOA:
            raise Misconfigured(
                f"The {KINDS[self._kind]} {self._wallet} cannot send a transaction by itself.",
                next_step="Let the venue's relayer send it.",
            )

    async def _priced(self, call: Call, ceiling: Ceiling) -> Transaction:
        """Price a call: at most twice the present base fee, of which only what is needed is paid."""
        asked = {"from": self._owner, "to": _checked(call.target), "data": "0x" + call.data.hex()}
        with _translated(self._host):
            gas, block, tip, nonce, owned = await asyncio.gather(
                self._web3.eth.estimate_gas(asked),
                self._web3.eth.get_block("latest"),
                self._web3.eth.max_priority_fee,
                self._web3.eth.get_transaction_count(self._owner, "pending"),
                self._web3.eth.get_balance(self._owner),
            )
            priority = max(int(tip), _PRIORITY)
            most = 2 * int(block["baseFeePerGas"]) + priority
        # A fifth above the estimate: the state may change before the block.
        gas = int(gas) * 6 // 5
        if gas > ceiling.gas or gas * most > ceiling.wei:
            raise Misconfigured(
                f"This may take {gas} gas and {pol(gas * most)} POL, where {ceiling.gas} and {pol(ceiling.wei)} are "
                "allowed.",
                next_step="Wait for lower fees, or allow more.",
            )
        if gas * most > int(owned):
            raise NotReady(
                f"The account {self._owner} has {pol(int(owned))} POL and may need {pol(gas * most)} for gas.",
                next_step="Send it some POL.",
            )
        return Transaction(
            nonce=int(nonce), priority_fee=priority, most_fee=most, gas=gas, call=call, chain_id=self._chain_id
        )

    async def _by_name(self, named: Mapping[str, str], contract: str, signature: str) -> dict[str, int]:
        answer = await asyncio.gather(*(self._number(contract, signature, self._wallet, a) for a in named.values()))
        return dict(zip(named, answer, strict=True))

    async def _balances(self, tokens: Sequence[int]) -> Sequence[int]:
        from eth_abi.abi import decode

        data = packed("balanceOfBatch(address[],uint256[])", [self._wallet] * len(tokens), tokens)
        (amounts,) = decode(["uint256[]"], await self._call_contract(contracts.CONDITIONAL_TOKENS, data))
        if len(amounts) != len(tokens):
            raise ValueError("balances of other tokens")
        return [int(a) for a in amounts]

    async def _number(self, contract: str, signature: str, *values: Any) -> int:
        answer = await self._call_contract(contract, packed(signature, *values))
        if len(answer) != 32:
            raise ValueError("not a number")
        return int.from_bytes(answer, "big")

    async def _call_contract(self, contract: str, data: bytes) -> bytes:
        return bytes(await self._web3.eth.call({"to": _checked(contract), "data": "0x" + data.hex()}))


def _checked(address: str) -> str:
    try:
        return checksummed(address_word(address)[12:])
    except ValueError:
        raise Misconfigured(f"{address!r} is not an address.", next_step="Give it as 0x and 40 digits.") from None


@asynccontextmanager
async def open_chain(
    rpc_url: str, owner: str, clock: Clock, *, wallet: str = "", chain_id: int = CHAIN_ID, timeout: float = 10.0
) -> AsyncIterator[ChainWallet]:
    """The wallet of the key at `owner` over a node; its deposit wallet if none is named. `timeout` is in seconds, of
    each request.

    Raises Misconfigured if the URL is invalid or the node is of another chain, and VenueUnavailable if it does not
    answer.
    """
    import aiohttp

    host = _host(rpc_url)
    # The library takes a second to load: in a thread, since a run in progress has to stay responsive meanwhile.
    await asyncio.to_thread(_load)
    limit = aiohttp.ClientTimeout(total=timeout)
    async with aiohttp.ClientSession(timeout=limit, trust_env=False, raise_for_status=True) as session:
        web3 = _web3(rpc_url, session)
        with _translated(host):
            found = int(await web3.eth.chain_id)
        if found != chain_id:
            raise Misconfigured(
                f"The node at {host} is of chain {found}, not of {chain_id}.",
                next_step="Give the address of a node of Polygon." if chain_id == CHAIN_ID else "Give another node.",
            )
        yield ChainWallet(
            web3=web3,
            host=host,
            owner=owner,
            wallet=wallet or wallets_of(owner).deposit,
            clock=clock,
            chain_id=chain_id,
        )


def _load() -> None:
    """Import the library, which a process without a wallet never does."""
    with warnings.catch_warnings():  # web3 7.16 imports a part of websockets that is on its way out
        warnings.simplefilter("ignore", DeprecationWarning)
        import_module("web3")
        import_module("eth_abi.abi")


def _web3(rpc_url: str, session: aiohttp.ClientSession) -> Any:
    """The library over a session of ours: its own provider keeps sessions by address, repeats requests, and logs
    addresses, which may hold a password."""
    from web3 import AsyncWeb3
    from web3.middleware import ExtraDataToPOAMiddleware
    from web3.providers.async_base import AsyncJSONBaseProvider

    class Node(AsyncJSONBaseProvider):
        async def make_request(self, method: Any, params: Any) -> Any:
            body = self.encode_rpc_request(method, params)
            async with session.post(rpc_url, data=body, headers=_JSON) as answer:
                raw = await answer.content.read(_MOST_BYTES)
            reply = self.decode_rpc_response(raw)
            if not isinstance(reply, dict) or ("result" not in reply and "error" not in reply):
                raise ValueError("not an answer of JSON-RPC")
            return reply

    web3 = AsyncWeb3(Node())
    # Polygon's blocks carry more extra data than the library's strict format allows.
    web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
    return web3


def _host(rpc_url: str) -> str:
    """Displayable part of a node's address: neither user and password nor the path, which may be a key."""
    try:
        parts = urlsplit(rpc_url)
        host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or host is None:
        raise Misconfigured("The node's address is not a URL.", next_step="Give it as https://HOST.")
    return host


@contextmanager
def _translated(host: str) -> Iterator[None]:
    """Translate errors of the library and the network to ours, without the node's full address."""
    import aiohttp
    from eth_abi.exceptions import DecodingError
    from web3.exceptions import ContractLogicError, Web3Exception

    try:
        yield
    except ContractLogicError as error:
        reason = str(error.message or "it did not say why").removeprefix("execution reverted: ")[:200]
        raise NotReady(f"The contract would refuse this: {reason}.", next_step="See: edgeclaw wallet status") from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise VenueUnavailable(f"The node at {host} did not answer ({type(error).__name__}).") from None
    except (Web3Exception, DecodingError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VenueUnavailable(
            f"The node at {host} gave an answer that cannot be used ({type(error).__name__})."
        ) from None
