"""Detection of accelerators, from files and the drivers' own programs. It installs and loads nothing.

A processor is not an accelerator here: MLC-LLM's code for it is far too slow to trade on, and the embedded engine is
made for it. So "none found" is a result of its own, never replaced by the processor.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.install.command import answer
from market.errors import Misconfigured, NotReady

KINDS = ("cuda", "rocm", "metal", "vulkan")
"""Kinds of accelerators, in order of preference."""

_LIBRARIES = ("usr/lib", "usr/lib64", "usr/local/lib", "lib", "usr/lib/wsl/lib", "usr/local/cuda/compat")
_SOFTWARE = ("lvp_", "swrast", "llvmpipe")
_EMBEDDED = "Use the embedded engine: edgeclaw install edge-runtime --engine llamacpp"
_DEFAULT_BUILDS = {"cuda": "cu128", "rocm": "rocm62", "metal": "cpu", "vulkan": "cpu"}
_CUDA_DRIVERS = ((580, "cu130"), (525, "cu128"))  # the oldest driver that runs each build, newest build first
_ROCM_RELEASES = {"6.1": "rocm61", "6.2": "rocm62", "6.3": "rocm62", "6.4": "rocm62"}


@dataclass(frozen=True, slots=True)
class Probe:
    """Access to the machine: the root of a file system, the platform's name, and a way to run a driver's program."""

    root: Path = Path("/")
    platform: str = sys.platform
    run: Callable[[Sequence[str]], str | None] = answer


@dataclass(frozen=True, slots=True)
class Accelerator:
    """An accelerator. `device` is its name in MLC-LLM; `build` is the family of wheels made for it; `found` is a
    description."""

    device: str
    build: str
    found: str

    @property
    def kind(self) -> str:
        return self.device.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Accelerators:
    """Usable accelerators, best first, and the reasons why other kinds are not usable."""

    usable: tuple[Accelerator, ...]
    missing: tuple[str, ...]


def detect(probe: Probe) -> Accelerators:
    """Probe every kind of accelerator."""
    seen = [_CHECKS[kind](probe) for kind in KINDS]
    usable = tuple(one for one in seen if isinstance(one, Accelerator))
    return Accelerators(usable, tuple(one for one in seen if isinstance(one, str)))


def choose(found: Accelerators, wanted: str = "") -> Accelerator:
    """The best of what was found, or the `wanted` device ("cuda", "cuda:1").

    A requested device is accepted unchecked, since detection can miss one; the installed engine decides.
    Raises NotReady where nothing was found, Misconfigured for a device that no accelerator has.
    """
    if not wanted:
        if found.usable:
            return found.usable[0]
        raise NotReady(f"No accelerator was found ({'; '.join(found.missing)}).", next_step=_EMBEDDED)
    kind, _, index = wanted.partition(":")
    if kind not in KINDS or not (index or "0").isdecimal():
        message = f"{wanted} is not an accelerator that MLC-LLM is run on here ({', '.join(KINDS)})."
        raise Misconfigured(message, next_step=_EMBEDDED)
    known = next((one for one in found.usable if one.kind == kind), None)
    build = known.build if known else _DEFAULT_BUILDS[kind]
    return Accelerator(f"{kind}:{index or 0}", build, known.found if known else "as asked for, not found by looking")


def _cuda(probe: Probe) -> Accelerator | str:
    name, driver = _nvidia(probe)
    if not driver:
        return "cuda: no NVIDIA driver"
    if not _library(probe, "libcuda.so*"):
        return "cuda: the NVIDIA driver's libcuda is missing"
    major = int(driver.partition(".")[0])
    for oldest, build in _CUDA_DRIVERS:
        if major >= oldest:
            return Accelerator("cuda:0", build, f"{name}, driver {driver}")
    return f"cuda: the NVIDIA driver {driver} is older than {_CUDA_DRIVERS[-1][0]}"


def _nvidia(probe: Probe) -> tuple[str, str]:
    """Card and driver version; both empty where there is none."""
    said = probe.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    if said and (m := re.match(r"(.+?),\s*(\d+(?:\.\d+)*)\s*$", said, re.MULTILINE)):
        return m[1], m[2]
    # nvidia-smi may be missing where the kernel module still reports its version.
    module = _text(probe.root / "proc/driver/nvidia/version")
    if m := re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", module):
        return "NVIDIA card", m[1]
    return "", ""


def _rocm(probe: Probe) -> Accelerator | str:
    if not (probe.root / "dev/kfd").exists():
        return "rocm: no /dev/kfd"
    cards = re.findall(r"\bgfx\w+", probe.run(["rocminfo"]) or "")
    if not cards:
        return "rocm: rocminfo lists no card"
    release = _text(probe.root / "opt/rocm/.info/version").strip()
    build = _ROCM_RELEASES.get(".".join(release.split(".")[:2]))
    if build is None:
        return f"rocm: no wheels are made for ROCm {release or 'of unknown release'}"
    return Accelerator("rocm:0", build, f"{cards[0]}, ROCm {release}")


def _metal(probe: Probe) -> Accelerator | str:
    if probe.platform != "darwin":
        return "metal: this is not macOS"
    chip = (probe.run(["sysctl", "-n", "machdep.cpu.brand_string"]) or "this Mac").strip()
    return Accelerator("metal:0", "cpu", chip)


def _vulkan(probe: Probe) -> Accelerator | str:
    if not _library(probe, "libvulkan.so*"):
        return "vulkan: no libvulkan"
    folders = (probe.root / "usr/share/vulkan/icd.d", probe.root / "etc/vulkan/icd.d")
    drivers = sorted(path.stem for folder in folders for path in folder.glob("*.json"))
    hardware = [name for name in drivers if not name.startswith(_SOFTWARE)]
    if not hardware:
        return "vulkan: no driver for a card"
    if not any((probe.root / "dev/dri").glob("renderD*")) and not (probe.root / "dev/nvidia0").exists():
        return "vulkan: no card for its drivers"
    summary = probe.run(["vulkaninfo", "--summary"])
    if summary is None:
        return Accelerator("vulkan:0", "cpu", ", ".join(hardware))
    return _by_summary(summary)


def _by_summary(summary: str) -> Accelerator | str:
    """The first device that is not the processor, by its index in vulkaninfo's list."""
    kinds = re.findall(r"deviceType\s*=\s*PHYSICAL_DEVICE_TYPE_(\w+)", summary)
    names = re.findall(r"deviceName\s*=\s*(.+)", summary)
    for at, (kind, name) in enumerate(zip(kinds, names, strict=False)):
        if kind != "CPU":
            return Accelerator(f"vulkan:{at}", "cpu", name.strip())
    return "vulkan: its only device is the processor"


_CHECKS: dict[str, Callable[[Probe], Accelerator | str]] = {
    "cuda": _cuda,
    "rocm": _rocm,
    "metal": _metal,
    "vulkan": _vulkan,
}


def _library(probe: Probe, pattern: str) -> bool:
    below = ("", "*-linux-gnu*/", "*-linux-gnu*/*/")  # Debian's folders, and Jetson's below them
    return any(any((probe.root / place).glob(f"{inner}{pattern}")) for place in _LIBRARIES for inner in below)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
