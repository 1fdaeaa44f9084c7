"""Port: the language model, as few verbs over plain values.

An engine is stateless to its caller: every call carries whole prompts. Adapters share prefixes internally (a forked
key-value cache, a radix cache), so the caller's only duty is to put the common part first. Engines never see a clock, a
market or a database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.llm.prompt import Prompt as Prompt


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an engine processed. `prompt` were evaluated, `cached` were already cached, `generated` were
    sampled; what is charged is prompt + generated. Milliseconds are wall time and never enter a hash."""

    prompt: int = 0
    cached: int = 0
    generated: int = 0
    calls: int = 0
    milliseconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt=self.prompt + other.prompt,
            cached=self.cached + other.cached,
            generated=self.generated + other.generated,
            calls=self.calls + other.calls,
            milliseconds=self.milliseconds + other.milliseconds,
        )

    @property
    def charged(self) -> int:
        return self.prompt + self.generated


@dataclass(frozen=True, slots=True)
class Question:
    """A closed choice: which of `labels` continues `prompt`. The labels' first tokens must differ."""

    prompt: Prompt
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """One row of probabilities per question, one entry per label, each row summing to 1."""

    probabilities: tuple[tuple[float, ...], ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters. Temperature 0 is greedy; otherwise the seed makes the draw repeatable."""

    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Generated:
    texts: tuple[str, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Scored:
    """Sum of log-probabilities of each continuation, in nats."""

    logprobs: tuple[float, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Capabilities of an engine. `bit_exact`: the same calls give the same bits again, whatever was cached.
    `exact_usage`: the count of `tokens_needed` is what is then charged; without it more may be, where a server's cache
    has lost a prefix. `labels` is the most a question may have, None for any number. `json_schema`: the engine is a
    `JsonEngine`."""

    score: bool
    bit_exact: bool
    abort: bool
    context: int
    exact_usage: bool = True
    labels: int | None = None


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Identity of the answering model: enters the run id. `sha256` is the model file's, or of the script."""

    engine: str
    model: str
    sha256: str
    library: str = ""


@dataclass(frozen=True, slots=True)
class EngineHealth:
    ok: bool
    detail: str = ""
    facts: dict[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """A model on this machine or beside it. `deadline` is seconds for the call, None for no limit.

    Errors: `EngineTimeout` at the deadline (the engine stays usable), `EngineUnavailable` when it cannot answer.
    Calls never block the event loop.
    """

    @property
    def identity(self) -> ModelIdentity: ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def usage(self) -> Usage:
        """Total usage since the engine was opened."""
        ...

    async def prime(self, prefix: Prompt) -> Usage:
        """Evaluate a static prefix and keep it until the engine closes."""
        ...

    async def forget(self) -> None:
        """Drop all cached prompts except the primed prefixes, so that the cost of a decision never depends on the one
        before it."""
        ...

    def tokens_needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        """Tokens that would be evaluated, beyond the cached ones, for `prompts` together, with room for
        `max_tokens` to be written after them. Where an engine samples a token for each answer, `max_tokens` of 0
        counts those too."""
        ...

    async def classify(self, questions: Sequence[Question], *, deadline: float | None = None) -> Answers:
        """Label probabilities for each question, from exact logits, all in one batch."""
        ...

    async def score(self, prompt: Prompt, continuations: Sequence[str], *, deadline: float | None = None) -> Scored:
        """Log-probability of each continuation, in nats: how a span of a quoted text is chosen for an answer, and how a
        label's own prior is measured. Raises EngineUnavailable where `capabilities.score` is false."""
        ...

    async def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        n: int = 1,
        sampling: Sampling = Sampling(),
        stop: str = "",
        deadline: float | None = None,
    ) -> Generated:
        """Up to `max_tokens` of free text, `n` times; ends early at `stop`, which is not returned."""
        ...

    async def health(self) -> EngineHealth: ...

    async def aclose(self) -> None: ...
