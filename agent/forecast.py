"""Search, verify, correct: from one market's state to a verified belief, within a budget.

Anytime: a valid forecast (the market's own price) exists before the first token. Writes nothing and places nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from agent import prompts
from agent.budget import Budget
from agent.correction import Correction, correct, corrected
from agent.inputs import Inputs, Settings
from agent.llm.engine import Engine
from agent.proposals import Asker, Node, Past, Proposals
from agent.search.tree import OutOfBudget, Policy, Tree
from agent.search.walk import search
from storage.canonical import digest
from storage.records import Observation, Phase
from strategies.belief import Belief, believe
from strategies.features import Features
from strategies.logit import logit, sigmoid
from strategies.verification import Checked


class History(Protocol):
    """What may be read of the past; the store is one."""

    async def observations(
        self, source: str, *, as_of: datetime, window: int, seconds_left: tuple[int, int]
    ) -> Sequence[Observation]:
        """Rows of windows of this length that were over, with their outcome known, strictly before `as_of`."""
        ...


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a search came to. `arms` are P(YES) by rung of the evidence ladder, `failed` is the engine's complaint, and
    `read` the digest of the `rows` of history that were looked at."""

    policy: str
    tree: Tree[Node]
    verdicts: Mapping[int, float]
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
    inputs: Inputs, features: Features, policy: Policy, engine: Engine, history: History, budget: Budget
) -> Forecast:
    """Think about one market. Never raises for a spent budget or a failing engine: the incumbent stands."""
    settings, mid = inputs.settings, features.mid / 1e6
    rows = await _rows(inputs, history)
    past = Past(rows, features.buckets, inputs.seconds_left, policy.max_nodes, settings.rule.min_support)
    asker = Asker(engine, budget)
    proposals = Proposals(asker, past, settings)
    tree = await search(Node(prompts.opening(features.buckets), 0), proposals.expand, proposals.judge, policy)
    best = tree.incumbent()
    picked = tuple(tree.path(best)) if best is not None else ()
    nodes = [tree.visits[i].item for i in picked]
    found = tuple(c for n in nodes if (c := n.checked) is not None)
    mended = await correct(proposals, nodes) if settings.correct and not asker.failed else None
    final = corrected(found, mended)
    belief = _believe(final, inputs)
    arms = {
        "mid": mid,
        "search": sigmoid(logit(mid) + settings.shrink * unverified_odds(tree, policy.depth)),
        "verify": _believe(found, inputs).probability(mid),
        "correct": belief.probability(mid),
    }
    words = await _words(asker, nodes, settings)
    verdicts = {i: p for i, v in enumerate(tree.visits) if (p := proposals.verdicts.get(v.item.prompt)) is not None}
    return Forecast(
        policy.name, tree, verdicts, final, mended, belief, arms, words, asker.failed, len(rows), digest(rows), picked
    )


async def _rows(inputs: Inputs, history: History) -> Sequence[Observation]:
    left, band = inputs.seconds_left, inputs.settings.band
    return await history.observations(
        inputs.source, as_of=inputs.as_of, window=inputs.market.seconds, seconds_left=(left - band, left + band)
    )


def _believe(path: Sequence[Checked], inputs: Inputs) -> Belief:
    settings = inputs.settings
    return believe(
        path,
        market_id=inputs.market.id,
        as_of=inputs.as_of,
        expires_at=min(inputs.market.closes_at, inputs.as_of + timedelta(seconds=settings.band)),
        shrink=settings.shrink,
        cap=settings.max_shift / settings.shrink,
    )


def unverified_odds(tree: Tree[Node], depth: int) -> float:
    """The model's own log-odds of up at the decision rung, averaged over the parents by the value of their paths.

    What the tree says before anything is verified: a rung of the ladder, never a belief.
    """
    families: dict[int | None, tuple[float, float]] = {}
    for i in tree.leaves(depth):
        visit = tree.visits[i]
        weight = math.exp(tree.strength(visit.parent)) if visit.parent is not None else 1.0
        families[visit.parent] = (weight, visit.item.odds)
    total = sum(w for w, _ in families.values())
    return sum(w * o for w, o in families.values()) / total if total else 0.0


async def _words(asker: Asker, nodes: Sequence[Node], settings: Settings) -> str:
    """One sentence for people about the winning path; nothing reads it back."""
    if not nodes or asker.failed or settings.answer_tokens == 0:
        return ""
    with suppress(OutOfBudget):
        return await asker.write(Phase.ANSWER, prompts.summary(nodes[-1].prompt), settings.answer_tokens)
    return ""
