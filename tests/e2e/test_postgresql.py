"""The same on PostgreSQL: a server of our own, a run, a run that goes on, a backtest, a sweep."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from sqlalchemy import create_engine

from tests.e2e.conftest import Edgeclaw
from tests.integration.test_lease import check_fenced, check_killed, check_one_at_a_time
from tests.running import Agent, until, venue

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = [
    pytest.mark.skipif(not BINARIES, reason="there is no PostgreSQL server here: apt-get install postgresql"),
    pytest.mark.skipif(find_spec("psycopg") is None, reason="the extra postgresql is not installed"),
    pytest.mark.usefixtures("sample"),
]
RUN = ("run", "--feed", "sample", "--engine", "scripted", "--json", "--cycles")


def _as_somebody(*call: str) -> None:
    """The server refuses to run as root."""
    who = ("runuser", "-u", "nobody", "--") if getpass.getuser() == "root" else ()
    subprocess.run([*who, *call], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that trusts everybody on this machine, without a database."""
    place, tools = Path(mkdtemp(prefix="edgeclaw-pg-")), BINARIES[-1].parent
    place.chmod(0o777)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    control = (str(tools / "pg_ctl"), "-D", str(place / "data"), "-w")
    try:
        _as_somebody(str(tools / "initdb"), "-D", str(place / "data"), "-A", "trust", "-U", "edgeclaw")
        options = f"-k {place} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off"
        _as_somebody(*control, "-o", options, "-l", str(place / "log"), "start")
        try:
            yield f"postgresql+psycopg://edgeclaw@127.0.0.1:{port}"
        finally:
            _as_somebody(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def database(server: str, request: pytest.FixtureRequest) -> str:
    """The URL of a new, empty database."""
    name = f"d{os.getpid()}_{abs(hash(request.node.name)) % 10**8}"
    maker = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with maker.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    maker.dispose()
    return f"{server}/{name}"


def settings(tmp_path: Path, database: str) -> tuple[str, str]:
    file = tmp_path / "settings.yaml"
    file.write_text(f"storage: {{url: '{database}'}}\n")
    return "--config", str(file)


def test_a_run_is_the_same_run_and_is_compared_and_replayed(edgeclaw: Edgeclaw, tmp_path: Path, database: str) -> None:
    there, ours = settings(tmp_path, database), edgeclaw(*RUN, "6")
    first = edgeclaw(*RUN, "6", *there)
    assert first.code == 0, first.err
    again = edgeclaw(*RUN, "6", *there)
    assert first.json["run_id"] == ours.json["run_id"]
    assert (again.json["appended"], again.json["compared"]) == (0, first.json["appended"])
    names = ("funnel", "traders", "tokens", "ladder")
    assert _without_time([first.json[n] for n in names]) == _without_time([ours.json[n] for n in names])
    for verb in (("log", "verify"), ("log", "replay", "--all")):
        done = edgeclaw(*verb, *there)
        assert done.code == 0, done.err + done.out


def _without_time(value: Any) -> Any:
    """Durations and what follows from them differ from run to run."""
    if isinstance(value, dict):
        return {k: _without_time(v) for k, v in value.items() if k not in ("milliseconds", "dollars")}
    return [_without_time(v) for v in value] if isinstance(value, list) else value


def test_a_backtest_of_the_agent_takes_its_answers_from_there(
    edgeclaw: Edgeclaw, tmp_path: Path, database: str
) -> None:
    words = ("backtest", "--trade-with", "agent", "--trade-with", "threshold", "--engine", "scripted", "--cycles", "4")
    there = settings(tmp_path, database)
    first, again = (edgeclaw(*words, "--json", *there) for _ in range(2))
    assert first.code == 0, first.err
    assert again.json["report"] == first.json["report"] == edgeclaw(*words, "--json").json["report"]
    assert again.json["recalled_tokens"] > 0 == first.json["recalled_tokens"]


def test_a_sweep_finds_the_same_and_goes_on_there(edgeclaw_process: Edgeclaw, tmp_path: Path, database: str) -> None:
    """In processes of their own: Optuna closes its connections when one ends."""
    if find_spec("optuna") is None:
        pytest.skip("the extra research is not installed")
    space = tmp_path / "space.yaml"
    space.write_text("strategy: threshold\nparameters: {low: {from: '0.40', to: '0.48', step: '0.01'}}\n")
    words = ("sweep", str(space), "--json", "--workers", "2", "--trials")
    ours = edgeclaw_process(*words, "6")
    begun = edgeclaw_process(*words, "3", "--storage", database)
    assert begun.code == 0, begun.err
    done = edgeclaw_process(*words, "6", "--storage", database)
    assert done.code == 0, done.err
    assert done.json == ours.json


@pytest.mark.parametrize("check", [check_one_at_a_time, check_killed, check_fenced])
def test_two_boxes_cannot_trade_the_same_account(database: str, check: Callable[[str], None]) -> None:
    check(database)


def test_two_agents_trade_one_account_in_turn(database: str, tmp_path: Path) -> None:
    """Two boxes and one database: the second one waits outside, and takes over where the first was killed."""
    with venue() as (url, _):
        config = {"storage": {"url": database}}
        first, second = (Agent(url, tmp_path / name, config=config) for name in ("first", "second"))
        with first.running() as process:
            until("it trades", lambda: len(first.happened("order/placed")) > 3)
            second.home.mkdir()
            shutil.copy(first.home / "play.key", second.home / "play.key")
            code, said = second.ended()
            assert code == 3 and "Another agent trades" in said and "Traceback" not in said
            process.kill()
            process.wait()
        code, said = second.ended("--cycles", "1")
        assert code == 0, said[-800:]
        verified = second.call("log", "verify", "--json", "--config", str(second.home / "config.yaml"))
        assert verified.returncode == 0 and verified.stdout.strip() == "[]", verified.stdout + verified.stderr
        assert second.happened("order/placed"), "it went on trading"
