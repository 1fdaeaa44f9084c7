"""The lock file: what is written is read, and nothing that could lead elsewhere is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.install import lock as locks
from agent.install.lock import Lock, ModelFile, Runtime, Weights, Wheel
from market.errors import DataInvalid

PAIR = tuple(Wheel(f"mlc-{part}-nightly-cu128", "0.20.dev1", f"{part}.whl", part[0] * 64) for part in ("aa", "bb"))
LOCK = Lock(
    Runtime("cu128", "3.11", "linux-x86_64", PAIR), {"o/n": Weights("c" * 40, (ModelFile("a/b.bin", 7, "d" * 64),))}
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    locks.write_lock(tmp_path / "new" / "lock.json", LOCK)
    assert locks.read_lock(tmp_path / "new" / "lock.json") == LOCK
    assert locks.read_lock(tmp_path / "none.json") == Lock(None, {})
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["lock.json"]


def test_digests_see_every_change() -> None:
    runtime, weights = LOCK.runtime, LOCK.models["o/n"]
    assert runtime is not None
    assert replace(runtime, wheels=PAIR[::-1]).digest == runtime.digest
    for changed in (replace(PAIR[0], version="1"), replace(PAIR[0], sha256="e" * 64)):
        assert replace(runtime, wheels=(changed, PAIR[1])).digest != runtime.digest
    assert Weights(weights.revision, (ModelFile("a/b.bin", 7, "e" * 64),)).digest != weights.digest


def changed(keys: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """The lock's JSON with one value changed."""
    body: Any = {
        "format": 1,
        "runtime": {"build": "b", "python": "3", "platform": "p", "wheels": [
            {"name": wheel.name, "version": wheel.version, "file": wheel.file, "sha256": wheel.sha256} for wheel in PAIR
        ]},
        "models": {"o/n": {"revision": "r", "files": [{"path": "a", "size": 1, "sha256": "d" * 64}]}},
    }  # fmt: skip
    at = body
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    found: dict[str, Any] = body
    return found


@pytest.mark.parametrize(
    ("keys", "value", "named"),
    [
        (("format",), 2, "format 1"),
        (("runtime", "wheels", 0, "file"), "../../bin/sh", "leads elsewhere"),
        (("runtime", "wheels", 0, "file"), "/etc/passwd", "leads elsewhere"),
        (("runtime", "wheels", 0, "name"), "x --index-url http://evil", "proper name"),
        (("runtime", "wheels", 0, "version"), "1\n-r other", "proper name"),
        (("runtime", "wheels", 0, "sha256"), "abc", "a hash that is none"),
        (("runtime", "wheels"), [], "no pair"),
        (("models", "o/n", "files", 0, "path"), "..", "leads elsewhere"),
        (("models", "o/n", "files", 0, "size"), "many", "models.o/n.files.0.size"),
        (("models", "o/n", "files", 0, "size"), -1, "size"),
        (("models",), 3, "models"),
    ],
)
def test_a_lock_that_leads_elsewhere_is_refused(
    tmp_path: Path, keys: tuple[str | int, ...], value: object, named: str
) -> None:
    file = tmp_path / "lock.json"
    file.write_text(json.dumps(changed(("format",), 1)))
    assert locks.read_lock(file).runtime is not None
    file.write_text(json.dumps(changed(keys, value)))
    with pytest.raises(DataInvalid, match=named) as refused:
        locks.read_lock(file)
    assert refused.value.next_step


def test_what_is_no_lock_is_refused(tmp_path: Path) -> None:
    for text in ("{", "[]", "\xff"):
        (tmp_path / "lock.json").write_text(text, encoding="latin-1")
        with pytest.raises(DataInvalid):
            locks.read_lock(tmp_path / "lock.json")
