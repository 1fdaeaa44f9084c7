"""Long runs, started by `make soak`: many kills, and the whole of the recorded books."""

import os
import random
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Edgeclaw, command

pytestmark = [pytest.mark.soak, pytest.mark.sample, pytest.mark.usefixtures("sample")]
RUN = ("run", "--feed", "sample", "--engine", "scripted", "--json")
DATA = Path(__file__).parents[2].parent / "shared" / "data"
KILLS = 25


def chain(home: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(home / "edgeclaw.db") as connection:
        return connection.execute("SELECT run_id, seq, kind, key, hash FROM records ORDER BY run_id, seq").fetchall()


def test_killed_at_many_instants_the_run_ends_as_if_never_interrupted(
    home: Path, tmp_path: Path, edgeclaw: Edgeclaw
) -> None:
    whole = tmp_path / "whole"
    assert edgeclaw(*RUN, at=whole).code == 0
    home.mkdir()
    line, env = command(home, *RUN)
    chance = random.Random(20_261_123)
    for _ in range(KILLS):
        running = subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            running.wait(timeout=chance.uniform(0.5, 9.0))
        except subprocess.TimeoutExpired:
            os.kill(running.pid, signal.SIGKILL)
            running.wait()
    assert edgeclaw(*RUN).code == 0
    assert chain(home) == chain(whole)
    assert edgeclaw("log", "verify").code == 0
    assert edgeclaw("log", "replay", "--all").code == 0


@pytest.mark.skipif(not DATA.exists(), reason="the recorded books are not beside the checkout")
def test_the_recorded_five_minute_books_run_twice_to_the_same_end(edgeclaw: Edgeclaw) -> None:
    once = edgeclaw("run", "--engine", "scripted", "--feed", str(DATA), "--json").json
    again = edgeclaw("run", "--engine", "scripted", "--feed", str(DATA), "--json").json
    assert once["funnel"]["cycles"] == 161 and once["funnel"]["reasons"]["nothing_to_verify"] > 0
    assert next(rung for rung in once["ladder"] if rung["name"] == "+ search")["tokens"] > 0
    assert again["appended"] == 0 and again["compared"] == once["appended"]
    assert edgeclaw("log", "verify").code == 0
    assert edgeclaw("log", "replay", "--all").code == 0
