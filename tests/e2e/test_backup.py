"""A copy of the database, taken while the agent writes, is whole; put back, it is what it was."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Edgeclaw, command
from tests.e2e.test_bad_input import one_sentence

pytestmark = pytest.mark.usefixtures("sample")
RUN = ("run", "--feed", "sample", "--engine", "scripted", "--json")


def test_a_copy_of_a_run_that_goes_on_is_whole_and_the_run_goes_on_from_it(
    edgeclaw: Edgeclaw, home: Path, tmp_path: Path
) -> None:
    line, environment = command(home, *RUN)
    copies: list[dict[str, Any]] = []
    with subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            to = tmp_path / f"copy-{len(copies)}"
            ran = edgeclaw("data", "backup", str(to), "--json")
            if ran.code == 0:
                copies.append(ran.json)
            else:
                assert ran.code in (2, 3), ran.err  # before there is a database, or before it has its tables
            time.sleep(0.2)
    assert process.returncode == 0 and copies, "no copy was taken in time"
    head = _head(home / "edgeclaw.db")
    assert [c["records"] for c in copies] == sorted(c["records"] for c in copies)
    middle = copies[len(copies) // 2]
    back = edgeclaw("data", "restore", middle["file"], "--json")
    assert back.code == 0, back.err
    assert _head(Path(back.json["kept"])) == head, "what was there is kept"
    verified = edgeclaw("log", "verify")
    assert verified.code == 0, verified.out
    assert edgeclaw(*RUN).code == 0
    assert _head(home / "edgeclaw.db") == head, "the run went on to the same end"


def _head(database: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(database)) as connection:
        found: list[tuple[str, str]] = connection.execute("SELECT id, head FROM runs ORDER BY id").fetchall()
    return found


def test_what_cannot_be_copied_or_put_back_is_one_sentence(
    edgeclaw: Edgeclaw, edgeclaw_process: Edgeclaw, home: Path, tmp_path: Path
) -> None:
    one_sentence(edgeclaw("data", "backup", str(tmp_path / "copy")), 3, "no database")
    assert edgeclaw(*RUN, "--cycles", "3").code == 0
    copy = tmp_path / "copy"
    assert edgeclaw("data", "backup", str(copy)).code == 0
    one_sentence(edgeclaw("data", "backup", str(copy)), 2, "there already")
    one_sentence(edgeclaw("data", "backup", str(tmp_path / "none" / "copy")), 2, "no folder")
    assert not list(tmp_path.glob("*.part"))
    one_sentence(edgeclaw("data", "restore", str(tmp_path / "other")), 3, "no copy")
    damaged = tmp_path / "damaged"
    content = bytearray(copy.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    damaged.write_bytes(content)
    before = _head(home / "edgeclaw.db")
    refused = edgeclaw("data", "restore", str(damaged), "--json")
    assert refused.code != 0 and json.loads(refused.err)["error"]
    (tmp_path / "text").write_text("no database at all")
    one_sentence(edgeclaw("data", "restore", str(tmp_path / "text")), 2, "no copy of our database")
    with closing(sqlite3.connect(home / "edgeclaw.db")) as user:
        user.execute("SELECT count(*) FROM runs").fetchone()
        one_sentence(edgeclaw_process("data", "restore", str(copy)), 3, "Stop it first")
    assert _head(home / "edgeclaw.db") == before
