"""The lock file: the wheels and model files of an installation, each with its SHA-256.

It is JSON, made once, kept by the owner, and used unchanged from then on; `edgeclaw` never changes its entry of a
wheel or a file. An offline folder carries one as its manifest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from agent.install import notes
from market.errors import DataInvalid
from storage.canonical import digest

FORMAT = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Wheel:
    name: str
    version: str
    file: str
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


@dataclass(frozen=True, slots=True)
class Runtime:
    """The engine's wheels: the pair first (mlc-llm, mlc-ai), then their requirements. `python` and `platform` are those
    they were locked for."""

    build: str
    python: str
    platform: str
    wheels: tuple[Wheel, ...]

    @property
    def versions(self) -> dict[str, str]:
        """Versions of MLC-LLM and of its compiler, TVM."""
        return {"mlc": self.wheels[0].version, "tvm": self.wheels[1].version}

    @property
    def digest(self) -> str:
        return digest(sorted(wheel.requirement for wheel in self.wheels))


@dataclass(frozen=True, slots=True)
class ModelFile:
    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Weights:
    """A model repository at one revision."""

    revision: str
    files: tuple[ModelFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        return digest(sorted([file.path, file.sha256] for file in self.files))


@dataclass(frozen=True, slots=True)
class Lock:
    """Content of a lock file; `models` by the name of their repository."""

    runtime: Runtime | None
    models: Mapping[str, Weights]

    def with_model(self, repository: str, weights: Weights) -> Lock:
        return replace(self, models={**self.models, repository: weights})


def read_lock(path: Path) -> Lock:
    """The lock in a file, empty where there is no file. Raises DataInvalid for an invalid one."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Lock(None, {})
    except (OSError, ValueError) as error:
        raise DataInvalid(f"{path} cannot be read as a lock file.", next_step="Mend or delete it.") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise DataInvalid(f"{path} is not a lock file of format {FORMAT}.", next_step="Delete it to make a new one.")
    try:
        lock = TypeAdapter(Lock).validate_python({"runtime": body.get("runtime"), "models": body.get("models", {})})
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise DataInvalid(f"{path} is damaged at {where}.", next_step="Mend or delete it.") from None
    if (wrong := _wrong(lock)) is not None:
        raise DataInvalid(f"{path} holds {wrong}.", next_step="Do not use it.")
    return lock


def write_lock(path: Path, lock: Lock) -> None:
    body: dict[str, Any] = {
        "format": FORMAT,
        "runtime": asdict(lock.runtime) if lock.runtime else None,
        "models": {name: asdict(weights) for name, weights in sorted(lock.models.items())},
    }
    notes.write_note(path, body)


def inside(path: str) -> bool:
    """True if a relative path from an untrusted source stays inside its folder."""
    pure = PurePosixPath(path)
    return bool(path) and not pure.is_absolute() and ".." not in pure.parts and "\\" not in path and "\0" not in path


def _wrong(lock: Lock) -> str | None:
    wheels = lock.runtime.wheels if lock.runtime else ()
    files = [file for weights in lock.models.values() for file in weights.files]
    if lock.runtime and len(wheels) < 2:
        return "no pair of wheels"
    for path in [*(wheel.file for wheel in wheels), *(file.path for file in files)]:
        if not inside(path):
            return f"the path {path!r}, which leads elsewhere"
    if any(file.size < 0 for file in files):
        return "a size below zero"
    for wheel in wheels:
        if not re.fullmatch(r"[\w.-]+", wheel.name) or not re.fullmatch(r"[\w.+!-]+", wheel.version):
            return f"a wheel without a proper name ({wheel.name!r} {wheel.version!r})"
    if not all(_DIGEST.fullmatch(sha256) for sha256 in [*(w.sha256 for w in wheels), *(f.sha256 for f in files)]):
        return "a hash that is none"
    return None
