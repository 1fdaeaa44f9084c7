"""Asker: closed-choice questions to the engine, each charged to its phase."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from agent.decision.budget import Budget
from agent.llm.engine import Engine, Prompt, Question, Usage
from agent.search.tree import OutOfBudget
from market.errors import EngineTimeout, EngineUnavailable
from storage.records import Phase

A = TypeVar("A")


@dataclass(slots=True)
class Asker:
    """The engine under a budget. An engine failure ends the search like an exhausted budget; `failed` is its
    message."""

    engine: Engine
    budget: Budget
    failed: str = ""

    async def ask(self, phase: Phase, questions: Sequence[Question]) -> Sequence[tuple[float, ...]]:
        """Label probabilities, one tuple a question. Raises OutOfBudget before any limit is exceeded."""
        if not questions:
            return []
        self._reserve(phase, [q.prompt for q in questions])
        answers = await self._guard(phase, self.engine.classify(questions, deadline=self.budget.seconds_left()))
        self.budget.settle(phase, answers.usage)
        return answers.probabilities

    async def write(self, phase: Phase, prompt: Prompt, max_tokens: int) -> str:
        """Up to `max_tokens` of free text, to the end of the line. Raises OutOfBudget."""
        self._reserve(phase, [prompt], max_tokens)
        made = await self._guard(
            phase, self.engine.generate(prompt, max_tokens=max_tokens, stop="\n", deadline=self.budget.seconds_left())
        )
        self.budget.settle(phase, made.usage)
        return made.texts[0].strip()

    def _reserve(self, phase: Phase, prompts: Sequence[Prompt], max_tokens: int = 0) -> None:
        with self._failing():
            needed = self.engine.tokens_needed(prompts, max_tokens)
        self.budget.reserve(needed + max_tokens, phase)

    async def _guard(self, phase: Phase, call: Awaitable[A]) -> A:
        """Await an engine call. The usage of a failed call is booked too."""
        with self._failing():
            try:
                return await call
            except EngineUnavailable as error:
                self.budget.settle(phase, Usage(*error.spent))
                raise

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn engine failures into OutOfBudget: the search ends and its incumbent stands."""
        try:
            yield
        except EngineTimeout:
            raise OutOfBudget("deadline") from None
        except EngineUnavailable as error:
            self.failed = str(error) or type(error).__name__
            raise OutOfBudget("engine") from error
