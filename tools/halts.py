"""Kill switch: one file. While it exists no order is sent, in this run or the next; the operator removes it.

Anyone with write access to the file can stop trading: an operator's `touch`, a command, a signal, the program itself
once a limit is reached. Its content is for display; its existence is what counts. Knows no orders.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from market.errors import StoreUnavailable
from market.types import Micro

log = logging.getLogger(__name__)
_SWITCH, _HISTORY, _SPARE = "halted", "halts.jsonl", "halted.spare"
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class Halted:
    """Reason of a halt, its author and time. `at` names the halt: two in a row are two, and a resume lifts the one that
    it names. A file without content of its own has the time of its appearance."""

    reason: str
    by: str = ""
    at: str = ""

    def sentence(self) -> str:
        told = f" by {self.by}" if self.by else ""
        return f"Trading is halted{told}{f' since {self.at}' if self.at else ''}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Resumed:
    """A resume at an instant. `margin` are micro-dollars of further loss that a limit, which had been reached, allows
    before it halts again; None without any. With `reset`, losses before it count no more towards any limit."""

    at: datetime
    margin: Micro | None = None
    reset: bool = False


class KillSwitch:
    """Kill switch of one home folder."""

    def __init__(self, home: Path) -> None:
        self.file = home / _SWITCH
        self._history = home / _HISTORY
        self._spare = home / _SPARE

    def read(self) -> Halted | None:
        """The halt in force; None while trading is allowed. An unreadable switch counts as thrown."""
        try:
            text = self.file.read_bytes()[:_LONGEST].decode("utf-8", "replace")
            appeared = _stamp(datetime.fromtimestamp(self.file.stat().st_ctime, UTC))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            return Halted(f"{self.file} cannot be read ({error.strerror})")
        try:
            entry = json.loads(text)
            return Halted(str(entry["reason"]), str(entry["by"]), str(entry["at"]) or appeared)
        except (ValueError, KeyError, TypeError):
            reason = " ".join(text.split()) or f"the halt file {self.file} was created without a reason"
            return Halted(reason, at=appeared)

    def prepare(self) -> None:
        """Create a spare switch that only has to be renamed when the disk is full. Raises StoreUnavailable."""
        entry = Halted("something had to be written and could not be, as on a full disk", "edgeclaw")
        try:
            self._spare.parent.mkdir(parents=True, exist_ok=True)
            _durably(self._spare, json.dumps(asdict(entry)) + "\n", "w")
        except OSError as error:
            raise StoreUnavailable(f"{self._spare} cannot be written ({error.strerror}).") from None

    def throw(self, reason: str, by: str, at: datetime) -> Halted:
        """Halt trading; an existing halt keeps its reason. `at` is wall-clock time, whatever the clock of the run.
        Raises StoreUnavailable if it cannot be written: the caller must then stop by itself."""
        standing = self.read()
        if standing is not None:
            return standing
        made = Halted(reason, by, _stamp(at))
        # Written aside and renamed: a reader sees the whole halt or none.
        draft = self.file.with_name(f".{_SWITCH}.{os.getpid()}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            _durably(draft, json.dumps(asdict(made)) + "\n", "w")
            draft.replace(self.file)
            self._record("halt", reason, by, at)
        except OSError as error:
            if self._thrown_without_room():
                return self.read() or made
            raise StoreUnavailable(
                f"The halt cannot be written to {self.file} ({error.strerror}).", next_step="Stop the service by hand."
            ) from None
        return made

    def _thrown_without_room(self) -> bool:
        """Rename the spare file: a rename works where a full disk lets none be created."""
        with suppress(OSError):
            if not self.file.exists():
                self._spare.replace(self.file)
        return self.file.exists()

    def release(
        self,
        reason: str,
        by: str,
        at: datetime,
        *,
        named: str | None = None,
        margin: Micro | None = None,
        reset: bool = False,
    ) -> Halted | None:
        """Allow trading again; return the halt that was in force, or None. With `named` only the halt of that time is
        lifted: a command that arrives late or twice must not lift one that came after it was sent. `margin` and `reset`
        are kept for the loss limits, as `Resumed` describes them. Raises ValueError if another halt is in force,
        StoreUnavailable."""
        standing = self.read()
        if standing is None:
            return None
        if named is not None and named.strip() != standing.at:
            raise ValueError(f"The given halt is not the one in force. {standing.sentence()}")
        try:
            # Before the file goes: whoever goes on trading must find the margin on record.
            self._record("resume", reason, by, at, margin=margin, reset=reset)
            self.file.unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"The halt at {self.file} cannot be taken away ({error.strerror}).", next_step="Check who owns it."
            ) from None
        return standing

    def resumes(self) -> list[Resumed]:
        """All resumes, oldest first. An entry of 0.2.0 or before says nothing about limits: it has reset them all."""
        return sorted((_resumed(e) for e in self.history() if e.get("what") == "resume"), key=lambda r: r.at)

    def history(self) -> list[dict[str, Any]]:
        """All halts and resumes by this program, oldest first; damaged lines are left out."""
        try:
            lines = self._history.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("%s cannot be read (%s): what was resumed is not known", self._history, error.strerror)
            return []
        found = []
        for line in lines:
            try:
                entry = json.loads(line)
                aware = datetime.fromisoformat(str(entry["at"])).tzinfo is not None
            except (ValueError, KeyError, TypeError) as error:
                log.warning("a line of %s is damaged and left out: %s", self._history, error)
                continue
            if aware:
                found.append(entry)
        return found

    def _record(self, what: str, reason: str, by: str, at: datetime, **more: int | None) -> None:
        entry = {"what": what, "reason": reason, "by": by, "at": _stamp(at), **more}
        _durably(self._history, json.dumps(entry) + "\n", "a")


def _resumed(entry: Mapping[str, Any]) -> Resumed:
    margin = entry.get("margin")
    known = isinstance(margin, int) and not isinstance(margin, bool) and margin > 0
    return Resumed(datetime.fromisoformat(str(entry["at"])), margin if known else None, bool(entry.get("reset", True)))


def _stamp(at: datetime) -> str:
    """To the microsecond: two halts in one second are two."""
    return at.isoformat(timespec="microseconds")


def _durably(path: Path, text: str, mode: str) -> None:
    with path.open(mode, encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
