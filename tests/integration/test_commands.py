"""Programs that are started are stopped again: at the end of their time, of their block, and of this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.install.command import answer, python, run, serving

STUBBORN = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1]).write_text(f"{os.getpid()} {child.pid}\\n")
time.sleep(60)
"""


def gone(pid: int) -> bool:
    """True where a process has ended; one that nobody has reaped yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True


def eventually(true: Callable[[], bool]) -> bool:
    for _ in range(200):
        if true():
            return True
        time.sleep(0.05)
    return False


def pids(file: Path) -> list[int]:
    assert eventually(lambda: file.exists() and file.read_text().endswith("\n"))
    return [int(word) for word in file.read_text().split()]


def test_what_a_program_says_and_how_it_ended() -> None:
    ended = run(
        python(sys.executable, "-c", "import sys; print(1); print('bad\\n', file=sys.stderr); sys.exit(3)"), timeout=30
    )
    assert (ended.code, ended.out, ended.said) == (3, "1\n", "bad")
    seen = run(
        python(sys.executable, "-c", "import os; print(os.environ['A'], 'PATH' in os.environ)", env={"A": "b"}),
        timeout=30,
    )
    assert seen.out == "b True\n"
    assert str(python("py", "-c", "a b", env={"A": "b c"})) == "A='b c' py -c 'a b'"
    assert answer(["no-such-program-anywhere"]) is None
    assert answer([sys.executable, "-c", "raise SystemExit(1)"]) is None


def test_a_program_is_stopped_when_its_time_is_up() -> None:
    ended = run(python(sys.executable, "-c", "import time; time.sleep(60)"), timeout=0.5)
    assert ended.code is None and "still running" in ended.said


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_server_ends_with_its_block_and_takes_its_children_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.install.command.GRACE", 0.3)
    with serving(python(sys.executable, "-c", STUBBORN, str(tmp_path / "pids")), tmp_path / "log") as process:
        server, child = pids(tmp_path / "pids")
        assert server == process.pid and not gone(server) and not gone(child)
    assert eventually(lambda: gone(server) and gone(child))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_a_killed_installer_leaves_no_server_behind(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from agent.install.command import python, serving\n"
        "with serving(python(sys.executable, '-c', sys.argv[1], sys.argv[2]), Path(sys.argv[3])):\n"
        "    time.sleep(60)\n"
    )
    words = [STUBBORN, str(tmp_path / "pids"), str(tmp_path / "log")]
    installer = subprocess.Popen([sys.executable, "-c", code, *words])
    server, child = pids(tmp_path / "pids")
    installer.send_signal(signal.SIGKILL)
    installer.wait(10)
    try:
        assert eventually(lambda: gone(server))
    finally:
        os.kill(child, signal.SIGKILL)
