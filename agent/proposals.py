"""Binds the search to a model and to history: `expand` asks the model for claims, `judge` asks the past about them.

Three closed choices make a claim (feature, bucket, effect), each read from the logits of its labels after a forced
skeleton, all branches of a level in one batch. A claim's value comes from history; the model's own one-token verdict
counts a little.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from agent import prompts
from agent.budget import Budget
from agent.inputs import Settings
from agent.llm.engine import Engine, Prompt, Question, Usage
from agent.search.tree import OutOfBudget
from market.errors import EngineTimeout, EngineUnavailable
from storage.records import Observation, Phase
from strategies.claims import DECISIONS, LADDER, Claim, Effect, decision, true_now
from strategies.features import BUCKETS
from strategies.logit import logit, sigmoid
from strategies.verification import NOTHING, Checked, Evidence, Verdict, check, distinct, weigh

A = TypeVar("A")

SELF_WEIGHT, EVIDENCE_WEIGHT, THIN_PENALTY = 0.25, 1.0, 0.5


@dataclass(frozen=True, slots=True)
class Node:
    """A path as far as one claim. `prior` is the model's probability of its choices, `odds` its log-odds of up against
    down on the decision rung."""

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
class Past:
    """The rows of history that may be looked at, and the evidence already drawn from them."""

    rows: Sequence[Observation]
    buckets: Mapping[str, str]
    seconds_left: int
    trials: int
    min_support: int
    drawn: dict[tuple[str, str], Evidence] = field(default_factory=dict)

    def check(self, claim: Claim) -> Checked:
        if claim.decides:
            return Checked(claim, NOTHING, Verdict.NOT_A_CLAIM, None)
        key = (claim.feature, claim.bucket)
        if key not in self.drawn:
            self.drawn[key] = self._draw(*key)
        true = true_now(claim, self.buckets)
        return check(claim, self.drawn[key], true=true, min_support=self.min_support)

    def _draw(self, feature: str, bucket: str) -> Evidence:
        like = [(r.market_id, r.seconds_left, r.mid, r.payout) for r in self.rows if r.buckets.get(feature) == bucket]
        return weigh(distinct(like, self.seconds_left), trials=self.trials)


@dataclass(slots=True)
class Asker:
    """The engine under a budget. A failure of the engine ends the search like a spent budget does."""

    engine: Engine
    budget: Budget
    failed: str = ""

    async def ask(self, phase: Phase, questions: Sequence[Question]) -> Sequence[tuple[float, ...]]:
        """Label probabilities, or OutOfBudget before a token too many."""
        if not questions:
            return []
        self._reserve([q.prompt for q in questions])
        answers = await self._guard(phase, self.engine.classify(questions, deadline=self.budget.seconds_left()))
        self.budget.settle(phase, answers.usage)
        return answers.probabilities

    async def write(self, phase: Phase, prompt: Prompt, max_tokens: int) -> str:
        """A few words, or OutOfBudget."""
        self._reserve([prompt], max_tokens)
        made = await self._guard(
            phase, self.engine.generate(prompt, max_tokens=max_tokens, stop="\n", deadline=self.budget.seconds_left())
        )
        self.budget.settle(phase, made.usage)
        return made.texts[0].strip()

    def _reserve(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> None:
        with self._failing():
            needed = self.engine.tokens_needed(prompts, max_tokens)
        self.budget.reserve(needed + max_tokens)

    async def _guard(self, phase: Phase, call: Awaitable[A]) -> A:
        """What a failed call worked through is booked too."""
        with self._failing():
            try:
                return await call
            except EngineUnavailable as error:
                self.budget.settle(phase, Usage(*error.spent))
                raise

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """An engine that cannot answer ends the search; what it has found stands."""
        try:
            yield
        except EngineTimeout:
            raise OutOfBudget("deadline") from None
        except EngineUnavailable as error:
            self.failed = str(error) or type(error).__name__
            raise OutOfBudget("engine") from error


@dataclass(slots=True)
class Proposals:
    """`expand` and `judge` for one decision. `verdicts` holds P(" yes") to "?" by prompt."""

    asker: Asker
    past: Past
    settings: Settings
    verdicts: dict[Prompt, float] = field(default_factory=dict)

    async def expand(self, nodes: Sequence[Node], wanted: int) -> list[list[Node]]:
        """Children of each node: the model's most likely claims on the next rung, no feature twice."""
        level = nodes[0].level
        if level == len(LADDER) - 1:
            return await self._decide(nodes, wanted)
        opened = [replace(n, prompt=prompts.rung(n.prompt, level)) for n in nodes]
        known = tuple(f for f in LADDER[level].features if f in self.past.buckets)
        features = known or LADDER[level].features  # a claim about what cannot be seen now would only be false
        rows = await self._ask(opened, [features] * len(opened))
        named = [(parent, features[i], row[i]) for parent, row in enumerate(rows) for i in top(row, wanted)]
        at = [opened[p].prompt.then(f" {f}") for p, f, _ in named]
        buckets = await self._pick(at, [BUCKETS[f] for _, f, _ in named])
        at = [prompt.then(f" {b}") for prompt, (b, _) in zip(at, buckets, strict=True)]
        effects = await self._pick(at, [prompts.EFFECTS] * len(at))
        families: list[list[Node]] = [[] for _ in nodes]
        for (parent, feature, p), (bucket, pb), (effect, pe) in zip(named, buckets, effects, strict=True):
            claim = Claim(LADDER[level].name, feature, bucket, Effect(effect))
            families[parent].append(self._child(opened[parent], nodes[parent], claim, p * pb * pe))
        return families

    async def _decide(self, nodes: Sequence[Node], wanted: int) -> list[list[Node]]:
        opened = [replace(n, prompt=prompts.rung(n.prompt, n.level)) for n in nodes]
        rows = await self._ask(opened, [DECISIONS] * len(opened))
        return [
            [
                replace(self._child(o, n, decision(DECISIONS[i]), row[i]), odds=logit(row[0] / (row[0] + row[1])))
                for i in top(row, wanted)
            ]
            for o, n, row in zip(opened, nodes, rows, strict=True)
        ]

    def _child(self, opened: Node, parent: Node, claim: Claim, prior: float) -> Node:
        checked = self.past.check(claim)
        return Node(opened.prompt.then(*prompts.line(claim)), parent.level + 1, checked, prior, path=parent.trail)

    async def _ask(self, nodes: Sequence[Node], labels: Sequence[Sequence[str]]) -> Sequence[tuple[float, ...]]:
        questions = [Question(n.prompt, prompts.words(o)) for n, o in zip(nodes, labels, strict=True)]
        return await self.asker.ask(Phase.SEARCH, questions)

    async def _pick(self, at: Sequence[Prompt], labels: Sequence[Sequence[str]]) -> list[tuple[str, float]]:
        """The likeliest label at each prompt, with its probability."""
        rows = await self.asker.ask(
            Phase.SEARCH, [Question(p, prompts.words(o)) for p, o in zip(at, labels, strict=True)]
        )
        return [(options[i := top(row, 1)[0]], row[i]) for row, options in zip(rows, labels, strict=True)]

    async def judge(self, nodes: Sequence[Node]) -> list[float]:
        """A value for each node; history alone where the budget has no room for the model's own verdict."""
        if self.settings.self_verify:
            questions = [Question(prompts.verdict(n.prompt), prompts.VERDICTS) for n in nodes]
            with suppress(OutOfBudget):
                rows = await self.asker.ask(Phase.VERIFY, questions)
                self.verdicts.update((n.prompt, row[0]) for n, row in zip(nodes, rows, strict=True))
        return [self.value(n) for n in nodes]

    def value(self, node: Node) -> float:
        """What a node is worth, in [0, 1]; 0 is a hard fail (a false or refuted claim)."""
        checked = node.checked
        if checked is None or checked.verdict in (Verdict.FALSE, Verdict.REFUTED):
            return 0.0
        own = SELF_WEIGHT * logit(self.verdicts.get(node.prompt, 0.5))
        if checked.claim.decides:
            return sigmoid(own + _coherence(node))
        thin = THIN_PENALTY if checked.verdict is Verdict.THIN else 0.0
        return sigmoid(own + EVIDENCE_WEIGHT * strength(checked) - thin)


def top(row: Sequence[float], n: int) -> list[int]:
    """Indices of the `n` largest entries; the earlier one on a tie."""
    return sorted(range(len(row)), key=lambda i: (-row[i], i))[:n]


def strength(checked: Checked) -> float:
    """Standard deviations by which history agrees with the claim, within [-3, 3]; 0 for a claim of no effect."""
    e = checked.evidence
    if not e.support or not checked.claim.effect.sign:
        return 0.0
    return min(max(e.shift / e.shift_sd * checked.claim.effect.sign, -3.0), 3.0)


def _coherence(node: Node) -> float:
    """Whether a decision follows from the supported claims before it: +1, or -1 where it does not."""
    lean = sum(c.claim.effect.sign for c in node.path if c.verified)
    sign = (lean > 0) - (lean < 0)
    return 1.0 if node.checked is not None and node.checked.claim.effect.sign == sign else -1.0
