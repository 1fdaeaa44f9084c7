"""Simulated chain of the loopback venue: a node's JSON-RPC over the venue's own balances, so that chain and venue
agree.

A block every two seconds of the venue's time, on the chain id of Polygon. The contracts are those of a trader: the
collateral, the conditional tokens, the adapters that split, merge and redeem. A transaction is executed when the chain
is first queried after its block was made. Allowances are not used up by trades, gas prices never move, and past
balances are not stored.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from aiohttp import web

from backtest.venue.activity import LoopbackActivityKind
from backtest.venue.answers import said
from backtest.venue.balances import CASH
from backtest.venue.exchange import Hall, TransactionMined, VenueEvent
from backtest.venue.payloads import HOUSE, Payload, seconds
from backtest.venue.state import VenueState
from market.types import Market, Outcome
from tools.polymarket import contracts
from tools.polymarket.chain import OPERATORS, SPENDERS, UNLIMITED
from tools.polymarket.typed import keccak

_SECONDS = 2
_BASE_FEE, _PRIORITY = 30 * 10**9, 25 * 10**9
_INITIAL_GAS = 10 * 10**18
_MOST = 100
"""Largest number of requests in a batch."""
_DECIMALS = 6
_EXTRA = bytes(32) + b"\x11" * 65 + b"\x22" * 40
"""Extra data of a Polygon block: 32 bytes of vanity, the maker's signature, and the validators. Ethereum's own blocks
have 32 bytes at most."""
_TAGS = ("latest", "pending", "safe", "finalized")
_BAD_JSON, _BAD_REQUEST, _NO_METHOD, _BAD_PARAMS, _NODE, _REVERTED = -32700, -32600, -32601, -32602, -32000, 3
_ZERO_WORD = bytes(32)

_COLLATERAL, _TOKENS, _ADAPTER, _NEG_RISK_ADAPTER = (
    a.lower()
    for a in (
        contracts.COLLATERAL,
        contracts.CONDITIONAL_TOKENS,
        contracts.COLLATERAL_ADAPTER,
        contracts.NEG_RISK_COLLATERAL_ADAPTER,
    )
)
_EXCHANGE, _NEG_RISK_EXCHANGE = contracts.EXCHANGE.lower(), contracts.NEG_RISK_EXCHANGE.lower()
_OLD_NEG_RISK_ADAPTER = "0xd91e80cf2e7be2e162c6513ced06f1dd0da35296"
"""The adapter before that one: the official client reads balances of negative-risk shares through it."""
_KNOWN = frozenset(a.lower() for a in (*SPENDERS.values(), *OPERATORS.values()))
"""Contracts that the faucet's accounts have approved."""
_TARGETS = {LoopbackActivityKind.TRADE: _EXCHANGE, LoopbackActivityKind.REDEEM: _ADAPTER}
"""Contract that a transaction of the venue's operators calls; payments call the collateral."""


_Act = Callable[[str], object]
"""Effect of a call, given the hash of the transaction that it runs in."""


class _Error(Exception):
    """A JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Reverted(Exception):
    """A contract reverted; the message is its reason."""


@dataclass(slots=True)
class _Approvals:
    """Approvals of an owner: micro-dollars by spender, and the operators of shares."""

    dollars: dict[str, int] = field(default_factory=dict)
    shares: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _SignedTransaction:
    """A signed transaction. `fee` is the most it pays for a unit of gas."""

    hash: str
    sender: str
    nonce: int
    fee: int
    gas: int
    to: str
    value: int
    data: bytes
    block: int


@dataclass(frozen=True, slots=True)
class _RelayedBatch:
    """Calls that the relayer sends for an owner."""

    hash: str
    owner: str
    calls: tuple[tuple[str, bytes], ...]
    block: int


@dataclass(frozen=True, slots=True)
class _MinedTransaction:
    hash: str
    block: int
    ok: bool
    gas: int
    sender: str
    to: str


class LoopbackChain:
    """A node of one venue. Every address begins with `fuel` wei."""

    def __init__(self, state: VenueState, *, fuel: int = _INITIAL_GAS) -> None:
        self._state, self._fuel = state, fuel
        self._approvals: dict[str, _Approvals] = {}
        self._counts: dict[str, int] = {}
        self._spent: dict[str, int] = {}
        self._waiting: list[_SignedTransaction] = []
        self._relayed: list[_RelayedBatch] = []
        self._mined: dict[str, _MinedTransaction] = {}
        self._views = _functions(
            _Function(_COLLATERAL, "balanceOf(address)", self._dollars),
            _Function(_COLLATERAL, "allowance(address,address)", self.allowance),
            _Function(_COLLATERAL, "decimals()", lambda: _DECIMALS),
            _Function(_TOKENS, "balanceOf(address,uint256)", self._shares),
            _Function(_TOKENS, "balanceOfBatch(address[],uint256[])", self._many_shares),
            _Function(_TOKENS, "isApprovedForAll(address,address)", self.operates),
            _Function(_OLD_NEG_RISK_ADAPTER, "balanceOf(address,uint256)", self._shares),
            _Function(_OLD_NEG_RISK_ADAPTER, "balanceOfBatch(address[],uint256[])", self._many_shares),
        )
        self._effects = _functions(
            _Function(_COLLATERAL, "approve(address,uint256)", self._approve, 60_000),
            _Function(_TOKENS, "setApprovalForAll(address,bool)", self._set_operator, 50_000),
            *self._adapter_functions(),
        )
        self._methods: dict[str, Callable[[Sequence[Any]], Any]] = {
            "eth_chainId": lambda _: hex(contracts.CHAIN_ID),
            "eth_blockNumber": lambda _: hex(self._number()),
            "eth_call": self._call,
            "eth_getBalance": self._balance,
            "eth_gasPrice": lambda _: hex(_BASE_FEE + _PRIORITY),
            "eth_maxPriorityFeePerGas": lambda _: hex(_PRIORITY),
            "eth_feeHistory": self._fee_history,
            "eth_estimateGas": self._estimate,
            "eth_getTransactionCount": self._count,
            "eth_sendRawTransaction": self._send,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
        }
        state.listeners.append(self._on_event)

    def _adapter_functions(self) -> Iterator[_Function]:
        """Functions of the two adapters, which are alike; each knows the markets of its own kind."""
        word = "address,bytes32,bytes32,uint256[]"
        for adapter in (_ADAPTER, _NEG_RISK_ADAPTER):
            yield _Function(adapter, f"redeemPositions({word})", partial(self._redeem, adapter), 200_000)
            yield _Function(adapter, f"splitPosition({word},uint256)", partial(self._split, adapter), 220_000)
            yield _Function(adapter, f"mergePositions({word},uint256)", partial(self._merge, adapter), 220_000)

    # -- JSON-RPC

    async def answer(self, request: web.Request) -> web.Response:
        """Handle a JSON-RPC 2.0 request, or a batch of them."""
        try:
            asked = json.loads(await request.read())
        except (ValueError, RecursionError):
            return said(_refusal(None, _Error(_BAD_JSON, "parse error")))
        self._execute_due(self._state.now())
        if not isinstance(asked, list):
            return said(self._one(asked))
        if not 0 < len(asked) <= _MOST:
            return said(_refusal(None, _Error(_BAD_REQUEST, "invalid request")))
        return said([self._one(one) for one in asked])

    def _one(self, asked: Any) -> Payload:
        name = asked.get("id") if isinstance(asked, dict) else None
        try:
            return {"jsonrpc": "2.0", "id": name, "result": self._result(asked)}
        except _Error as error:
            return _refusal(name, error)
        except _Reverted as error:
            return _refusal(name, _Error(_REVERTED, f"execution reverted: {error}"))

    def _result(self, asked: Any) -> Any:
        if not isinstance(asked, dict) or not isinstance(asked.get("method"), str):
            raise _Error(_BAD_REQUEST, "invalid request")
        method, params = self._methods.get(asked["method"]), asked.get("params") or []
        if method is None:
            raise _Error(_NO_METHOD, f"the method {asked['method']} does not exist/is not available")
        try:
            return method(params)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError):
            raise _Error(_BAD_PARAMS, "invalid params") from None

    # -- contract views

    def _call(self, params: Sequence[Any]) -> str:
        _latest(params, 1)
        target, data = str(params[0]["to"]).lower(), _bytes(params[0].get("data") or params[0].get("input") or "0x")
        view = self._views.get((target, data[:4]))
        if view is None:
            if target in (_COLLATERAL, _TOKENS, _ADAPTER, _NEG_RISK_ADAPTER, _OLD_NEG_RISK_ADAPTER):
                raise _Reverted("no such function")
            return "0x"  # nothing stands there
        return "0x" + _packed(view.does(*view.arguments(data))).hex()

    def _dollars(self, owner: str) -> int:
        return self._owned(owner, CASH)

    def _shares(self, owner: str, token: int) -> int:
        return self._owned(owner, str(token))

    def _many_shares(self, owners: Sequence[str], tokens: Sequence[int]) -> list[int]:
        if len(owners) != len(tokens):
            raise _Reverted("ERC1155: owners and IDs must have same lengths")
        return [self._shares(o, t) for o, t in zip(owners, tokens, strict=True)]

    def _owned(self, owner: str, what: str) -> int:
        purse = self._state.exchange.purses.get(owner)
        return 0 if purse is None else purse.chain(what)

    def allowance(self, owner: str, spender: str) -> int:
        """Allowance in micro-dollars; an account of the faucet has approved every spender until its first change."""
        if owner not in self._approvals:
            return UNLIMITED if owner in self._state.approved else 0
        return self._approvals[owner].dollars.get(spender, 0)

    def operates(self, owner: str, operator: str) -> bool:
        """True if an operator may take an owner's shares."""
        if owner not in self._approvals:
            return owner in self._state.approved
        return operator in self._approvals[owner].shares

    # -- transactions

    def _effect(self, sender: str, target: str, data: bytes) -> tuple[int, _Act]:
        """Gas of a call and its effect. Raises _Reverted if the contract refuses."""
        act = self._effects.get((target, data[:4]))
        if act is None:
            raise _Reverted("no such function")
        return act.gas, act.does(sender, *act.arguments(data))

    def _approve(self, owner: str, spender: str, amount: int) -> _Act:
        def done(_: str) -> None:
            self._own_approvals(owner).dollars[spender] = amount
            self._update_acceptance(owner)

        return done

    def _set_operator(self, owner: str, operator: str, approved: bool) -> _Act:
        def done(_: str) -> None:
            shares = self._own_approvals(owner).shares
            (shares.add if approved else shares.discard)(operator)
            self._update_acceptance(owner)

        return done

    def _own_approvals(self, owner: str) -> _Approvals:
        """An owner's own approvals: those of the faucet become entries at the first change."""
        if owner not in self._approvals:
            everybody = _KNOWN if owner in self._state.approved else frozenset[str]()
            self._approvals[owner] = _Approvals(dict.fromkeys(everybody, UNLIMITED), set(everybody))
        return self._approvals[owner]

    def _update_acceptance(self, owner: str) -> None:
        """Update the exchanges' acceptance of an owner's orders."""
        # A trade of a negative-risk market is settled by its exchange through the adapter, which wraps the collateral.
        for accepted, needed in (
            (self._state.approved, (_EXCHANGE,)),
            (self._state.approved_neg_risk, (_NEG_RISK_EXCHANGE, _NEG_RISK_ADAPTER)),
        ):
            given = all(self.allowance(owner, one) > 0 and self.operates(owner, one) for one in needed)
            (accepted.add if given else accepted.discard)(owner)

    def _redeem(
        self, adapter: str, owner: str, collateral: str, parent: bytes, condition: bytes, sets: Sequence[int]
    ) -> _Act:
        hall = self._condition(collateral, parent, condition, sets)
        market_id = hall.market.id
        if not hall.resolved:
            raise _Reverted("result for condition not received yet")
        self._must_operate(owner, adapter)
        # Through the other kind's adapter there are no such shares: the transaction succeeds and pays nothing.
        if owner not in self._state.exchange.purses or hall.market.neg_risk is not (adapter == _NEG_RISK_ADAPTER):
            return lambda _: None
        return lambda known_as: self._state.exchange.redeem(owner, market_id, known_as)

    def _split(
        self,
        adapter: str,
        owner: str,
        collateral: str,
        parent: bytes,
        condition: bytes,
        sets: Sequence[int],
        amount: int,
    ) -> _Act:
        market = self._own_market(adapter, collateral, parent, condition, sets)
        if self.allowance(owner, adapter) < amount:
            raise _Reverted("ERC20: insufficient allowance")
        if self._free(owner, CASH) < amount:
            raise _Reverted("ERC20: transfer amount exceeds balance")
        return lambda known_as: _must(self._state.exchange.split(owner, market.id, amount, known_as))

    def _merge(
        self,
        adapter: str,
        owner: str,
        collateral: str,
        parent: bytes,
        condition: bytes,
        sets: Sequence[int],
        amount: int,
    ) -> _Act:
        market = self._own_market(adapter, collateral, parent, condition, sets)
        self._must_operate(owner, adapter)
        if any(self._free(owner, market.token(o)) < amount for o in Outcome):
            raise _Reverted("ERC1155: insufficient balance for transfer")
        return lambda known_as: _must(self._state.exchange.merge(owner, market.id, amount, known_as))

    def _own_market(
        self, adapter: str, collateral: str, parent: bytes, condition: bytes, sets: Sequence[int]
    ) -> Market:
        market = self._condition(collateral, parent, condition, sets).market
        if market.neg_risk is not (adapter == _NEG_RISK_ADAPTER):
            raise _Reverted("not a condition of this adapter")
        return market

    def _condition(self, collateral: str, parent: bytes, condition: bytes, sets: Sequence[int]) -> Hall:
        hall = self._state.exchange.halls.get("0x" + condition.hex())
        if collateral != _COLLATERAL or parent != _ZERO_WORD or list(sets) != [1, 2]:
            raise _Reverted("not a position of this collateral")
        if hall is None:
            raise _Reverted("condition not prepared yet")
        return hall

    def _must_operate(self, owner: str, adapter: str) -> None:
        if not self.operates(owner, adapter):
            raise _Reverted("ERC1155: need operator approval for 3rd party transfers")

    def _free(self, owner: str, what: str) -> int:
        """Amount that no unsettled trade binds: what is bound will move with its trade."""
        purse = self._state.exchange.purses.get(owner)
        return 0 if purse is None else purse.has(what)

    def _estimate(self, params: Sequence[Any]) -> str:
        """Estimate gas on the present state, without the effect."""
        sender, target = _address([params[0]["from"]], 0), str(params[0]["to"]).lower()
        gas, _ = self._effect(sender, target, _bytes(params[0].get("data") or params[0].get("input") or "0x"))
        return hex(gas)

    def _send(self, params: Sequence[Any]) -> str:
        raw = _bytes(params[0])
        sent = _decoded(raw, self._number() + 1)
        if sent.hash in self._mined or any(w.hash == sent.hash for w in self._waiting):
            raise _Error(_NODE, "already known")
        expected = self._pending(sent.sender)
        if sent.nonce != expected:
            raise _Error(_NODE, f"nonce too {'low' if sent.nonce < expected else 'high'}")
        if sent.fee < _BASE_FEE:
            raise _Error(_NODE, "transaction underpriced")
        if sent.gas * sent.fee + sent.value > self._gas_money(sent.sender):
            raise _Error(_NODE, "insufficient funds for gas * price + value")
        self._waiting.append(sent)
        return sent.hash

    def _execute_due(self, now: datetime) -> None:
        """Make the blocks that are due."""
        number = seconds(now) // _SECONDS
        self._execute_relayed(number)
        due = [s for s in self._waiting if s.block <= number]
        self._waiting = [s for s in self._waiting if s.block > number]
        for sent in due:
            ok, gas = self._execute(sent)
            self._counts[sent.sender] = sent.nonce + 1
            self._spent[sent.sender] = self._spent.get(sent.sender, 0) + gas * min(sent.fee, _BASE_FEE + _PRIORITY)
            self._mined[sent.hash] = _MinedTransaction(
                hash=sent.hash, block=sent.block, ok=ok, gas=gas, sender=sent.sender, to=sent.to
            )

    # -- relayed batches

    def relay(self, owner: str, calls: Sequence[tuple[str, bytes]]) -> str:
        """Schedule calls of an owner for the next block, all or none; return the transaction's hash."""
        known_as = f"0x{secrets.token_hex(32)}"
        self._relayed.append(_RelayedBatch(known_as, owner, tuple(calls), self._number() + 1))
        return known_as

    def advance(self) -> None:
        """Execute the transactions whose block is due."""
        self._execute_due(self._state.now())

    def outcome(self, known_as: str) -> bool | None:
        """True if a transaction succeeded; None while it is in no block."""
        self.advance()
        mined = self._mined.get(known_as)
        return None if mined is None else mined.ok

    def _execute_relayed(self, number: int) -> None:
        due = [r for r in self._relayed if r.block <= number]
        self._relayed = [r for r in self._relayed if r.block > number]
        for batch in due:
            ok, gas = True, 0
            try:
                effects = [self._effect(batch.owner, target, data) for target, data in batch.calls]
                gas = sum(needed for needed, _ in effects)
                for _, act in effects:
                    act(batch.hash)
            except (_Reverted, ValueError):
                ok = False
            self._mined[batch.hash] = _MinedTransaction(
                hash=batch.hash, block=batch.block, ok=ok, gas=gas, sender=HOUSE, to=batch.owner
            )

    def _execute(self, sent: _SignedTransaction) -> tuple[bool, int]:
        """Execute a transaction; return its success, and the gas it used: all it had if it ran out."""
        try:
            gas, act = self._effect(sent.sender, sent.to, sent.data)
            if sent.value or gas > sent.gas:
                return False, sent.gas
            act(sent.hash)
        except (_Reverted, ValueError):
            return False, min(sent.gas, 30_000)
        return True, gas

    # -- node state

    def _on_event(self, event: VenueEvent) -> None:
        if isinstance(event, TransactionMined):
            known_as, block = event.transaction, seconds(event.at) // _SECONDS
            target = _TARGETS.get(event.kind, _COLLATERAL)
            self._mined[known_as] = _MinedTransaction(
                hash=known_as, block=block, ok=True, gas=250_000, sender=HOUSE, to=target
            )

    def _number(self) -> int:
        return seconds(self._state.exchange.now) // _SECONDS

    def _balance(self, params: Sequence[Any]) -> str:
        _latest(params, 1)
        return hex(self._gas_money(_address(params, 0)))

    def _gas_money(self, address: str) -> int:
        return max(0, self._fuel - self._spent.get(address, 0))

    def _count(self, params: Sequence[Any]) -> str:
        address = _address(params, 0)
        return hex(self._pending(address) if params[1:2] == ["pending"] else self._counts.get(address, 0))

    def _pending(self, address: str) -> int:
        return self._counts.get(address, 0) + sum(w.sender == address for w in self._waiting)

    def _fee_history(self, params: Sequence[Any]) -> Payload:
        count = min(int(str(params[0]), 0), 1024)
        percentiles = params[2] if len(params) > 2 else []
        return {
            "oldestBlock": hex(self._number() - count + 1),
            "baseFeePerGas": [hex(_BASE_FEE)] * (count + 1),
            "gasUsedRatio": [0.5] * count,
            "reward": [[hex(_PRIORITY)] * len(percentiles)] * count,
        }

    def _receipt(self, params: Sequence[Any]) -> Payload | None:
        mined = self._mined.get(f"0x{_bytes(params[0], 32).hex()}")
        if mined is None:
            return None
        return {
            "transactionHash": mined.hash,
            "transactionIndex": "0x0",
            "blockHash": _block_hash(mined.block),
            "blockNumber": hex(mined.block),
            "from": mined.sender,
            "to": mined.to,
            "contractAddress": None,
            "cumulativeGasUsed": hex(mined.gas),
            "gasUsed": hex(mined.gas),
            "effectiveGasPrice": hex(_BASE_FEE + _PRIORITY),
            "logs": [],
            "logsBloom": "0x" + "00" * 256,
            "status": hex(mined.ok),
            "type": "0x2",
        }

    def _block_by_number(self, params: Sequence[Any]) -> Payload | None:
        number = self._number() if params[0] in _TAGS else int(str(params[0]), 16)
        return self._block(number) if 0 <= number <= self._number() else None

    def _block_by_hash(self, params: Sequence[Any]) -> Payload | None:
        raw = _bytes(params[0], 32)
        number = int.from_bytes(raw[-8:], "big")
        known = number <= self._number() and _block_hash(number) == "0x" + raw.hex()
        return self._block(number) if known else None

    def _block(self, number: int) -> Payload:
        held = [m.hash for m in self._mined.values() if m.block == number]
        return {
            "number": hex(number),
            "hash": _block_hash(number),
            "parentHash": _block_hash(number - 1) if number else "0x" + "00" * 32,
            "timestamp": hex(number * _SECONDS),
            "extraData": "0x" + _EXTRA.hex(),
            "baseFeePerGas": hex(_BASE_FEE),
            "gasLimit": hex(30_000_000),
            "gasUsed": hex(sum(m.gas for m in self._mined.values() if m.block == number)),
            "transactions": held,
            "miner": HOUSE,
            "difficulty": "0x1",
            "totalDifficulty": hex(number + 1),
            "size": hex(1_000),
            "nonce": "0x" + "00" * 8,
            "logsBloom": "0x" + "00" * 256,
            "uncles": [],
        } | dict.fromkeys(("mixHash", "receiptsRoot", "sha3Uncles", "stateRoot", "transactionsRoot"), "0x" + "00" * 32)


@dataclass(frozen=True, slots=True)
class _Function:
    """A contract's function, `name(type,...)`; `gas` is what a transaction needs for it on Polygon, roughly."""

    contract: str
    signature: str
    does: Callable[..., Any]
    gas: int = 0

    @property
    def types(self) -> list[str]:
        inside = self.signature.partition("(")[2].removesuffix(")")
        return inside.split(",") if inside else []

    def arguments(self, data: bytes) -> tuple[Any, ...]:
        """Decode the arguments. Raises ValueError if they do not match the types."""
        from eth_abi.abi import decode
        from eth_abi.exceptions import DecodingError

        try:
            return tuple(decode(self.types, data[4:]))
        except DecodingError:
            raise ValueError("not the arguments of this function") from None


def _must(done: bool) -> None:
    """Revert the transaction whose effect another one before it has made impossible."""
    if not done:
        raise _Reverted("insufficient balance")


def _functions(*functions: _Function) -> dict[tuple[str, bytes], _Function]:
    """Index by contract and selector."""
    return {(f.contract, keccak(f.signature.encode())[:4]): f for f in functions}


def _packed(value: Any) -> bytes:
    from eth_abi.abi import encode

    return encode(["uint256[]"], [value]) if isinstance(value, list) else int(value).to_bytes(32, "big")


def _decoded(raw: bytes, block: int) -> _SignedTransaction:
    """Decode a signed transaction, with a base fee or of the legacy type. Raises _Error for anything else."""
    import rlp  # type: ignore[import-untyped]
    from eth_account import Account

    try:
        fields = rlp.decode(raw[1:] if raw[:1] == b"\x02" else raw)
        sender = str(Account.recover_transaction(raw)).lower()
        if raw[:1] == b"\x02":
            chain, nonce, _, fee, gas, to, value, data = fields[:8]
        else:
            nonce, fee, gas, to, value, data, v = fields[:7]
            # A legacy transaction carries its chain in v (EIP-155).
            chain = ((_int(v) - 35) // 2).to_bytes(8, "big")
    except Exception:  # the libraries have no type of their own for what is no transaction
        raise _Error(_NODE, "rlp: not a transaction") from None
    if _int(chain) != contracts.CHAIN_ID:
        raise _Error(_NODE, "invalid sender: the transaction is of another chain")
    known_as = "0x" + keccak(raw).hex()
    return _SignedTransaction(
        hash=known_as,
        sender=sender,
        nonce=_int(nonce),
        fee=_int(fee),
        gas=_int(gas),
        to="0x" + to.hex(),
        value=_int(value),
        data=data,
        block=block,
    )


def _int(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _refusal(name: Any, error: _Error) -> Payload:
    return {"jsonrpc": "2.0", "id": name, "error": {"code": error.code, "message": str(error)}}


def _bytes(text: Any, length: int | None = None) -> bytes:
    raw = bytes.fromhex(str(text).removeprefix("0x"))
    if length not in (None, len(raw)):
        raise ValueError(f"{length} bytes")
    return raw


def _address(params: Sequence[Any], index: int) -> str:
    return f"0x{_bytes(params[index], 20).hex()}"


def _latest(params: Sequence[Any], index: int) -> None:
    if params[index : index + 1] not in ([], *([t] for t in _TAGS)):
        raise _Error(_NODE, "missing trie node: the past is not kept")


def _block_hash(number: int) -> str:
    """Block hash that contains the number, so that a block is found by it."""
    return "0x" + hashlib.sha256(f"block {number}".encode()).hexdigest()[:48] + f"{number:016x}"
