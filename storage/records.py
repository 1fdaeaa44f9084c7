"""Stored values, frozen. Bodies are JSON; every hash is over their canonical text.

No record holds a duration: durations go to the ledger, outside the chain, so that a recomputed run has the same hashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from market.errors import Drift
from market.types import Micro, Order
from storage.canonical import Json, digest, digest_of, encoded, plain


class RecordKind(StrEnum):
    DECISION = "decision"
    INTENT = "intent"
    ACK = "ack"
    FILL = "fill"
    SETTLEMENT = "settlement"
    TRANSFER = "transfer"
    OUTCOME = "outcome"
    GAP = "gap"
    STOP = "stop"
    END = "end"


class Phase(StrEnum):
    """Phases that consume tokens. Their sums equal the engine's own totals."""

    GATE = "gate"
    SEARCH = "search"
    VERIFY = "verify"
    CORRECT = "correct"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Inputs that determine a run; equal identities must give equal records."""

    data: str
    config: str
    code: str
    model: str
    label: str = ""

    @property
    def id(self) -> str:
        return digest(self)[:16]


@dataclass(frozen=True, slots=True)
class RunManifest:
    """Data, settings and starting cash of a run. `data` names the market data and `notes` are remarks on it; `config`
    holds the settings with what else bounds the run; `cash` is what it began with; `account` is the live account's
    name, empty on paper; of an ablation's run, `of` is the run whose decisions it makes again; `answers_by` is the
    digest of the model."""

    data: str = "-"
    notes: tuple[str, ...] = ()
    has_reference: bool = False
    config: Json = None
    cash: Micro | None = None
    account: str = ""
    of: str = ""
    answers_by: str = ""

    @classmethod
    def read(cls, manifest: Mapping[str, Json]) -> RunManifest:
        """A manifest as it is stored, of this version or one before; raises Drift where it is damaged."""
        found: Mapping[str, Any] = manifest
        cash, notes = found.get("cash"), found.get("notes", ())
        texts = {name: found[name] for name in ("data", "account", "of", "answers_by") if name in found}
        listed = isinstance(notes, list | tuple) and isinstance(cash, int | None)
        if not listed or not all(isinstance(text, str) for text in (*texts.values(), *notes)):
            raise Drift("a run's manifest is damaged: its texts, notes and cash are not what belongs there.")
        reference, config = bool(found.get("has_reference")), found.get("config")
        return cls(notes=tuple(notes), has_reference=reference, config=config, cash=cash, **texts)

    @property
    def initial_cash(self) -> Micro:
        """Micro-dollars that the run began with. Raises Drift where the manifest does not say: zero is a claim."""
        if self.cash is None:
            raise Drift(f"the manifest of a run of {self.account or self.data} does not say what cash it began with.")
        return self.cash

    def to_json(self) -> dict[str, Json]:
        """As it is stored; what is empty and need not be is left out."""
        optional = {"account": self.account, "answers_by": self.answers_by}
        return {
            "data": self.data,
            "notes": list(self.notes),
            "has_reference": self.has_reference,
            "config": self.config,
            "cash": self.cash,
            "of": self.of,
            **{name: text for name, text in optional.items() if text},
        }


@dataclass(frozen=True, slots=True)
class Run:
    """A run as stored. `manifest` is the text that is sealed, `about` the same to read."""

    id: str
    identity: RunIdentity
    manifest: Mapping[str, Json]
    started_at: datetime
    finished: bool
    records: int
    head: str

    @property
    def about(self) -> RunManifest:
        return RunManifest.read(self.manifest)


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
    """A value stored once under the hash of its text: search nodes, books, prompts, engine answers."""

    kind: str
    text: str
    hash: str

    @classmethod
    def of(cls, kind: str, value: object) -> StoredObject:
        return cls.holding(kind, plain(value))

    @classmethod
    def holding(cls, kind: str, value: Json) -> StoredObject:
        """Build from a value that consists of JSON types already."""
        text = encoded(value)
        return cls(kind, text, digest_of(text))


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """Token usage of one phase of one decision."""

    phase: Phase
    prompt: int
    cached: int
    generated: int
    calls: int
    milliseconds: float
    micro_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision with all its inputs.

    `summary` columns are stored beside the body so that lists need not read bodies. `timings` are milliseconds by name
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
    """State of a past window `seconds_left` before its close, and its outcome.

    `mid` is the YES mid in micro-dollars. `buckets` maps a feature to its bucket. `known_at` is the first instant at
    which the outcome could be read: a query as of an earlier instant does not see the row. `state` are the coordinates
    that distance is measured over, each in units of a scale that is fixed beforehand, so that no later row can change
    what was near; they are stored as 32-bit floats, and every row of a source has equally many.
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
    claims of a searched path; `profit` is that of the decision's orders in micro-dollars after fees, None without
    orders or before their market has settled."""

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
    """Filter of a list: conjunction of the fields that are not None. `since` is inclusive, `until` exclusive; `below`
    is a verified share; `searched`, `corrected` and `traded` select by what happened."""

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
    """Order of a list, which decides what a limit cuts off."""

    NEWEST = "newest"
    LOST_MOST = "lost_most"
    EARNED_MOST = "earned_most"
    MOST_TOKENS = "most_tokens"
    LEAST_VERIFIED = "least_verified"


@dataclass(frozen=True, slots=True)
class StoredIntent:
    """A recorded order intent. `status` is the venue's last answer, "intended" before the first; `body` is the signed
    text."""

    run_id: str
    order_id: str
    decision_id: str
    order: Order
    body: str
    status: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Problem:
    """An inconsistency of the log; `seq` is None if it concerns no single record."""

    run_id: str
    seq: int | None
    kind: str
    key: str
    sentence: str


JOULES = "joules:"
"""Before a phase's name: the name of its measured energy among a decision's timings."""
