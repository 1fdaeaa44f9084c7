"""Search, verify, correct: from one market's state to a verified belief, within a budget.

Anytime: a valid forecast (the market's own price) exists before the first token. Writes nothing and places nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from agent.decision import prompts
from agent.decision.analogs import Analogs
from agent.decision.asker import Asker
from agent.decision.budget import Budget
from agent.decision.claim_search import ClaimNode, Proposals, answer, state
from agent.decision.correction import Correction, correct, corrected
from agent.decision.gate import Gate
from agent.decision.inputs import Inputs, Settings
from agent.decision.search_budget import prize
from agent.llm.engine import Engine
from agent.search.tree import OutOfBudget, Policy, Tree
from agent.search.walk import search
from market.types import UNIT
from storage.canonical import digest
from storage.records import Phase
from strategies.belief import Belief, believe
from strategies.claims import LADDER
from strategies.logistic import learned, logistic
from strategies.logit import logit, sigmoid
from strategies.verification import Checked


@dataclass(frozen=True, slots=True)
class Forecast:
    """The result of a search. `verdicts` are the model's verdicts on each visit's claim and on its opposite, `arms`
    P(YES) by the rungs of the evidence ladder that need a search, `failed` the engine's error, and `read` the digest of
    the `rows` of history that were read."""

    policy: str
    tree: Tree[ClaimNode]
    verdicts: Mapping[int, tuple[float, float]]
    path: tuple[Checked, ...]
    correction: Correction | None
    belief: Belief
    arms: Mapping[str, float]
    words: str
    failed: str
    rows: int
    read: str
    picked: tuple[int, ...]


async def forecast(
    inputs: Inputs, entry: Gate, past: Analogs, policy: Policy, engine: Engine, budget: Budget
) -> Forecast:
    """Search one market for a belief. Never raises for an exhausted budget or a failing engine: the incumbent
    stands."""
    settings, mid = inputs.settings, past.now.mid / UNIT
    asker = Asker(engine, budget)
    proposals = Proposals(asker, past, settings, entry.cost, inputs.learned.weight)
    tree = await search(
        ClaimNode(prompts.opening(past.buckets), 0),
        proposals.expand,
        proposals.judge,
        policy,
        chance=np.random.default_rng(_seed(inputs)),
        answer=answer,
        key=state,
        worth=Worth(inputs, entry, past, budget).reason if entry.open and settings.frugal else lambda _: "",
    )
    best = tree.incumbent()
    picked = tuple(tree.path(best)) if best is not None else ()
    nodes = [tree.visits[i].item for i in picked]
    found = tuple(c for n in nodes if (c := n.checked) is not None)
    # After the incumbent is chosen: a correction changes the path of the belief, never the tree or which node won.
    mended = await correct(proposals, nodes) if settings.correct and not asker.failed else None
    final = corrected(found, mended)
    belief = _believe(final, inputs)
    arms = {
        "search": sigmoid(logit(mid) + settings.shrink * unverified_odds(tree, policy.depth)),
        "verify": _believe(found, inputs).raw(mid),
        "correct": belief.raw(mid),
        "calibrate": belief.calibrated(mid),
    }
    words = await _words(asker, nodes, settings)
    verdicts = {i: p for i, v in enumerate(tree.visits) if (p := proposals.verdicts.get(v.item.prompt)) is not None}
    rows = past.rows()
    return Forecast(
        policy=policy.name,
        tree=tree,
        verdicts=verdicts,
        path=final,
        correction=mended,
        belief=belief,
        arms=arms,
        words=words,
        failed=asker.failed,
        rows=len(rows),
        read=past.digest(),
        picked=picked,
    )


def unsearched(inputs: Inputs, past: Analogs) -> dict[str, float]:
    """The arms of a decision without a search: the market's price on every rung above the baselines."""
    found = baselines(past)
    mid = found["mid"]
    return {**found, "search": mid, "verify": mid, "correct": mid, "calibrate": inputs.learned.calibration.applied(mid)}


def baselines(past: Analogs) -> dict[str, float]:
    """P(YES) of the forecasts that need no model: the market mid, the diffusion where there is a reference price, and a
    logistic regression on both, fitted to past windows."""
    mid, own = past.now.mid / UNIT, past.now.diffusion
    found = {"mid": mid}
    if own is not None:
        found["diffusion"] = own
    found["logistic"] = mid
    if len(rows := past.rows()):
        gap = 0.0 if own is None else logit(mid) - logit(own)
        of = past.windows.once(("logistic", past.band), lambda: learned(*past.log_odds(rows)))
        found["logistic"] = logistic(of, mid=logit(mid), gap=gap)
    return found


def _seed(inputs: Inputs) -> int:
    """Random seed of a decision, independent of the decisions before it."""
    return int(digest([inputs.settings.seed, inputs.market.id, inputs.as_of.isoformat()])[:12], 16)


@dataclass(frozen=True, slots=True)
class Worth:
    """Stop rule: ends a search when the remaining rungs can add less than their tokens cost. Policies that return to
    upper rungs have stop rules of their own."""

    inputs: Inputs
    entry: Gate
    past: Analogs
    budget: Budget

    def reason(self, tree: Tree[ClaimNode]) -> str:
        """ "not_worth_it", or empty."""
        if not tree.policy.traits.levelwise:
            return ""
        level = tree.deepest()
        hopes = [any(f in self.past.hopes() for f in rung.features) for rung in LADDER]
        left, total = sum(hopes[level:]), sum(hopes)
        dollars = prize(self.inputs, self.entry) * left / max(total, 1)
        next_batch = self.budget.tokens / max(1, len(tree.grown)) * self.budget.limits.token_price
        return "not_worth_it" if dollars <= next_batch else ""


def _believe(path: Sequence[Checked], inputs: Inputs) -> Belief:
    settings = inputs.settings
    return believe(
        path,
        market_id=inputs.market.id,
        as_of=inputs.as_of,
        expires_at=min(inputs.market.closes_at, inputs.as_of + timedelta(seconds=settings.band)),
        shrink=inputs.learned.weight,
        max_shift=settings.max_shift,
        calibration=inputs.learned.calibration,
    )


def unverified_odds(tree: Tree[ClaimNode], depth: int) -> float:
    """The model's own log-odds of up at the decision rung: mean over the parents, weighted by the value of their paths.

    The tree's forecast before verification: a rung of the ladder, never a belief.
    """
    families: dict[int | None, tuple[float, float]] = {}
    for i in tree.leaves(depth):
        visit = tree.visits[i]
        weight = math.exp(tree.strength(visit.parent)) if visit.parent is not None else 1.0
        families[visit.parent] = (weight, visit.item.odds)
    total = sum(w for w, _ in families.values())
    return sum(w * o for w, o in families.values()) / total if total else 0.0


async def _words(asker: Asker, nodes: Sequence[ClaimNode], settings: Settings) -> str:
    """Ask for one sentence for people about the winning path; nothing reads it back."""
    if not nodes or asker.failed or settings.answer_tokens == 0:
        return ""
    with suppress(OutOfBudget):
        return await asker.write(Phase.ANSWER, prompts.summary(nodes[-1].prompt), settings.answer_tokens)
    return ""
