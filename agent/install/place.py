"""Layout of an MLC-LLM installation on disk, and the choices made for it."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.install.accelerator import Accelerator
from agent.install.command import Command, python
from market.errors import Misconfigured

INDEX = "https://mlc.ai/wheels"
HUB = "https://huggingface.co"
AGAIN = "Run: edgeclaw install edge-runtime --engine mlc"
NOTES = {"environment": "edgeclaw.json", "weights": "weights.json", "record": "install.json", "golden": "golden.json"}


@dataclass(frozen=True, slots=True)
class Compiled:
    """Compile settings of a library, in MLC-LLM's terms."""

    quantization: str
    overrides: str = "context_window_size=8192;prefill_chunk_size=2048;max_batch_size=16"


@dataclass(frozen=True, slots=True)
class Repository:
    """A model in MLC's format on a model hub. `bos` is prepended to every text: completions do not add one."""

    name: str
    repository: str
    compiled: Compiled
    bos: str = ""
    revision: str = "main"


REPOSITORIES = {
    model.name: model
    for model in (
        Repository(
            name="llama3.2-3b",
            repository="mlc-ai/Llama-3.2-3B-Instruct-q4f16_1-MLC",
            compiled=Compiled("q4f16_1"),
            bos="<|begin_of_text|>",
        ),
    )
}


def repository(model: str) -> Repository:
    """A known model, or any repository "OWNER/NAME" whose name ends in its quantisation, as MLC's own do.

    Raises Misconfigured for anything else.
    """
    if (known := REPOSITORIES.get(model)) is not None:
        return known
    if (m := re.fullmatch(r"[\w.-]+/([\w.-]+?-((?:q|e)\d\w*)-MLC)", model)) and ".." not in model:
        return Repository(m[1], model, Compiled(m[2]))
    names = ", ".join(sorted(REPOSITORIES))
    message = f"{model} is no model that MLC-LLM can be given."
    raise Misconfigured(message, next_step=f"Known models: {names}; or give OWNER/NAME-q4f16_1-MLC of the model hub.")


@dataclass(frozen=True, slots=True)
class Installation:
    """One installation: folders under `home`, the device, the model, and its sources.

    `offline` is a folder with manifest.json, wheels/ and model/; `pins` are exact versions of the pair, or empty.
    """

    home: Path
    accelerator: Accelerator
    model: Repository
    lock: Path
    offline: Path | None = None
    pins: tuple[str, ...] = ()
    interpreter: Path = Path(sys.executable)
    index: str = INDEX
    hub: str = HUB

    @property
    def root(self) -> Path:
        return self.home / "mlc"

    @property
    def venv(self) -> Path:
        return self.root / "venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def wheels(self) -> Path:
        return self.offline / "wheels" if self.offline else self.root / "wheels"

    @property
    def folder(self) -> Path:
        """Folder of everything that belongs to the model."""
        return self.root / self.model.name

    @property
    def weights(self) -> Path:
        return self.folder / "model"

    @property
    def library(self) -> Path:
        ending = "dylib" if self.accelerator.kind == "metal" else "so"
        return self.folder / f"{self.accelerator.kind}.{ending}"

    @property
    def pair(self) -> tuple[str, str]:
        """The names of the two wheels."""
        build = self.accelerator.build
        return f"mlc-llm-nightly-{build}", f"mlc-ai-nightly-{build}"

    @property
    def environment_note(self) -> Path:
        return self.venv / NOTES["environment"]

    @property
    def weights_note(self) -> Path:
        return self.folder / NOTES["weights"]

    @property
    def record(self) -> Path:
        return self.folder / NOTES["record"]

    @property
    def golden(self) -> Path:
        return self.folder / NOTES["golden"]

    def engine(self, *words: str) -> Command:
        """A command of the installed engine."""
        return python(self.python, "-m", "mlc_llm", *words, env=self.engine_env)

    @property
    def engine_env(self) -> Mapping[str, str]:
        """Environment that forbids silent downloads and just-in-time compilation, and imports from the current
        folder."""
        return {
            "PYTHONSAFEPATH": "1",
            "PYTHONNOUSERSITE": "1",
            "MLC_LLM_HOME": str(self.root / "cache"),
            "MLC_JIT_POLICY": "OFF",
            "MLC_DOWNLOAD_CACHE_POLICY": "OFF",
            "HF_HUB_OFFLINE": "1",
        }
