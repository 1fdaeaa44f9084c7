"""The hash chain: content of a link, and the difference between two versions of a record. Touches no database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime

from storage.canonical import Json, canonical
from storage.records import Record

GENESIS = "0" * 64
"""Predecessor hash of a run's first record."""


def link(run_id: str, seq: int, kind: str, key: str, at: datetime, text: str, prev: str) -> str:
    """SHA-256 of the canonical text of all arguments; `text` is the body's own canonical text, used as it is."""
    # "at" and "body" sort before the other keys, so the text equals that of one object with all of them, and the body,
    # by far the longest part, is not encoded a second time.
    rest = canonical({"key": key, "kind": kind, "prev": prev, "run": run_id, "seq": seq})
    whole = f'{{"at":{canonical(at)},"body":{text},{rest[1:]}'
    return hashlib.sha256(whole.encode()).hexdigest()


def text_hash(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def difference(recorded: Record, computed: Record) -> str | None:
    """First difference of a recomputed record, as a sentence; None if all is equal."""
    for name in ("kind", "key", "at"):
        was, now = getattr(recorded, name), getattr(computed, name)
        if was != now:
            return f"{name} was {was}, is now {now}"
    inside = _first(recorded.body, computed.body, "body")
    if inside is None and recorded.hash != computed.hash:
        return "its hash or its link to the record before it has been altered"
    return inside


def _first(was: Json, now: Json, where: str) -> str | None:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        pairs = [(f"{where}.{k}", was.get(k, _ABSENT), now.get(k, _ABSENT)) for k in sorted({*was, *now})]
    elif isinstance(was, list) and isinstance(now, list):
        if len(was) != len(now):
            return f"{where} had {len(was)} entries, has now {len(now)}"
        pairs = [(f"{where}[{i}]", a, b) for i, (a, b) in enumerate(zip(was, now, strict=True))]
    else:
        return None if canonical(was) == canonical(now) else f"{where} was {_short(was)}, is now {_short(now)}"
    return next((found for w, a, b in pairs if (found := _first(a, b, w)) is not None), None)


_ABSENT = "(absent)"


def _short(value: Json) -> str:
    text = canonical(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def manifest(hashes: Iterable[str]) -> str:
    """One hash over the set of objects attached to a record, so that a removal is detected."""
    return text_hash(",".join(sorted(set(hashes))))
