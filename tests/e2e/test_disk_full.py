"""A full disk under a whole run: one plain sentence, exit 4, and what was recorded is still there afterwards."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Edgeclaw

pytestmark = [pytest.mark.sample, pytest.mark.usefixtures("sample")]
RUN = ("run", "--feed", "sample", "--engine", "scripted", "--cycles", "12", "--json")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("this machine does not let us mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk: Path, edgeclaw: Edgeclaw) -> None:
    full = edgeclaw(*RUN, at=small_disk)
    assert full.code == 4 and "full" in full.err and "Traceback" not in full.err
    kept = len(edgeclaw("log", "list", "--json", at=small_disk).json)
    assert 0 < kept < 12
    assert edgeclaw("log", "verify", "--json", at=small_disk).json == []
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    resumed = edgeclaw(*RUN, at=small_disk)
    assert resumed.code == 0 and resumed.json["compared"] >= kept
    assert len(edgeclaw("log", "list", "--json", at=small_disk).json) == 12
