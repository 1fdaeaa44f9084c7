"""From a decision to its record, and from a record to what a decision was made from. The record's own form, its JSON
and its versions, is `storage.decisions`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from pydantic import TypeAdapter

from agent.decision.budget import charged
from agent.decision.correction import Correction
from agent.decision.decide import Decision
from agent.decision.forecast import Forecast
from agent.decision.inputs import Inputs
from agent.llm.recorded import RecordedCall
from market.errors import Drift
from storage.canonical import Json
from storage.decisions import (
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
)
from storage.records import DecisionRecord, Record, StoredObject
from storage.store import Store
from strategies.base import OrderIntent
from strategies.belief import Belief
from strategies.claims import Claim, Effect
from strategies.edge import best_edge
from strategies.verification import Checked, Evidence, Finding, Verdict


@dataclass(frozen=True, slots=True)
class Written:
    """A decision as its record holds it, and the objects its hashes point to."""

    recorded: RecordedDecision
    objects: tuple[StoredObject, ...]

    @property
    def body(self) -> dict[str, Json]:
        """The part of the record that a replay must reproduce."""
        return self.recorded.thought()


def written(decision: Decision, answers: Sequence[str] = ()) -> Written:
    """A decision as its record holds it; `answers` are the hashes of what the engine said."""
    made, market = decision.inputs, decision.inputs.market
    inputs, book = StoredObject.of("inputs", made), StoredObject.of("book", made.book)
    nodes = _nodes(decision.forecast) if decision.forecast else []
    gate, band = decision.gate, decision.band
    recorded = RecordedDecision(
        market=RecordedMarket(id=market.id, slug=market.slug, question=market.question),
        inputs=inputs.hash,
        book=book.hash,
        gate=RecordedGate(reason=gate.reason, plausible=gate.plausible, cost=gate.cost),
        action=decision.action,
        reason=decision.reason,
        mid=decision.mid,
        probability=decision.probability,
        features=made.features.buckets if made.features else None,
        arms=decision.arms,
        band=None if band is None else RecordedBand(low=band.low, high=band.high),
        edge=_edge(decision),
        search=_search(decision.forecast, nodes) if decision.forecast else None,
        tokens={phase: RecordedTokens(**used) for phase, used in charged(decision.budget.spent).items()},
        stops=tuple(sorted(decision.budget.stops.items())),
        intent=_intent(decision.intent) if decision.intent else None,
        answers=tuple(answers),
    )
    return Written(recorded, (inputs, book, *nodes))


def _intent(intent: OrderIntent) -> RecordedOrderIntent:
    return RecordedOrderIntent(
        outcome=intent.outcome,
        side=intent.side,
        price=intent.price,
        size=intent.size,
        why=intent.why,
        tif=intent.tif,
        post_only=intent.post_only,
        good_until=intent.good_until,
    )


def _edge(decision: Decision) -> RecordedEdge | None:
    """The better side of the book for the belief, traded on or not, and the fee that was counted."""
    view = decision.inputs.view()
    if view is None or decision.forecast is None:
        return None
    edge = best_edge(view, decision.forecast.belief, decision.inputs.settings.rule)
    if edge is None:
        return RecordedEdge(best=None, fee_per_share=None, fee_rate=view.fees.rate)
    side = RecordedSide(
        outcome=edge.outcome,
        price=edge.price,
        probability=edge.probability,
        net=edge.net,
        confidence=edge.confidence,
    )
    return RecordedEdge(best=side, fee_per_share=view.fees.per_share(edge.price), fee_rate=view.fees.rate)


def _search(made: Forecast, nodes: Sequence[StoredObject]) -> RecordedSearch:
    return RecordedSearch(
        policy=made.policy,
        stop=made.tree.stop,
        failed=made.failed,
        rows=made.rows,
        read=made.read,
        nodes=tuple(n.hash for n in nodes),
        picked=made.picked,
        path=tuple(_step(checked) for checked in made.path),
        correction=_correction(made.correction) if made.correction else None,
        belief=_belief(made.belief),
        words=made.words,
    )


def _step(checked: Checked) -> RecordedStep:
    return RecordedStep(**_check(checked), says=checked.claim.sentence(), shift=checked.evidence.shift)


def _belief(belief: Belief) -> RecordedBelief:
    calibration = belief.calibration
    return RecordedBelief(
        market_id=belief.market_id,
        as_of=belief.as_of,
        expires_at=belief.expires_at,
        shift=belief.shift,
        sd=belief.sd,
        verified_share=belief.verified_share,
        support=belief.support,
        calibration=RecordedCalibration(calibration.kind.value, calibration.numbers, calibration.n),
    )


def _correction(correction: Correction) -> RecordedCorrection:
    return RecordedCorrection(
        index=correction.index,
        finding=correction.finding.value,
        faulty=RecordedCheck(**_check(correction.faulty)),
        replacement=RecordedCheck(**_check(correction.replacement)) if correction.replacement else None,
    )


class _Check(TypedDict):
    """Fields that every recorded claim has."""

    claim: RecordedClaim
    evidence: RecordedEvidence
    verdict: str
    finding: str | None


def _check(checked: Checked) -> _Check:
    claim, finding = checked.claim, checked.finding
    return {
        "claim": RecordedClaim(rung=claim.rung, feature=claim.feature, bucket=claim.bucket, effect=claim.effect.value),
        "evidence": _evidence(checked.evidence),
        "verdict": checked.verdict.value,
        "finding": None if finding is None else finding.value,
    }


def _evidence(found: Evidence) -> RecordedEvidence:
    return RecordedEvidence(
        support=found.support,
        rate=found.rate,
        base_rate=found.base_rate,
        rival_rate=found.rival_rate,
        posterior=found.posterior,
        low=found.low,
        high=found.high,
        confidence=found.confidence,
        log_bayes_factor=found.log_bayes_factor,
        age=found.age,
    )


def _nodes(made: Forecast) -> list[StoredObject]:
    """Every node under the hash of its content and its parent's hash, in the order they were made."""
    kept: list[StoredObject] = []
    for i, visit in enumerate(made.tree.visits):
        node, checked = visit.item, visit.item.checked
        if checked is None:
            raise ValueError("a visited node makes no claim")
        recorded = RecordedNode(
            **_check(checked),
            parent=kept[visit.parent].hash if visit.parent is not None else "",
            depth=visit.depth,
            prior=node.prior,
            odds=node.odds,
            value=visit.value,
            verdict_p=made.verdicts.get(i),
        )
        kept.append(StoredObject.holding("node", recorded.to_json()))
    return kept


def record_of(
    decision_id: str, decision: Decision, calls: Sequence[RecordedCall], timings: Mapping[str, float]
) -> DecisionRecord:
    """All that is kept of a decision, with its tree, evidence, engine answers and token ledger: enough to think it
    through again without the model."""
    answers = [StoredObject.holding("answer", call.to_json()) for call in calls]
    made = written(decision, [a.hash for a in answers])
    return DecisionRecord(
        id=decision_id,
        market_id=made.recorded.market.id,
        slug=made.recorded.market.slug,
        at=decision.inputs.as_of,
        action=decision.action,
        reason=decision.reason,
        body=made.recorded.to_json(),
        objects=(*made.objects, *answers),
        ledger=decision.ledger,
        timings=timings,
    )


def path_of(search: RecordedSearch) -> list[Checked]:
    """The claims that a search left, with what history said of them. Raises Drift where a label is unknown."""
    return [_checked(step) for step in search.path]


def _checked(check: RecordedCheck) -> Checked:
    claim, found = check.claim, check.evidence
    try:
        effect, verdict = Effect(claim.effect), Verdict(check.verdict)
        finding = None if check.finding is None else Finding(check.finding)
    except ValueError as error:
        raise Drift(f"a recorded claim cannot be read: {error}.") from None
    evidence = Evidence(
        support=found.support,
        rate=found.rate,
        base_rate=found.base_rate,
        rival_rate=found.base_rate if found.rival_rate is None else found.rival_rate,
        posterior=found.posterior,
        low=found.low,
        high=found.high,
        confidence=found.confidence,
        log_bayes_factor=found.log_bayes_factor,
        age=found.age,
    )
    same = Claim(rung=claim.rung, feature=claim.feature, bucket=claim.bucket, effect=effect)
    return Checked(same, evidence, verdict, finding)


_INPUTS = TypeAdapter(Inputs)


async def inputs_of(store: Store, record: Record) -> Inputs:
    """Inputs of the decision."""
    return await inputs_at(store, record.key, RecordedDecision.of(record).inputs)


async def inputs_at(store: Store, decision_id: str, stored: str) -> Inputs:
    """The same under the hash that the decision's record names."""
    kept = await store.object(stored)
    if kept is None:
        raise Drift(f"the inputs of decision {decision_id} are missing from the database.")
    return _INPUTS.validate_python(json.loads(kept.text))


async def recorded_calls(store: Store, record: Record) -> list[RecordedCall]:
    """The answers that a decision was made with. Raises Drift where some are missing."""
    hashes = RecordedDecision.of(record).answers
    found = await store.objects(hashes)
    missing = [h for h in hashes if h not in found]
    if missing:
        raise Drift(f"{len(missing)} recorded answers of decision {record.key} are missing from the database.")
    return [RecordedCall.from_json(json.loads(found[h].text)) for h in hashes]
