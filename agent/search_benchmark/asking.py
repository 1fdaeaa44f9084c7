"""Concurrent searches over one model: their questions are merged into batches, none is asked twice, and each search
is charged exactly what it would have cost alone.

A search alone evaluates every segment of its prompts once, after the worked examples, and finds it in the cache from
then on. So its charge is the tokens of the segments it has not had before; `TokenMeter` counts them. That other
searches ask the same and are answered from memory makes the experiment faster, not any search cheaper.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.llm.engine import Engine, Generated, Prompt, Question, Sampling
from agent.search.tree import OutOfBudget

Row = tuple[float, ...]
_PROBE = Prompt(("#",))
_TOGETHER = 48
"""Questions in one batch: fits the cache with room to spare."""


class Scorer(Protocol):
    """Source of label probabilities, with their cost in tokens."""

    async def rows(self, questions: Sequence[Question]) -> Sequence[Row]:
        """A row of label probabilities for each question."""
        ...

    def tokens(self, segment: str) -> int:
        """Tokens to evaluate for one segment of a prompt."""
        ...


class Merged:
    """A scorer over an engine whose worked examples are primed. Several searches may wait at the same time."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._known: dict[Question, Row] = {}
        self._waiting: dict[Question, asyncio.Future[Row]] = {}
        self._texts: dict[tuple[Prompt, int, int, Sampling], asyncio.Future[Generated]] = {}
        self._lengths: dict[str, int] = {}
        self._pump: asyncio.Task[None] | None = None

    async def rows(self, questions: Sequence[Question]) -> list[Row]:
        loop = asyncio.get_running_loop()
        for question in questions:
            if question not in self._known and question not in self._waiting:
                self._waiting[question] = loop.create_future()
        if self._waiting and (self._pump is None or self._pump.done()):
            self._pump = loop.create_task(self._answer())
        coming = {q: self._waiting[q] for q in questions if q not in self._known}
        # Shielded: a cancelled search must not cancel an answer that others wait for.
        return [await asyncio.shield(coming[q]) if q in coming else self._known[q] for q in questions]

    def tokens(self, segment: str) -> int:
        if segment not in self._lengths:
            # By difference: the first segment of a prompt gets the model's opening token in addition.
            needed = self.engine.tokens_needed
            self._lengths[segment] = needed([_PROBE.then(segment)]) - needed([_PROBE])
        return self._lengths[segment]

    async def write(self, prompt: Prompt, *, max_tokens: int, n: int, sampling: Sampling) -> Generated:
        """Free text that ends at an empty line; equal requests share the same samples."""
        key = (prompt, max_tokens, n, sampling)
        if key not in self._texts:
            made = self.engine.generate(prompt, max_tokens=max_tokens, n=n, sampling=sampling, stop="\n\n")
            self._texts[key] = asyncio.ensure_future(made)
        return await asyncio.shield(self._texts[key])

    async def forget(self) -> None:
        """Drop all cached questions, here and in the engine."""
        self._known, self._texts = {}, {}
        await self.engine.forget()

    async def _answer(self) -> None:
        """Ask in batches until no question is pending."""
        await asyncio.sleep(0)
        while self._waiting:
            await asyncio.sleep(0)  # searches just answered may add to this batch
            batch = list(self._waiting)[:_TOGETHER]
            try:
                found = (await self.engine.classify(batch)).probabilities
            except Exception as error:  # passed on to the waiting searches
                self._fail(error)
                return
            for question, row in zip(batch, found, strict=True):
                self._known[question] = row
                self._waiting.pop(question).set_result(row)
            await asyncio.sleep(0)

    def _fail(self, error: Exception) -> None:
        for future in self._waiting.values():
            future.set_exception(error)
            future.exception()  # marks it as retrieved: the searches may be gone
        self._waiting = {}


@dataclass(frozen=True, slots=True)
class Uniform:
    """Placebo for the model: every legal label has the same probability, in an order that a seed decides. Free of
    charge."""

    seed: int

    async def rows(self, questions: Sequence[Question]) -> list[Row]:
        return [self._row(q) for q in questions]

    def tokens(self, segment: str) -> int:
        return 0

    def _row(self, question: Question) -> Row:
        """Equal weights but for a tiny perturbation, which orders them."""
        hairs = [self._hair(question.prompt.text, label) for label in question.labels]
        total = len(hairs) + sum(hairs)
        return tuple((1 + hair) / total for hair in hairs)

    def _hair(self, text: str, label: str) -> float:
        raw = hashlib.sha256(f"{self.seed}\0{text}\0{label}".encode()).digest()
        return int.from_bytes(raw[:6], "big") / 2**48 * 1e-6


@dataclass(slots=True)
class TokenMeter:
    """Tokens evaluated by one search, under a limit. `base` segments at the start of each prompt are free: the worked
    examples, which are evaluated once for all questions."""

    scorer: Scorer
    limit: int | None = None
    base: int = 1
    evaluated: int = 0
    held: set[tuple[str, ...]] = field(default_factory=set)

    async def ask(self, questions: Sequence[Question]) -> Sequence[Row]:
        """Rows of probabilities. Raises OutOfBudget before the limit is exceeded."""
        new: dict[tuple[str, ...], int] = {}
        for question in questions:
            segments = question.prompt.segments
            for end in range(self.base + 1, len(segments) + 1):
                if (start := segments[:end]) not in self.held:
                    new[start] = self.scorer.tokens(start[-1])
        needed = sum(new.values())
        if self.limit is not None and self.evaluated + needed > self.limit:
            raise OutOfBudget("tokens")
        self.held |= new.keys()
        self.evaluated += needed
        return await self.scorer.rows(questions)
