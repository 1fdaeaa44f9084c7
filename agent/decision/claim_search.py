"""Claim search: binds the tree search to a model and to history. `expand` asks the model for claims, `judge` weighs
them against the past.

Three closed choices make a claim (feature, bucket, effect), each read from the logits of its labels after a forced
skeleton, all branches of a level in one batch. A claim's value comes from history; the model's own one-token verdict
counts a little.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from agent.decision import prompts
from agent.decision.analogs import Analogs
from agent.decision.asker import Asker
from agent.decision.inputs import Settings
from agent.llm.engine import Prompt, Question
from agent.search.tree import OutOfBudget
from agent.search.walk import Chance
from storage.records import Phase
from strategies.claims import DECISIONS, LADDER, Claim, Effect, decision
from strategies.features import BUCKETS
from strategies.logit import logit, sigmoid
from strategies.verification import (
    HARD_FAILS,
    INCONSISTENT,
    Checked,
    Finding,
    Verdict,
    multiplicity,
    self_support,
)

SELF_WEIGHT, EVIDENCE_WEIGHT, DECISION_WEIGHT = 0.25, 1.0, 0.5
THIN_PENALTY, INCONSISTENCY_PENALTY = 0.5, 0.5
"""Weights in the log-odds of a node's value: evidence from history dominates."""


@dataclass(frozen=True, slots=True)
class ClaimNode:
    """A path down to one claim. `prior` is the model's probability of the node's choices, `odds` its log-odds of up
    against down on the decision rung."""

    prompt: Prompt
    level: int
    checked: Checked | None = None
    prior: float = 1.0
    odds: float = 0.0
    path: tuple[Checked, ...] = ()

    @property
    def trail(self) -> tuple[Checked, ...]:
        return self.path if self.checked is None else (*self.path, self.checked)


@dataclass(slots=True)
class Proposals:
    """`expand` and `judge` of one decision. `verdicts` holds P(" yes") to "?" after the claim and after its opposite,
    by prompt; `cost` is the cost in dollars a share that a claim has to earn."""

    asker: Asker
    past: Analogs
    settings: Settings
    cost: float = 1.0
    weight: float = 0.1
    verdicts: dict[Prompt, tuple[float, float]] = field(default_factory=dict)

    async def expand(self, nodes: Sequence[ClaimNode], wanted: int, chance: Chance | None) -> list[list[ClaimNode]]:
        """Children of each node on the next rung: of the model's likeliest features the claims with the most promise,
        or claims drawn by their probability."""
        families: list[list[ClaimNode]] = [[] for _ in nodes]
        for level in sorted({n.level for n in nodes}):  # of one level mostly: a batch is one level's
            at = [i for i, n in enumerate(nodes) if n.level == level]
            grow = self._decide if level == len(LADDER) - 1 else self._claim
            for i, family in zip(at, await grow([nodes[i] for i in at], wanted, chance), strict=True):
                families[i] = family
        return families

    async def _claim(self, nodes: Sequence[ClaimNode], wanted: int, chance: Chance | None) -> list[list[ClaimNode]]:
        level = nodes[0].level
        opened = [replace(n, prompt=prompts.rung(n.prompt, level)) for n in nodes]
        known = tuple(f for f in LADDER[level].features if f in self.past.buckets)
        # A claim on a feature without a present value could only be false now; fall back to all if the whole rung has
        # none.
        features = known or LADDER[level].features
        rows = await self._labels([n.prompt for n in opened], [features] * len(opened))
        named = [(parent, features[i], row[i]) for parent, row in enumerate(rows) for i in chosen(row, wanted, chance)]
        at = [opened[p].prompt.then(f" {f}") for p, f, _ in named]
        buckets = await self._pick(at, [BUCKETS[f] for _, f, _ in named], chance)
        at = [prompt.then(f" {b}") for prompt, (b, _) in zip(at, buckets, strict=True)]
        effects = await self._labels(at, [prompts.EFFECTS] * len(at))
        families: list[list[ClaimNode]] = [[] for _ in nodes]
        for (parent, feature, p), (bucket, pb), row in zip(named, buckets, effects, strict=True):
            for i in chosen(row, 1, chance) if chance else range(len(row)):
                claim = Claim(
                    rung=LADDER[level].name, feature=feature, bucket=bucket, effect=Effect(prompts.EFFECTS[i])
                )
                families[parent].append(self._child(opened[parent], nodes[parent], claim, p * pb * row[i]))
        return [family if chance else self._likeliest(family, wanted) for family in families]

    def _likeliest(self, family: Sequence[ClaimNode], wanted: int) -> list[ClaimNode]:
        """The `wanted` claims with the most promise: by the model's probability and the evidence from history, which
        costs no tokens. Hard fails come last."""
        if not self.settings.external:
            return sorted(family, key=lambda n: -n.prior)[:wanted]
        return sorted(family, key=self._promise, reverse=True)[:wanted]

    def _promise(self, node: ClaimNode) -> float:
        checked = node.checked
        if checked is None or checked.verdict in HARD_FAILS:
            # Ranked below every other claim, but kept: a family is never empty.
            return node.prior - 1e6
        return math.log(max(node.prior, 1e-9)) + self._worth(checked)

    async def _decide(self, nodes: Sequence[ClaimNode], wanted: int, chance: Chance | None) -> list[list[ClaimNode]]:
        opened = [replace(n, prompt=prompts.rung(n.prompt, n.level)) for n in nodes]
        rows = await self._labels([n.prompt for n in opened], [DECISIONS] * len(opened))
        return [
            [
                replace(self._child(o, n, decision(DECISIONS[i]), row[i]), odds=logit(row[0] / (row[0] + row[1])))
                for i in chosen(row, wanted, chance)
            ]
            for o, n, row in zip(opened, nodes, rows, strict=True)
        ]

    def _child(self, opened: ClaimNode, parent: ClaimNode, claim: Claim, prior: float) -> ClaimNode:
        checked = self.past.check(claim)
        return ClaimNode(opened.prompt.then(*prompts.line(claim)), parent.level + 1, checked, prior, path=parent.trail)

    async def _pick(
        self, at: Sequence[Prompt], labels: Sequence[Sequence[str]], chance: Chance | None
    ) -> list[tuple[str, float]]:
        """One label at each prompt, the likeliest or a draw, with its probability."""
        rows = await self._labels(at, labels)
        return [(options[i := chosen(row, 1, chance)[0]], row[i]) for row, options in zip(rows, labels, strict=True)]

    async def _labels(self, at: Sequence[Prompt], labels: Sequence[Sequence[str]]) -> Sequence[tuple[float, ...]]:
        questions = [Question(p, prompts.words(o)) for p, o in zip(at, labels, strict=True)]
        return await self.asker.ask(Phase.SEARCH, questions)

    async def judge(self, nodes: Sequence[ClaimNode]) -> list[float]:
        """A value in [0, 1] for each node; from history alone where the budget has no room for the model's own
        verdict."""
        if self.settings.self_verify:
            with suppress(OutOfBudget):
                await self._verdicts([n for n in nodes if self._asked(n)])
        return [self.value(n) for n in nodes]

    def _asked(self, node: ClaimNode) -> bool:
        """True if the model's own verdict could still count: not on a claim that history has already failed."""
        checked = node.checked
        return checked is not None and not (self.settings.external and checked.verdict in HARD_FAILS)

    async def _verdicts(self, nodes: Sequence[ClaimNode]) -> None:
        """Ask about each claim and about its opposite, all in one batch: a model that answers yes to both gives no
        information. A claim without an opposite is asked about alone."""
        opposed = [prompts.opposed(n.prompt, n.checked.claim) for n in nodes if n.checked is not None]
        asked = [
            prompts.verdict(p) for n, o in zip(nodes, opposed, strict=True) for p in (n.prompt, o) if p is not None
        ]
        rows = iter(await self.asker.ask(Phase.VERIFY, [Question(p, prompts.VERDICTS) for p in asked]))
        for node, other in zip(nodes, opposed, strict=True):
            claimed = next(rows)[0]
            self.verdicts[node.prompt] = (claimed, next(rows)[0] if other is not None else 1 - claimed)

    def value(self, node: ClaimNode) -> float:
        """Value of a node in (0, 1); 0 is a hard fail: a claim that is false, refuted, stale or leaked."""
        checked = node.checked
        external = self.settings.external
        if checked is None or not self._asked(node):
            return 0.0
        own, apart = self._own(node)
        if not external:
            return sigmoid(SELF_WEIGHT * own)
        if checked.claim.decides:
            return sigmoid(SELF_WEIGHT * own + _coherence(node) + sum(self._worth(c) for c in node.path))
        pen = INCONSISTENCY_PENALTY * apart + (THIN_PENALTY if checked.verdict is Verdict.THIN else 0.0)
        return sigmoid(SELF_WEIGHT * own + self._worth(checked) - pen)

    def _own(self, node: ClaimNode) -> tuple[float, float]:
        """The model's own verdict on a node, symmetrised, and the size of its self-contradiction."""
        return self_support(*self.verdicts.get(node.prompt, (0.5, 0.5)))

    def _worth(self, checked: Checked) -> float:
        """Contribution of history in log-odds: standard deviations of agreement beyond the expected maximum of as many
        noise claims, and for a verified claim its expected gain relative to the costs."""
        e, sign = checked.evidence, checked.claim.effect.sign
        if not e.support or not sign:
            return 0.0
        agreement = min(max(e.shift / e.shift_sd * sign, -3.0), 3.0)
        found = EVIDENCE_WEIGHT * (agreement - multiplicity(self.past.trials) if agreement > 0 else agreement)
        if not checked.verified:
            return found
        gain = self.weight * abs(e.shift) * e.base_rate * (1 - e.base_rate)
        return found + DECISION_WEIGHT * min(3.0, gain / self.cost if self.cost > 0 else 3.0)

    def finding(self, node: ClaimNode) -> Finding | None:
        """The first fault of a node's claim: what history found, else the model's contradicting itself about a claim
        that history does not settle."""
        checked = node.checked
        if checked is None or checked.claim.decides or checked.finding is not None or checked.verified:
            return checked.finding if checked else None
        return Finding.INCONSISTENT if self._own(node)[1] > INCONSISTENT else None


def top(row: Sequence[float], n: int) -> list[int]:
    """Indices of the `n` largest entries; the earlier one on a tie."""
    return sorted(range(len(row)), key=lambda i: (-row[i], i))[:n]


def chosen(row: Sequence[float], n: int, chance: Chance | None) -> list[int]:
    """The `n` likeliest entries, or `n` draws."""
    if chance is None:
        return top(row, n)
    return [_drawn(row, chance.random()) for _ in range(n)]


def _drawn(row: Sequence[float], at: float) -> int:
    for i, p in enumerate(row):
        at -= p
        if at < 0:
            return i
    return top(row, 1)[0]  # probabilities that sum to a little less than 1


def _coherence(node: ClaimNode) -> float:
    """+1 if a decision follows from the verified claims before it, else -1."""
    lean = sum(c.claim.effect.sign for c in node.path if c.verified)
    sign = (lean > 0) - (lean < 0)
    return 1.0 if node.checked is not None and node.checked.claim.effect.sign == sign else -1.0


def answer(node: ClaimNode) -> str | None:
    """The decision of a node, None above the last rung."""
    return node.checked.claim.bucket if node.checked is not None and node.checked.claim.decides else None


def state(node: ClaimNode) -> Hashable:
    """The claims on the path to a node: nodes with equal claims are the same state."""
    return tuple((c.claim.feature, c.claim.bucket, c.claim.effect) for c in node.trail)
