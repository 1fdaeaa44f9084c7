"""The record of a decision: what is written is read again, of every version; damage is one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.decision.record import path_of, record_of, written
from agent.llm.scripted import ScriptedEngine
from market.errors import Drift
from market.types import Outcome, Side, SignedOrder, TimeInForce
from storage.canonical import Json, encoded, plain
from storage.decisions import (
    VERSION,
    RecordedBand,
    RecordedBelief,
    RecordedCalibration,
    RecordedCheck,
    RecordedClaim,
    RecordedCorrection,
    RecordedDecision,
    RecordedEdge,
    RecordedEvidence,
    RecordedGate,
    RecordedMarket,
    RecordedNode,
    RecordedOrderIntent,
    RecordedSearch,
    RecordedSide,
    RecordedStep,
    RecordedTokens,
    thought_of,
)
from storage.projections import RecordedOrder
from storage.records import Record, RecordKind, RunManifest, StoredObject
from strategies.verification import Finding
from tests.fakes import START
from tests.unit.test_decide import decision, inputs, lifted

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text('abc_é"\\\n', max_size=6)
WHOLE = st.integers(0, 10**9)
MONEY = st.decimals(0, 1, places=6).map(lambda d: Decimal(f"{d.normalize():f}"))
INSTANTS = st.datetimes(timezones=st.just(UTC))
BY_TYPE: dict[object, st.SearchStrategy[Any]] = {
    float: FLOATS,
    str: TEXTS,
    int: WHOLE,
    Decimal: MONEY,
    datetime: INSTANTS,
    bool: st.booleans(),
}
T = TypeVar("T")


def built(kind: type[T], **known: st.SearchStrategy[Any]) -> st.SearchStrategy[T]:
    """Values of a type whose plain fields are what a record may hold; the others are `known`."""
    plainly = {name: BY_TYPE[hint] for name, hint in get_type_hints(kind).items() if hint in BY_TYPE}
    return st.builds(kind, **(plainly | known))


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=3).map(tuple)


CHECKED: dict[str, st.SearchStrategy[Any]] = {
    "claim": built(RecordedClaim),
    "evidence": built(RecordedEvidence, rival_rate=st.none() | FLOATS, age=st.none() | WHOLE),
    "finding": st.none() | TEXTS,
}
CHECKS = built(RecordedCheck, **CHECKED)
SEARCHES = built(
    RecordedSearch,
    path=some(built(RecordedStep, **CHECKED)),
    belief=built(RecordedBelief, calibration=built(RecordedCalibration, numbers=some(FLOATS))),
    nodes=some(TEXTS),
    picked=some(WHOLE),
    correction=st.none() | built(RecordedCorrection, faulty=CHECKS, replacement=st.none() | CHECKS),
)
EDGES = built(
    RecordedEdge,
    best=st.none() | built(RecordedSide, outcome=st.sampled_from(Outcome)),
    fee_per_share=st.none() | st.decimals(0, 1, places=8),
)
INTENTS = built(
    RecordedOrderIntent,
    outcome=st.sampled_from(Outcome),
    side=st.sampled_from(Side),
    tif=st.sampled_from(TimeInForce),
    good_until=st.none() | INSTANTS,
)
DECISIONS = built(
    RecordedDecision,
    market=built(RecordedMarket),
    gate=built(RecordedGate),
    mid=st.none() | FLOATS,
    probability=st.none() | FLOATS,
    features=st.none() | st.dictionaries(TEXTS, TEXTS, max_size=3),
    arms=st.dictionaries(TEXTS, FLOATS, max_size=3),
    band=st.none() | built(RecordedBand),
    edge=st.none() | EDGES,
    search=st.none() | SEARCHES,
    tokens=st.dictionaries(TEXTS, built(RecordedTokens), max_size=3),
    stops=some(st.tuples(WHOLE, TEXTS)),
    intent=st.none() | INTENTS,
    answers=some(TEXTS),
    version=st.just(VERSION),
)
NODES = built(RecordedNode, **CHECKED, verdict_p=st.none() | st.tuples(FLOATS, FLOATS), hash=st.just(""))


@given(DECISIONS)
def test_what_is_written_is_read_again(value: RecordedDecision) -> None:
    text = encoded(value.to_json())
    again = RecordedDecision.from_json(json.loads(text))
    assert again == value and encoded(again.to_json()) == text


@given(NODES)
def test_a_node_is_read_again_under_the_hash_of_its_content(value: RecordedNode) -> None:
    kept = StoredObject.holding("node", value.to_json())
    again = RecordedNode.of(kept)
    assert again == replace(value, hash=kept.hash) and again.to_json() == value.to_json()


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """The body of a real decision that was searched and traded."""
    return body_of()


def body_of() -> dict[str, Any]:
    body = record_of("d1", decision(inputs(windows=200), lifted()), [], {}).body
    return dict(json.loads(encoded(body)))


def record(body: Mapping[str, Any]) -> Record:
    return Record("run", 0, RecordKind.DECISION, "d1", START, body, "", "")


def test_a_real_decision_is_read_as_what_it_was() -> None:
    thought = decision(inputs(windows=200), lifted())
    assert thought.forecast is not None and thought.intent is not None
    read = RecordedDecision.of(record(json.loads(encoded(record_of("d1", thought, [], {}).body))))
    assert read == written(thought).recorded and read.version == VERSION
    assert read.search is not None and path_of(read.search) == list(thought.forecast.path)
    assert read.probability == thought.probability and read.arms == thought.arms and read.mid == thought.mid
    assert read.intent is not None and (read.intent.price, read.intent.size) == (
        thought.intent.price,
        thought.intent.size,
    )


def test_a_correction_is_read_as_what_it_was() -> None:
    seen = next(
        thought
        for seed in range(40)
        if (thought := decision(inputs(windows=200), lifted(), ScriptedEngine(seed=seed))).forecast is not None
        and thought.forecast.correction is not None
    )
    assert seen.forecast is not None and seen.forecast.correction is not None
    read = RecordedDecision.from_json(json.loads(encoded(written(seen).recorded.to_json()))).search
    assert read is not None and read.correction is not None
    assert Finding(read.correction.finding) is seen.forecast.correction.finding
    assert read.correction.faulty.claim.bucket == seen.forecast.correction.faulty.claim.bucket
    assert (read.correction.replacement is None) == (seen.forecast.correction.replacement is None)


def without(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(body: Any) -> None:
        for name in path[:-1]:
            body = body[name]
        for one in body if isinstance(body, list) else [body]:
            del one[path[-1]]

    return change


def arms_in_search(body: dict[str, Any]) -> None:
    body["thought"]["search"]["arms"] = body["thought"].pop("arms")


def one_null(body: dict[str, Any]) -> None:
    for step in body["thought"]["search"]["path"]:
        del step["evidence"]["rival_rate"], step["evidence"]["age"]


SHAPES: dict[str, tuple[Callable[[dict[str, Any]], None], Callable[[RecordedDecision], object], object]] = {
    "before it had a version": (without("version"), lambda d: d.version, 1),
    "before the band": (without("thought", "band"), lambda d: d.band, None),
    "before stops": (without("thought", "stops"), lambda d: d.stops, ()),
    "before the digest of history": (without("thought", "search", "read"), lambda d: d.search and d.search.read, ""),
    "arms of the search alone": (arms_in_search, lambda d: sorted(d.arms)[0], "calibrate"),
    "before the second null": (
        one_null,
        lambda d: d.search and {c.evidence.rival_rate - c.evidence.base_rate for c in path_of(d.search)},
        {0.0},
    ),
    "before orders could rest": (
        without("thought", "wish", "post_only"),
        lambda d: d.intent and d.intent.post_only,
        False,
    ),
    "before orders could end": (
        without("thought", "wish", "good_until"),
        lambda d: d.intent and d.intent.good_until,
        None,
    ),
    "before calibration": (
        without("thought", "search", "belief", "calibration"),
        lambda d: d.search and d.search.belief.calibration.kind,
        "identity",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_earlier_shape_is_read_with_what_it_lacks_neutral(shape: str) -> None:
    change, look, neutral = SHAPES[shape]
    body = body_of()
    change(body)
    assert look(RecordedDecision.of(record(body))) == neutral


DAMAGE: dict[str, tuple[tuple[str | int, ...], object]] = {
    "no thought": (("thought",), None),
    "a thought of text": (("thought",), "up"),
    "a gate that is a number": (("thought", "gate"), 3),
    "a mid of words": (("thought", "mid"), "half"),
    "a claim without labels": (("thought", "search", "path", 0, "claim"), {}),
    "evidence in words": (("thought", "search", "path", 0, "evidence", "support"), "many"),
    "an instant that is none": (("thought", "search", "belief", "as_of"), "yesterday"),
    "a price that is none": (("thought", "wish", "price"), "dear"),
    "an outcome that is none": (("thought", "wish", "outcome"), "maybe"),
    "a market that is none": (("market",), []),
    "answers that are no list": (("answers",), 7),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_one_plain_sentence(name: str, made: dict[str, Any]) -> None:
    path, value = DAMAGE[name]
    body: Any = json.loads(json.dumps(made))
    place = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(Drift, match=r"\Adecision d1 [^\n]*\.\Z") as raised:
        RecordedDecision.of(record(body))
    assert len(str(raised.value)) < 200


@given(
    st.recursive(st.none() | FLOATS | TEXTS, lambda v: st.lists(v, max_size=2) | st.dictionaries(TEXTS, v, max_size=2))
)
def test_whatever_stands_in_a_record_it_is_refused_in_words(value: object) -> None:
    for body in ({"thought": value}, {"thought": {"gate": value}, "market": value}, {"version": value, "thought": {}}):
        with pytest.raises(Drift):
            RecordedDecision.of(record(body))


def test_a_claim_in_words_that_nobody_knows_is_refused(made: dict[str, Any]) -> None:
    body = json.loads(json.dumps(made))
    body["thought"]["search"]["path"][0]["verdict"] = "splendid"
    search = RecordedDecision.of(record(body)).search
    assert search is not None
    with pytest.raises(Drift, match="splendid"):
        path_of(search)


def test_a_version_to_come_says_what_to_do(made: dict[str, Any]) -> None:
    with pytest.raises(Drift, match="version 99") as raised:
        RecordedDecision.of(record({**made, "version": 99}))
    assert "Install" in raised.value.next_step


def test_the_part_that_a_replay_reproduces_has_no_version(made: dict[str, Any]) -> None:
    assert made["version"] == VERSION and "version" not in made["thought"]
    assert thought_of(record(made)) == made["thought"]


def order_body(**change: object) -> dict[str, Any]:
    signed = {
        "id": "0x1",
        "order": {
            "market_id": "m", "outcome": "yes", "side": "buy", "price": "0.5", "size": 5_000_000, "key": "d1/0",
            "placed_at": START.isoformat(), "tif": TimeInForce.FAK.value, "post_only": False,
        },
        "body": "",
    }  # fmt: skip
    return {"decision_id": "d1", "signed": signed, "view": "seen", "why": "edge", **change}


def test_an_order_is_read_as_what_was_signed() -> None:
    read = RecordedOrder.of(record(order_body()))
    assert (read.decision_id, read.view, read.why, read.signed.id) == ("d1", "seen", "edge", "0x1")
    order = read.signed.order
    assert (order.outcome, order.side, order.price, order.good_until) == (Outcome.YES, Side.BUY, Decimal("0.5"), None)
    again = json.loads(encoded(plain(read.signed)))
    assert RecordedOrder.of(record(order_body(signed=again))).signed == read.signed
    assert isinstance(read.signed, SignedOrder)


@pytest.mark.parametrize("change", [{"signed": None}, {"signed": {"order": {}}}, {"signed": 3}])
def test_a_damaged_order_is_one_plain_sentence(change: dict[str, object]) -> None:
    with pytest.raises(Drift, match=r"^order d1 is damaged: [^\n]*\.$"):
        RecordedOrder.of(record(order_body(**change)))


@given(built(RunManifest, notes=some(TEXTS), config=st.dictionaries(TEXTS, TEXTS)))
def test_a_manifest_is_read_again(value: RunManifest) -> None:
    assert RunManifest.read(json.loads(encoded(value.to_json()))) == value


def test_a_manifest_of_any_version_reads_with_what_it_lacks_neutral() -> None:
    assert RunManifest.read({}) == RunManifest()
    assert RunManifest.read({"data": "test"}).data == "test"
    paper: dict[str, Json] = {
        "data": "d",
        "notes": ["n"],
        "has_reference": True,
        "config": {},
        "cash": 5,
        "of": "",
        "answers_by": "m",
    }
    assert RunManifest.read(paper) == RunManifest("d", ("n",), True, {}, 5, answers_by="m")


@pytest.mark.parametrize("damaged", [{"cash": "much"}, {"notes": 3}, {"notes": [3]}, {"data": None}, {"account": 1}])
def test_a_damaged_manifest_says_so(damaged: dict[str, Any]) -> None:
    with pytest.raises(Drift, match="manifest is damaged"):
        RunManifest.read(damaged)


def test_cash_that_a_manifest_does_not_say_is_not_read_as_zero() -> None:
    read = RunManifest.read({"account": "paper at the venue"})
    with pytest.raises(Drift, match="does not say what cash it began with"):
        read.initial_cash  # noqa: B018 - reading it is what is tried
    assert RunManifest.read({"cash": 5}).initial_cash == 5
