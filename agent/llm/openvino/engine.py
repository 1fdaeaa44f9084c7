"""Adapter of the `Engine` port to OpenVINO in this process.

It owns no policy: the questions and the use of the answers are the caller's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from agent.llm.engine import Capabilities, EngineHealth, ModelIdentity
from agent.llm.inprocess import InProcessEngine
from agent.llm.llamacpp.context import THREADS
from agent.llm.llamacpp.engine import file_hash
from agent.llm.openvino import acceptance
from agent.llm.openvino.network import Precision, loaded
from agent.llm.openvino.session import OpenvinoSession
from agent.llm.openvino.tree import CacheRequest
from agent.llm.openvino.vocabulary import TokenVocabulary
from market.errors import NotReady


class OpenVinoEngine(InProcessEngine[CacheRequest]):
    """Implements the port. The same calls after `forget` give the same bits; the last bits of an answer depend on what
    is evaluated together, so the engine is not `bit_exact`."""

    _session: OpenvinoSession

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(score=True, bit_exact=False, abort=True, context=self._session.tree.room)

    def _health(self) -> EngineHealth:
        network = self._session.network
        if network.broken:
            return EngineHealth(ok=False, detail=network.broken)
        facts = {
            "library": self.identity.library,
            "device": network.device,
            "precision": network.precision,
            "threads": str(network.threads),
            "context": str(self._session.tree.room),
        }
        return EngineHealth(ok=True, detail=f"{self.identity.model} is loaded in OpenVINO", facts=facts)


@asynccontextmanager
async def open_openvino(
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

    def load() -> tuple[OpenvinoSession, ModelIdentity]:
        found = file_hash(path)
        if sha256 is not None and found != sha256:
            raise NotReady(f"{path.name} is not the expected model: its hash differs.", next_step="Install it again.")
        if notes is not None:
            acceptance.require(notes, found, precision)
        identity = ModelIdentity(
            engine="openvino", model=name or path.stem, sha256=found, library=f"{acceptance.LIBRARY} {precision}"
        )
        return OpenvinoSession(loaded(path, precision, threads), TokenVocabulary(path, library), context), identity

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
