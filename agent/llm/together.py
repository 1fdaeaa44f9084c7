"""Concurrent conversations over one engine: pending questions are evaluated in one batch.

Each conversation gets, and is charged for, what it would have had alone, so that a decision does not
depend on which others were made beside it. Sharing the engine saves time alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from agent.llm.engine import (
    Answers,
    Capabilities,
    Engine,
    EngineHealth,
    Generated,
    ModelIdentity,
    Prompt,
    Question,
    Sampling,
    Scored,
    Usage,
)
from market.errors import EngineUnavailable, Misconfigured

GREEDY = Sampling()


class UsageAccount(Protocol):
    """Account of a conversation: the cache as it would be, had it the engine to itself. Nothing is evaluated."""

    def needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        """As `Engine.tokens_needed`."""
        ...

    def taken(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> tuple[int, int]:
        """Hold the prompts: (tokens that were not held, tokens in all)."""
        ...


class Shared(Engine, Protocol):
    """An engine whose answers do not depend on the rest of the batch."""

    def alone(self) -> UsageAccount:
        """A conversation's account at its beginning: only the primed prefixes are held."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    questions: Sequence[Question]
    deadline: float | None
    answer: asyncio.Future[Answers]


class SharedEngine:
    """An engine that several conversations share. Calls on it directly are passed through."""

    def __init__(self, engine: Shared, at_once: int) -> None:
        if not engine.capabilities.bit_exact:
            raise Misconfigured(
                f"{engine.identity.model} on {engine.identity.engine} answers a little otherwise in a larger batch.",
                next_step="Set edge.batched_markets to 1.",
            )
        self.at_once = at_once
        self.batches = 0
        self._engine = engine
        self._usage = Usage()
        self._talking = 0
        self._asking: list[_Asked] = []
        self._batch: asyncio.Task[None] | None = None

    @property
    def identity(self) -> ModelIdentity:
        return self._engine.identity

    @property
    def capabilities(self) -> Capabilities:
        return self._engine.capabilities

    @property
    def usage(self) -> Usage:
        return self._usage

    async def prime(self, prefix: Prompt) -> Usage:
        return self.counted(await self._engine.prime(prefix))

    async def forget(self) -> None:
        await self._engine.forget()

    def tokens_needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        return self._engine.tokens_needed(prompts, max_tokens)

    async def classify(self, questions: Sequence[Question], *, deadline: float | None = None) -> Answers:
        answers = await self._engine.classify(questions, deadline=deadline)
        self.counted(answers.usage)
        return answers

    async def score(self, prompt: Prompt, continuations: Sequence[str], *, deadline: float | None = None) -> Scored:
        scored = await self._engine.score(prompt, continuations, deadline=deadline)
        self.counted(scored.usage)
        return scored

    async def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        n: int = 1,
        sampling: Sampling = GREEDY,
        stop: str = "",
        deadline: float | None = None,
    ) -> Generated:
        made = await self._engine.generate(
            prompt, max_tokens=max_tokens, n=n, sampling=sampling, stop=stop, deadline=deadline
        )
        self.counted(made.usage)
        return made

    async def health(self) -> EngineHealth:
        return await self._engine.health()

    async def aclose(self) -> None:
        await self._engine.aclose()

    @asynccontextmanager
    async def conversations(self, count: int) -> AsyncIterator[list[Conversation]]:
        """`count` concurrent conversations; each must be left with `leave` once it asks nothing more."""
        await self._engine.forget()
        self._talking += count
        talks = [Conversation(self, self._engine) for _ in range(count)]
        try:
            yield talks
        finally:
            for talk in talks:
                talk.leave()
            if self._batch is not None:  # no conversation waits for it any more
                self._batch.cancel()
                await asyncio.gather(self._batch, return_exceptions=True)

    def counted(self, usage: Usage) -> Usage:
        """Book usage."""
        self._usage += usage
        return usage

    async def answered(self, questions: Sequence[Question], deadline: float | None) -> Answers:
        """The answers, once every open conversation has a question pending."""
        asked = _Asked(questions, deadline, asyncio.get_running_loop().create_future())
        self._asking.append(asked)
        self._turn()
        return await asked.answer

    def left(self) -> None:
        """Stop waiting for one conversation."""
        self._talking -= 1
        self._turn()

    def _turn(self) -> None:
        # Waiting for all makes the batches independent of the timing of the tasks.
        if self._asking and len(self._asking) >= self._talking:
            asking, self._asking = self._asking, []
            self._batch = asyncio.ensure_future(self._ask(asking))

    async def _ask(self, asking: Sequence[_Asked]) -> None:
        """Evaluate all pending questions in one call. A failure fails all of them."""
        self.batches += 1
        limits = [asked.deadline for asked in asking if asked.deadline is not None]
        questions = [question for asked in asking for question in asked.questions]
        try:
            answers = await self._engine.classify(questions, deadline=min(limits, default=None))
        except Exception as error:
            for asked in asking:
                if not asked.answer.done():  # one copy each, since each carries its own usage
                    copied = type(error)(str(error)) if isinstance(error, EngineUnavailable) else error
                    asked.answer.set_exception(copied)
            return
        rows = iter(answers.probabilities)
        for asked in asking:
            own = tuple(next(rows) for _ in asked.questions)
            if not asked.answer.done():
                asked.answer.set_result(Answers(own, Usage(milliseconds=answers.usage.milliseconds / len(asking))))


class Conversation:
    """The engine port of one conversation."""

    def __init__(self, together: SharedEngine, engine: Shared) -> None:
        self._together, self._engine = together, engine
        self._account = engine.alone()
        self._usage = Usage()
        self._here = True

    @property
    def identity(self) -> ModelIdentity:
        return self._engine.identity

    @property
    def capabilities(self) -> Capabilities:
        return replace(self._engine.capabilities, score=False)

    @property
    def usage(self) -> Usage:
        return self._usage

    def leave(self) -> None:
        """End the conversation: the others no longer wait for it."""
        if self._here:
            self._here = False
            self._together.left()

    async def prime(self, prefix: Prompt) -> Usage:
        raise EngineUnavailable("What every prompt begins with is primed before conversations begin.")

    async def forget(self) -> None:
        """Return to the primed prefixes alone."""
        self._account = self._engine.alone()

    def tokens_needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        return self._account.needed(prompts, max_tokens)

    async def classify(self, questions: Sequence[Question], *, deadline: float | None = None) -> Answers:
        prompts = [question.prompt for question in questions]
        new, whole = self._account.taken(prompts)
        try:
            answers = await self._together.answered(questions, deadline)
        except EngineUnavailable as error:
            self._failed(error, new)
            raise
        return Answers(answers.probabilities, self._charged(new, whole, 0, answers.usage.milliseconds))

    async def score(self, prompt: Prompt, continuations: Sequence[str], *, deadline: float | None = None) -> Scored:
        raise EngineUnavailable("Scores are not asked for beside other conversations.")

    async def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        n: int = 1,
        sampling: Sampling = GREEDY,
        stop: str = "",
        deadline: float | None = None,
    ) -> Generated:
        new, whole = self._account.taken([prompt], max_tokens)
        try:
            made = await self._engine.generate(
                prompt, max_tokens=max_tokens, n=n, sampling=sampling, stop=stop, deadline=deadline
            )
        except EngineUnavailable as error:
            self._failed(error, new)
            raise
        return Generated(made.texts, self._charged(new, whole, made.usage.generated, made.usage.milliseconds))

    async def health(self) -> EngineHealth:
        return await self._engine.health()

    async def aclose(self) -> None:
        self.leave()

    def _charged(self, new: int, whole: int, generated: int, milliseconds: float) -> Usage:
        usage = self._together.counted(
            Usage(prompt=new, cached=whole - new, generated=generated, calls=1, milliseconds=milliseconds)
        )
        self._usage += usage
        return usage

    def _failed(self, error: EngineUnavailable, new: int) -> None:
        """Charge a failed call at its forecast, and empty the account of the cache."""
        self._charged(new, new, 0, 0.0)
        error.spent = (new, 0, 0, 1)
        self._account = self._engine.alone()
