"""The MQTT contract as data: every topic with its payload's schema and quality of service. Needs no MQTT client.

A payload is a JSON object with a version `v`. A field may be added without another version, and none is taken away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from market import events
from market.events import Event
from market.types import Ack, Fill, Settlement, SignedOrder, Transfer
from storage.canonical import Json
from storage.records import RecordKind

VERSION = 1
MONEY = (RecordKind.INTENT, RecordKind.ACK, RecordKind.FILL, RecordKind.SETTLEMENT, RecordKind.TRANSFER)
"""Records that are published until the broker confirms them."""
NAME = r"^[a-z0-9][a-z0-9-]{0,31}$"
"""Pattern of a signal's name."""
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_Text = Annotated[str, Field(max_length=500)]


class CommandRequest(BaseModel):
    """A command without arguments. After `expires` it is refused, however late a broker brings it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    v: int = Field(VERSION, ge=VERSION, le=VERSION)
    expires: AwareDatetime | None = None


class HaltRequest(CommandRequest):
    """`halt` and `pause`: cancel all orders, and open nothing until a person resumes."""

    reason: _Text = ""


class Resume(CommandRequest):
    """Allow trading again. `halt` is the instant of the halt that it lifts, as `halt` and `status` report it. `margin`
    are dollars of further loss after which a loss limit that is reached halts again; with `reset_limits` losses so far
    count no more. Where a limit is reached one of the two is needed."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]
    halt: str = ""
    margin: Annotated[Decimal, Field(gt=0, decimal_places=6, max_digits=18)] | None = None
    reset_limits: bool = False


class SignalTold(CommandRequest):
    """A signal: nothing is opened until an instant. One whose instant is past ends the signal of that name."""

    until: AwareDatetime
    why: Annotated[str, Field(max_length=200)] = ""


COMMANDS: Mapping[str, type[CommandRequest]] = {
    "halt": HaltRequest,
    "pause": HaltRequest,
    "resume": Resume,
    "status": CommandRequest,
    "limits": CommandRequest,
    "config": CommandRequest,
}


@dataclass(frozen=True, slots=True)
class StatusMessage:
    online: bool
    agent: str


@dataclass(frozen=True, slots=True)
class HealthTold:
    """Health of a run: `lag` and `silence` are seconds; `dropped` counts events without room in the queue, `waiting`
    those not published yet. `agent` tells apart agents that were given the same instance by mistake; one that is
    `aside` has left the instance to another. The next message comes in `heartbeat` seconds."""

    at: str
    well: bool
    complaints: tuple[str, ...]
    stage: str
    trading: bool
    lag: float
    silence: float
    dropped: int
    waiting: int
    agent: str
    aside: bool
    heartbeat: float


@dataclass(frozen=True, slots=True)
class CommandReply:
    """Reply to a command with a response topic: `result` where it is `ok`, else `error`, a sentence."""

    ok: bool
    result: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """An order that is about to be sent; `view` is the hash of the market view."""

    decision_id: str
    signed: SignedOrder
    view: str
    why: str
    objects: str


_BODIES: Mapping[RecordKind, Any] = {
    RecordKind.INTENT: Intent,
    RecordKind.ACK: Ack,
    RecordKind.FILL: Fill,
    RecordKind.SETTLEMENT: Settlement,
    RecordKind.TRANSFER: Transfer,
}


def told_events() -> list[type[Event]]:
    """Event classes, sorted by topic."""
    found = [e for e in vars(events).values() if isinstance(e, type) and issubclass(e, Event) and e is not Event]
    return sorted(found, key=lambda e: e.topic)


def schemas() -> dict[str, Json]:
    """JSON Schemas of the payloads of all topics below `edgeclaw/INSTANCE/`."""
    topics: dict[str, Json] = {
        "status": _out(StatusMessage, 1, retained=True),
        "health": _out(HealthTold, 0),
        **{f"event/{e.topic}": _out(e, 0) for e in told_events()},
        **{f"money/{kind.value}": _topic("out", 1, _record(kind)) for kind in MONEY},
        **{f"command/{name}": _topic("in", 1, _model(model)) for name, model in COMMANDS.items()},
        "signal/+": _topic("in", 1, _model(SignalTold)),
        "(response topic)": _out(CommandReply, 1),
    }
    return {"version": VERSION, "topics": topics}


def _topic(way: str, qos: int, payload: Json, *, retained: bool = False) -> dict[str, Json]:
    return {"direction": way, "qos": qos, "retained": retained, "payload": payload}


def _out(kind: Any, qos: int, *, retained: bool = False) -> dict[str, Json]:
    return _topic("out", qos, _versioned(_schema_of(kind)), retained=retained)


def _schema_of(kind: Any) -> dict[str, Json]:
    """JSON Schema of the serialised form that `plain` writes: decimals are text."""
    return TypeAdapter(kind).json_schema(mode="serialization")


def _model(model: type[BaseModel]) -> dict[str, Json]:
    return {"$schema": _DIALECT, **model.model_json_schema()}


def _versioned(schema: dict[str, Json]) -> dict[str, Json]:
    own: Any = schema.get("properties", {})
    required: Any = schema.get("required", [])
    version: Json = {"const": VERSION}
    return {"$schema": _DIALECT, **schema, "properties": {"v": version, **own}, "required": ["v", *required]}


def _record(kind: RecordKind) -> dict[str, Json]:
    """Schema of a log record: `id` is its hash, which tells repetitions apart, `seq` its position in the run."""
    body = _schema_of(_BODIES[kind])
    shared = body.pop("$defs", {})
    text: Json = {"type": "string"}
    fields: dict[str, Json] = {
        "id": text,
        "run": text,
        "seq": {"type": "integer", "minimum": 0},
        "at": {"type": "string", "format": "date-time"},
        "body": body,
    }
    return _versioned({"type": "object", "properties": fields, "required": list(fields), "$defs": shared})
