"""The `Engine` port over llama.cpp in this process: one worker thread makes every call that computes.

It owns no policy: what to ask, and what an answer is worth, is the caller's business.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
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
from agent.llm.llamacpp.context import THREADS, Context, Model, Stop
from agent.llm.llamacpp.prefixes import Wanted, length
from agent.llm.llamacpp.saved import SavedPrefixes
from agent.llm.llamacpp.session import Session, among, log_softmax
from market.clock import monotonic
from market.errors import EngineTimeout, EngineUnavailable, NotReady

T = TypeVar("T")
Found = tuple[T, int]
"""What a job found, and the tokens of the prompts it was given, cached or not."""

GREEDY = Sampling()
_CHUNK = 1 << 24


class LlamaEngine:
    """See the port. `usage` counts stopped and cancelled calls too; the error of a stopped one says what it spent.

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
        def job() -> Found[None]:
            return None, self._session.prime(prefix)

        return (await self._call(job, None))[1]

    async def forget(self) -> None:
        await self._submit(self._session.forget, Stop(None))

    def tokens_needed(self, prompts: Sequence[Prompt], max_tokens: int = 0) -> int:
        return self._session.needed(prompts, max_tokens)

    async def classify(self, questions: Sequence[Question], *, deadline: float | None = None) -> Answers:
        def job() -> Found[tuple[tuple[float, ...], ...]]:
            session = self._session
            wanted = [session.wanted(question.prompt) for question in questions]
            labels = [self._first_tokens(question.labels) for question in questions]
            found = session.answered(wanted)
            rows = tuple(among(found[want][0], tokens) for want, tokens in zip(wanted, labels, strict=True))
            return rows, _size(wanted)

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
                rows = found[start] if want == start else found[start] + found[want]
                sums.append(sum(float(log_softmax(row)[token]) for row, token in zip(rows, tail, strict=True)))
            return tuple(sums), _size(longer)

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

        def job() -> Found[tuple[str, ...]]:
            session = self._session
            texts = session.written(prompt, max_tokens=max_tokens, n=different, sampling=sampling, stop=stop)
            return tuple(texts) * (n // different), length(session.wanted(prompt).blocks)

        return Generated(*await self._call(job, deadline))

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

    async def _call(self, job: Callable[[], Found[T]], deadline: float | None) -> tuple[T, Usage]:
        """Run a job in the worker; its result and usage."""
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

        return await self._submit(counted, Stop(deadline))

    def _count(self, began: float, before: tuple[int, int], whole: int | None = None) -> Usage:
        """Add up what was spent since `before` on a call with prompts of `whole` tokens; None for one that failed."""
        prompt, generated = (now - then for now, then in zip(self._session.spent, before, strict=True))
        cached = 0 if whole is None else whole - prompt
        usage = Usage(prompt, cached, generated, 1, (monotonic() - began) * 1000)
        self._usage += usage
        return usage

    async def _submit(self, job: Callable[[], T], stop: Stop) -> T:
        if self._closed:
            raise EngineUnavailable("The engine is closed.")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, self._guarded, job, stop)
        except asyncio.CancelledError:
            stop.end()
            raise

    def _guarded(self, job: Callable[[], T], stop: Stop) -> T:
        self._session.context.obey(stop)
        try:
            return job()
        except BaseException:
            self._session.recover()
            raise
        finally:
            stop.close()
            self._session.context.obey(Stop(None))


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
    saved: Path | None = None,
) -> AsyncIterator[LlamaEngine]:
    """An engine over the GGUF file at `path`, loaded in its worker thread; `progress` hears 0..1 from that thread.
    Primed prefixes are kept in the folder `saved`, where there is one.

    Raises NotReady when the library or the file is missing, or the file's hash is not `sha256`.
    """

    def load() -> tuple[Session, ModelIdentity]:
        loaded = Library(library)
        hear = progress or (lambda _: None)
        found = file_hash(path, lambda share: hear(share / 2))
        if sha256 is not None and found != sha256:
            raise NotReady(f"{path.name} is not the expected model: its hash differs.", next_step="Install it again.")
        identity = ModelIdentity("llamacpp", name or path.stem, found, loaded.label)
        model = Model(loaded, path, lambda share: hear((1 + share) / 2))
        cache = Context(model, threads=threads, cells=context, sequences=sequences)
        made_by = (found, loaded.label, loaded.system, f"{cache.lanes} lanes")
        prefixes = SavedPrefixes(saved, made_by, model.vocabulary) if saved is not None else None
        return Session(cache, prefixes), identity

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


def file_hash(path: Path, progress: Callable[[float], None] = lambda _: None) -> str:
    """SHA-256 of a model file. The installer's note beside it is believed while size and time of change agree;
    otherwise the file is read, and `progress` hears 0..1.

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
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            progress(min(1.0, file.tell() / shown.st_size))
    return digest.hexdigest()


def _size(wanted: Sequence[Wanted]) -> int:
    return sum(length(want.blocks) for want in wanted)


def _close(context: Context) -> None:
    context.close()
    context.model.close()
