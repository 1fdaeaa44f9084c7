"""`mlc_llm serve` as a child process: started, watched, killed when it no longer answers, started again.

The child is a process of its own that takes the same command line and has the same ways of dying.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.config.load import load_config
from agent.doctor import Check, examine
from agent.llm.mlc.engine import Child, attached, environment, started
from agent.llm.mlc.process import Patience, Supervisor
from agent.llm.openai.engine import OpenAIEngine
from market.errors import EngineUnavailable, Misconfigured, NotReady
from tests.engines import STATIC, questions
from tests.model_server import Fault, ModelServer
from tests.servers import free_port, until
from tests.tiny_model import write_model
from tests.values import server_settings

ROOT = Path(__file__).parents[2]
QUICK = Patience(start=30, poll=0.05, watch=0.2, stop=0.5, back_off=0.05, misses=1, crashes=50, window=60)


def shim(path: Path, more: str = "") -> Path:
    """Stand-in for the Python of MLC's environment: the same arguments, another server."""
    part = path.with_suffix(".part")
    part.write_text(f'#!/bin/sh\ncd {ROOT}\nexec {sys.executable} -m tests.model_server "$@" {more}\n')
    part.chmod(0o755)
    part.replace(path)
    return path


@pytest.fixture
def child(tmp_path: Path) -> Child:
    model = write_model(tmp_path / "tiny-q4f16_1-MLC")
    return Child(
        shim(tmp_path / "python"),
        model,
        model / "tiny.so",
        "cuda:0",
        free_port(),
        mode="local",
        overrides="",
        patience=QUICK,
    )


@asynccontextmanager
async def running(child: Child) -> AsyncIterator[tuple[OpenAIEngine, int]]:
    async with started(server_settings("", timeout=2.0, cooldown=0.0), child) as engine:
        await engine.prime(STATIC)
        yield engine, await pid_on(child.port)


async def pid_on(port: int) -> int:
    """Process that listens there, as the system knows it."""

    def find() -> int:
        inodes = {
            line.split()[9]
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
        }
        for process in Path("/proc").glob("[0-9]*/fd/*"):
            try:
                if (link := os.readlink(process)).startswith("socket:[") and link[8:-1] in inodes:
                    return int(process.parts[2])
            except OSError:
                continue
        raise AssertionError(f"nobody listens on {port}")

    return await asyncio.to_thread(find)


async def break_(child: Child, name: str) -> None:
    def post() -> None:
        body = json.dumps({"name": name}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{child.port}/fault", body)
        with suppress(OSError):  # told to end, it does not answer
            urllib.request.urlopen(request, timeout=5).close()  # noqa: S310 - a loopback address

    await asyncio.to_thread(post)


def of_process(pid: int, what: str) -> bytes:
    return Path(f"/proc/{pid}/{what}").read_bytes()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


async def answers_again(engine: OpenAIEngine) -> tuple[tuple[float, ...], ...]:
    async with asyncio.timeout(30):
        while True:
            try:
                return (await engine.classify(questions(2))).probabilities
            except EngineUnavailable:
                await asyncio.sleep(0.05)


def test_it_serves_says_who_it_is_and_leaves_nothing_behind(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hush")

    async def scope() -> int:
        async with running(child) as (engine, pid):
            assert (await engine.classify(questions(2))).usage.prompt > 0
            told = of_process(pid, "environ")
            assert b"hush" not in told and b"MLC_JIT_POLICY=OFF" in told and b"MLC_DOWNLOAD_CACHE_POLICY=OFF" in told
            line = of_process(pid, "cmdline").split(b"\0")
            assert b"--enable-debug" in line and line[line.index(b"--device") + 1] == b"cuda:0"
            assert line[line.index(b"--host") + 1] == b"127.0.0.1"
            assert b"max_num_sequence=5" in line[line.index(b"--overrides") + 1]
            identity = engine.identity
            assert (identity.engine, identity.model) == (
                "mlc",
                "tiny-q4f16_1-MLC",
            ) and "by its files" in identity.library
            assert (await engine.health()).ok
        return pid

    assert gone(asyncio.run(scope()))


def test_the_doctor_asks_the_server_that_runs_and_starts_one_where_none_does(
    child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECLAW_HOME", str(tmp_path / "home"))
    paths = {"python": child.python, "model_dir": child.model_dir, "model_lib": child.model_lib}
    keys = {f"edge.mlc.{name}": str(path) for name, path in paths.items()}
    config = load_config(
        None, {"edge.runtime": "mlc", "edge.mlc.device": "cuda:0", "edge.mlc.port": child.port, **keys}
    )

    async def engine_check() -> Check:
        (found,) = [check for check in await examine(config) if check.name == "engine"]
        return found

    async def scope() -> None:
        alone = await engine_check()
        assert alone.ok and "answers with" in alone.found and "by its files" in alone.found
        async with running(child) as (_, pid):
            beside = await engine_check()
            assert beside.ok and "describes it" in beside.found
            assert await pid_on(child.port) == pid

    asyncio.run(scope())


def test_other_files_are_another_model(child: Child) -> None:
    async def identity() -> str:
        async with running(child) as (engine, _):
            return engine.identity.sha256

    first = asyncio.run(identity())
    assert asyncio.run(identity()) == first
    child.model_lib.write_bytes(b"\x7fELF, compiled again")
    assert asyncio.run(identity()) != first


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_child_whose_engine_died_is_killed_and_replaced(child: Child, stubborn: bool, tmp_path: Path) -> None:
    """It still lists its models and no longer hears SIGTERM."""
    shim(child.python, "--stubborn" if stubborn else "")

    async def scope() -> None:
        async with running(child) as (engine, first):
            before = (await engine.classify(questions(2))).probabilities
            await break_(child, "dead")
            with pytest.raises(EngineUnavailable):
                await engine.classify(questions(3))
            assert await answers_again(engine) == before
            second = await pid_on(child.port)
            assert second != first and gone(first)
            assert (await engine.health()).ok

    asyncio.run(scope())


def test_a_child_that_ends_is_replaced_and_calls_meanwhile_are_refused_at_once(child: Child) -> None:
    async def scope() -> None:
        async with running(child) as (engine, first):
            before = (await engine.classify(questions(2))).probabilities
            os.kill(first, signal.SIGKILL)
            with pytest.raises(EngineUnavailable):
                await engine.classify(questions(2))
            assert await answers_again(engine) == before
            warm = engine.tokens_needed([questions(1)[0].prompt])
            assert (await engine.classify(questions(1))).usage.charged <= warm, "the static prefix was evaluated again"

    asyncio.run(scope())


def test_a_child_that_comes_back_as_another_model_is_not_asked(child: Child) -> None:
    async def scope() -> None:
        async with running(child) as (engine, _):
            shim(child.python, "--salt other")
            await break_(child, "exit")
            await until(lambda: "differently" in engine._watcher())
            with pytest.raises(EngineUnavailable, match="not called"):
                await engine.classify(questions(1))
            assert "differently" in (await engine.health()).detail
            shim(child.python)
            assert await answers_again(engine)

    asyncio.run(scope())


def test_a_crash_loop_is_left_alone(tmp_path: Path) -> None:
    """The child says it is alive and dies at once, again and again."""
    count = tmp_path / "count"
    line = ("/bin/sh", "-c", f"echo x >> {count}; echo out of memory; exit 7")
    patience = replace(QUICK, crashes=3, back_off=0.01, window=30)

    async def scope() -> None:
        came_up = True

        async def alive() -> bool:
            return came_up

        supervisor = Supervisor(line, {}, alive, patience)
        await supervisor.start()

        async def ready() -> None:
            raise AssertionError("never reached: no later child comes up")

        came_up = False
        supervisor.keep(ready)
        await until(lambda: "3 times" in supervisor.trouble)
        started_so_far = count.read_text().count("x")
        await asyncio.sleep(0.3)
        assert count.read_text().count("x") == started_so_far == 3
        assert "out of memory" in supervisor.trouble
        await supervisor.stop()

    asyncio.run(scope())


def test_a_child_that_does_not_come_up_says_its_last_words(child: Child, tmp_path: Path) -> None:
    child.python.write_text("#!/bin/sh\necho Cannot find the model library >&2\nexit 1\n")

    async def scope(one: Child) -> None:
        async with started(server_settings(""), one):
            pass

    with pytest.raises(NotReady, match="Cannot find the model library"):
        asyncio.run(scope(child))
    child.python.write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(NotReady, match="did not come up within"):
        asyncio.run(scope(replace(child, patience=replace(QUICK, start=0.3))))


@pytest.mark.parametrize("device", ["auto", "", "cpu", "cpu:0", "gpu"])
def test_a_device_is_named_or_nothing_is_started(device: str, child: Child) -> None:
    async def scope() -> None:
        async with started(server_settings(""), replace(child, device=device)):
            pass

    with pytest.raises(Misconfigured, match="processor") as raised:
        asyncio.run(scope())
    assert "llamacpp" in raised.value.next_step


def test_what_is_missing_or_in_the_way_is_named(child: Child, tmp_path: Path) -> None:
    async def scope(one: Child) -> None:
        async with started(server_settings(""), one):
            pass

    async def occupied() -> None:
        async with ModelServer("mlc").serving(child.port):
            await scope(child)

    with pytest.raises(NotReady, match="already listens"):
        asyncio.run(occupied())
    with pytest.raises(NotReady, match="does not exist"):
        asyncio.run(scope(replace(child, model_lib=tmp_path / "none.so")))
    (child.model_dir / "ndarray-cache.json").unlink()
    with pytest.raises(NotReady, match="list of weights"):
        asyncio.run(scope(child))


def test_a_server_that_runs_by_itself_must_be_mlc_and_alive(child: Child) -> None:
    async def scope(flavour: str, fault: Fault = Fault.NONE, **how: Any) -> None:
        async with ModelServer(flavour).serving() as server:
            server.fault = fault
            async with attached(server_settings(server.base, tokenizer=child.model_dir, context=2048, **how)):
                pass

    asyncio.run(scope("mlc"))
    with pytest.raises(EngineUnavailable, match="/metrics"):
        asyncio.run(scope("mlc", Fault.DEAD))
    with pytest.raises(EngineUnavailable, match="/metrics"):
        asyncio.run(scope("llamacpp"))


def test_the_environment_is_a_short_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_PASSWORD", "hush")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    told = environment()
    assert "PATH" in told and told["MLC_JIT_POLICY"] == "OFF"
    assert not {"WALLET_PASSWORD", "PYTHONPATH", "EDGECLAW_HOME"} & set(told)
