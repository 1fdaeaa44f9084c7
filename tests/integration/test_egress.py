"""Nothing leaves this machine but to the hosts that were named: asked at the socket, whatever library."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.api import EdgeAgent
from agent.app.live import run_live
from agent.app.live_plan import LivePlan
from agent.app.recorded import PaperPlan, run_paper
from agent.config.load import load_config, profile_for
from agent.host.egress import confined, embedded
from agent.trading.bus import LocalBus
from market.errors import EgressRefused, VenueUnavailable
from market.polymarket.hosts import Hosts

aiohttp = pytest.importorskip("aiohttp")

FAR = "192.0.2.1"
"""An address kept free for documentation: nothing can be there."""


@contextmanager
def listening() -> Iterator[int]:
    """A port on loopback that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def no_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are not asked of any network here: every one is at the far address."""

    def found(host: object, port: object, *_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (FAR, int(str(port or 0))))]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def test_loopback_is_open_and_everything_else_is_closed() -> None:
    with listening() as port, confined(()):
        socket.create_connection(("127.0.0.1", port), 1).close()
        for address in (FAR, "::ffff:192.0.2.1", "2001:db8::1"):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family) as made, pytest.raises(EgressRefused, match="may speak to"):
                made.connect((address, 443))
            with socket.socket(family) as made, pytest.raises(EgressRefused):
                made.connect_ex((address, 443))
            with socket.socket(family, socket.SOCK_DGRAM) as made, pytest.raises(EgressRefused):
                made.sendto(b"x", (address, 53))


def test_a_name_that_is_not_on_the_list_is_not_even_looked_up() -> None:
    with confined({"venue.example"}):
        for look in (socket.gethostbyname, lambda name: socket.getaddrinfo(name, 443)):
            with pytest.raises(EgressRefused, match=r"elsewhere\.example"):
                look("elsewhere.example")


def test_threads_are_held_too() -> None:
    heard: list[BaseException] = []

    def reach() -> None:
        try:
            socket.create_connection((FAR, 443), 1)
        except BaseException as error:
            heard.append(error)

    with confined(()):
        thread = threading.Thread(target=reach)
        thread.start()
        thread.join()
    assert isinstance(heard[0], EgressRefused)


def test_a_block_inside_another_takes_away_and_never_adds() -> None:
    with confined({"192.0.2.7"}), confined({"192.0.2.7", FAR}), pytest.raises(EgressRefused):
        socket.create_connection((FAR, 443), 0.05)
    with confined({FAR}), confined(()), pytest.raises(EgressRefused):
        socket.create_connection((FAR, 443), 0.05)


def test_work_in_a_hosts_process_is_held_and_the_host_is_not() -> None:
    resolver, tried = socket.getaddrinfo, list[str]()

    def reach(who: str) -> None:
        with socket.socket() as made:
            made.settimeout(0.01)
            try:
                made.connect((FAR, 443))
            except EgressRefused:
                tried.append(f"{who} refused")
            except OSError:
                tried.append(f"{who} tried")

    async def scenario() -> None:
        begun, over = asyncio.Event(), asyncio.Event()

        async def ours() -> None:
            with embedded(), confined(()):
                begun.set()
                reach("ours")
                await asyncio.to_thread(reach, "our thread")
                await asyncio.create_task(asyncio.to_thread(reach, "our task"))
                await over.wait()

        working = asyncio.create_task(ours())
        await begun.wait()
        await asyncio.sleep(0.2)
        reach("the host")
        await asyncio.to_thread(reach, "its thread")
        over.set()
        await working

    asyncio.run(scenario())
    assert tried == ["ours refused", "our thread refused", "our task refused", "the host tried", "its thread tried"]
    assert socket.getaddrinfo is resolver


def test_work_in_a_hosts_process_reaches_what_an_allowed_name_leads_to(no_lookups: None) -> None:
    with embedded(), confined({"venue.example"}), socket.socket() as made:
        made.settimeout(0.01)
        with pytest.raises(OSError, match=r".") as tried:
            made.connect((FAR, 443))
        with socket.socket() as other, pytest.raises(EgressRefused):
            other.connect(("192.0.2.7", 443))
    assert not isinstance(tried.value, EgressRefused)


def test_the_python_interface_confines_its_own_work_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, held = socket.getaddrinfo, list[bool]()

    async def done(*_: object) -> object:
        with confined(()):
            thread = threading.Thread(target=lambda: held.append(_refused()))
            thread.start()
            thread.join()
            held.append(_refused())
        return None

    monkeypatch.setattr("agent.goals.done", done)
    EdgeAgent(engine="scripted").run("how do the accounts stand")
    assert held == [False, True]
    assert socket.getaddrinfo is resolver


def _refused() -> bool:
    with socket.socket() as made:
        made.settimeout(0.01)
        try:
            made.connect((FAR, 443))
        except EgressRefused:
            return True
        except OSError:
            return False
    raise AssertionError("nobody is there")


@pytest.mark.parametrize("library", ["aiohttp", "urllib", "httpx"])
def test_no_library_that_is_used_gets_around_it(library: str) -> None:
    async def by_aiohttp() -> None:
        async with aiohttp.ClientSession() as session, session.get(f"http://{FAR}/"):
            pass

    def by_httpx() -> None:
        pytest.importorskip("httpx").get(f"http://{FAR}/", trust_env=False)

    def by_urllib() -> None:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{FAR}/", timeout=1)

    ways = {"aiohttp": lambda: asyncio.run(by_aiohttp()), "urllib": by_urllib, "httpx": by_httpx}
    with confined({"venue.example"}), pytest.raises(EgressRefused):
        ways[library]()


def test_what_is_on_the_list_may_be_tried() -> None:
    with confined({FAR}), socket.socket() as made:
        made.setblocking(False)
        assert made.connect_ex((FAR, 9)) != 0  # under way, or unreachable; not refused by us


@pytest.mark.usefixtures("no_lookups")
def test_an_address_is_open_once_an_allowed_name_was_found_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.host import egress

    monkeypatch.setattr(socket, "getaddrinfo", egress._GUARD.learning(socket.getaddrinfo))
    with confined({"venue.example"}), socket.socket() as made:
        made.setblocking(False)
        with pytest.raises(EgressRefused):
            made.connect_ex((FAR, 9))
        socket.getaddrinfo("venue.example", 443)
        assert made.connect_ex((FAR, 9)) != 0


# -- the modes


@pytest.fixture
def attempts() -> Iterator[list[str]]:
    """Every attempt to connect over IP in this process, seen before any guard."""
    seen: list[str] = []
    watching = [True]

    def hear(event: str, args: tuple[object, ...]) -> None:
        if watching[0] and event == "socket.connect":
            made, address = args
            if isinstance(made, socket.socket) and made.family in (socket.AF_INET, socket.AF_INET6):
                seen.append(str(address[0]))  # type: ignore[index]

    sys.addaudithook(hear)
    yield seen
    watching[0] = False


def asked(home: Path, **more: object) -> dict[str, object]:
    return {"edge.runtime": "scripted", "storage.url": f"sqlite:///{home / 'edgeclaw.db'}", **more}


def test_a_paper_run_opens_no_connection_at_all(tmp_path: Path, attempts: list[str]) -> None:
    pytest.importorskip("resolvedkit")
    config = load_config(None, asked(tmp_path), profile=profile_for("sample"))
    asyncio.run(run_paper(PaperPlan(config, "sample", None, 2), LocalBus()))
    assert attempts == []


def test_a_live_run_tries_only_the_hosts_of_the_venue(
    tmp_path: Path, attempts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a library was told of a proxy by the environment."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://{FAR}:3128")
    monkeypatch.setattr("agent.live.preflight._PATIENCE", 0.0)
    allowed = Hosts().names() | {"ws-live-v2.polymarket.com"}
    named: list[str] = []
    real = socket.getaddrinfo

    def found(host: object, *args: object, **kwargs: object) -> object:
        named.append(str(host))
        raise socket.gaierror(socket.EAI_NONAME, "no such name here")

    monkeypatch.setattr(socket, "getaddrinfo", found)
    key = tmp_path / "key"
    key.write_text("11" * 32)
    key.chmod(0o600)
    config = load_config(None, asked(tmp_path, **{"venue.key_file": str(key)}))
    with pytest.raises(VenueUnavailable):
        asyncio.run(run_live(LivePlan(config, accept_the_risk=True), LocalBus()))
    assert real is not found
    assert named
    assert set(named) <= allowed
    assert FAR not in attempts


def test_a_paper_run_works_in_an_empty_network_namespace(tmp_path: Path) -> None:
    """No interface is up there, not even loopback: whatever needs a network fails."""
    pytest.importorskip("resolvedkit")
    alone = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a network namespace")
    script = (
        "import socket, sys\n"
        "try:\n    socket.create_connection(('127.0.0.1', 9), 1)\n"
        "except OSError as error:\n    assert error.errno == 101, error\n"
        "from agent.cli import main\nmain()\n"
    )
    verb = ["run", "--feed", "sample", "--engine", "scripted", "--cycles", "2", "--json"]
    done = subprocess.run(
        [*alone, sys.executable, "-c", script, *verb],
        env={**os.environ, "EDGECLAW_HOME": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert '"decisions"' in done.stdout
