"""Steps that install OpenVINO as an engine: the package, and the check that it answers like the embedded engine.

The model file is the embedded engine's; nothing is converted or stored twice. Nothing is printed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.install import embedded
from agent.install.command import Command
from agent.install.models import model_path
from agent.llm.llamacpp.engine import file_hash
from agent.llm.openvino import acceptance, runtime
from agent.llm.openvino.network import Precision, loaded
from market.errors import NotReady

_WHEEL = f"{runtime.PACKAGE}=={runtime.PINNED}"


def notes(home: Path) -> Path:
    """Folder of the notes on which models passed the check."""
    return home / "models" / "openvino"


@dataclass(frozen=True, slots=True)
class InstallOpenVino:
    """Install the pinned package into this interpreter's environment, without its telemetry dependency."""

    offline: Path | None = None
    title: str = "Install OpenVINO"

    def describe(self) -> str:
        return str(self._command())

    def done(self) -> bool:
        return runtime.installed()

    def run(self, progress: Callable[[float], None]) -> None:
        embedded.own_pip(self.offline).call(self._command(), embedded.not_fetched(_WHEEL))
        importlib.invalidate_caches()

    def _command(self) -> Command:
        pip = embedded.own_pip(self.offline)
        return pip.command("install", "--no-deps", *embedded.source(self.offline), _WHEEL)


@dataclass(frozen=True, slots=True)
class Accept:
    """Evaluate the same text with both engines, at each precision, and note the divergence of their answers."""

    model: str
    home: Path
    title: str = "Check the model in OpenVINO"

    def describe(self) -> str:
        limit = acceptance.DIVERGENCE_LIMIT
        return f"compare both engines' answers (at most {limit} nats apart) and note it in {notes(self.home)}"

    def done(self) -> bool:
        path = model_path(self.home, self.model)
        return path.is_file() and Precision.F32 in acceptance.noted(notes(self.home), file_hash(path))

    def run(self, progress: Callable[[float], None]) -> None:
        """Raises NotReady when the answers differ even in f32; a precision whose rounding spoils them is noted, and
        refused when it is requested."""
        path = model_path(self.home, self.model)
        expected = acceptance.reference(path)
        found: dict[str, float] = {}
        for number, precision in enumerate(Precision, start=1):
            network = loaded(path, precision, threads=1)
            rows = acceptance.answers(network, expected.tokens, len(expected.logits))
            apart = found[precision.value] = acceptance.divergence(expected.logits, rows)
            if precision is Precision.F32 and not apart <= acceptance.DIVERGENCE_LIMIT:
                raise NotReady(
                    f"The model answers differently in OpenVINO ({apart:.3f} nats).",
                    next_step="Use the llamacpp engine for this model.",
                )
            progress(number / len(Precision))
        acceptance.write_note(notes(self.home), file_hash(path), found)
