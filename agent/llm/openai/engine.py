"""Adapter of the `Engine` port to one model server: prompts go out as token ids, answers are checked, and each call is
charged the larger of the server's count and our own.

It owns no policy: the questions and the use of the answers are the caller's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

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
from agent.llm.openai.breaker import Breaker
from agent.llm.openai.dialects import Dialect
from agent.llm.openai.held import ServerPrefixes
from agent.llm.openai.reading import Completion, Label, completion, label_row
from agent.llm.openai.tokens import Ids, Tokens
from agent.llm.openai.wire import NeverBegun, RequestRefused, ServerWire
from market.clock import monotonic
from market.errors import EngineTimeout, EngineUnavailable

T = TypeVar("T")
GREEDY = Sampling()
ALIVE_WITHIN = 2.0
"""Time-out in seconds of a liveness check."""
_CONTROL = re.compile(r"<\|[^<>]*?\|>|</?s>|\[/?INST\]")
_GOLDEN = Prompt(("The price rose for three days, then the buyers",))
_ONE: dict[str, Any] = {"max_tokens": 1, "temperature": 0.0, "top_p": 1.0}


@dataclass(frozen=True, slots=True)
class ServerModel:
    """Facts about a server: its dialect, its name for the model, the maximum number of prompt tokens."""

    dialect: Dialect
    model: str
    identity: ModelIdentity
    context: int
    parallel: int = 4


@dataclass(slots=True)
class _Asked:
    """A prompt in flight: its ids, the number of them that the server should not hold yet, and the limit of tokens to
    write. `sent` is True if the server may have begun, and `made` is its completion."""

    ids: Ids
    new: int
    limit: int = 1
    sent: bool = False
    made: Completion | None = None


class OpenAIEngine:
    """Implements the port. `usage` counts failed and cancelled calls too: a request that was sent and not answered
    counts at its forecast, since the server may have processed it. The error carries that usage.

    A server's cache cannot be emptied from here, so `forget` empties the account of it: tokens are charged as if the
    server had forgotten them, and the cost of a decision does not depend on the one before it. `watcher` returns a
    reason for not asking now, or an empty string; `worried` is called when the server did not answer.
    """

    def __init__(
        self,
        wire: ServerWire,
        tokens: Tokens,
        served: ServerModel,
        breaker: Breaker,
        *,
        watcher: Callable[[], str] = str,
        worried: Callable[[], None] = lambda: None,
    ) -> None:
        self._wire = wire
        self._tokens = tokens
        self._served = served
        self._breaker = breaker
        self._watcher, self._worried = watcher, worried
        self._lanes = asyncio.Semaphore(served.parallel)
        self._held = ServerPrefixes(branches=served.dialect.branches)
        self._prefixes: list[Ids] = []
        self._control: set[str] = set()
        self._usage = Usage()
        self._suspect = False
        self._disputed = 0

    @property
    def identity(self) -> ModelIdentity:
        return self._served.identity

    @property
    def capabilities(self) -> Capabilities:
        dialect = self._served.dialect
        return Capabilities(
            score=False,
            bit_exact=False,
            abort=True,
            context=self._served.context,
            exact_usage=False,
            labels=dialect.labels,
        )

    @property
    def usage(self) -> Usage:
        return self._usage

    async def prime(self, prefix: Prompt) -> Usage:
        began = monotonic()
        await self._admitted(None)
        self._control.update(_CONTROL.findall(prefix.text))
        ids = await self._ids(prefix, None)
        if ids not in self._prefixes:
            self._prefixes.append(ids)
        new = self._held.prime(ids)
        if not new:
            return self._book(
                Usage(prompt=0, cached=len(ids), generated=0, calls=1, milliseconds=(monotonic() - began) * 1000)
            )
        asked = _Asked(ids, new)
        try:
            return (await self._charged([asked], self._complete(_ONE, asked, None, _text), began))[1]
        except BaseException:
            self._held.lost()
            raise

    async def warm(self) -> str:
        """Evaluate the primed prefixes again on a restarted server; returns a short greedy completion of a fixed text,
        which identifies the model."""
        began = monotonic()
        golden = await self._ids(_GOLDEN, None)
        asked = [*(_Asked(ids, len(ids)) for ids in self._prefixes), _Asked(golden, len(golden), 8)]

        async def one_by_one() -> str:
            return [await self._complete(_ONE | {"max_tokens": a.limit}, a, None, _text) for a in asked][-1]

        said, _ = await self._charged(asked, one_by_one(), began)
        self._held.forget()
        return said

    async def forget(self) -> None:
        self._held.forget()

    def tokens_needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        """Forecast of tokens. Segments whose ids only the server knows count as many tokens as they have bytes: never
        too few."""
        texts: list[list[Hashable]] = []
        for prompt in prompts:
            items: list[Hashable] = list(self._tokens.opening)
            for segment in prompt.segments:
                ids = self._tokens.known(segment)
                items += ids if ids is not None else [(segment, at) for at in range(len(segment.encode()))]
            texts.append(items)
        return sum(self._held.foreseen(texts)) + (len(texts) if max_tokens == 0 else 0)

    async def classify(self, questions: Sequence[Question], *, deadline: float | None = None) -> Answers:
        began, until = monotonic(), _instant(deadline)
        dialect = self._served.dialect
        await self._admitted(until)
        labels = [await self._labels(question.labels, until) for question in questions]
        asked = self._taken([await self._ids(question.prompt, until) for question in questions])

        def answer(prompt: _Asked, row: Sequence[Label]) -> Awaitable[tuple[float, ...]]:
            fields = dialect.question([label.token for label in row])
            return self._complete(fields, prompt, until, lambda made: label_row(dialect, made.logprobs, row))

        answers = self._together(answer(p, row) for p, row in zip(asked, labels, strict=True))
        found, usage = await self._charged(asked, answers, began)
        return Answers(tuple(found), usage)

    async def score(self, prompt: Prompt, continuations: Sequence[str], *, deadline: float | None = None) -> Scored:
        raise EngineUnavailable("A model server cannot score a given text; only labels can be asked for.")

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
        """Each sample is a request of its own: servers that draw several from one request report the tokens of only
        some."""
        if max_tokens < 1 or n < 1:
            raise ValueError("generate needs max_tokens and n of at least 1")
        fields: dict[str, Any] = {"max_tokens": max_tokens, "temperature": sampling.temperature, "top_p": 1.0}
        different = n if sampling.temperature > 0 else 1
        fields |= {"stop": [stop]} if stop else {}
        drawn = [fields | {"seed": _seed(sampling.seed, number)} for number in range(different)]
        texts, usage = await self._written(prompt, drawn, stop, deadline)
        cut = tuple(text.partition(stop)[0] if stop else text for text in texts)
        return Generated(cut * (n // different), usage)

    async def health(self) -> EngineHealth:
        """Check the server itself, whatever the breaker's state."""
        where, kind = self._wire.where.short, self._served.dialect.name
        facts = {"server": kind, "address": where, "model": self._served.model, "disputed usage": str(self._disputed)}
        if self._wire.closed:
            return EngineHealth(False, "The engine is closed.", facts)
        why = self._watcher() or self._breaker.reason
        if not await self._wire.alive(self._served.dialect.alive, ALIVE_WITHIN):
            why = why or f"it does not answer {self._served.dialect.alive} within {ALIVE_WITHIN:g} s"
        if why:
            return EngineHealth(False, f"The {kind} server at {where} is not well: {why.rstrip('.')}.", facts)
        return EngineHealth(True, f"{kind} at {where} answers with {self._served.model}", facts)

    async def aclose(self) -> None:
        await self._wire.aclose()

    async def _ids(self, prompt: Prompt, until: float | None) -> Ids:
        """Token ids of a prompt. Raises EngineUnavailable for one that does not fit, ValueError for control text that
        was not primed."""
        for segment in prompt.segments:
            if foreign := set(_CONTROL.findall(segment)) - self._control:
                raise ValueError(f"a prompt holds control text that was never primed: {sorted(foreign)}")
        ids = self._tokens.opening
        for segment in prompt.segments:
            ids += await self._segment(segment, until)
        if not ids or len(ids) >= self._served.context:
            raise EngineUnavailable(
                f"A prompt of {len(ids)} tokens does not fit the context of {self._served.context}."
            )
        return ids

    async def _labels(self, labels: Sequence[str], until: float | None) -> list[Label]:
        dialect = self._served.dialect
        if len(labels) > dialect.labels:
            raise ValueError(f"a {dialect.name} server tells at most {dialect.labels} labels apart, not {len(labels)}")
        if any(_CONTROL.search(label) for label in labels):
            raise ValueError(f"labels hold control text: {list(labels)}")
        first = [(await self._segment(label, until))[:1] for label in labels]
        found = [
            Label(ids[0], self._tokens.text_of(ids[0]) or label)
            for ids, label in zip(first, labels, strict=True)
            if ids
        ]
        seen = {label.token if dialect.by_id else dialect.shown(label.text) for label in found}
        if not labels or len(seen) != len(labels) or "" in seen:
            raise ValueError(f"labels need distinct first tokens: {list(labels)}")
        return found

    def _taken(self, prompts: Sequence[Ids], limit: int = 1) -> list[_Asked]:
        return [_Asked(ids, new, limit) for ids, new in zip(prompts, self._held.taken(prompts), strict=True)]

    async def _written(
        self, prompt: Prompt, requests: Sequence[Mapping[str, Any]], stop: str, deadline: float | None
    ) -> tuple[list[str], Usage]:
        if _CONTROL.search(stop):
            raise ValueError(f"the stop text is control text: {stop!r}")
        began, until = monotonic(), _instant(deadline)
        await self._admitted(until)
        ids = await self._ids(prompt, until)
        limit = int(requests[0]["max_tokens"])
        if len(ids) + limit > self._served.context:
            raise EngineUnavailable(f"{limit} tokens more do not fit the context of {self._served.context}.")
        asked = self._taken([ids] * len(requests), limit)
        texts = self._together(self._complete(f, a, until, _text) for f, a in zip(requests, asked, strict=True))
        return await self._charged(asked, texts, began)

    async def _complete(
        self, fields: Mapping[str, Any], asked: _Asked, until: float | None, read: Callable[[Completion], T]
    ) -> T:
        """Send one request and parse its answer with `read`. An impossible answer counts against the server like
        none at all. Fields that break some servers are never sent: user, n, max_completion_tokens."""
        # MLC takes `user` as the request id and ignores max_completion_tokens, which leaves the answer unbounded.
        body = {"model": self._served.model, "prompt": list(asked.ids), **self._served.dialect.sampling, **fields}
        async with self._lanes:
            left = _left(until)
            asked.sent = left is None or left > 0
            try:
                answer = await self._blaming(self._wire.post("/v1/completions", body, deadline=left))
            except NeverBegun:
                asked.sent = False
                raise
        try:
            asked.made = made = completion(answer)
            found = read(made)
        except EngineUnavailable as error:
            self._blame(str(error))
            raise
        self._suspect = False
        self._breaker.succeeded()
        return found

    async def _segment(self, text: str, until: float | None) -> Ids:
        if (ids := self._tokens.known(text)) is not None:
            return ids
        return await self._blaming(self._tokens.of(text, _left(until)))

    async def _admitted(self, until: float | None) -> None:
        """Raises EngineUnavailable at once while the server is known to be down."""
        if self._wire.closed:
            raise EngineUnavailable("The engine is closed.")
        if why := self._watcher() or self._breaker.blocked(monotonic()):
            raise EngineUnavailable(f"Circuit breaker open, the model server is not called: {why}")
        left = _left(until)
        if left is not None and left <= 0:
            raise EngineTimeout("The model was given no time.")
        # After a failure the server is probed first: with a dead engine thread every request would hang until its
        # time-out.
        if self._suspect:
            within = ALIVE_WITHIN if left is None else min(left, ALIVE_WITHIN)
            if not await self._wire.alive(self._served.dialect.alive, within):
                why = f"The model server does not answer {self._served.dialect.alive}."
                self._blame(why)
                raise EngineUnavailable(why)

    async def _blaming(self, call: Awaitable[T]) -> T:
        """Await a call to the server. A failure counts against it; after a time-out it is only checked before the next
        call."""
        try:
            return await call
        except (EngineTimeout, asyncio.CancelledError):
            self._suspect = True
            self._held.forget()
            raise
        except RequestRefused:
            self._held.forget()
            raise
        except EngineUnavailable as error:
            self._blame(str(error))
            raise

    def _blame(self, why: str) -> None:
        self._suspect = True
        self._held.forget()  # it is unknown which tokens the server holds now
        self._breaker.failed(monotonic(), why)
        self._worried()

    async def _together(self, jobs: Iterable[Awaitable[T]]) -> list[T]:
        """Run all jobs, at most `parallel` in flight; the first failure cancels the others."""
        tasks = [asyncio.ensure_future(job) for job in jobs]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _charged(self, asked: Sequence[_Asked], job: Awaitable[T], began: float) -> tuple[T, Usage]:
        """Result and usage of a job; the usage is booked whatever the outcome."""
        try:
            found = await job
        except EngineUnavailable as error:
            used = self._charge(asked, began)
            error.spent = (used.prompt, used.cached, used.generated, used.calls)
            raise
        except BaseException:
            self._charge(asked, began)
            raise
        return found, self._charge(asked, began)

    def _charge(self, asked: Sequence[_Asked], began: float) -> Usage:
        """Book the larger of each count: the server's where it reports more than forecast, ours where it reports
        less."""
        prompt = cached = generated = 0
        for one in (a for a in asked if a.sent):
            evaluated, written = self._took(one, one.made) if one.made is not None else (one.new, one.limit)
            prompt += evaluated
            cached += max(0, len(one.ids) - evaluated)
            generated += written
        calls = int(any(a.sent for a in asked))
        return self._book(
            Usage(
                prompt=prompt,
                cached=cached,
                generated=generated,
                calls=calls,
                milliseconds=(monotonic() - began) * 1000 * calls,
            )
        )

    def _took(self, asked: _Asked, made: Completion) -> tuple[int, int]:
        """Tokens evaluated and written for an answer."""
        counts, all_written = made.reported, asked.limit == 1 or made.ended == "length"
        least = asked.limit if all_written else len(self._tokens.known(made.text) or ())
        self._disputed += counts.prompt not in (None, len(asked.ids)) or (counts.generated or least) < least
        return max(asked.new, counts.prefilled or 0), max(least, counts.generated or 0)

    def _book(self, usage: Usage) -> Usage:
        self._usage += usage
        return usage


def _instant(deadline: float | None) -> float | None:
    return None if deadline is None else monotonic() + deadline


def _left(until: float | None) -> float | None:
    return None if until is None else until - monotonic()


def _seed(seed: int, number: int) -> int:
    """A seed for each sample, within the range that every server accepts."""
    return (seed * 1009 + number) % 2**31


def _text(made: Completion) -> str:
    return made.text
