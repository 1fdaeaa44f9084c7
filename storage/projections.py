"""Projections of records: rows of the listing tables, and the values that records were made of. Pure: the log writes by
it and the audit checks by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sqlalchemy import Table

from market.errors import Drift
from market.types import (
    UNIT,
    Ack,
    Fill,
    FillEvidence,
    Micro,
    Order,
    OrderStatus,
    Outcome,
    PayoutSource,
    Resolution,
    Settlement,
    Side,
    SignedOrder,
    TimeInForce,
    Transfer,
    TransferKind,
)
from storage import schema
from storage.records import Record, RecordKind
from storage.schema import to_us

DAMAGED = (KeyError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What reading a value raises where its record is not as it was written."""
INTENDED = "intended"
"""Status of an order before the venue's first answer."""
SUMMARY = "summary"
"""Key of the list columns in a decision's record, beside the caller's own body."""
PROJECTED = (schema.decisions, schema.intents, schema.fills, schema.settlements)


@dataclass(frozen=True, slots=True)
class RecordedOrder:
    """An order that was about to be sent: `view` is the hash of what was seen when it was decided, `decision_id` the
    decision that it follows from, a strategy's own id where no decision was made."""

    decision_id: str
    signed: SignedOrder
    view: str
    why: str = ""

    @classmethod
    def of(cls, record: Record) -> RecordedOrder:
        """Raises Drift where the record is damaged."""
        body: Mapping[str, Any] = record.body
        what = f"order {record.key}"
        with _whole(what):
            return cls(
                decision_id=body["decision_id"],
                signed=signed_order(body, what),
                view=body["view"],
                why=body.get("why", ""),
            )


@dataclass(frozen=True, slots=True)
class Projection:
    """One row of a listing table. An amendment changes some columns of a row that an earlier record made."""

    table: Table
    row: Mapping[str, Any]
    amends: bool = False

    @property
    def identity(self) -> tuple[Any, ...]:
        return tuple(self.row[c.name] for c in self.table.primary_key)


def project(record: Record) -> Projection | None:
    """Listing row of a record; None for kinds that are read from the chain alone."""
    made = {
        RecordKind.DECISION: _decision,
        RecordKind.INTENT: _intent,
        RecordKind.ACK: _ack,
        RecordKind.FILL: _fill,
        RecordKind.SETTLEMENT: _settlement,
    }.get(record.kind)
    return made(record) if made else None


def _decision(record: Record) -> Projection:
    summary: Any = record.body[SUMMARY]
    row = {"run_id": record.run_id, "id": record.key, "seq": record.seq, "at": to_us(record.at)}
    row |= {name: summary[name] for name in ("market_id", "slug", "action", "reason")}
    return Projection(schema.decisions, row | _filter_columns(record.body, summary["tokens"]))


def _filter_columns(body: Mapping[str, Any], tokens: Mapping[str, Any]) -> dict[str, Any]:
    """Filter columns of lists; null where the decision has no such value. Not read as a `RecordedDecision`: the log
    takes, and the audit must go through, bodies of any shape."""
    decision = body.get("thought") or {}
    search = decision.get("search") or {}
    belief = search.get("belief") or {}
    return {
        "mid": decision.get("mid"),
        "probability": decision.get("probability"),
        "verified_share": belief.get("verified_share"),
        "corrected": bool(search.get("correction")),
        "tokens": sum(prompt + generated for prompt, _, generated, _ in tokens.values()),
    }


def _intent(record: Record) -> Projection:
    placed = RecordedOrder.of(record)
    signed = placed.signed
    row = {
        "run_id": record.run_id,
        "order_id": signed.id,
        "seq": record.seq,
        "decision_id": placed.decision_id,
        "market_id": signed.order.market_id,
        "status": INTENDED,
        "created_at": to_us(record.at),
    }
    return Projection(schema.intents, row)


def _ack(record: Record) -> Projection:
    ack = ack_of(record.body)
    row = {"run_id": record.run_id, "order_id": ack.order_id, "status": ack.status.value}
    return Projection(schema.intents, row, amends=True)


def _fill(record: Record) -> Projection:
    fill = fill_of(record.body)
    row = {
        "run_id": record.run_id,
        "fill_id": fill.id,
        "seq": record.seq,
        "order_id": fill.order_id,
        "market_id": fill.market_id,
        "outcome": fill.outcome.value,
        "side": fill.side.value,
        "price_micro": nearest(fill.price),
        "size": fill.size,
        "fee": fill.fee,
        "at": to_us(fill.at),
        "evidence": fill.evidence.value,
        "maker": fill.maker,
    }
    return Projection(schema.fills, row)


def _settlement(record: Record) -> Projection:
    settlement = settlement_of(record.body)
    row = {
        "run_id": record.run_id,
        "market_id": settlement.market_id,
        "outcome": settlement.outcome.value,
        "seq": record.seq,
        "size": settlement.size,
        "payout_micro": nearest(settlement.payout),
        "source": settlement.source.value,
        "at": to_us(settlement.at),
    }
    return Projection(schema.settlements, row)


def nearest(price: Decimal) -> Micro:
    """Round a price to whole millionths; the record holds it exactly."""
    return int((price * UNIT).to_integral_value(ROUND_HALF_UP))


@contextmanager
def _whole(what: str) -> Iterator[None]:
    """Raise Drift where what is read in this block is damaged."""
    try:
        yield
    except DAMAGED as error:
        said = f"{what} is damaged: {type(error).__name__} {error}."
        raise Drift(said, next_step="Run: edgeclaw log verify") from None


def signed_order(body: Mapping[str, Any], what: str = "a signed order") -> SignedOrder:
    """Order in an intent's record, which is named so where it is damaged. Raises Drift."""
    with _whole(what):
        signed = body["signed"]
        o = signed["order"]
        order = Order(
            market_id=o["market_id"],
            outcome=Outcome(o["outcome"]),
            side=Side(o["side"]),
            price=Decimal(o["price"]),
            size=o["size"],
            tif=TimeInForce(o["tif"]),
            placed_at=datetime.fromisoformat(o["placed_at"]),
            key=o["key"],
            post_only=o["post_only"],
            # Records before expiring orders have no such key.
            good_until=None if (ends := o.get("good_until")) is None else datetime.fromisoformat(ends),
        )
        return SignedOrder(signed["id"], order, signed["body"])


def ack_of(body: Mapping[str, Any]) -> Ack:
    """Raises Drift where the body is damaged, or of a status that only a newer version knows."""
    with _whole("the answer to an order"):
        return Ack(body["order_id"], OrderStatus(body["status"]), body.get("reason", ""))


def fill_of(body: Mapping[str, Any]) -> Fill:
    """Raises Drift where the body is damaged."""
    with _whole("a fill"):
        return Fill(
            id=body["id"],
            order_id=body["order_id"],
            market_id=body["market_id"],
            outcome=Outcome(body["outcome"]),
            side=Side(body["side"]),
            price=Decimal(body["price"]),
            size=body["size"],
            fee=body["fee"],
            at=datetime.fromisoformat(body["at"]),
            evidence=FillEvidence(body["evidence"]),
            maker=body["maker"],
        )


def settlement_of(body: Mapping[str, Any]) -> Settlement:
    """Raises Drift where the body is damaged."""
    with _whole("a settlement"):
        return Settlement(
            market_id=body["market_id"],
            outcome=Outcome(body["outcome"]),
            size=body["size"],
            payout=Decimal(body["payout"]),
            source=PayoutSource(body["source"]),
            at=datetime.fromisoformat(body["at"]),
        )


def transfer_of(body: Mapping[str, Any]) -> Transfer:
    """Raises Drift where the body is damaged."""
    with _whole("a transfer"):
        return Transfer(
            id=body["id"],
            kind=TransferKind(body["kind"]),
            amount=body["amount"],
            at=datetime.fromisoformat(body["at"]),
            transaction=body["transaction"],
            why=body["why"],
        )


def resolution_of(body: Mapping[str, Any]) -> Resolution:
    """Raises Drift where the body is damaged."""
    with _whole("a resolution"):
        return Resolution(
            market_id=body["market_id"],
            payout=None if body["payout"] is None else Decimal(body["payout"]),
            source=PayoutSource(body["source"]),
            known_at=datetime.fromisoformat(body["known_at"]),
        )
