"""Scripted engine: deterministic, without a model; for tests, dry runs and the placebo of random legal claims.

Its only inputs are text and a seed. It counts words as tokens, and shares prefixes as a real engine does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

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
from agent.llm.trie import Trie
from market.errors import EngineTimeout, EngineUnavailable

Segments = tuple[str, ...]
Rule = Callable[[str, tuple[str, ...]], Sequence[float]]
"""Weights for the labels after the prompt's text: not negative, not all zero."""

GREEDY = Sampling()
_CONTEXT = 32_768
_VOCABULARY = ("the", "claim", "holds", "while", "book", "and", "tape", "agree", "on", "direction")


class ScriptedEngine:
    """Implements the port. `rule` gives the label weights; without one they come from a hash of seed, prompt and label,
    so that any label can win. After `fail_after` calls every further one raises EngineUnavailable."""

    def __init__(
        self, rule: Rule | None = None, seed: int = 0, name: str = "scripted", fail_after: int | None = None
    ) -> None:
        self._rule = rule or self._hashed
        self._seed = seed
        self._fail_after = fail_after
        script = f"{name}\n{seed}\n{f'{rule.__module__}.{rule.__qualname__}' if rule else ''}"
        self._identity = ModelIdentity("scripted", name, hashlib.sha256(script.encode()).hexdigest())
        self._held = ScriptedPrefixes()
        self._usage = Usage()
        self._calls = 0
        self._closed = False

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(score=True, bit_exact=True, abort=True, context=_CONTEXT)

    @property
    def usage(self) -> Usage:
        return self._usage

    async def prime(self, prefix: Prompt) -> Usage:
        self._begin(None)
        new, words = self._held.prime(prefix.segments)
        return self._counted(new, words - new)

    async def forget(self) -> None:
        self._held.forget()

    def tokens_needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        return self._held.needed(prompts)

    def alone(self) -> ScriptedPrefixes:
        """Implements `agent.llm.together.Shared`."""
        return self._held.beside()

    async def classify(self, questions: Sequence[Question], *, deadline: float | None = None) -> Answers:
        for question in questions:
            first = [label.split()[:1] for label in question.labels]
            if not first or [] in first or len({word for (word,) in first}) != len(first):
                raise ValueError(f"labels need distinct first tokens: {list(question.labels)}")
        self._begin(deadline)
        rows = tuple(_normalised(self._rule(q.prompt.text, q.labels)) for q in questions)
        return Answers(rows, self._taken_in([(question.prompt, ()) for question in questions]))

    async def score(self, prompt: Prompt, continuations: Sequence[str], *, deadline: float | None = None) -> Scored:
        tails = [text.split() for text in continuations]
        if not all(tails):
            raise ValueError("a continuation needs at least one token")
        self._begin(deadline)
        sums = tuple(-0.1 - len(tail) * self._draw(prompt.text, *tail) for tail in tails)
        return Scored(sums, self._taken_in([(prompt, tuple(tail[:-1])) for tail in tails]))

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
        self._begin(deadline)
        different = n if sampling.temperature > 0 else 1
        samples = [self._sentence(prompt.text, sampling, number, max_tokens) for number in range(different)]
        usage = self._taken_in([(prompt, ())], sum(map(len, samples)))
        texts = [" ".join(words) for words in samples]
        return Generated(tuple(text.partition(stop)[0] if stop else text for text in texts) * (n // different), usage)

    async def health(self) -> EngineHealth:
        return EngineHealth(ok=not self._closed, detail="answers from a script", facts={"seed": str(self._seed)})

    async def aclose(self) -> None:
        self._closed = True

    def _begin(self, deadline: float | None) -> None:
        self._calls += 1
        if self._closed:
            raise EngineUnavailable("The engine is closed.")
        if self._fail_after is not None and self._calls > self._fail_after:
            raise EngineUnavailable(f"The script fails after {self._fail_after} calls.")
        if deadline is not None and deadline <= 0:
            raise EngineTimeout("The model was given no time.")

    def _taken_in(self, prompts: Sequence[tuple[Prompt, tuple[str, ...]]], generated: int = 0) -> Usage:
        """Book each prompt with the words that follow it."""
        found = [self._held.grown(prompt.segments, tail) for prompt, tail in prompts]
        if (longest := max((words for _, words in found), default=0)) > _CONTEXT:
            raise EngineUnavailable(f"A prompt of {longest} words does not fit the context of {_CONTEXT}.")
        new = sum(fresh for fresh, _ in found)
        return self._counted(new, sum(words for _, words in found) - new, generated)

    def _counted(self, prompt: int, cached: int, generated: int = 0) -> Usage:
        usage = Usage(prompt=prompt, cached=cached, generated=generated, calls=1)
        self._usage += usage
        return usage

    def _draw(self, *text: str) -> float:
        """A number in (0, 1] from the seed and the text."""
        parts = "\x00".join((str(self._seed), *text))
        return (int.from_bytes(hashlib.sha256(parts.encode()).digest()[:6], "big") + 1) / 2**48

    def _hashed(self, text: str, labels: tuple[str, ...]) -> list[float]:
        return [self._draw(text, label) for label in labels]

    def _sentence(self, text: str, sampling: Sampling, number: int, max_tokens: int) -> list[str]:
        key = (str(sampling.seed), str(number)) if sampling.temperature > 0 else ()
        start = int(self._draw(text, *key) * len(_VOCABULARY))
        return [_VOCABULARY[(start + at) % len(_VOCABULARY)] for at in range(min(max_tokens, 8))]


class _Way(NamedTuple):
    """Node of a prefix: its end in the recent and in the primed trie, and its number of words."""

    recent: Trie
    primed: Trie | None
    words: int


class ScriptedPrefixes:
    """Account of cached words: those of primed prefixes permanently, all others until the next `forget`. The ends of
    segments are indexed, so that a prompt is walked from the longest known one."""

    def __init__(self, primed: Trie | None = None) -> None:
        self._primed = Trie() if primed is None else primed
        self.forget()

    def beside(self) -> ScriptedPrefixes:
        """Another account that holds the primed prefixes alone."""
        return ScriptedPrefixes(self._primed)

    def forget(self) -> None:
        self._ways: dict[Segments, _Way] = {(): _Way(Trie(), self._primed, 0)}

    def prime(self, segments: Segments) -> tuple[int, int]:
        """(words that were not primed, words in all)."""
        words = [word for segment in segments for word in _split(segment)]
        new = self._primed.take(words)
        self.forget()
        return new, len(words)

    def needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        """Number of words that these prompts would add together."""
        beyond: dict[tuple[int, int], Trie] = {}
        return sum(self._added(prompt.segments, beyond) for prompt in prompts)

    def taken(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> tuple[int, int]:
        """Hold prompts: (words that were not held, words in all)."""
        found = [self.grown(prompt.segments, ()) for prompt in prompts]
        return sum(new for new, _ in found), sum(words for _, words in found)

    def grown(self, segments: Segments, tail: tuple[str, ...]) -> tuple[int, int]:
        """Hold a prompt and the words that follow it: (words that were not held, words in all)."""
        known, way = self._longest(segments)
        new = 0
        for end in range(known + 1, len(segments) + 1):
            way, fresh = _grown(way, _split(segments[end - 1]))
            self._ways[segments[:end]] = way
            new += fresh
        way, fresh = _grown(way, tail)
        return new + fresh, way.words

    def _longest(self, segments: Segments) -> tuple[int, _Way]:
        """The longest indexed prefix: its number of segments, and its node."""
        known = next(k for k in range(len(segments), -1, -1) if segments[:k] in self._ways)
        return known, self._ways[segments[:known]]

    def _added(self, segments: Segments, beyond: dict[tuple[int, int], Trie]) -> int:
        """Words from where the prompt leaves the held prefixes; `beyond` collects those of the batch by the node they
        leave from."""
        known, (recent, primed, _) = self._longest(segments)
        words = [word for segment in segments[known:] for word in _split(segment)]
        ways: tuple[Trie | None, Trie | None] = (recent, primed)
        for at, word in enumerate(words):
            ahead = [way.get(word) if way is not None else None for way in ways]
            if ahead == [None, None]:
                return beyond.setdefault((id(ways[0]), id(ways[1])), Trie()).take(words[at:])
            ways = (ahead[0], ahead[1])
        return 0


def _grown(way: _Way, words: Sequence[str]) -> tuple[_Way, int]:
    """The node after more words, and the number of them that were not held."""
    here, primed, new = way.recent, way.primed, 0
    for word in words:
        primed = primed.get(word) if primed is not None else None
        there = here.get(word)
        if there is None:
            there = here[word] = Trie()
            new += primed is None
        here = there
    return _Way(here, primed, way.words + len(words)), new


@lru_cache(maxsize=4096)
def _split(segment: str) -> tuple[str, ...]:
    return tuple(segment.split())


def _normalised(weights: Sequence[float]) -> tuple[float, ...]:
    total = sum(weights)
    return tuple(weight / total for weight in weights)
