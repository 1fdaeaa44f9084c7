"""One decision from its inputs, and the record it leaves: gate, forecast, decide. The same for every mode and replay.

`think` depends on nothing but its arguments: the same inputs, answers, history and stops give the same thought, to the
byte. Where the deadline is counted in tokens there are no stops by a clock or a meter, and nothing that is measured
changes a thought.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from agent.allocation import allocate
from agent.budget import Budget, Electricity, charged
from agent.forecast import Forecast, baselines, forecast, unsearched
from agent.gate import THINKABLE, Gate, gate
from agent.inputs import Inputs
from agent.llm.engine import Engine
from agent.past import History, Past, look_back
from agent.search.tree import Policy
from market.errors import EngineUnavailable
from storage.canonical import Json, plain
from storage.records import LedgerRow, StoredObject
from strategies.base import Wish
from strategies.belief import Belief
from strategies.conformal import Band
from strategies.edge import best_edge, decide
from strategies.verification import Checked


@dataclass(frozen=True, slots=True)
class Thought:
    """A decision before anything is done about it. `wish` is an order, `reason` why there is one or none; `arms` are
    P(YES) by rung of the evidence ladder, searched or not, empty where no price was seen; `band` is where the mid may
    go while a belief lives."""

    inputs: Inputs
    gate: Gate
    forecast: Forecast | None
    wish: Wish | None
    reason: str
    budget: Budget
    arms: Mapping[str, float]
    band: Band | None = None

    @property
    def action(self) -> str:
        if self.wish is None:
            return "abstain"
        return "post" if self.wish.post_only else "take"

    @property
    def belief(self) -> Belief | None:
        """What the hot path may trade on: nothing where the gate was shut or the engine failed."""
        if self.forecast is None or not self.gate.open or self.forecast.failed:
            return None
        return self.forecast.belief

    @property
    def mid(self) -> float | None:
        return self.inputs.features.mid / 1e6 if self.inputs.features else None

    @property
    def probability(self) -> float | None:
        """The agent's P(YES), calibrated: the belief's where there was one, else the market's."""
        return self.arms.get("calibrate")

    @property
    def ledger(self) -> tuple[LedgerRow, ...]:
        return self.budget.ledger()


async def think(
    inputs: Inputs,
    engine: Engine,
    history: History,
    *,
    electricity: Electricity | None = None,
    stops: Mapping[int, str] | None = None,
) -> Thought:
    """Gate, search where it is worth it (or shadow search for the log), and decide.

    `stops` are a recorded decision's, when that is thought through again. `electricity` measures, and on a feed whose
    deadline is counted in seconds it may end the search.
    """
    budget = Budget(inputs.settings.limits, electricity=electricity, replayed=stops)
    entry = gate(inputs)
    if inputs.features is None:
        return Thought(inputs, entry, None, None, entry.reason, budget, {})
    trials = max(inputs.settings.policy.max_nodes, len(inputs.features.buckets))  # every bucket is weighed for hope
    past = await look_back(inputs, inputs.features, history, trials)
    band = past.reach(inputs.learned.alpha)
    shadow = inputs.settings.shadow and entry.reason in THINKABLE
    policy = allocate(inputs, entry)
    if reason := _idle(inputs, entry, policy, past, shadow=shadow):
        return Thought(inputs, entry, None, None, reason, budget, unsearched(inputs, past), band)
    with suppress(EngineUnavailable):  # an engine that is gone says so again when it is asked
        await engine.forget()
    made = await forecast(inputs, entry, past, policy or inputs.settings.policy, engine, budget)
    budget.close()
    wish, reason = _decide(inputs, entry, made)
    return Thought(inputs, entry, made, wish, reason, budget, {**baselines(past), **made.arms}, band)


def _idle(inputs: Inputs, entry: Gate, policy: Policy | None, past: Past, *, shadow: bool) -> str:
    """Why there is no search: the gate is shut, no search is worth its tokens, or none could find anything."""
    if shadow:
        return ""
    if not entry.open:
        return entry.reason
    if policy is None:
        return "search_not_worth_it"
    return "nothing_to_verify" if inputs.settings.frugal and not past.hopes() else ""


def _decide(inputs: Inputs, entry: Gate, made: Forecast) -> tuple[Wish | None, str]:
    if not entry.open:
        return None, entry.reason
    if made.failed:
        return None, "engine_unavailable"
    view = inputs.view()
    if view is None:
        return None, "no_book"
    return decide(view, made.belief, inputs.settings.rule, inputs.settings.sizing)


@dataclass(frozen=True, slots=True)
class Written:
    """A thought as JSON, and the objects its hashes point to."""

    body: dict[str, Json]
    objects: tuple[StoredObject, ...]


def written(thought: Thought) -> Written:
    """The part of a decision's record that a replay must reproduce."""
    inputs = StoredObject.of("inputs", thought.inputs)
    book = StoredObject.of("book", thought.inputs.book)
    nodes = _nodes(thought.forecast) if thought.forecast else []
    body: dict[str, Json] = {
        "inputs": inputs.hash,
        "book": book.hash,
        "gate": plain(thought.gate),
        "mid": thought.mid,
        "probability": thought.probability,
        "features": plain(thought.inputs.features.buckets) if thought.inputs.features else None,
        "arms": plain(thought.arms),
        "band": plain(thought.band),
        "edge": _edge(thought),
        "search": _search(thought.forecast, nodes) if thought.forecast else None,
        "tokens": charged(thought.budget.spent),
        "stops": plain(sorted(thought.budget.stops.items())) or None,
        "action": thought.action,
        "reason": thought.reason,
        "wish": plain(thought.wish),
    }
    return Written(body, (inputs, book, *nodes))


def _edge(thought: Thought) -> Json:
    """The better side of the book for the belief, traded on or not, and the fee that was counted."""
    view = thought.inputs.view()
    if view is None or thought.forecast is None:
        return None
    edge = best_edge(view, thought.forecast.belief, thought.inputs.settings.rule)
    fee = str(view.fees.per_share(edge.price)) if edge else None
    return {"best": plain(edge), "fee_per_share": fee, "fee_rate": str(view.fees.rate)}


def _search(made: Forecast, nodes: Sequence[StoredObject]) -> Json:
    return {
        "policy": made.policy,
        "stop": made.tree.stop,
        "failed": made.failed,
        "rows": made.rows,
        "read": made.read,
        "nodes": [n.hash for n in nodes],
        "picked": list(made.picked),
        "path": [_claim(c) for c in made.path],
        "correction": plain(made.correction),
        "belief": plain(made.belief),
        "words": made.words,
    }


def _claim(checked: Checked) -> Json:
    return {"says": checked.claim.sentence(), "shift": checked.evidence.shift, **_fields(checked)}


def _fields(checked: Checked) -> dict[str, Json]:
    return {
        "claim": plain(checked.claim),
        "evidence": plain(checked.evidence),
        "verdict": checked.verdict.value,
        "finding": checked.finding.value if checked.finding else None,
    }


def _nodes(made: Forecast) -> list[StoredObject]:
    """Every node under the hash of its content and its parent's hash, in the order they were made."""
    kept: list[StoredObject] = []
    for i, visit in enumerate(made.tree.visits):
        node = visit.item
        parent = kept[visit.parent].hash if visit.parent is not None else ""
        body: dict[str, Json] = {
            "parent": parent,
            "depth": visit.depth,
            "prior": node.prior,
            "odds": node.odds,
            "verdict_p": plain(made.verdicts.get(i)),
            "value": visit.value,
            **(_fields(node.checked) if node.checked else {}),
        }
        kept.append(StoredObject.holding("node", body))
    return kept
