"""A walk along a run's chain as it is stored, record by record. Reads no table itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from storage.canonical import digest
from storage.chain import GENESIS, link
from storage.records import RecordKind, RunIdentity
from storage.schema import from_us


@dataclass(slots=True)
class ChainWalk:
    """Place on a run's chain: `seq` is the number of the record expected next, `head` the hash of the one before it,
    `ended` is True behind the run's end."""

    seq: int = 0
    head: str = GENESIS
    ended: bool = False

    def step(self, row: Row[Any]) -> list[str]:
        """Go past a row of `records`; returns its faults, each the end of a sentence about it."""
        faults = list(self._faults(row))
        # Continue from the stored values, so that one fault is reported once and not for every record behind it.
        self.seq, self.head, self.ended = row.seq + 1, row.hash, row.kind == RecordKind.END
        return faults

    def _faults(self, row: Row[Any]) -> Iterator[str]:
        # After a gap the link cannot match anyway, so only the gap is reported.
        if row.seq != self.seq:
            missing = f"record {self.seq} is" if row.seq == self.seq + 1 else f"records {self.seq}-{row.seq - 1} are"
            yield f"comes after a gap: {missing} missing"
        elif row.prev != self.head:
            yield "does not link to the record before it"
        if self.ended:
            yield "comes after the end of the run"
        if not _sound(row):
            yield "does not match its hash"


def _sound(row: Row[Any]) -> bool:
    try:
        made = link(row.run_id, row.seq, row.kind, row.key, from_us(row.at), row.body, row.prev)
    except (TypeError, ArithmeticError, UnicodeError):
        return False
    return made == str(row.hash)


def seal(identity: str, manifest: str, started_at: int) -> str:
    """Digest that reveals a change to a run's own row; the arguments are the columns."""
    return digest({"identity": identity, "manifest": manifest, "started_at": started_at})


def seal_faults(row: Row[Any]) -> Iterator[str]:
    """Faults of a row of `runs` that its seal and id show, each the end of a sentence about the run."""
    try:
        known = RunIdentity(**json.loads(row.identity)).id == row.id
    except (ValueError, TypeError):
        known = False
    if not known:
        yield "has an identity that does not give its id"
    if seal(row.identity, row.manifest, row.started_at) != row.seal:
        yield "has a manifest, identity or start that was altered"
