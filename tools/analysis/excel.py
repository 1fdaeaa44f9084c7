"""Excel files, read in a process of its own with bounded memory and time.

A workbook of a few kilobytes may unpack to gigabytes, or name a cell in the last row and column, for which the reader
makes room for all cells before it.
"""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl

MEMORY = 2 << 30
"""Bytes that reading one file may take, at most half of the machine's."""
SECONDS = 120
_UNREADABLE = 1


def read_excel(path: Path) -> pl.DataFrame:
    """The first sheet of a workbook. Raises ValueError with why it cannot be read."""
    memory = min(MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    # A program may have no guard around its main module, which multiprocessing would run again.
    done = subprocess.run(  # noqa: S603 - this interpreter, and the path of a file
        [sys.executable, "-m", "tools.analysis.excel", str(path.absolute()), str(memory), str(SECONDS)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
        capture_output=True,
        check=False,
    )
    if done.returncode == 0:
        return pl.read_ipc_stream(io.BytesIO(done.stdout))
    said = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode == _UNREADABLE and said:
        raise ValueError(said[-1])
    limit = f"{SECONDS} seconds" if done.returncode == -signal.SIGXCPU else f"{memory / 1e9:.1f} GB of memory"
    raise ValueError(f"it would take more than {limit}, by what it unpacks to or by a cell far from the others.")


def _bound(memory: int, seconds: int) -> None:
    """Bound this process: an allocation beyond so many bytes fails, and ends it alone, as does so much work."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _main(path: str, memory: str, seconds: str) -> int:
    """Write the sheet to standard output as an Arrow stream, or a line to standard error; both are pipes."""
    from fastexcel import FastExcelError

    _bound(int(memory), int(seconds))
    try:
        frame = pl.read_excel(path)
    except (FastExcelError, pl.exceptions.PolarsError, OSError, ValueError) as error:
        sys.stderr.write(str(error).splitlines()[0] if str(error) else type(error).__name__)
        return _UNREADABLE
    with open(1, "wb", closefd=False) as pipe:
        frame.write_ipc_stream(pipe)
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
