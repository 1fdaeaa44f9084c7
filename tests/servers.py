"""Engines over model servers: the tests' own server in each of its dialects, and the real llama-server as a process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from socket import socket

from agent.llm.mlc.engine import attached
from agent.llm.openai.engine import OpenAIEngine
from agent.llm.openai.opening import open_server
from agent.llm.scripted import Rule
from tests.engines import model_file
from tests.model_server import CONTEXT, ModelServer
from tests.values import server_settings

_LLAMA = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.hostnames, p.port = sys.argv[1], ["127.0.0.1"], int(sys.argv[2])
p.n_ctx, p.n_parallel, p.cpuparams.n_threads = 2048, 1, 1
p.model_alias = ["smollm2-135m"]
p.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = xllamacpp.Server(p)
time.sleep(600)
"""


def free_port() -> int:
    with socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@asynccontextmanager
async def served(
    flavour: str, folder: Path, rule: Rule | None = None, *, timeout: float = 5.0, cooldown: float = 30.0
) -> AsyncIterator[tuple[ModelServer, OpenAIEngine]]:
    """The test model server and an engine over it; `folder` holds the tiny model's tokenizer, for those that need
    it."""
    async with ModelServer(flavour, rule).serving() as server:
        own = folder if flavour in ("mlc", "plain") else None
        remote = server_settings(
            server.base, tokenizer=own, context=CONTEXT if own else 0, timeout=timeout, cooldown=cooldown
        )
        async with (attached if flavour == "mlc" else open_server)(remote) as engine:
            yield server, engine


@contextmanager
def llama_server() -> Iterator[str]:
    """Address of a real llama-server (the library's own) over the small model; ends with the block."""
    port = free_port()
    line = [sys.executable, "-c", _LLAMA, str(model_file()), str(port)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            base = f"http://127.0.0.1:{port}"
            _wait_for(f"{base}/health", child)
            yield base
        finally:
            child.kill()


def _wait_for(url: str, child: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - a loopback address
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
        assert child.poll() is None, "llama-server ended"
    raise AssertionError(f"{url} does not answer")


async def until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for a condition to hold."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for belongs to another process
            await asyncio.sleep(0.02)
