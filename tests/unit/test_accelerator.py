"""Finding an accelerator in small real folders, and never taking the processor for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from agent.install.accelerator import Accelerator, Probe, choose, detect
from market.errors import Misconfigured, NotReady

SMI = "NVIDIA GeForce RTX 3060, {}\nNVIDIA GeForce RTX 3060, {}\n"
MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23 03:43:04 UTC 2025\n"
SUMMARY = """
GPU0:
	deviceType         = PHYSICAL_DEVICE_TYPE_CPU
	deviceName         = llvmpipe (LLVM 15.0.7, 256 bits)
GPU1:
	deviceType         = PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU
	deviceName         = AMD Radeon 680M
"""


def box(root: Path, files: Mapping[str, str], said: Mapping[str, str] | None = None, platform: str = "linux") -> Probe:
    """A file system with these files, where these programs say these things and no others are there."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    def run(words: Sequence[str]) -> str | None:
        return (said or {}).get(words[0])

    return Probe(root, platform, run)


LIBCUDA = {"usr/lib/x86_64-linux-gnu/libcuda.so.1": ""}
VULKAN = {"usr/lib/libvulkan.so.1": "", "dev/dri/renderD128": ""}


@pytest.mark.parametrize(
    ("files", "said", "platform", "device", "build", "name"),
    [
        (LIBCUDA, {"nvidia-smi": SMI.format("580.65.06", "580.65.06")}, "linux", "cuda:0", "cu130", "RTX 3060"),
        (LIBCUDA, {"nvidia-smi": SMI.format("570.1", "570.1")}, "linux", "cuda:0", "cu128", "driver 570.1"),
        (
            {"usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1": ""},
            {"nvidia-smi": "Orin (nvgpu), 540.4.0\n"},
            "linux", "cuda:0", "cu128", "Orin",
        ),
        ({**LIBCUDA, "proc/driver/nvidia/version": MODULE}, {}, "linux", "cuda:0", "cu128", "570.86.15"),
        (
            {"dev/kfd": "", "opt/rocm/.info/version": "6.1.2-90\n"},
            {"rocminfo": "Name: gfx1100\n"},
            "linux", "rocm:0", "rocm61", "gfx1100",
        ),
        ({}, {"sysctl": "Apple M2 Ultra\n"}, "darwin", "metal:0", "cpu", "Apple M2 Ultra"),
        ({**VULKAN, "usr/share/vulkan/icd.d/radeon_icd.json": "{}"}, {}, "linux", "vulkan:0", "cpu", "radeon_icd"),
        (
            {**VULKAN, "etc/vulkan/icd.d/radeon_icd.json": "{}"},
            {"vulkaninfo": SUMMARY},
            "linux", "vulkan:1", "cpu", "AMD Radeon 680M",
        ),
    ],
)  # fmt: skip
def test_what_is_found(
    tmp_path: Path, files: dict[str, str], said: dict[str, str], platform: str, device: str, build: str, name: str
) -> None:
    best = choose(detect(box(tmp_path, files, said, platform)))
    assert (best.device, best.build) == (device, build) and name in best.found


@pytest.mark.parametrize(
    ("files", "said", "reason"),
    [
        ({}, {}, "no NVIDIA driver"),
        ({}, {"nvidia-smi": SMI.format("580.1", "580.1")}, "libcuda is missing"),
        (LIBCUDA, {"nvidia-smi": SMI.format("470.57", "470.57")}, "470.57 is older than 525"),
        (LIBCUDA, {"nvidia-smi": "NVIDIA-SMI has failed because it couldn't communicate with the driver"}, "no NVIDIA"),
        ({"dev/kfd": ""}, {}, "rocminfo lists no card"),
        ({"dev/kfd": "", "opt/rocm/.info/version": "7.0.0"}, {"rocminfo": "gfx1100"}, "no wheels are made for ROCm 7"),
        ({**VULKAN, "usr/share/vulkan/icd.d/lvp_icd.x86_64.json": "{}"}, {}, "no driver for a card"),
        ({"usr/lib/libvulkan.so.1": "", "etc/vulkan/icd.d/radeon_icd.json": "{}"}, {}, "no card for its drivers"),
        (
            {**VULKAN, "etc/vulkan/icd.d/radeon_icd.json": "{}"},
            {"vulkaninfo": SUMMARY.partition("GPU1")[0]},
            "its only device is the processor",
        ),
    ],
)
def test_no_accelerator_is_a_refusal_with_the_reason_and_the_way(
    tmp_path: Path, files: dict[str, str], said: dict[str, str], reason: str
) -> None:
    found = detect(box(tmp_path, files, said))
    assert found.usable == () and len(found.missing) == 4
    with pytest.raises(NotReady) as refused:
        choose(found)
    assert refused.value.exit_code == 3 and reason in str(refused.value)
    assert "--engine llamacpp" in refused.value.next_step and "\n" not in refused.value.sentence()


def test_cuda_is_preferred_to_vulkan(tmp_path: Path) -> None:
    files = {**LIBCUDA, **VULKAN, "usr/share/vulkan/icd.d/nvidia_icd.json": "{}"}
    found = detect(box(tmp_path, files, {"nvidia-smi": SMI.format("580.1", "580.1")}))
    assert [one.kind for one in found.usable] == ["cuda", "vulkan"]
    assert choose(found, "vulkan").device == "vulkan:0"
    assert choose(found, "cuda:1") == Accelerator("cuda:1", "cu130", found.usable[0].found)


def test_a_device_may_be_asked_for_but_never_the_processor(tmp_path: Path) -> None:
    nothing = detect(box(tmp_path, {}))
    assert (choose(nothing, "rocm").device, choose(nothing, "rocm").build) == ("rocm:0", "rocm62")
    for wanted in ("cpu", "cpu:0", "auto", "opencl", "cuda:x", "cuda:0:1"):
        with pytest.raises(Misconfigured) as refused:
            choose(nothing, wanted)
        assert "--engine llamacpp" in refused.value.next_step
