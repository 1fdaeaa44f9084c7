"""The engine's virtual environment, apart from the agent's: two wheels from MLC's index and their requirements, locked
by hash.

torch and the other requirements of MLC-LLM stay in there. The pair always comes from MLC's index alone, so that no
package of the same name elsewhere can be substituted; the hashes in the lock hold for all wheels.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agent.install import lock as locks
from agent.install import notes
from agent.install.command import Command, python, run
from agent.install.lock import Lock, Runtime, Wheel
from agent.install.pip import Pip, resolved
from agent.install.place import AGAIN, Installation
from market.errors import Misconfigured, NotReady

_TOLD = "import sys, platform; print('%d.%d' % sys.version_info[:2], sys.platform + '-' + platform.machine())"
_LOADED = "import sys, tvm, mlc_llm; print('device', bool(tvm.device(sys.argv[1]).exist))"
_LOADING = 300.0


@cache
def interpreter(path: Path) -> tuple[str, str]:
    """(version, platform) of a Python interpreter. Raises Misconfigured where it does not run."""
    try:
        ended = run(python(path, "-I", "-c", _TOLD), timeout=60.0)
    except OSError:
        ended = None
    words = ended.out.split() if ended and ended.code == 0 else []
    if len(words) != 2:
        raise Misconfigured(f"{path} is not a Python that runs.", next_step="Give --python the path of one.")
    return words[0], words[1]


def checked(lock: Lock, place: Installation) -> None:
    """Raise Misconfigured for a lock that was made for another build, interpreter or platform."""
    if (runtime := lock.runtime) is None:
        return
    version, platform = interpreter(place.interpreter)
    made, here = (runtime.build, runtime.python, runtime.platform), (place.accelerator.build, version, platform)
    pinned = tuple(wheel.version for wheel in runtime.wheels[:2])
    if tuple(_normal(wheel.name) for wheel in runtime.wheels[:2]) != place.pair or made != here:
        message = f"{place.lock} was made for {' '.join(made)}, and this installation is for {' '.join(here)}."
    elif place.pins and place.pins != pinned:
        message = f"{place.lock} was made for the versions {','.join(pinned)}, not {','.join(place.pins)}."
    else:
        return
    raise Misconfigured(message, next_step="Delete it to make a new one, or name another with --lock.")


def locked(place: Installation) -> Runtime:
    """The runtime in the lock. Raises NotReady where it is not locked yet."""
    lock = locks.read_lock(place.lock)
    if lock.runtime is None:
        raise NotReady(f"{place.lock} names no wheels.", next_step=AGAIN)
    return lock.runtime


@dataclass(frozen=True, slots=True)
class MakeEnvironment:
    """A virtual environment that holds the engine and nothing of the agent."""

    place: Installation
    title: str = "Make the engine's environment"

    def describe(self) -> str:
        return str(self._command())

    def done(self) -> bool:
        noted = notes.read_note(self.place.environment_note)
        return self.place.python.exists() and noted.get("python") == list(interpreter(self.place.interpreter))

    def run(self, progress: Callable[[float], None]) -> None:
        self.place.environment_note.unlink(missing_ok=True)
        ended = run(self._command(), timeout=600.0)
        if ended.code != 0:
            message = f"{self.place.interpreter} cannot make a virtual environment: {ended.said.rstrip('.')}."
            raise NotReady(message, next_step="On Debian and Ubuntu install python3-venv.")
        notes.write_note(self.place.environment_note, {"python": interpreter(self.place.interpreter)})

    def _command(self) -> Command:
        return python(self.place.interpreter, "-m", "venv", "--clear", str(self.place.venv))


@dataclass(frozen=True, slots=True)
class LockWheels:
    """Fetch the pair from MLC's index, resolve its requirements, and write all wheels with their hashes to the lock."""

    place: Installation
    title: str = "Lock the engine's wheels"

    def describe(self) -> str:
        paths = " ".join(f"{self.place.wheels}/{name}" for name in self.place.pair)
        return f"{self._fetch()}; {self._resolve()} {paths}; write the answer with hashes to {self.place.lock}"

    def done(self) -> bool:
        return locks.read_lock(self.place.lock).runtime is not None

    def run(self, progress: Callable[[float], None]) -> None:
        pip = Pip(self.place.python)
        shutil.rmtree(self._arriving, ignore_errors=True)  # left by a run that was killed
        pip.call(self._fetch(), f"{' and '.join(self._requirements())} could not be fetched")
        pair = [_keep(self._arriving, name, self.place.wheels) for name in self.place.pair]
        shutil.rmtree(self._arriving)
        progress(0.5)
        report = pip.call(
            Command((*self._resolve().words, *(str(self.place.wheels / wheel.file) for wheel in pair))),
            "What MLC-LLM needs could not be found out",
        )
        rest = [wheel for wheel in resolved(report.out) if _normal(wheel.name) not in self.place.pair]
        version, platform = interpreter(self.place.interpreter)
        runtime = Runtime(build=self.place.accelerator.build, python=version, platform=platform, wheels=(*pair, *rest))
        locks.write_lock(self.place.lock, Lock(runtime, locks.read_lock(self.place.lock).models))

    def _requirements(self) -> list[str]:
        pins = self.place.pins or ("", "")
        return [f"{name}=={pin}" if pin else name for name, pin in zip(self.place.pair, pins, strict=True)]

    @property
    def _arriving(self) -> Path:
        return self.place.root / "wheels.part"

    def _fetch(self) -> Command:
        source = ("--no-index", "--find-links", self.place.index)
        words = ("--no-deps", "--pre", *source, "--dest", str(self._arriving), *self._requirements())
        return Pip(self.place.python).command("download", *words)

    def _resolve(self) -> Command:
        return Pip(self.place.python).command("install", "--dry-run", "--ignore-installed", "--report", "-")


@dataclass(frozen=True, slots=True)
class FetchPair:
    """Fetch the locked pair where another machine made the lock, and keep the files: nightly wheels disappear from the
    index."""

    place: Installation
    title: str = "Fetch the engine's wheels"

    def describe(self) -> str:
        return f"{self._command()} (the two wheels in {self.place.lock}, by hash)"

    def done(self) -> bool:
        runtime = locks.read_lock(self.place.lock).runtime
        if runtime is None:
            return False
        kept = (notes.has(self.place.wheels / wheel.file, wheel.sha256) for wheel in runtime.wheels[:2])
        return installed(self.place, runtime) or all(kept)

    def run(self, progress: Callable[[float], None]) -> None:
        notes.replace(self._list, _requirements(locked(self.place).wheels[:2]))
        Pip(self.place.python).call(self._command(), "The locked wheels could not be fetched")

    @property
    def _list(self) -> Path:
        return self.place.root / "pair.txt"

    def _command(self) -> Command:
        source = ("--no-index", "--find-links", self.place.index, "--require-hashes")
        words = ("--no-deps", *source, "--dest", str(self.place.wheels), "-r", str(self._list))
        return Pip(self.place.python).command("download", *words)


@dataclass(frozen=True, slots=True)
class InstallWheels:
    """Install exactly the locked wheels, then check that the pair loads and finds the device."""

    place: Installation
    title: str = "Install the engine"

    def describe(self) -> str:
        return f"{self._command()} ({self.place.lock}); {self._load()}"

    def done(self) -> bool:
        runtime = locks.read_lock(self.place.lock).runtime
        return runtime is not None and installed(self.place, runtime)

    def run(self, progress: Callable[[float], None]) -> None:
        runtime = locked(self.place)
        noted = notes.read_note(self.place.environment_note)
        if noted.get("wheels", runtime.digest) != runtime.digest:  # another lock's: start from an empty one
            MakeEnvironment(self.place).run(lambda _: None)
        # Noted before pip runs and without the device: an interrupted installation is not mistaken for a finished one,
        # and its leftovers are known.
        note = {"python": interpreter(self.place.interpreter), "wheels": runtime.digest}
        notes.write_note(self.place.environment_note, note)
        notes.replace(self._list, _requirements(runtime.wheels))
        pip = Pip(self.place.python, offline=self.place.offline is not None)
        pip.call(self._command(), "The locked wheels could not be installed")
        progress(0.8)
        self._loads(runtime)
        notes.write_note(
            self.place.environment_note, {**note, "device": self.place.accelerator.device, **runtime.versions}
        )

    def _loads(self, runtime: Runtime) -> None:
        ended = run(self._load(), timeout=_LOADING)
        if ended.code != 0:
            pair = f"mlc {runtime.versions['mlc']} with tvm {runtime.versions['tvm']}"
            message = f"The installed engine ({pair}) does not load: {ended.said.rstrip('.')}."
            raise NotReady(message, next_step=f"Delete {self.place.lock} and give --pin a pair that fits together.")
        if ended.out.split()[-2:] != ["device", "True"]:
            message = f"The installed engine finds no {self.place.accelerator.device} on this box."
            raise NotReady(
                message, next_step="Use the embedded engine: edgeclaw install edge-runtime --engine llamacpp"
            )

    @property
    def _list(self) -> Path:
        return self.place.root / "requirements.txt"

    def _command(self) -> Command:
        words = ("--no-deps", "--require-hashes", "--find-links", str(self.place.wheels), "-r", str(self._list))
        return Pip(self.place.python, offline=self.place.offline is not None).command("install", *words)

    def _load(self) -> Command:
        return python(self.place.python, "-c", _LOADED, self.place.accelerator.device, env=self.place.engine_env)


def installed(place: Installation, runtime: Runtime) -> bool:
    """True if the environment holds these wheels, and has loaded them for this device."""
    noted = notes.read_note(place.environment_note)
    found = (noted.get("wheels"), noted.get("device"), noted.get("mlc"))
    return place.python.exists() and found == (runtime.digest, place.accelerator.device, runtime.versions["mlc"])


def _keep(folder: Path, name: str, wheels: Path) -> Wheel:
    """Move a package's wheel from pip's download folder to its permanent place."""
    found = next((path for path in folder.glob("*.whl") if _normal(path.name.partition("-")[0]) == name), None)
    if found is None:
        raise NotReady(f"The index holds no wheel of {name} for this box.", next_step="Give --python another Python.")
    wheels.mkdir(parents=True, exist_ok=True)
    wheel = Wheel(name=name, version=found.name.split("-")[1], file=found.name, sha256=notes.hashed(found))
    shutil.move(found, wheels / found.name)
    return wheel


def _requirements(wheels: tuple[Wheel, ...]) -> str:
    return "".join(f"{wheel.requirement}\n" for wheel in wheels)


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
