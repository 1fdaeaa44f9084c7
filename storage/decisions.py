"""The record of a decision as a value: the one place that knows the names and shapes its JSON has, in both directions.

Records of every version before are read; what they lack has its neutral value. The types here are the schema of the
record and nothing else, so that no change to what a search works with changes what is written without being seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from market.errors import Drift
from market.types import Micro, Outcome, Side, TimeInForce
from storage.canonical import Json, plain
from storage.records import Record, StoredObject

VERSION = 2
"""Of the record's form. Records of version 1 carry no number; 2 is the same with the number."""
SUPPORTED = "supported"
"""The verdict of a claim that history bears out."""


@dataclass(frozen=True, slots=True)
class RecordedMarket:
    """The market that was decided on."""

    id: str
    slug: str = ""
    question: str = ""


@dataclass(frozen=True, slots=True)
class RecordedGate:
    """`reason` is empty where the gate was open. Edges are dollars a share."""

    reason: str = ""
    plausible: float = 0.0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordedBand:
    """The conformal band of the mid while a belief lives."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RecordedClaim:
    """A claim by its labels; on the decision rung `bucket` is the choice."""

    rung: str
    feature: str
    bucket: str
    effect: str


@dataclass(frozen=True, slots=True)
class RecordedEvidence:
    """The evidence for a claim from `support` past windows, as verification left it; `rival_rate` is the base rate
    where only one null was known, `age` seconds, None without windows."""

    support: int
    rate: float
    base_rate: float
    posterior: float
    low: float
    high: float
    log_bayes_factor: float
    confidence: float = 0.9
    rival_rate: float | None = None
    age: int | None = None


@dataclass(frozen=True, slots=True)
class RecordedCheck:
    """A claim with its evidence, verdict and finding; `finding` is None where no fault was found."""

    claim: RecordedClaim
    evidence: RecordedEvidence
    verdict: str
    finding: str | None = None

    @property
    def supported(self) -> bool:
        return self.verdict == SUPPORTED


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStep(RecordedCheck):
    """A claim of the chosen path: its sentence, and the log-odds that its evidence adds to the market's."""

    says: str = ""
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordedCorrection:
    """`index` is the faulty claim's place on the path; `replacement` is None where it was dropped."""

    index: int
    finding: str
    faulty: RecordedCheck
    replacement: RecordedCheck | None = None


@dataclass(frozen=True, slots=True)
class RecordedCalibration:
    """The calibration map that the belief was read through, fitted on `n` outcomes."""

    kind: str = "identity"
    numbers: tuple[float, ...] = ()
    n: int = 0


@dataclass(frozen=True, slots=True)
class RecordedBelief:
    """`shift` and `sd` are log-odds; `verified_share` is of the claims that say something."""

    market_id: str
    as_of: datetime
    expires_at: datetime
    shift: float
    sd: float
    verified_share: float
    support: int
    calibration: RecordedCalibration = RecordedCalibration()


@dataclass(frozen=True, slots=True)
class RecordedSide:
    """The better side of the book for the belief; `net` is dollars a share after fee and buffer."""

    outcome: Outcome
    price: Decimal
    probability: float
    net: float
    confidence: float


@dataclass(frozen=True, slots=True)
class RecordedEdge:
    """`best` is None on a book without both sides; the fee is dollars a share, and the rate it follows from."""

    best: RecordedSide | None
    fee_per_share: Decimal | None
    fee_rate: Decimal

    def to_json(self) -> dict[str, Json]:
        fee = None if self.fee_per_share is None else str(self.fee_per_share)
        return {"best": plain(self.best), "fee_per_share": fee, "fee_rate": str(self.fee_rate)}


@dataclass(frozen=True, slots=True)
class RecordedSearch:
    """A search and what it came to. `nodes` are hashes in the order of growth, `picked` the chosen path's places among
    them, `path` its claims after a correction; `read` is the digest of the `rows` of history that were looked at."""

    policy: str
    stop: str
    path: tuple[RecordedStep, ...]
    belief: RecordedBelief
    nodes: tuple[str, ...] = ()
    picked: tuple[int, ...] = ()
    failed: str = ""
    rows: int = 0
    read: str = ""
    correction: RecordedCorrection | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class RecordedTokens:
    """Tokens of one phase, and the calls that took them."""

    prompt: int
    cached: int
    generated: int
    calls: int

    @property
    def charged(self) -> int:
        return self.prompt + self.generated


@dataclass(frozen=True, slots=True)
class RecordedOrderIntent:
    """The order that was decided on, before limits; in the record it is called "wish"."""

    outcome: Outcome
    side: Side
    price: Decimal
    size: Micro
    why: str = ""
    tif: TimeInForce = TimeInForce.FAK
    post_only: bool = False
    good_until: datetime | None = None


_Stops = Annotated[tuple[tuple[int, str], ...], BeforeValidator(lambda found: found or ())]
_OrderIntent = Annotated[RecordedOrderIntent | None, Field(validation_alias="wish")]


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """A decision as it was written down.

    `inputs`, `book` and `answers` are hashes of stored objects. `probability` is the calibrated P(YES), `arms` P(YES)
    by rung of the evidence ladder, `features` buckets by name; each is None or empty where no price was seen. `tokens`
    are by phase; `stops` are the reservations, by number, that a clock or a meter refused.
    """

    market: RecordedMarket
    inputs: str
    book: str
    gate: RecordedGate
    action: str
    reason: str
    mid: float | None = None
    probability: float | None = None
    features: Mapping[str, str] | None = None
    arms: Mapping[str, float] = field(default_factory=dict)
    band: RecordedBand | None = None
    edge: RecordedEdge | None = None
    search: RecordedSearch | None = None
    tokens: Mapping[str, RecordedTokens] = field(default_factory=dict)
    stops: _Stops = ()
    intent: _OrderIntent = None
    answers: tuple[str, ...] = ()
    version: int = VERSION

    @classmethod
    def of(cls, record: Record) -> RecordedDecision:
        """The decision of a record. Raises Drift where the record is damaged or of a version to come."""
        return cls.from_json(record.body, f"decision {record.key}")

    @classmethod
    def from_json(cls, body: Mapping[str, Json], name: str = "the decision") -> RecordedDecision:
        """The decision of a record's body; `name` is said of it where it is damaged."""
        version = body.get("version", 1)
        if isinstance(version, int) and version > VERSION:
            raise Drift(
                f"{name} was written in version {version} of the record and this program reads {VERSION}.",
                next_step="Install the newer edgeclaw.",
            )
        found: RecordedDecision = _read(_decision(), {**body, **_thought(body, name), "version": version}, name)
        return found

    def to_json(self) -> dict[str, Json]:
        """The body of the record."""
        return {
            "version": self.version,
            "market": plain(self.market),
            "thought": self.thought(),
            "answers": plain(self.answers),
        }

    def thought(self) -> dict[str, Json]:
        """The part of the body that a replay must reproduce."""
        return {
            "inputs": self.inputs,
            "book": self.book,
            "gate": plain(self.gate),
            "mid": plain(self.mid),
            "probability": plain(self.probability),
            "features": plain(self.features),
            "arms": plain(self.arms),
            "band": plain(self.band),
            "edge": self.edge.to_json() if self.edge else None,
            "search": plain(self.search),
            "tokens": plain(self.tokens),
            "stops": plain(self.stops) or None,
            "action": self.action,
            "reason": self.reason,
            "wish": plain(self.intent),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedNode(RecordedCheck):
    """A node of a search tree: a claim under the `hash` of the node's content, which holds its parent's hash (empty on
    the first level). `verdict_p` is the model's word on the claim and on its opposite, None where it was not asked;
    `prior` and `value` lie in [0, 1], `odds` are log-odds of up."""

    parent: str
    depth: int
    prior: float
    odds: float
    value: float
    verdict_p: tuple[float, float] | None = None
    hash: str = ""

    @classmethod
    def of(cls, kept: StoredObject) -> RecordedNode:
        """Raises Drift where the object is no node."""
        node: RecordedNode = _read(_node(), {**json.loads(kept.text), "hash": kept.hash}, f"node {kept.hash[:12]}")
        return node

    def to_json(self) -> dict[str, Json]:
        """The content that the hash is of."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.name != "hash"}


def thought_of(record: Record) -> Mapping[str, Json]:
    """The part of a decision's body that a replay must reproduce, as it stands: to compare and to hand on, not to read
    fields of. Raises Drift where there is none."""
    return _thought(record.body, f"decision {record.key}")


def _thought(body: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    found = body.get("thought")
    if not isinstance(found, Mapping):
        raise Drift(f"{name} is no decision record: its section 'thought' is missing.")
    search = found.get("search")
    if "arms" not in found and isinstance(search, Mapping) and "arms" in search:
        return {**found, "arms": search["arms"]}  # where the first records kept them
    return found


@cache
def _decision() -> TypeAdapter[RecordedDecision]:
    return TypeAdapter(RecordedDecision)


@cache
def _node() -> TypeAdapter[RecordedNode]:
    return TypeAdapter(RecordedNode)


def _read(kind: TypeAdapter[Any], found: object, name: str) -> Any:
    """The value of some JSON, or one sentence that names the first place that is damaged."""
    try:
        return kind.validate_python(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Drift(f"{name} is damaged at {place}: {first['msg'][:1].lower()}{first['msg'][1:]}.") from None
