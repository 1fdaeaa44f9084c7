"""MLC-LLM's server behind the OpenAI client, with workarounds for its faults (docs/engines.md).

Either it runs as a service of its own and `ServerSettings.url` says where, or it is started here as a child process
from files on this machine: then the files are hashed, and each new child must answer as the first one did.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.llm.mlc.process import Patience, Supervisor
from agent.llm.openai.breaker import Breaker
from agent.llm.openai.dialects import MLC
from agent.llm.openai.engine import ALIVE_WITHIN, OpenAIEngine
from agent.llm.openai.opening import ServerSettings, introduced, prove_choice, served, wired
from agent.llm.openai.tokens import find_tokens
from market.errors import EngineUnavailable, Misconfigured, NotReady
from storage.canonical import Json

_DEVICE = re.compile(r"(cuda|rocm|metal|vulkan|opencl)(:\d+)?")
_INSTALL = "Run: edgeclaw install edge-runtime --engine mlc"
_LOCAL_CONTEXT = 8192
"""Context of the mode `local` in tokens, whatever the model supports."""
_PASSED_ON = (
    *("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "XDG_RUNTIME_DIR", "MLC_LLM_HOME"),
    *("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "VK_ICD_FILENAMES"),
)
_WEIGHTS = ("ndarray-cache.json", "tensor-cache.json")
"""Names of the list of weight files with their hashes, by release."""


@dataclass(frozen=True, slots=True)
class Child:
    """Settings of our own server process: `python` has mlc_llm, `model_dir` the converted weights, `model_lib` was
    compiled for `device`. `overrides` are the server's own, empty for those that the number of parallel questions
    needs."""

    python: Path
    model_dir: Path
    model_lib: Path
    device: str
    port: int
    mode: str
    overrides: str
    patience: Patience = field(default_factory=Patience)

    def argv(self, parallel: int) -> tuple[str, ...]:
        """The command line. It allows one sequence more than are asked at once: with fewer the server undercounts
        tokens."""
        ample = f"max_num_sequence={parallel + 1};prefix_cache_max_num_recycling_seqs=16"
        return (
            *(str(self.python), "-m", "mlc_llm", "serve", str(self.model_dir)),
            *("--model-lib", str(self.model_lib), "--device", self.device, "--mode", self.mode),
            *("--host", "127.0.0.1", "--port", str(self.port), "--overrides", self.overrides or ample),
            # The server reports the tokens it evaluated (usage.extra) only in debug mode.
            "--enable-debug",
        )


def environment() -> dict[str, str]:
    """The child's whole environment: no key, no token of ours; compilation and downloads are off."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return kept | {"MLC_JIT_POLICY": "OFF", "MLC_DOWNLOAD_CACHE_POLICY": "OFF", "PYTHONUNBUFFERED": "1"}


@asynccontextmanager
async def attached(remote: ServerSettings) -> AsyncIterator[OpenAIEngine]:
    """An engine over a server that runs as a service of its own. Errors as `openai.opening.opened`."""
    if remote.tokenizer is None:
        raise Misconfigured(
            "mlc_llm serve does not count tokens.", next_step="Set edge.remote.tokenizer to the model's folder."
        )
    if not remote.context:
        remote = replace(remote, context=min(_LOCAL_CONTEXT, await asyncio.to_thread(_window, remote.tokenizer)))
    async with wired(remote) as wire:
        # /metrics goes through the engine itself; /v1/models still answers 200 when the engine thread is dead.
        if not await wire.alive(MLC.alive, ALIVE_WITHIN):
            raise EngineUnavailable(
                f"No mlc_llm serve answers /metrics at {wire.where.short}.", next_step="Start it, or restart it."
            )
        dialect, entry = await introduced(wire, remote.model)
        _must_be_mlc(dialect.name)
        tokens = await find_tokens(wire, MLC, entry["id"], remote.tokenizer)
        engine = OpenAIEngine(wire, tokens, served(remote, MLC, entry, tokens), Breaker(cooldown=remote.cooldown))
        await prove_choice(engine)
        yield engine


@asynccontextmanager
async def started(remote: ServerSettings, child: Child) -> AsyncIterator[OpenAIEngine]:
    """An engine over a server that is started here, supervised, replaced when it fails, and ended with us.

    Raises Misconfigured for a device that is not named, NotReady where files are missing or the server does
    not come up.
    """
    _check_device(child.device)
    files, context = await asyncio.to_thread(_described, child)
    await _must_be_free(child.port)
    remote = replace(
        remote,
        url=f"http://127.0.0.1:{child.port}",
        allow_remote=False,
        model="",
        tokenizer=child.model_dir,
        context=remote.context or context,
    )
    async with wired(remote) as wire:

        async def alive() -> bool:
            return await wire.alive(MLC.alive, ALIVE_WITHIN)

        supervisor = Supervisor(child.argv(remote.parallel), environment(), alive, child.patience)
        try:
            await supervisor.start()
            dialect, entry = await introduced(wire, "")
            _must_be_mlc(dialect.name)
            tokens = await find_tokens(wire, MLC, entry["id"], remote.tokenizer)
            about = served(remote, MLC, entry, tokens, files)
            about = replace(about, identity=replace(about.identity, model=child.model_dir.name))
            engine = OpenAIEngine(
                wire,
                tokens,
                about,
                Breaker(cooldown=remote.cooldown),
                watcher=lambda: supervisor.trouble,
                worried=supervisor.look,
            )
            await prove_choice(engine)
            golden = await engine.warm()

            async def ready() -> None:
                # A library or weights replaced on disk would answer under the old run's identity.
                if await engine.warm() != golden:
                    raise EngineUnavailable("The model server answers differently than before its restart.")

            supervisor.keep(ready)
            yield engine
        finally:
            await supervisor.stop()


def _check_device(device: str) -> None:
    # Without a usable card MLC's `auto` silently falls back to the processor.
    if not _DEVICE.fullmatch(device):
        cpu = device.startswith("cpu")
        raise Misconfigured(
            "MLC-LLM on the processor is far too slow to trade with."
            if cpu
            else f"edge.mlc.device {device!r} names no accelerator, and MLC-LLM would use the processor unasked.",
            next_step="Set it to cuda:0, rocm:0, vulkan:0 or metal:0, or use edge.runtime: llamacpp.",
        )


def _must_be_mlc(name: str) -> None:
    if name != MLC.name:
        raise NotReady(
            f"The server is {name}, not mlc_llm serve.", next_step="Use edge.runtime: openai for other servers."
        )


async def _must_be_free(port: int) -> None:
    """Raise NotReady if the port is taken: an old server would be mistaken for the child."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return
    writer.close()
    await writer.wait_closed()
    raise NotReady(f"Something already listens on port {port}.", next_step="End it, or set edge.mlc.port.")


def _described(child: Child) -> tuple[Mapping[str, Json], int]:
    """Hashes of everything that determines the model, and the tokens of context that it is served with."""
    weights = next((child.model_dir / n for n in _WEIGHTS if (child.model_dir / n).is_file()), None)
    config = child.model_dir / "mlc-chat-config.json"
    for path in (child.python, child.model_lib, config):
        if not path.is_file():
            raise NotReady(f"{path} does not exist.", next_step=_INSTALL)
    if weights is None:
        raise NotReady(f"{child.model_dir} holds no list of weights.", next_step=_INSTALL)
    hashes: dict[str, Json] = {"overrides": child.overrides, "mode": child.mode, "device": child.device}
    for name, path in (("library", child.model_lib), ("config", config), ("weights", weights)):
        with path.open("rb") as file:
            hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    if not (window := _window(child.model_dir)):
        raise NotReady(f"{config} does not say how long a prompt may be.", next_step=_INSTALL)
    return hashes, min(window, _LOCAL_CONTEXT) if child.mode == "local" else window


def _window(folder: Path) -> int:
    """The context of the model in this folder in tokens, 0 where it is not stated."""
    try:
        size = json.loads((folder / "mlc-chat-config.json").read_bytes())["context_window_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return size if isinstance(size, int) and size > 0 else 0
