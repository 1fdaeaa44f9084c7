"""The `Engine` port over llama.cpp in this process: one worker thread makes every call that computes.

It owns no policy: what to ask, and what an answer is worth, is the caller's business.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from agent.llm.engine import (
    Answers,
    Capabilities,
    Generated,
    Health,
    ModelIdentity,
    Prompt,
    Question,
    Sampling,
    Scored,
    Usage,
)
from agent.llm.llamacpp.abi import Library
from agent.llm.llamacpp.context import Context, Model, Stop
from agent.llm.llamacpp.prefixes import Wanted, length
from agent.llm.llamacpp.session import Session, among, log_softmax
from market.clock import monotonic
from market.errors import EngineTimeout, EngineUnavailable, NotReady

T = TypeVar("T")
Counted = tuple[T, int, int]
"""What a job found, the prompt tokens evaluated, the tokens cached."""

GREEDY = Sampling()
THREADS = min(2, os.cpu_count() or 1)


class LlamaEngine:
    """See the port. `usage` is the sum over completed calls.

    Cached prompts keep their last logits, so asking about one again is charged nothing. A call that is stopped or
    cancelled drops what is cached beyond the primed prefixes. Answers do not depend on what was cached or asked in
    the same batch (`capabilities.bit_exact`), except for models with sliding-window attention.
    """

    def __init__(self, session: Session, identity: ModelIdentity, worker: ThreadPoolExecutor) -> None:
        self._session = session
        self._identity = identity
        self._worker = worker
        self._usage = Usage()
        self._closed = False

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    @property
    def capabilities(self) -> Capabilities:
        context = self._session.context
        exact = context.model.sliding_window == 0
        return Capabilities(exact_labels=True, score=True, bit_exact=exact, abort=True, context=context.cells)

    @property
    def usage(self) -> Usage:
        return self._usage

    async def prime(self, prefix: Prompt) -> Usage:
        def job() -> Counted[None]:
            evaluated, whole = self._session.prime(prefix)
            return None, evaluated, whole - evaluated

        return (await self._call(job, None))[1]

    async def forget(self) -> None:
        await self._submit(self._session.forget, Stop(None))

    def tokens_needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        return self._session.needed(prompts, max_tokens)

    async def classify(self, questions: Sequence[Question], *, deadline: float | None = None) -> Answers:
        def job() -> Counted[tuple[tuple[float, ...], ...]]:
            session = self._session
            wanted = [session.wanted(question.prompt) for question in questions]
            labels = [self._first_tokens(question.labels) for question in questions]
            found, evaluated = session.answered(wanted)
            rows = tuple(among(found[want][0], tokens) for want, tokens in zip(wanted, labels, strict=True))
            return rows, evaluated, _size(wanted) - evaluated

        return Answers(*await self._call(job, deadline))

    async def score(self, prompt: Prompt, continuations: Sequence[str], *, deadline: float | None = None) -> Scored:
        def job() -> Counted[tuple[float, ...]]:
            session = self._session
            start = session.wanted(prompt)
            tails = [session.continuation(text) for text in continuations]
            longer = [session.wanted(prompt, tail[:-1]) for tail in tails]
            found, evaluated = session.answered([start, *longer])
            sums = []
            for want, tail in zip(longer, tails, strict=True):
                rows = found[start] if want == start else found[start] + found[want]
                sums.append(sum(float(log_softmax(row)[token]) for row, token in zip(rows, tail, strict=True)))
            return tuple(sums), evaluated, _size(longer) - evaluated

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
        different = n if sampling.temperature > 0 else 1  # greedy samples are all alike: written once
        generated = 0

        def job() -> Counted[tuple[str, ...]]:
            nonlocal generated
            session = self._session
            texts, evaluated, generated = session.written(
                prompt, max_tokens=max_tokens, n=different, sampling=sampling, stop=stop
            )
            return tuple(texts) * (n // different), evaluated, length(session.wanted(prompt).blocks) - evaluated

        texts, usage = await self._call(job, deadline, generated=lambda: generated)
        return Generated(texts, usage)

    async def health(self) -> Health:
        if self._closed:
            return Health(ok=False, detail="The engine is closed.")
        context = self._session.context
        facts = {
            "library": self._identity.library,
            "system": context.model.library.system,
            "model": context.model.description,
            "threads": str(context.threads),
            "context": str(context.cells),
        }
        return Health(ok=True, detail=f"{self._identity.model} is loaded", facts=facts)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._worker.submit(_close, self._session.context)
        await asyncio.get_running_loop().run_in_executor(None, self._worker.shutdown)

    def _first_tokens(self, labels: Sequence[str]) -> list[int]:
        first = [self._session.continuation(label)[0] for label in labels]
        if not first or len(set(first)) != len(first):
            raise ValueError(f"labels need distinct first tokens: {list(labels)}")
        return first

    async def _call(
        self, job: Callable[[], Counted[T]], deadline: float | None, generated: Callable[[], int] = lambda: 0
    ) -> tuple[T, Usage]:
        """Run a job in the worker; its result and usage, which is also added up."""
        if deadline is not None and deadline <= 0:
            raise EngineTimeout("The model was given no time.")

        def timed() -> tuple[T, Usage]:
            began = monotonic()
            result, evaluated, cached = job()
            return result, Usage(evaluated, cached, generated(), 1, (monotonic() - began) * 1000)

        result, usage = await self._submit(timed, Stop(deadline))
        self._usage += usage
        return result, usage

    async def _submit(self, job: Callable[[], T], stop: Stop) -> T:
        if self._closed:
            raise EngineUnavailable("The engine is closed.")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, self._guarded, job, stop)
        except asyncio.CancelledError:
            stop.cancelled = True
            raise

    def _guarded(self, job: Callable[[], T], stop: Stop) -> T:
        self._session.context.stop = stop
        try:
            return job()
        except BaseException:
            self._session.recover()
            raise
        finally:
            self._session.context.stop = Stop(None)


@asynccontextmanager
async def opened(
    path: Path,
    *,
    name: str = "",
    sha256: str | None = None,
    library: str = "auto",
    threads: int = THREADS,
    context: int = 4096,
    sequences: int = 64,
    progress: Callable[[float], None] | None = None,
) -> AsyncIterator[LlamaEngine]:
    """An engine over the GGUF file at `path`, loaded in its worker thread; `progress` hears 0..1 from that thread.

    Raises NotReady when the library or the file is missing, or the file's hash is not `sha256`.
    """

    def load() -> tuple[Session, ModelIdentity]:
        loaded = Library(library)
        found = file_hash(path)
        if sha256 is not None and found != sha256:
            raise NotReady(f"{path.name} is not the expected model: its hash differs.", next_step="Install it again.")
        identity = ModelIdentity("llamacpp", name or path.stem, found, loaded.label)
        model = Model(loaded, path, progress)
        return Session(Context(model, threads=threads, cells=context, sequences=sequences)), identity

    worker = ThreadPoolExecutor(1, thread_name_prefix="llamacpp")
    try:
        session, identity = await asyncio.get_running_loop().run_in_executor(worker, load)
    except BaseException:
        worker.shutdown(wait=False)
        raise
    engine = LlamaEngine(session, identity, worker)
    try:
        yield engine
    finally:
        await engine.aclose()


def file_hash(path: Path) -> str:
    """SHA-256 of a model file. The installer's note beside it is believed while size and time of change agree.

    Raises NotReady when there is no file.
    """
    if not path.is_file():
        raise NotReady(f"The model file {path} does not exist.", next_step="Run: edgeclaw install edge-runtime")
    shown = path.stat()
    for note in sorted(path.parent.glob("*.json")):
        try:
            noted = json.loads(note.read_text())["model"]
            if (noted["file"], noted["size"], noted["mtime_ns"]) == (path.name, shown.st_size, shown.st_mtime_ns):
                return str(noted["sha256"])
        except (OSError, ValueError, TypeError, KeyError):
            continue  # not one of ours
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(wanted: Sequence[Wanted]) -> int:
    return sum(length(want.blocks) for want in wanted)


def _close(context: Context) -> None:
    context.close()
    context.model.close()
