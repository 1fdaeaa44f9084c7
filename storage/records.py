"""What is kept, as frozen values. Bodies are JSON; every hash is over their canonical text.

No record holds a duration: how long something took goes to the ledger, outside the chain, so that a recomputed run
has the same hashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from market.types import Micro, Order
from storage.canonical import Json, digest, digest_of, encoded, plain


class RecordKind(StrEnum):
    DECISION = "decision"
    INTENT = "intent"
    ACK = "ack"
    FILL = "fill"
    SETTLEMENT = "settlement"
    OUTCOME = "outcome"
    GAP = "gap"
    STOP = "stop"
    END = "end"


class Phase(StrEnum):
    """Where tokens go. Their sums equal what the engine says it used."""

    GATE = "gate"
    SEARCH = "search"
    VERIFY = "verify"
    CORRECT = "correct"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What makes a run the run it is; equal identities must give equal records."""

    data: str
    config: str
    code: str
    model: str
    label: str = ""

    @property
    def id(self) -> str:
        return digest(self)[:16]


@dataclass(frozen=True, slots=True)
class Run:
    """A run as stored. `manifest` says in words and hashes what it was made of."""

    id: str
    identity: RunIdentity
    manifest: Mapping[str, Json]
    started_at: datetime
    finished: bool
    records: int
    head: str


@dataclass(frozen=True, slots=True)
class Record:
    """One link of a run's chain: `hash` covers everything else here, `prev` is the hash of the link before it."""

    run_id: str
    seq: int
    kind: RecordKind
    key: str
    at: datetime
    body: Mapping[str, Json]
    prev: str
    hash: str


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A value kept once under the hash of its text: search nodes, books, prompts, engine answers."""

    kind: str
    text: str
    hash: str

    @classmethod
    def of(cls, kind: str, value: object) -> StoredObject:
        return cls.holding(kind, plain(value))

    @classmethod
    def holding(cls, kind: str, value: Json) -> StoredObject:
        """The same of a value that is made of JSON types already."""
        text = encoded(value)
        return cls(kind, text, digest_of(text))


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What one phase of one decision used."""

    phase: Phase
    prompt: int
    cached: int
    generated: int
    calls: int
    milliseconds: float
    micro_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision with all that went into it.

    `summary` columns are kept beside the body so that lists need not read bodies. `timings` are milliseconds by name
    (and joules, under names that begin with "joules:"), outside the hash.
    """

    id: str
    market_id: str
    slug: str
    at: datetime
    action: str
    reason: str
    body: Mapping[str, Json]
    objects: tuple[StoredObject, ...] = ()
    ledger: tuple[LedgerRow, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observation:
    """What a past window looked like `seconds_left` before its close, and how it ended.

    `mid` is the YES mid in micro-dollars. `buckets` maps a feature to its bucket. `known_at` is when the outcome could
    first be read: a query as of an earlier instant does not see the row. `state` are the numbers that distance is
    measured over, each in units of a scale that is fixed beforehand, so that no later row can change what was near;
    they are kept as 32-bit floats, and every row of a source has equally many.
    """

    market_id: str
    at: datetime
    seconds_left: int
    window: int
    mid: Micro
    buckets: Mapping[str, str]
    payout: Micro
    known_at: datetime
    official: bool
    state: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class DecisionSummary:
    """One line of a list of decisions. `tokens` are evaluated + generated, over all phases; `verified_share` is of the
    claims of a searched path; `profit` is what the decision's orders brought in, in micro-dollars after fees, where
    their market has settled and there were any."""

    run_id: str
    seq: int
    id: str
    market_id: str
    slug: str
    at: datetime
    action: str
    reason: str
    tokens: int
    mid: float | None = None
    probability: float | None = None
    verified_share: float | None = None
    corrected: bool = False
    profit: Micro | None = None


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """Which decisions a list is to hold: those for which everything holds that is not None. `since` and `until` are the
    first instant and the one after the last; `below` is a verified share; `searched`, `corrected` and `traded` say what
    happened."""

    run_id: str | None = None
    action: str | None = None
    reason: str | None = None
    slug: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    below: float | None = None
    searched: bool | None = None
    corrected: bool | None = None
    traded: bool | None = None


class Sorting(StrEnum):
    """Which decisions come first where a list has an end."""

    NEWEST = "newest"
    LOST_MOST = "lost_most"
    EARNED_MOST = "earned_most"
    MOST_TOKENS = "most_tokens"
    LEAST_VERIFIED = "least_verified"


@dataclass(frozen=True, slots=True)
class StoredIntent:
    """An order that was going to be sent. `status` is the venue's last answer, "intended" before the first; `body` is
    the text that was signed."""

    run_id: str
    order_id: str
    decision_id: str
    order: Order
    body: str
    status: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the log that does not hold; `seq` is None where no single record is meant."""

    run_id: str
    seq: int | None
    kind: str
    key: str
    sentence: str
