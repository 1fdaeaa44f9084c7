"""Table definitions, and the encoding of instants. Knows no query and no dialect.

Money is in millionths, instants are microseconds since 1970; bodies are canonical JSON text, because hashes are over
text. Durations and cost estimates are the only floating-point columns. Price history, which no hash covers, is packed:
bodies of bars by `storage.chunks`, buckets as numbers of the vocabulary (`<u2`), states as `<f4`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from market.clock import EPOCH

_MICROSECOND = timedelta(microseconds=1)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


def to_us(at: datetime) -> int:
    """Convert an instant to microseconds since 1970. Raises ValueError for a naive one."""
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} names no time zone")
    return (at - EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """Convert microseconds since 1970 to an instant in UTC."""
    return EPOCH + timedelta(microseconds=microseconds)


def _run() -> Column[str]:
    return Column("run_id", Text, ForeignKey("runs.id"), primary_key=True)


runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("manifest", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("seal", Text, nullable=False),
    Column("finished", Boolean, nullable=False),
    Column("head", Text, nullable=False),
    Column("length", Integer, nullable=False),
)

records = Table(
    "records",
    metadata,
    _run(),
    Column("seq", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("prev", Text, nullable=False),
    Column("hash", Text, nullable=False),
    UniqueConstraint("run_id", "kind", "key"),
)

objects = Table(
    "objects",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False),
)

record_objects = Table(
    "record_objects",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("hash", Text, ForeignKey("objects.hash"), primary_key=True),
    ForeignKeyConstraint(["run_id", "seq"], ["records.run_id", "records.seq"]),
)

decisions = Table(
    "decisions",
    metadata,
    _run(),
    Column("id", Text, primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("market_id", Text, nullable=False),
    Column("slug", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("mid", Double),
    Column("probability", Double),
    Column("verified_share", Double),
    Column("corrected", Boolean),
    Column("tokens", BigInteger),
    Index(None, "at"),
    Index("ix_decisions_newest", "run_id", "at", "seq"),
    Index("ix_decisions_reason", "run_id", "reason", "at", "seq"),
)

intents = Table(
    "intents",
    metadata,
    _run(),
    Column("order_id", Text, primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("decision_id", Text, nullable=False),
    Column("market_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

fills = Table(
    "fills",
    metadata,
    _run(),
    Column("fill_id", Text, primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("order_id", Text, nullable=False),
    Column("market_id", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("side", Text, nullable=False),
    Column("price_micro", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("fee", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("maker", Boolean, nullable=False),
    Index(None, "order_id"),
)

settlements = Table(
    "settlements",
    metadata,
    _run(),
    Column("market_id", Text, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("payout_micro", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)

token_ledger = Table(
    "token_ledger",
    metadata,
    _run(),
    Column("decision_id", Text, primary_key=True),
    Column("phase", Text, primary_key=True),
    Column("prompt", BigInteger, nullable=False),
    Column("cached", BigInteger, nullable=False),
    Column("generated", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("milliseconds", Double, nullable=False),
    Column("micro_usd", Double, nullable=False),
)

timings = Table(
    "timings",
    metadata,
    _run(),
    Column("decision_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("milliseconds", Double, nullable=False),
)

bar_series = Table(
    "bar_series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", Text, nullable=False),
    Column("market_id", Text, nullable=False),
    Column("step", Integer, nullable=False),
    UniqueConstraint("source", "market_id", "step"),
)

bar_chunks = Table(
    "bar_chunks",
    metadata,
    Column("series", Integer, ForeignKey("bar_series.id"), primary_key=True, autoincrement=False),
    Column("chunk", BigInteger, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

vocabulary = Table(
    "vocabulary",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("feature", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    UniqueConstraint("feature", "bucket"),
)

observations = Table(
    "observations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", Text, nullable=False),
    Column("market_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("seconds_left", Integer, nullable=False),
    Column("window", Integer, nullable=False),
    Column("mid", BigInteger, nullable=False),
    Column("buckets", LargeBinary, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("payout", BigInteger, nullable=False),
    Column("known_at", BigInteger, nullable=False),
    Column("official", Boolean, nullable=False),
    UniqueConstraint("source", "market_id", "at"),
    Index("ix_observations_source", "source", "window", "id"),
)

markets = Table(
    "markets",
    metadata,
    Column("source", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("body", Text, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("account", Text, primary_key=True),
    Column("token", BigInteger, nullable=False),
    Column("holder", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
)

chain_marks = Table(
    "chain_marks",
    metadata,
    _run(),
    Column("length", Integer, nullable=False),
    Column("head", Text, nullable=False),
)

resolutions = Table(
    "resolutions",
    metadata,
    Column("source", Text, primary_key=True),
    Column("market_id", Text, primary_key=True),
    Column("payout_source", Text, primary_key=True),
    Column("payout_micro", BigInteger),
    Column("known_at", BigInteger, nullable=False),
)
