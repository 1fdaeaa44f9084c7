"""`edgeclaw sweep`: one answer, however many processes work on it and whichever of them die."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Edgeclaw, command

pytest.importorskip("optuna", reason="the extra `research` is not installed")
pytestmark = pytest.mark.usefixtures("sample")

SPACE = """
strategy: threshold
parameters:
  low: {from: "0.40", to: "0.48", step: "0.01"}
  high: ["0.53", "0.56", "0.60", "0.65"]
"""


@pytest.fixture
def space(tmp_path: Path) -> Path:
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    return file


def swept(edgeclaw: Edgeclaw, space: Path, home: Path, *more: str) -> Any:
    done = edgeclaw("sweep", str(space), "--trials", "24", "--json", *more, at=home)
    assert done.code == 0, done.err
    return done.json


def children(pid: int) -> list[str]:
    """The processes that a process has begun; none where this is not Linux."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [child for file in files for child in file.read_text().split()]


def test_one_process_and_two_find_the_same(edgeclaw: Edgeclaw, space: Path, tmp_path: Path) -> None:
    alone = swept(edgeclaw, space, tmp_path / "one", "--workers", "1")
    assert alone == swept(edgeclaw, space, tmp_path / "two", "--workers", "2")
    assert (alone["markets"], alone["held_out"], alone["size"]) == (14, 4, 36)
    means = [sum(t["profits"]) for t in alone["tried"]]
    assert means == sorted(means, reverse=True)
    assert 0 <= alone["overfitting"] <= 1
    assert alone["opened"] is None


def test_a_sweep_that_is_killed_goes_on_and_tries_nothing_twice(
    edgeclaw: Edgeclaw, space: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    line, env = command(home, "sweep", str(space), "--trials", "24", "--workers", "2")
    with subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(lambda: complete(home) >= 5)
        workers = children(process.pid)
        process.kill()
    assert len(workers) > 1 or sys.platform != "linux"
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    before = complete(home)
    assert 5 <= before < 24
    assert swept(edgeclaw, space, home) == swept(edgeclaw, space, tmp_path / "other", "--workers", "1")
    assert complete(home) == 24


def test_markets_that_were_kept_back_are_counted_as_seen_once_looked_at(
    edgeclaw: Edgeclaw, space: Path, home: Path
) -> None:
    looked = [swept(edgeclaw, space, home, "--open-holdout")["opened"] for _ in range(2)]
    assert [o["times"] for o in looked] == [1, 2]
    assert looked[0]["per_market"] == looked[1]["per_market"]
    said = edgeclaw("sweep", str(space), "--trials", "24", "--open-holdout")
    assert "opened 3 times, so no longer out of sample" in said.out
    other = edgeclaw("sweep", str(space), "--trials", "3", "--seed", "1", "--open-holdout", "--json")
    assert other.json["opened"]["times"] == 4  # the markets are the same, whatever the sweep


def test_a_cluster_that_loses_a_worker_half_way_finds_the_same(edgeclaw: Edgeclaw, space: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    with cluster(tmp_path / "scheduler.json") as (address, workers):
        line, env = command(tmp_path / "dask", "sweep", str(space), "--trials", "24", "--scheduler", address, "--json")
        with subprocess.Popen(line, env=env, stdout=subprocess.PIPE, text=True) as process:
            until(lambda: complete(tmp_path / "dask") >= 5)
            workers[0].kill()
            told, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert json.loads(told) == swept(edgeclaw, space, tmp_path / "one", "--workers", "1")


@contextmanager
def cluster(file: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers on loopback."""
    place = ("--scheduler-file", str(file), "--no-dashboard")
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *place]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", *place]
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> None:
        started.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    try:
        start(*scheduler)
        until(file.exists)
        for number in range(2):
            start(*worker, "--local-directory", str(file.parent / f"worker{number}"))
        yield json.loads(file.read_text())["address"], started[1:]
    finally:
        for process in started:
            process.kill()
            process.wait()


def complete(home: Path) -> int:
    """Number of stored trials. Read past Optuna, which would make the tables beside the sweep."""
    try:
        with closing(sqlite3.connect(f"file:{home / 'sweeps.db'}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0])
    except sqlite3.OperationalError:  # they are being made
        return 0


def until(true: Any, seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////nowhere/x.db", "postgresql://me:hunter2@127.0.0.1:1/x"])
def test_a_database_that_cannot_be_opened_is_one_sentence_without_its_password(
    edgeclaw: Edgeclaw, space: Path, url: str
) -> None:
    done = edgeclaw("sweep", str(space), "--storage", url)
    assert done.code == 2
    assert "cannot be opened" in done.err
    assert "hunter2" not in done.err and "Traceback" not in done.err
