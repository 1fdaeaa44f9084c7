"""Installation plans: the steps that make a model available, for each engine."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.install import accelerator, answers, library, lock, openvino, place, runtime, weights
from agent.install.accelerator import Accelerator, Probe
from agent.install.embedded import Convert, EngineCheck, FetchModel, InstallLibrary
from agent.install.models import KNOWN_MODELS, OWNERS_MODELS, model_path
from agent.install.own import CheckOwnModel
from agent.install.place import HUB, INDEX, Installation
from agent.install.settings import WriteSettings
from agent.install.steps import InstallStep
from market.errors import Misconfigured

ENGINES = ("auto", "llamacpp", "openvino", "mlc")
DEFAULT_MODELS = dict.fromkeys(ENGINES, "smollm2-135m") | {"mlc": "llama3.2-3b"}
PORT = 8642
"""Port of the engine's loopback server in the configuration that is written."""


@dataclass(frozen=True, slots=True)
class MlcChoices:
    """Options of an MLC-LLM installation. `write_config` is the file to merge into."""

    device: str = ""
    lock: Path | None = None
    pins: tuple[str, ...] = ()
    interpreter: Path = Path(sys.executable)
    index: str = INDEX
    hub: str = HUB
    write_config: Path | None = None
    probe: Probe = field(default_factory=Probe)


def plan(engine: str, model: str, home: Path, offline: Path | None = None, *, sha256: str = "") -> list[InstallStep]:
    """Steps that make `model` available in the embedded engine, in order, and in OpenVINO where that is the engine.
    `offline` is a folder with the wheels.

    `sha256` is the required hash of the user's own file. Raises Misconfigured for what cannot be installed.
    """
    if engine == "openvino":
        steps = plan("llamacpp", model, home, offline, sha256=sha256)
        return [*steps, openvino.InstallOpenVino(offline), openvino.Accept(model, home)]
    if engine not in ("auto", "llamacpp"):
        raise Misconfigured(f"The engine {engine} cannot be installed by this program.", next_step="Use llamacpp.")
    _folder(offline, "of wheels")
    expected = _hexadecimal(sha256)
    if (known := KNOWN_MODELS.get(model)) is not None:
        if expected:
            raise Misconfigured(f"The hash of {model} is known.", next_step="Give --sha256 with a file of your own.")
        return [
            InstallLibrary(offline),
            FetchModel(known, home, offline),
            Convert(known, home),
            EngineCheck(known, home),
        ]
    owners = OWNERS_MODELS.get(model)
    expected = expected or (owners.sha256 if owners else "")
    return [InstallLibrary(offline), CheckOwnModel(model_path(home, model), expected, owners)]


def plan_mlc(
    model: str, home: Path, offline: Path | None = None, choices: MlcChoices | None = None
) -> list[InstallStep]:
    """Steps that make MLC-LLM serve `model` on the accelerator. `offline` is a folder as in `Installation`.

    Raises NotReady where there is no accelerator, Misconfigured for what cannot be installed, DataInvalid for a lock
    that cannot be read.
    """
    chosen = choices or MlcChoices()
    _folder(offline, "with manifest.json, wheels/ and model/")
    if len(chosen.pins) not in (0, 2):
        raise Misconfigured("--pin takes two versions.", next_step="Give it as LLM,AI: the versions of both wheels.")
    device = accelerator.choose(accelerator.detect(chosen.probe), chosen.device)
    at = Installation(
        home=home.absolute(),
        accelerator=device,
        model=place.repository(model),
        lock=_lock(home, offline, chosen.lock).absolute(),
        offline=offline.absolute() if offline else None,
        pins=chosen.pins,
        interpreter=chosen.interpreter,
        index=chosen.index,
        hub=chosen.hub.rstrip("/"),
    )
    runtime.checked(lock.read_lock(at.lock), at)
    environment = runtime.MakeEnvironment(at)
    begin: list[InstallStep] = [environment, runtime.LockWheels(at), runtime.FetchPair(at)]
    listed: list[InstallStep] = [weights.LockModel(at)]
    if at.offline:
        # Offline, the manifest is the lock: nothing is left to lock or to fetch, and the folder is checked before
        # anything else.
        begin, listed = [weights.CheckOffline(at, at.offline), environment], []
    return [
        FindAccelerator(device),
        *begin,
        runtime.InstallWheels(at),
        *listed,
        weights.FetchWeights(at),
        library.CompileModel(at),
        answers.CheckAnswers(at),
        WriteSettings((chosen.write_config or config_file(at)).absolute(), settings(at)),
    ]


def told(steps: Sequence[InstallStep]) -> str:
    """The command that uses what was installed, in one sentence."""
    last = steps[-1]
    if isinstance(last, WriteSettings):
        return f"The settings are in {last.file}: edgeclaw run --config {last.file}"
    if isinstance(last, CheckOwnModel):
        return f"Run with it: edgeclaw run --model {last.known.name if last.known else last.path}"
    return "Run with it: edgeclaw run --feed sample --speed max"


def config_file(at: Installation) -> Path:
    """Default file of the settings: a configuration that can be run as it is."""
    return at.folder / "edgeclaw.yaml"


def settings(at: Installation) -> dict[str, Any]:
    """The part of a configuration that selects this installation."""
    mlc = {
        "python": str(at.python),
        "model_dir": str(at.weights),
        "model_lib": str(at.library),
        "device": at.accelerator.device,
        "port": PORT,
    }
    return {"edge": {"runtime": "mlc", "model": at.model.name, "mlc": mlc}}


@dataclass(frozen=True, slots=True)
class FindAccelerator:
    """The accelerator found while planning; a step of its own, so that the choice is shown."""

    accelerator: Accelerator
    title: str = "Find the accelerator"

    def describe(self) -> str:
        return f"{self.accelerator.device} ({self.accelerator.found}), wheels of build {self.accelerator.build}"

    def done(self) -> bool:
        return True

    def run(self, progress: Callable[[float], None]) -> None:
        progress(1.0)


def _lock(home: Path, offline: Path | None, named: Path | None) -> Path:
    if offline is None:
        return named or home / "mlc" / "lock.json"
    if named is not None:
        raise Misconfigured("An offline folder has its own lock, manifest.json.", next_step="Leave out --lock.")
    manifest = offline / "manifest.json"
    if not manifest.is_file():
        raise Misconfigured(f"The offline folder lacks {manifest}.", next_step="Copy the lock file there.")
    return manifest


def _folder(offline: Path | None, what: str) -> None:
    if offline is not None and not offline.is_dir():
        raise Misconfigured(f"The folder {offline} does not exist.", next_step=f"Give --offline a folder {what}.")


def _hexadecimal(sha256: str) -> str:
    lowered = sha256.strip().lower()
    if lowered and not re.fullmatch(r"[0-9a-f]{64}", lowered):
        raise Misconfigured(f"{sha256} is no SHA-256.", next_step="Give --sha256 its 64 hexadecimal digits.")
    return lowered
