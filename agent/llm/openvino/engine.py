"""The `Engine` port over OpenVINO in this process: one worker thread makes every call that computes.

It owns no policy: what to ask, and what an answer is worth, is the caller's business.
"""

from __future__ import annotations

import asyncio
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
from agent.llm.llamacpp.context import Stop
from agent.llm.llamacpp.engine import file_hash
from agent.llm.llamacpp.session import among, log_softmax
from agent.llm.openvino import acceptance
from agent.llm.openvino.network import Precision, loaded
from agent.llm.openvino.session import Session
from agent.llm.openvino.tree import Wanted
from agent.llm.openvino.vocabulary import Vocabulary
from market.clock import monotonic
from market.errors import EngineTimeout, EngineUnavailable, NotReady

T = TypeVar("T")
Counted = tuple[T, int, int]
"""What a job found, the prompt tokens evaluated, the tokens cached."""

GREEDY = Sampling()
THREADS = min(2, os.cpu_count() or 1)


class OpenVinoEngine:
    """See the port. `usage` is the sum over completed calls.

    Cached prompts keep their last logits, so asking about one again is charged nothing. A call that is stopped or
    cancelled drops what is cached beyond the primed prefixes. The same calls after `forget` give the same bits; the
    last bits of an answer depend on what is evaluated together, so the engine is not `bit_exact`.
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
        room = self._session.tree.room
        return Capabilities(exact_labels=True, score=True, bit_exact=False, abort=True, context=room)

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
            return tuple(texts) * (n // different), evaluated, len(session.wanted(prompt).tokens) - evaluated

        texts, usage = await self._call(job, deadline, generated=lambda: generated)
        return Generated(texts, usage)

    async def health(self) -> Health:
        if self._closed:
            return Health(ok=False, detail="The engine is closed.")
        network = self._session.network
        if network.broken:
            return Health(ok=False, detail=network.broken)
        facts = {
            "library": self._identity.library,
            "device": network.device,
            "precision": network.precision,
            "threads": str(network.threads),
            "context": str(self._session.tree.room),
        }
        return Health(ok=True, detail=f"{self._identity.model} is loaded in OpenVINO", facts=facts)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._worker.submit(self._session.vocabulary.close)
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
            stop.end()
            raise

    def _guarded(self, job: Callable[[], T], stop: Stop) -> T:
        self._session.network.stop = stop
        try:
            return job()
        except BaseException:
            self._session.forget()
            raise
        finally:
            stop.close()
            self._session.network.stop = Stop(None)
            self._session.show()


@asynccontextmanager
async def opened(
    path: Path,
    *,
    name: str = "",
    sha256: str | None = None,
    library: str = "auto",
    precision: Precision = Precision.F32,
    threads: int = THREADS,
    context: int = 4096,
    notes: Path | None = None,
) -> AsyncIterator[OpenVinoEngine]:
    """An engine over the GGUF file at `path`, built and compiled in its worker thread.

    `library` names the libllama that turns text into tokens; `notes` the folder in which the installer's note has to
    say that this file's answers are right. Raises NotReady when a package, the file or that note is missing, the
    file's hash is not `sha256`, or the model is none that OpenVINO can be used for.
    """

    def load() -> tuple[Session, ModelIdentity]:
        found = file_hash(path)
        if sha256 is not None and found != sha256:
            raise NotReady(f"{path.name} is not the expected model: its hash differs.", next_step="Install it again.")
        if notes is not None:
            acceptance.require(notes, found, precision)
        identity = ModelIdentity("openvino", name or path.stem, found, f"{acceptance.LIBRARY} {precision}")
        return Session(loaded(path, precision, threads), Vocabulary(path, library), context), identity

    worker = ThreadPoolExecutor(1, thread_name_prefix="openvino")
    try:
        session, identity = await asyncio.get_running_loop().run_in_executor(worker, load)
    except BaseException:
        worker.shutdown(wait=False)
        raise
    engine = OpenVinoEngine(session, identity, worker)
    try:
        yield engine
    finally:
        await engine.aclose()


def _size(wanted: Sequence[Wanted]) -> int:
    return sum(len(want.tokens) for want in wanted)
