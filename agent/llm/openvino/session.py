"""Prompts over one shared cache: carries out the steps, stores the last logits, samples text.

Synchronous; independent of the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.llm.engine import Prompt, Sampling
from agent.llm.logits import Logits, sampled
from agent.llm.openvino.network import Network, Saved
from agent.llm.openvino.tree import CacheRequest, CacheRow, CacheTree, Tokens
from agent.llm.openvino.vocabulary import TokenVocabulary
from agent.llm.stop import CallStop
from market.errors import EngineUnavailable

Found = dict[CacheRequest, list[Logits]]

TOGETHER = 16
"""Maximum number of samples in one batch."""

_REMEMBERED_SEGMENTS = 4096


@dataclass(slots=True)
class _Sample:
    """A text in progress after the token in `cell`."""

    cell: int
    logits: Logits
    chance: np.random.Generator
    text: bytes = b""
    written: int = 0


@dataclass(frozen=True, slots=True)
class _Point:
    """A state to return to; its tree is never changed."""

    tree: CacheTree
    saved: Saved
    logits: dict[int, Logits]


class OpenvinoSession:
    """One network, its vocabulary and the state of its cache. After any error, call `forget` before the next call."""

    def __init__(self, network: Network, vocabulary: TokenVocabulary, cells: int) -> None:
        self.network, self.vocabulary = network, vocabulary
        self.tree = self._shown = CacheTree(cells)
        self._logits: dict[int, Logits] = {}
        self._primed = _Point(CacheTree(cells), Saved(0), {})
        self._segments: dict[tuple[str, bool], Tokens] = {}
        self._sampled = self._extended = 0  # tokens sampled, and those of them put through the network

    @property
    def spent(self) -> tuple[int, int]:
        """Prompt tokens evaluated and tokens sampled, of failed calls, too."""
        return self.network.rows - self._extended, self._sampled

    def wanted(self, prompt: Prompt, more: Tokens = ()) -> CacheRequest:
        """The last token of a prompt; or of a prompt and `more` tokens, all of these. Safe from any thread."""
        tokens = [token for at, text in enumerate(prompt.segments) for token in self._segment(text, at == 0)]
        if not tokens:
            raise ValueError("a prompt needs at least one token")
        return CacheRequest((*tokens, *more), max(1, len(more)))

    def continuation(self, text: str) -> Tokens:
        """The tokens of text that follows a prompt; at least one."""
        found = self.vocabulary.tokens(text, special=False)
        if not found:
            raise ValueError("a label or continuation needs at least one token")
        return found

    def needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        """Tokens that these prompts would cost, with one sample of `max_tokens` after them. Safe from any thread."""
        # A copy that only the worker replaces: the event loop may count while the worker changes the tree.
        trial = self._shown.copy()
        return sum(len(step.rows) for step in trial.steps([self.wanted(p) for p in prompts], max_tokens))

    def size(self, wanted: CacheRequest) -> int:
        """Number of its tokens."""
        return len(wanted.tokens)

    def answered(self, wanted: Sequence[CacheRequest], *, spare: int = 0) -> Found:
        """Logits of each request."""
        found: Found = {}
        for step in self.tree.steps(wanted, spare):
            if step.flush:
                self.network.back(self._primed.saved)
            logits = self.network.evaluate(self.tree, step.rows)
            answers = [row.answers for row in step.rows if row.answers >= 0]
            at_hand = self._logits | dict(zip(answers, logits, strict=True))
            found |= {want: [at_hand[cell] for cell in cells] for want, cells in step.asked.items()}
            self._logits = {cell: at_hand[cell] for cell in self.tree.known}
        return found

    def stop_at(self, stop: CallStop) -> None:
        """Set the stop flag to poll from now on, and let `needed` count from the present cache."""
        self.network.stop = stop
        self._shown = self.tree.copy()

    def close(self) -> None:
        """Free the vocabulary."""
        self.vocabulary.close()

    def prime(self, prefix: Prompt) -> int:
        """Keep a prefix until `close`; returns its tokens. All other cached prompts are dropped."""
        want, before = self.wanted(prefix), self.network.rows
        self.forget()
        self.answered([want])
        if self.tree.top > self.tree.room // 2:
            raise EngineUnavailable("The primed prefixes leave too little room.", next_step="Set a larger context.")
        # Nothing was evaluated if this prefix is primed already.
        if self.network.rows > before:
            self.tree.floor = self.tree.top
            self._primed = self._point()
        return len(want.tokens)

    def forget(self) -> None:
        """Drop everything that is not primed."""
        self._return(self._primed)

    recover = forget

    def written(self, prompt: Prompt, *, max_tokens: int, n: int, sampling: Sampling, stop: str) -> list[str]:
        """Sample `n` texts."""
        want = self.wanted(prompt)
        found = self.answered([want], spare=max_tokens)
        start = self.tree.end_of(want.tokens)
        together = min(n, TOGETHER, (self.tree.room - self.tree.top) // max_tokens)
        trunk = self._point() if together < n else None
        texts: list[str] = []
        for first in range(0, n, together):
            if trunk is not None:
                self._return(trunk)
            samples = [
                _Sample(start, found[want][0], np.random.default_rng([sampling.seed, number]))
                for number in range(first, min(first + together, n))
            ]
            self._write(samples, max_tokens, sampling.temperature, stop.encode())
            texts += [sample.text.decode("utf-8", "replace") for sample in samples]
        return texts

    def _point(self) -> _Point:
        return _Point(self.tree.copy(), self.network.saved(), self._logits.copy())

    def _return(self, point: _Point) -> None:
        self.tree, self._logits = point.tree.copy(), point.logits.copy()
        self.network.back(point.saved)

    def _write(self, samples: Sequence[_Sample], max_tokens: int, temperature: float, stop: bytes) -> None:
        """Extend all samples token by token, one inference a step, until each has ended."""
        live = list(samples)
        while live:
            rows: list[CacheRow] = []
            for sample in tuple(live):
                token = sampled(sample.logits, temperature, sample.chance)
                sample.written += 1
                self._sampled += 1
                if self._ended(sample, token, stop) or sample.written >= max_tokens:
                    live.remove(sample)
                    continue
                position = self.tree.positions[sample.cell] + 1
                parent, sample.cell = sample.cell, self.tree.grow(sample.cell, position)
                rows.append(CacheRow(token=token, position=position, parent=parent, answers=sample.cell))
            if rows:
                for sample, logits in zip(live, self._extend(rows), strict=True):
                    sample.logits = logits

    def _extend(self, rows: Sequence[CacheRow]) -> list[Logits]:
        """Evaluate sampled tokens; they were counted when they were sampled."""
        before = self.network.rows
        try:
            return self.network.evaluate(self.tree, rows)
        finally:
            self._extended += self.network.rows - before

    def _ended(self, sample: _Sample, token: int, stop: bytes) -> bool:
        """Add the token's text; True when that ends the sample."""
        if self.vocabulary.ends(token):
            return True
        sample.text += self.vocabulary.piece(token)
        before, found, _ = sample.text.partition(stop) if stop else (sample.text, b"", b"")
        sample.text = before
        return bool(found)

    def _segment(self, text: str, opening: bool) -> Tokens:
        key = (text, opening)
        if (known := self._segments.get(key)) is None:
            if len(self._segments) >= _REMEMBERED_SEGMENTS:
                self._segments = {}
            known = self._segments[key] = self.vocabulary.tokens(text, opening=opening)
        return known
