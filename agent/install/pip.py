"""pip, called as a program, with its failures as one sentence."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from agent.install.command import Command, Ended, python, run
from agent.install.lock import Wheel
from market.errors import DataInvalid, NotReady

_QUIET = ("--quiet", "--disable-pip-version-check", "--no-input")
_TIMEOUT = 4 * 3600.0
_NETWORK = "Check the network, or give --offline a folder that holds its wheel."


@dataclass(frozen=True, slots=True)
class Pip:
    """pip of one interpreter. Offline it reads neither its configuration nor any index."""

    interpreter: Path
    offline: bool = False

    def command(self, verb: str, *words: str) -> Command:
        """A pip command that takes wheels only, since nothing may be built on a trading machine."""
        cut_off = ("--no-index",) if self.offline else ()
        env = {"PIP_CONFIG_FILE": os.devnull} if self.offline else {}
        isolated = ("--isolated",) if self.offline else ()
        return python(
            self.interpreter, "-m", "pip", *isolated, verb, "--only-binary", ":all:", *cut_off, *words, env=env
        )

    def call(self, command: Command, what: str, next_step: str = _NETWORK) -> Ended:
        """Run a command. Raises NotReady with pip's last line about `what`; OSError where the disk is full."""
        words = command.words
        at = words.index("pip") + 1
        ended = run(Command((*words[:at], *_QUIET, *words[at:]), command.env), timeout=_TIMEOUT)
        if ended.code == 0:
            return ended
        if "No space left" in ended.err:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if "No module named pip" in ended.err:
            raise NotReady("This Python has no pip.", next_step="Run: python -m ensurepip")
        if "DO NOT MATCH THE HASHES" in ended.err:
            raise NotReady(
                f"{what}: a wheel is not the one that is locked, its hash differs.", next_step="Do not use it."
            )
        raise NotReady(f"{what}: {ended.said.removeprefix('ERROR: ').rstrip('.')}.", next_step=next_step)


def resolved(report: str) -> tuple[Wheel, ...]:
    """The wheels in pip's installation report. Raises DataInvalid for a report that cannot be read."""
    try:
        return tuple(_wheels(json.loads(report)["install"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataInvalid("pip's report cannot be read.", next_step="Upgrade pip in that Python.") from error


def _wheels(items: Sequence[dict[str, dict[str, object]]]) -> Iterator[Wheel]:
    for item in items:
        download, about = item["download_info"], item["metadata"]
        archive = download["archive_info"]
        if not isinstance(archive, dict):
            raise TypeError("no archive")
        file = unquote(urlsplit(str(download["url"])).path).rpartition("/")[2]
        yield Wheel(
            name=str(about["name"]), version=str(about["version"]), file=file, sha256=str(archive["hashes"]["sha256"])
        )
