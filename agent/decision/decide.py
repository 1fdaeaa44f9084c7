"""One decision from its inputs: gate, forecast, decide. The same for every mode and replay.

`make_decision` depends on nothing but its arguments: the same inputs, answers, history and stops give the same
decision, to the byte. Where the deadline is counted in tokens there are no stops by a clock or a meter, and no
measurement changes a decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from agent.decision.analogs import Analogs, History, look_back
from agent.decision.budget import Budget, Electricity
from agent.decision.forecast import Forecast, baselines, forecast, unsearched
from agent.decision.gate import THINKABLE, Gate, gate
from agent.decision.inputs import Inputs
from agent.decision.search_budget import allocate
from agent.llm.engine import Engine
from agent.search.tree import Policy
from market.errors import EngineUnavailable
from storage.records import LedgerRow
from strategies.base import OrderIntent
from strategies.belief import Belief
from strategies.conformal import Band
from strategies.edge import decide


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision before it is acted on. `intent` is the order intent or None, `reason` the code for either; `arms` are
    P(YES) by rung of the evidence ladder, searched or not, empty if no price was seen; `band` is the interval in which
    the mid may move while the belief is active."""

    inputs: Inputs
    gate: Gate
    forecast: Forecast | None
    intent: OrderIntent | None
    reason: str
    budget: Budget
    arms: Mapping[str, float]
    band: Band | None = None

    @property
    def action(self) -> str:
        if self.intent is None:
            return "abstain"
        return "post" if self.intent.post_only else "take"

    @property
    def belief(self) -> Belief | None:
        """The belief that the hot path may trade on: None where the gate was shut or the engine failed."""
        if self.forecast is None or not self.gate.open or self.forecast.failed:
            return None
        return self.forecast.belief

    @property
    def mid(self) -> float | None:
        return self.inputs.features.mid / 1e6 if self.inputs.features else None

    @property
    def probability(self) -> float | None:
        """The agent's calibrated P(YES): the belief's where there is one, else the market's."""
        return self.arms.get("calibrate")

    @property
    def ledger(self) -> tuple[LedgerRow, ...]:
        return self.budget.ledger()


async def make_decision(
    inputs: Inputs,
    engine: Engine,
    history: History,
    *,
    electricity: Electricity | None = None,
    stops: Mapping[int, str] | None = None,
) -> Decision:
    """Gate, search where it is worth it (or shadow search for the log), and decide.

    `stops` are those of a recorded decision in a replay. `electricity` measures, and on a feed whose
    deadline is counted in seconds it may end the search.
    """
    budget = Budget(inputs.settings.limits, electricity=electricity, replayed=stops)
    entry = gate(inputs)
    if inputs.features is None:
        return Decision(
            inputs=inputs, gate=entry, forecast=None, intent=None, reason=entry.reason, budget=budget, arms={}
        )
    trials = max(inputs.settings.policy.max_nodes, len(inputs.features.buckets))  # every bucket is weighed for hope
    past = await look_back(inputs, inputs.features, history, trials)
    band = past.reach(inputs.learned.alpha)
    shadow = inputs.settings.shadow and entry.reason in THINKABLE
    policy = allocate(inputs, entry)
    if reason := _idle(inputs, entry, policy, past, shadow=shadow):
        return Decision(
            inputs=inputs,
            gate=entry,
            forecast=None,
            intent=None,
            reason=reason,
            budget=budget,
            arms=unsearched(inputs, past),
            band=band,
        )
    with suppress(EngineUnavailable):  # an engine that is gone says so again when it is asked
        await engine.forget()
    made = await forecast(inputs, entry, past, policy or inputs.settings.policy, engine, budget)
    budget.close()
    intent, reason = _decide(inputs, entry, made)
    return Decision(
        inputs=inputs,
        gate=entry,
        forecast=made,
        intent=intent,
        reason=reason,
        budget=budget,
        arms={**baselines(past), **made.arms},
        band=band,
    )


def _idle(inputs: Inputs, entry: Gate, policy: Policy | None, past: Analogs, *, shadow: bool) -> str:
    """The reason for not searching, or an empty string: the gate is shut, no search is worth its tokens, or none could
    find anything."""
    if shadow:
        return ""
    if not entry.open:
        return entry.reason
    if policy is None:
        return "search_not_worth_it"
    return "nothing_to_verify" if inputs.settings.frugal and not past.hopes() else ""


def _decide(inputs: Inputs, entry: Gate, made: Forecast) -> tuple[OrderIntent | None, str]:
    if not entry.open:
        return None, entry.reason
    if made.failed:
        return None, "engine_unavailable"
    view = inputs.view()
    if view is None:
        return None, "no_book"
    return decide(view, made.belief, inputs.settings.rule, inputs.settings.sizing)
