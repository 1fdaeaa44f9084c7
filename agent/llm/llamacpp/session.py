"""Prompts over a shared cache: carries out the plans, stores the last logits of cached prompts, samples text.

Synchronous; independent of the event loop. A sequence's last logits are stored beside it, so asking again for a prompt
that is fully cached costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from agent.llm.engine import Prompt, Sampling
from agent.llm.llamacpp.context import FORKS, Context
from agent.llm.llamacpp.prefixes import (
    BatchPlan,
    Block,
    Blocks,
    Cached,
    PrefixRequest,
    PrefixRow,
    blocks_of,
    length,
    planned,
)
from agent.llm.llamacpp.saved import SavedPrefixes, State
from agent.llm.logits import Logits, sampled
from agent.llm.stop import CallStop
from market.errors import EngineUnavailable

Found = dict[PrefixRequest, list[Logits]]
_REMEMBERED_SEGMENTS = 4096


@dataclass(slots=True)
class _Fork:
    """A sample in progress."""

    sequence: int
    position: int
    logits: Logits
    chance: np.random.Generator
    text: bytes = b""
    written: int = 0
    cell: int = -1


class LlamacppSession:
    """One context and the state of its cache. After any error, call `recover` before the next call.

    `spent` counts prompt tokens evaluated and tokens sampled, of failed calls, too.
    """

    def __init__(self, context: Context, saved: SavedPrefixes | None = None) -> None:
        self.context, self._saved = context, saved
        self.cached = Cached(context.sequences, context.cells, context.lanes, floor=context.top, top=context.top)
        self._generated = 0
        self._last: dict[int, Logits] = {}
        self._segments: dict[tuple[str, bool], Blocks] = {}

    @property
    def spent(self) -> tuple[int, int]:
        return self.context.begun, self._generated

    def wanted(self, prompt: Prompt, more: Block = ()) -> PrefixRequest:
        """The last token of a prompt; or of a prompt and `more` tokens, all of these. Safe from any thread."""
        segments = [self._segment(segment, number == 0) for number, segment in enumerate(prompt.segments)]
        if not any(segments):
            raise ValueError("a prompt needs at least one token")
        return PrefixRequest(
            (*chain.from_iterable(segments), *blocks_of([more], self.context.lanes)), max(1, len(more))
        )

    def continuation(self, text: str) -> Block:
        """The tokens of text that follows a prompt; at least one."""
        found = self.context.model.tokens(text, special=False)
        if not found:
            raise ValueError("a label or continuation needs at least one token")
        return found

    def needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        """Tokens that these prompts would cost, with one sample of `max_tokens` after them. Safe from any thread."""
        return Alone(self, self.cached).needed(prompts, max_tokens)

    def alone(self) -> Alone:
        """An account of a conversation that begins with the primed prefixes alone."""
        return Alone(self, self.cached.flushed())

    def cells(self, max_tokens: int) -> int:
        """Cells for one sample, including the empty rest of its last block."""
        return max_tokens + 2 * self.context.lanes

    def answered(self, wanted: Sequence[PrefixRequest], *, spare: int = 0) -> Found:
        """Logits of each request."""
        found: Found = {}
        for plan, after in planned(self.cached, wanted, spare):
            if plan.flush:
                self.forget()
            for sequence in plan.dropped:
                self.context.bury(sequence)
                self._last.pop(sequence, None)
            for source, target, tokens in plan.copies:
                self.context.copy(source, target, tokens)
            logits = self.context.evaluate(plan.rows)
            found |= {want: [self._last[sequence]] for want, sequence in plan.kept.items()}
            found |= {want: [logits[row] for row in rows] for want, rows in plan.fresh.items()}
            for (want, _), sequence in zip(plan.fresh.items(), plan.added, strict=True):
                self._last[sequence] = found[want][-1]
            self.cached = after
        return found

    def prime(self, prefix: Prompt) -> int:
        """Keep a prefix until `close`; returns its tokens. All other cached prompts are dropped."""
        want = self.wanted(prefix)
        self.forget()
        plan, _ = next(planned(self.cached, [want]))
        saved = self._saved if plan.added and not plan.copies else None  # else it shares cells with another prefix
        if saved is None or not self._restored(want, saved):
            first = self.cached.top
            self.answered([want])
            if saved is not None:
                sequence = self.cached.holding(want.blocks)
                saved.keep(want.blocks, first, State(bytes(self.context.saved(sequence)), self._last[sequence]))
        sequence = self.cached.holding(want.blocks)
        if self.cached.top > self.context.cells // 2 or len(self.cached.primed) > self.cached.sequences // 2:
            raise EngineUnavailable("The primed prefixes leave too little room.", next_step="Set a larger context.")
        self.context.keep_below(self.cached.top)
        self.cached = self.cached.with_primed(sequence)
        return length(want.blocks)

    def _restored(self, want: PrefixRequest, saved: SavedPrefixes) -> bool:
        """Load a prefix from disk, into the same cells that evaluating it would fill; False if there is none."""
        plan, after = next(planned(self.cached, [want]))
        state = saved.find(want.blocks, self.cached.top)
        if state is None:
            return False
        (sequence,) = plan.added
        if not self.context.restore(sequence, [row.cell for row in plan.rows], state.state):
            self.forget()
            return False
        self._last[sequence], self.cached = state.logits, after
        return True

    def forget(self) -> None:
        """Drop everything that is not primed."""
        dropped = [sequence for sequence in range(self.cached.sequences) if sequence not in self.cached.primed]
        self.context.flush(drop=dropped, floor=self.cached.floor)
        self.cached = self.cached.flushed()
        self._last = {sequence: self._last[sequence] for sequence in self.cached.entries}

    recover = forget  # leftovers of a stopped call lie above the primed prefixes

    def stop_at(self, stop: CallStop) -> None:
        """Set the stop flag that the library polls from now on."""
        self.context.stop_at(stop)

    def size(self, wanted: PrefixRequest) -> int:
        """Number of its tokens."""
        return length(wanted.blocks)

    def close(self) -> None:
        """Free the cache and the model."""
        self.context.close()
        self.context.model.close()

    def written(self, prompt: Prompt, *, max_tokens: int, n: int, sampling: Sampling, stop: str) -> list[str]:
        """Sample `n` texts."""
        want = self.wanted(prompt)
        each = self.cells(max_tokens)
        ahead = length(want.blocks)
        # Pessimistic: each block of the prompt may end up in a block of cells of its own.
        room = (self.context.cells - self.cached.floor - len(want.blocks) * self.context.lanes) // each
        together = max(1, min(n, FORKS, room))
        found = self.answered([want], spare=together * each)
        source = self.cached.holding(want.blocks)
        texts: list[str] = []
        for first in range(0, n, together):
            forks = [
                _Fork(
                    sequence=sequence,
                    position=ahead,
                    logits=found[want][0],
                    chance=np.random.default_rng([sampling.seed, first + at]),
                )
                for at, sequence in enumerate(self.context.forks[: min(together, n - first)])
            ]
            for fork in forks:
                self.context.copy(source, fork.sequence, ahead)
            top = self.context.top
            self._write(forks, max_tokens, sampling.temperature, stop.encode())
            self.context.drop_forks(top)
            texts += [fork.text.decode("utf-8", "replace") for fork in forks]
        return texts

    def _write(self, forks: Sequence[_Fork], max_tokens: int, temperature: float, stop: bytes) -> None:
        """Extend all forks token by token, one batch a step, until each has ended."""
        live = list(forks)
        while live:
            rows: list[PrefixRow] = []
            for fork in tuple(live):
                token = sampled(fork.logits, temperature, fork.chance)
                fork.written += 1
                self._generated += 1
                if self._ended(fork, token, stop) or fork.written >= max_tokens:
                    live.remove(fork)
                else:
                    rows.append(
                        PrefixRow(token=token, position=fork.position, sequences=(fork.sequence,), wanted=True, cell=-1)
                    )
            if rows:
                self._place(live)
                placed = [
                    PrefixRow(token=r.token, position=r.position, sequences=r.sequences, wanted=True, cell=f.cell)
                    for r, f in zip(rows, live, strict=True)
                ]
                for at, logits in self.context.step(placed).items():
                    live[at].logits = logits
                for fork in live:
                    fork.position += 1
                    fork.cell += 1

    def _ended(self, fork: _Fork, token: int, stop: bytes) -> bool:
        """Add the token's text; True when that ends the sample."""
        if self.context.model.ends(token):
            return True
        fork.text += self.context.model.piece(token)
        before, found, _ = fork.text.partition(stop) if stop else (fork.text, b"", b"")
        fork.text = before
        return bool(found)

    def _place(self, live: Sequence[_Fork]) -> None:
        """Every `lanes` tokens, allocate each fork a block of cells of its own."""
        lanes = self.context.lanes
        if (live[0].written - 1) % lanes:
            return
        start = -(-self.context.top // lanes) * lanes
        for fork in live:
            fork.cell, start = start, start + lanes
        self.context.reserve(start)

    def _segment(self, text: str, opening: bool) -> Blocks:
        """The blocks of a segment: the same objects each time, which makes the comparison of prompts cheap."""
        key = (text, opening)
        if (known := self._segments.get(key)) is None:
            if len(self._segments) >= _REMEMBERED_SEGMENTS:
                self._segments = {}
            tokens = self.context.model.tokens(text, opening=opening)
            known = self._segments[key] = blocks_of([tokens], self.context.lanes)
        return known


@dataclass(slots=True)
class Alone:
    """Account of a conversation: the cache as it would be with its prompts alone, and their cost. Nothing is evaluated.
    Safe from any thread."""

    session: LlamacppSession
    cached: Cached

    def needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        """Tokens that these prompts would cost, with one sample of `max_tokens` after them."""
        return sum(len(plan.rows) for plan, _ in self._plans(prompts, max_tokens))

    def taken(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> tuple[int, int]:
        """Hold the prompts from now on; returns the tokens that were not held, and those of the prompts."""
        new = 0
        for plan, after in self._plans(prompts, max_tokens):
            new += len(plan.rows)
            self.cached = after
        return new, sum(length(self.session.wanted(prompt).blocks) for prompt in prompts)

    def _plans(self, prompts: Sequence[Prompt], max_tokens: int) -> Iterator[tuple[BatchPlan, Cached]]:
        spare = self.session.cells(max_tokens) if max_tokens else 0
        return planned(self.cached, [self.session.wanted(p) for p in prompts], spare)
