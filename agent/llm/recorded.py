"""Recorder and replayer of engine calls: a decision can be replayed without the model that made it.

Independent of storage: calls go in and come out as plain values.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

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
from market.errors import DataInvalid, Drift, EngineTimeout, EngineUnavailable
from storage.canonical import Json, digest_of, encoded, plain

T = TypeVar("T")
GREEDY = Sampling()
_ERRORS: dict[str, type[EngineUnavailable]] = {e.__name__: e for e in (EngineUnavailable, EngineTimeout)}


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call and its result. `key` is the hash of all its arguments; `result` is JSON; `usage` holds prompt,
    cached and generated tokens and calls, never milliseconds. `error` names the class raised instead, `message`
    its sentence; `usage` then holds what was processed until the error."""

    kind: str
    key: str
    result: Json = None
    usage: tuple[int, int, int, int] = (0, 0, 0, 0)
    error: str = ""
    message: str = ""

    def to_json(self) -> dict[str, Json]:
        return {
            "kind": self.kind,
            "key": self.key,
            "result": self.result,
            "usage": list(self.usage),
            "error": self.error,
            "message": self.message,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RecordedCall:
        """A call from JSON. Raises DataInvalid when `value` is not a recorded call."""
        try:
            prompt, cached, generated, calls = map(int, value["usage"])
            texts = (str(value[name]) for name in ("kind", "key", "error", "message"))
            kind, key, error, message = texts
        except (KeyError, TypeError, ValueError) as problem:
            raise DataInvalid("A recorded model answer is damaged.") from problem
        return cls(
            kind=kind,
            key=key,
            result=value.get("result"),
            usage=(prompt, cached, generated, calls),
            error=error,
            message=message,
        )


def _asked(kind: str, *what: Json) -> tuple[str, str]:
    return kind, digest_of(encoded([kind, *what]))


def _prime_key(prefix: Prompt) -> tuple[str, str]:
    return _asked("prime", prefix.segments)


def _needed_key(prompts: Sequence[Prompt], max_tokens: int) -> tuple[str, str]:
    return _asked("needed", [prompt.segments for prompt in prompts], max_tokens)


def _classify_key(questions: Sequence[Question]) -> tuple[str, str]:
    return _asked("classify", [[question.prompt.segments, question.labels] for question in questions])


def _score_key(prompt: Prompt, continuations: Sequence[str]) -> tuple[str, str]:
    return _asked("score", prompt.segments, tuple(continuations))


def _generate_key(prompt: Prompt, max_tokens: int, n: int, sampling: Sampling, stop: str) -> tuple[str, str]:
    return _asked("generate", prompt.segments, max_tokens, n, plain(sampling), stop)


class RecordingEngine:
    """Engine that delegates every call to `inner` and records the result, errors of the engine included."""

    def __init__(self, inner: Engine) -> None:
        self._inner = inner
        self._calls: list[RecordedCall] = []

    def take(self) -> tuple[RecordedCall, ...]:
        """Calls recorded since the last `take`, in order."""
        taken = tuple(self._calls)
        self._calls = []
        return taken

    def adopt(self, calls: Sequence[RecordedCall]) -> None:
        """Record calls that were answered elsewhere."""
        self._calls += calls

    @property
    def identity(self) -> ModelIdentity:
        return self._inner.identity

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    @property
    def usage(self) -> Usage:
        return self._inner.usage

    async def prime(self, prefix: Prompt) -> Usage:
        call = self._inner.prime(prefix)
        return await self._kept(_prime_key(prefix), call, lambda usage: (None, usage))

    async def forget(self) -> None:
        await self._inner.forget()

    def tokens_needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        kind, key = _needed_key(prompts, max_tokens)
        try:
            tokens = self._inner.tokens_needed(prompts, max_tokens)
        except EngineUnavailable as error:
            self._calls.append(_failed(kind, key, error))
            raise
        self._calls.append(RecordedCall(kind, key, tokens))
        return tokens

    async def classify(self, questions: Sequence[Question], *, deadline: float | None = None) -> Answers:
        call = self._inner.classify(questions, deadline=deadline)
        return await self._kept(
            _classify_key(questions), call, lambda a: ([list(row) for row in a.probabilities], a.usage)
        )

    async def score(self, prompt: Prompt, continuations: Sequence[str], *, deadline: float | None = None) -> Scored:
        call = self._inner.score(prompt, continuations, deadline=deadline)
        return await self._kept(_score_key(prompt, continuations), call, lambda s: (list(s.logprobs), s.usage))

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
        call = self._inner.generate(prompt, max_tokens=max_tokens, n=n, sampling=sampling, stop=stop, deadline=deadline)
        asked = _generate_key(prompt, max_tokens, n, sampling, stop)
        return await self._kept(asked, call, lambda g: (list(g.texts), g.usage))

    async def health(self) -> EngineHealth:
        return await self._inner.health()

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _kept(self, asked: tuple[str, str], call: Awaitable[T], parts: Callable[[T], tuple[Json, Usage]]) -> T:
        try:
            answer = await call
        except EngineUnavailable as error:
            self._calls.append(_failed(*asked, error))
            raise
        result, usage = parts(answer)
        counts = (usage.prompt, usage.cached, usage.generated, usage.calls)
        self._calls.append(RecordedCall(*asked, result, counts))
        return answer


class ReplayEngine:
    """Engine that answers from recorded calls, equal questions in the order in which they were asked.

    Raises Drift for any other question; a recorded error is raised again.
    """

    def __init__(self, calls: Iterable[RecordedCall], identity: ModelIdentity, capabilities: Capabilities) -> None:
        self._left: dict[tuple[str, str], deque[RecordedCall]] = defaultdict(deque)
        for call in calls:
            self._left[call.kind, call.key].append(call)
        self._identity = identity
        self._capabilities = capabilities
        self._usage = Usage()

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def usage(self) -> Usage:
        return self._usage

    async def prime(self, prefix: Prompt) -> Usage:
        return self._again(_prime_key(prefix))[1]

    async def forget(self) -> None:
        """No effect: nothing is cached here; usage comes from the record."""

    def tokens_needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        return int(self._again(_needed_key(prompts, max_tokens))[0])

    async def classify(self, questions: Sequence[Question], *, deadline: float | None = None) -> Answers:
        rows, usage = self._again(_classify_key(questions))
        return Answers(tuple(tuple(float(p) for p in row) for row in rows), usage)

    async def score(self, prompt: Prompt, continuations: Sequence[str], *, deadline: float | None = None) -> Scored:
        sums, usage = self._again(_score_key(prompt, continuations))
        return Scored(tuple(float(value) for value in sums), usage)

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
        texts, usage = self._again(_generate_key(prompt, max_tokens, n, sampling, stop))
        return Generated(tuple(str(text) for text in texts), usage)

    async def health(self) -> EngineHealth:
        left = sum(map(len, self._left.values()))
        return EngineHealth(ok=True, detail="answers from a record", facts={"left": str(left)})

    async def aclose(self) -> None:
        """Nothing to close."""

    def _next(self, asked: tuple[str, str]) -> RecordedCall:
        if not self._left[asked]:
            raise Drift(f"The replay asked the model something that is not in the record ({asked[0]}).")
        return self._left[asked].popleft()

    def _again(self, asked: tuple[str, str]) -> tuple[Any, Usage]:
        call = self._next(asked)
        usage = Usage(*call.usage)
        self._usage += usage
        if call.error:
            error = _ERRORS.get(call.error, EngineUnavailable)(call.message)
            error.spent = call.usage
            raise error
        return call.result, usage


class InOrder(ReplayEngine):
    """Replay of one conversation from its beginning, strictly in order: the cost of a call depends on everything that
    was evaluated before it."""

    def __init__(self, calls: Sequence[RecordedCall], identity: ModelIdentity, capabilities: Capabilities) -> None:
        super().__init__((), identity, capabilities)
        self._coming = deque(calls)

    def _next(self, asked: tuple[str, str]) -> RecordedCall:
        if not self._coming or (self._coming[0].kind, self._coming[0].key) != asked:
            raise Drift(f"This conversation went on in another way ({asked[0]}).")
        return self._coming.popleft()


def _failed(kind: str, key: str, error: EngineUnavailable) -> RecordedCall:
    # Adapters raise subclasses of their own; a replay knows the two of the port.
    known = type(error).__name__ if type(error).__name__ in _ERRORS else EngineUnavailable.__name__
    return RecordedCall(kind, key, usage=error.spent, error=known, message=str(error))
