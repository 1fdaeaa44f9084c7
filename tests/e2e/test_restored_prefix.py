"""A run whose static prompt came from disk writes the same records as one that evaluated it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import command
from tests.engines import model_file

pytestmark = [pytest.mark.sample, pytest.mark.model, pytest.mark.usefixtures("sample")]


def records(home: Path) -> list[tuple[object, ...]]:
    """Run two cycles in a new database."""
    line, env = command(home, "run", "--feed", "sample", "--cycles", "2", "--json")
    ran = subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["appended"] > 0
    database = home / "edgeclaw.db"
    with sqlite3.connect(database) as connection:
        found = connection.execute("SELECT run_id, seq, kind, key, hash FROM records ORDER BY run_id, seq").fetchall()
    for path in home.glob("edgeclaw.db*"):
        path.unlink()
    return found


def test_records_do_not_depend_on_where_the_prefix_came_from(tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(model_file().parent.resolve())
    evaluated = records(tmp_path)
    (saved,) = (tmp_path / "prefixes").iterdir()
    written = saved.stat().st_ino
    restored = records(tmp_path)
    assert restored == evaluated
    assert [path.stat().st_ino for path in (tmp_path / "prefixes").iterdir()] == [written]  # not evaluated again
