"""Adapter of the `Engine` port to llama.cpp in this process.

It owns no policy: the questions and the use of the answers are the caller's.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from agent.llm.engine import Capabilities, EngineHealth, ModelIdentity
from agent.llm.inprocess import InProcessEngine
from agent.llm.llamacpp.abi import Library
from agent.llm.llamacpp.context import THREADS, Context, Model
from agent.llm.llamacpp.prefixes import PrefixRequest
from agent.llm.llamacpp.saved import SavedPrefixes
from agent.llm.llamacpp.session import Alone, LlamacppSession
from market.errors import NotReady

CONTEXT, SEQUENCES = 4096, 64
_CHUNK = 1 << 24


class LlamaEngine(InProcessEngine[PrefixRequest]):
    """Implements the port. Answers do not depend on the cache or on the rest of the batch (`capabilities.bit_exact`),
    except for models with sliding-window attention."""

    _session: LlamacppSession

    @property
    def capabilities(self) -> Capabilities:
        context = self._session.context
        exact = context.model.sliding_window == 0
        return Capabilities(score=True, bit_exact=exact, abort=True, context=context.cells)

    def alone(self) -> Alone:
        """See `agent.llm.together.Shared`."""
        return self._session.alone()

    def _health(self) -> EngineHealth:
        context = self._session.context
        facts = {
            "library": self.identity.library,
            "system": context.model.library.system,
            "model": context.model.description,
            "threads": str(context.threads),
            "context": str(context.cells),
        }
        return EngineHealth(ok=True, detail=f"{self.identity.model} is loaded", facts=facts)


@asynccontextmanager
async def open_llamacpp(
    path: Path,
    *,
    name: str = "",
    sha256: str | None = None,
    library: str = "auto",
    threads: int = THREADS,
    context: int = CONTEXT,
    sequences: int = SEQUENCES,
    progress: Callable[[float], None] | None = None,
    saved: Path | None = None,
) -> AsyncIterator[LlamaEngine]:
    """An engine over the GGUF file at `path`, loaded in its worker thread; `progress` receives 0..1 from that thread.
    Primed prefixes are kept in the folder `saved`, where there is one.

    Raises NotReady when the library or the file is missing, or the file's hash is not `sha256`.
    """

    def load() -> tuple[LlamacppSession, ModelIdentity]:
        loaded = Library(library)
        hear = progress or (lambda _: None)
        found = file_hash(path, lambda share: hear(share / 2))
        if sha256 is not None and found != sha256:
            raise NotReady(f"{path.name} is not the expected model: its hash differs.", next_step="Install it again.")
        identity = ModelIdentity(engine="llamacpp", model=name or path.stem, sha256=found, library=loaded.label)
        model = Model(loaded, path, lambda share: hear((1 + share) / 2))
        cache = Context(model, threads=threads, cells=context, sequences=sequences)
        made_by = (found, loaded.label, loaded.system, f"{cache.lanes} lanes")
        prefixes = SavedPrefixes(saved, made_by, model.vocabulary) if saved is not None else None
        return LlamacppSession(cache, prefixes), identity

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
    """SHA-256 of a model file. The installer's note beside it is trusted while size and time of change agree; otherwise
    the file is read, and `progress` receives 0..1.

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
            continue  # not an installer's note
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            progress(min(1.0, file.tell() / shown.st_size))
    return digest.hexdigest()
