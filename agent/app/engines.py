"""Inference engines as configured, and the meter of their energy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from agent.app.settings import mlc_child, server_settings
from agent.config.paths import home
from agent.config.schema import Config, EdgeConfig
from agent.decision import prompts
from agent.decision.budget import Electricity
from agent.host import power as energy
from agent.install import model_file, openvino_notes
from agent.llm.engine import Engine
from agent.llm.llamacpp.context import THREADS
from agent.llm.llamacpp.engine import CONTEXT, SEQUENCES, LlamaEngine
from agent.llm.llamacpp.engine import open_llamacpp as llama_opened
from agent.llm.openvino.engine import open_openvino as openvino_opened
from agent.llm.openvino.network import Precision
from agent.llm.scripted import ScriptedEngine
from agent.llm.together import SharedEngine
from market.clock import monotonic
from market.errors import Misconfigured, NotReady

Progress = Callable[[float], None] | None
MOMENT = 2.0
"""Seconds of loading before anything is said about how far it is."""
_ROOM = 2
"""How many times the usual cache there is at most, for several conversations at a time."""


@asynccontextmanager
async def open_engine(config: Config, progress: Progress = None) -> AsyncIterator[Engine]:
    """The engine a configuration names, primed with what every prompt begins with. `progress` hears how much of an
    embedded model is loaded, 0..1, from another thread. Raises Misconfigured where it shall take several conversations
    at a time and cannot."""
    async with unprimed(config.edge, progress) as engine:
        # The common prefix is evaluated once; every question continues from it.
        await engine.prime(prompts.static())
        yield engine if config.edge.batched_markets == 1 else _in_batches(engine, config.edge.batched_markets)


def talking(engine: Engine) -> SharedEngine | None:
    """The engine, where it takes several conversations at a time."""
    return engine if isinstance(engine, SharedEngine) else None


def _in_batches(engine: Engine, at_once: int) -> SharedEngine:
    if isinstance(engine, LlamaEngine | ScriptedEngine):
        return SharedEngine(engine, at_once)
    raise Misconfigured(
        f"{engine.identity.engine} does not support batched markets.", next_step="Set edge.batched_markets to 1."
    )


def unprimed(edge: EdgeConfig, progress: Progress = None) -> AbstractAsyncContextManager[Engine]:
    """The engine that a configuration names, for other prompts than those of decisions."""
    openers = {"scripted": _scripted, "openvino": _openvino, "openai": _openai, "mlc": _mlc}
    return openers[edge.runtime](edge) if edge.runtime in openers else _llamacpp(edge, progress)


@asynccontextmanager
async def _scripted(edge: EdgeConfig) -> AsyncIterator[Engine]:
    """Chance with a seed, for dry runs."""
    yield ScriptedEngine(seed=edge.seed)


def _llamacpp(edge: EdgeConfig, progress: Progress) -> AbstractAsyncContextManager[Engine]:
    """The embedded default, on a known model or the owner's own file."""
    path, known = model_file(home(), edge.model)
    return llama_opened(
        path,
        name=edge.model,
        sha256=edge.model_sha256 or known or None,
        library=edge.library,
        threads=edge.threads or THREADS,
        context=CONTEXT * min(edge.batched_markets, _ROOM),
        sequences=SEQUENCES * min(edge.batched_markets, _ROOM),
        progress=progress,
        saved=home() / "prefixes",
    )


def _openvino(edge: EdgeConfig) -> AbstractAsyncContextManager[Engine]:
    """The accelerator engine on a model that the installer has checked."""
    path, known = model_file(home(), edge.model)
    return openvino_opened(
        path,
        name=edge.model,
        sha256=edge.model_sha256 or known or None,
        library=edge.library,
        precision=Precision(edge.precision),
        threads=edge.threads or THREADS,
        notes=openvino_notes(home()),
    )


@asynccontextmanager
async def _openai(edge: EdgeConfig) -> AsyncIterator[Engine]:
    """A server of the owner's own network."""
    _must_have_client()
    from agent.llm.openai.opening import open_server

    async with open_server(server_settings(edge.remote)) as engine:
        yield engine


@asynccontextmanager
async def _mlc(edge: EdgeConfig) -> AsyncIterator[Engine]:
    """A child process of ours where edge.mlc.python is set, else a server that runs by itself."""
    _must_have_client()
    from agent.llm.mlc.engine import attached, started

    remote = server_settings(edge.remote)
    own = edge.mlc.python != ""
    async with started(remote, mlc_child(edge.mlc)) if own else attached(remote) as engine:
        yield engine


def server_command(config: Config) -> tuple[str, ...]:
    """Command line of the model server that the section edge.mlc describes. Raises Misconfigured where something of it
    is not set."""
    return mlc_child(config.edge.mlc).argv(config.edge.remote.parallel)


def _must_have_client() -> None:
    if find_spec("aiohttp") is None:
        raise NotReady(
            "The client for model servers is not installed.", next_step="Run: pip install 'edgeclaw[remote]'"
        )


@asynccontextmanager
async def open_model(
    path: Path | None, name: str, *, threads: int, context: int, sequences: int
) -> AsyncIterator[Engine]:
    """A model file by itself, nothing primed, for experiments; the scripted engine where there is no file."""
    if path is None:
        yield ScriptedEngine(name=name)
        return
    async with llama_opened(path, name=name, threads=threads, context=context, sequences=sequences) as engine:
        yield engine


@asynccontextmanager
async def open_electricity(
    config: Config, sources: energy.Sources = energy.BOX
) -> AsyncIterator[tuple[Electricity | None, energy.MeterChoice]]:
    """Meter and price of the energy of inference, None where tokens are counted; and the choice of the meter."""
    cost = config.edge.cost
    async with energy.found(cost.basis, cost.watts, sources) as seen:
        yield Electricity(seen.meter, cost.kwh_price) if seen.meter is not None else None, seen


def slow_load(stage: Callable[[str], None]) -> Callable[[float], None]:
    """Says in quarters how far a load is that takes longer than a moment; hears of it from another thread."""
    loop, began, told = asyncio.get_running_loop(), monotonic(), 0

    def progress(share: float) -> None:
        nonlocal told
        quarter = int(share * 4)
        if told < quarter < 4 and monotonic() - began > MOMENT:
            told = quarter
            with suppress(RuntimeError):  # nobody listens any more
                loop.call_soon_threadsafe(stage, f"loading the model ({quarter * 25} %)")

    return progress
