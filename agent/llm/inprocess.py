"""An engine whose model runs in this process: one worker thread makes every computing call, the loop never blocks.

Questions, usage, stops and recovery are the same for each library; a `PromptSession` adapts the library.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from agent.llm.engine import (
    Answers,
    Capabilities,
    EngineHealth,
    Generated,
    ModelIdentity,
    Prompt,
    Question,
    Sampling,
    Scored,
    Usage,
)
from agent.llm.logits import Logits, among, log_softmax
from agent.llm.stop import CallStop
from market.clock import monotonic
from market.errors import EngineTimeout, EngineUnavailable

T = TypeVar("T")
W = TypeVar("W", bound=Hashable)
Found = tuple[T, int]
"""Result of a job, and the tokens of its prompts."""

GREEDY = Sampling()


class PromptSession(Protocol[W]):
    """Prompts evaluated over a shared cache, synchronously. `spent` counts prompt tokens evaluated and tokens sampled
    since it was made, those of stopped calls too. After any error `recover` is due before the next call."""

    @property
    def spent(self) -> tuple[int, int]: ...

    def wanted(self, prompt: Prompt, more: tuple[int, ...] = ()) -> W:
        """The last token of a prompt; or of a prompt and `more` tokens, all of these. Safe from any thread."""
        ...

    def size(self, wanted: W) -> int:
        """Number of its tokens."""
        ...

    def continuation(self, text: str) -> tuple[int, ...]:
        """The tokens of text that follows a prompt; at least one."""
        ...

    def needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        """Tokens that these prompts would cost, with one sample of `max_tokens` after them. Safe from any thread."""
        ...

    def answered(self, wanted: Sequence[W]) -> Mapping[W, Sequence[Logits]]:
        """Logits of each request."""
        ...

    def prime(self, prefix: Prompt) -> int:
        """Keep a prefix until `close`; returns its tokens. All other cached prompts are dropped."""
        ...

    def written(self, prompt: Prompt, *, max_tokens: int, n: int, sampling: Sampling, stop: str) -> list[str]:
        """Sample `n` texts."""
        ...

    def forget(self) -> None:
        """Drop everything that is not primed."""
        ...

    def recover(self) -> None:
        """Drop the state that a stopped or failed call left behind."""
        ...

    def stop_at(self, stop: CallStop) -> None:
        """Set the stop flag to poll from now on; a call begins or ends here."""
        ...

    def close(self) -> None:
        """Release all memory."""
        ...


class InProcessEngine(ABC, Generic[W]):
    """Implements the port. `usage` counts stopped and cancelled calls too; the error of a stopped one carries its
    usage.

    Cached prompts keep their last logits, so asking about one again is charged nothing. A call that is stopped or
    cancelled drops everything cached except the primed prefixes.
    """

    def __init__(self, session: PromptSession[W], identity: ModelIdentity, worker: ThreadPoolExecutor) -> None:
        self._session = session
        self._identity = identity
        self._worker = worker
        self._usage = Usage()
        self._closed = False

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities: ...

    @property
    def usage(self) -> Usage:
        return self._usage

    async def prime(self, prefix: Prompt) -> Usage:
        def job() -> Found[None]:
            return None, self._session.prime(prefix)

        return (await self._call(job, None))[1]

    async def forget(self) -> None:
        await self._submit(self._session.forget, CallStop(None))

    def tokens_needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        return self._session.needed(prompts, max_tokens)

    async def classify(self, questions: Sequence[Question], *, deadline: float | None = None) -> Answers:
        def job() -> Found[tuple[tuple[float, ...], ...]]:
            session = self._session
            wanted = [session.wanted(question.prompt) for question in questions]
            labels = [self._first_tokens(question.labels) for question in questions]
            found = session.answered(wanted)
            rows = tuple(among(found[want][0], tokens) for want, tokens in zip(wanted, labels, strict=True))
            return rows, sum(map(session.size, wanted))

        return Answers(*await self._call(job, deadline))

    async def score(self, prompt: Prompt, continuations: Sequence[str], *, deadline: float | None = None) -> Scored:
        def job() -> Found[tuple[float, ...]]:
            session = self._session
            start = session.wanted(prompt)
            tails = [session.continuation(text) for text in continuations]
            longer = [session.wanted(prompt, tail[:-1]) for tail in tails]
            found = session.answered([start, *longer])
            sums = []
            for want, tail in zip(longer, tails, strict=True):
                rows = found[start] if want == start else [*found[start], *found[want]]
                sums.append(sum(float(log_softmax(row)[token]) for row, token in zip(rows, tail, strict=True)))
            return tuple(sums), sum(map(session.size, longer))

        return Scored(*await self._call(job, deadline))

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
        if max_tokens < 1 or n < 1:
            raise ValueError("generate needs max_tokens and n of at least 1")
        different = n if sampling.temperature > 0 else 1  # greedy samples are identical: sampled once

        def job() -> Found[tuple[str, ...]]:
            session = self._session
            texts = session.written(prompt, max_tokens=max_tokens, n=different, sampling=sampling, stop=stop)
            return tuple(texts) * (n // different), session.size(session.wanted(prompt))

        return Generated(*await self._call(job, deadline))

    async def health(self) -> EngineHealth:
        if self._closed:
            return EngineHealth(ok=False, detail="The engine is closed.")
        return self._health()

    @abstractmethod
    def _health(self) -> EngineHealth:
        """Health of an open engine."""

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        # In the worker, behind any call that still runs: freeing the cache under a computation would crash the process.
        self._worker.submit(self._session.close)
        await asyncio.get_running_loop().run_in_executor(None, self._worker.shutdown)

    def _first_tokens(self, labels: Sequence[str]) -> list[int]:
        first = [self._session.continuation(label)[0] for label in labels]
        if not first or len(set(first)) != len(first):
            raise ValueError(f"labels need distinct first tokens: {list(labels)}")
        return first

    async def _call(self, job: Callable[[], Found[T]], deadline: float | None) -> tuple[T, Usage]:
        """Run a job in the worker; returns its result and usage."""
        if deadline is not None and deadline <= 0:
            raise EngineTimeout("The model was given no time.")

        def counted() -> tuple[T, Usage]:
            began, before = monotonic(), self._session.spent
            try:
                result, whole = job()
            except EngineUnavailable as error:
                spent = self._count(began, before)
                error.spent = (spent.prompt, spent.cached, spent.generated, spent.calls)
                raise
            return result, self._count(began, before, whole)

        return await self._submit(counted, CallStop(deadline))

    def _count(self, began: float, before: tuple[int, int], whole: int | None = None) -> Usage:
        """Add up the usage since `before` of a call with prompts of `whole` tokens; None for one that failed."""
        prompt, generated = (now - then for now, then in zip(self._session.spent, before, strict=True))
        cached = 0 if whole is None else whole - prompt
        usage = Usage(
            prompt=prompt, cached=cached, generated=generated, calls=1, milliseconds=(monotonic() - began) * 1000
        )
        self._usage += usage
        return usage

    async def _submit(self, job: Callable[[], T], stop: CallStop) -> T:
        if self._closed:
            raise EngineUnavailable("The engine is closed.")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, self._guarded, job, stop)
        except asyncio.CancelledError:
            # The thread cannot be cancelled: the flag makes the library leave the computation, and the worker is free
            # for the next call.
            stop.end()
            raise

    def _guarded(self, job: Callable[[], T], stop: CallStop) -> T:
        self._session.stop_at(stop)
        try:
            return job()
        except BaseException:
            self._session.recover()
            raise
        finally:
            stop.close()
            self._session.stop_at(CallStop(None))
