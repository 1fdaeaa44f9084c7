"""Joules from counters and samples: small real folders and programs stand where a box has its own."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.load import load_config
from agent.doctor import Check, energy_check
from agent.host.power import Constant, Integral, Meter, MeterSum, Sources, board, found, gpus, open_meter, rapl
from market.errors import NotReady

SPAN = 262_143_328_850


def zone(root: Path, number: str, name: str, microjoules: object, span: object = SPAN) -> Path:
    """A powercap zone as the kernel shows it."""
    folder = root / number
    folder.mkdir(parents=True, exist_ok=True)
    for file, value in {"name": name, "energy_uj": microjoules, "max_energy_range_uj": span}.items():
        (folder / file).write_text(f"{value}\n", encoding="ascii")
    return folder / "energy_uj"


@dataclass
class Clock:
    at: float = 100.0

    def __call__(self) -> float:
        return self.at


def drawn(meter: Meter, change: Callable[[], object]) -> float | None:
    before = meter.joules()
    change()
    after = meter.joules()
    return None if before is None or after is None else after - before


def test_packages_and_memory_are_summed_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    parts = {"0": "package-0", "0:0": "core", "0:1": "uncore", "0:2": "dram", "1": "package-1", "2": "psys"}
    files = {name: zone(tmp_path, f"intel-rapl:{n}", name, 1_000_000) for n, name in parts.items()}
    files["again"] = zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1_000_000)
    meter = rapl(tmp_path)
    assert meter.source == "RAPL package-0, dram, package-1"
    assert drawn(meter, lambda: [f.write_text("3000000") for f in files.values()]) == pytest.approx(6.0)


def test_a_counter_that_starts_again_is_followed(tmp_path: Path) -> None:
    file = zone(tmp_path, "intel-rapl:0", "package-0", SPAN - 1_000_000)
    assert drawn(rapl(tmp_path), lambda: file.write_text("500000")) == pytest.approx(1.5)


@given(span=st.integers(1_000, 10**12), steps=st.lists(st.floats(0, 0.999), max_size=20), start=st.floats(0, 0.999))
def test_what_was_counted_is_what_was_drawn_however_often_it_goes_round(
    span: int, steps: list[float], start: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        at = int(start * span)
        file = zone(Path(folder), "intel-rapl:0", "package-0", at, span)
        meter, total = rapl(Path(folder)), 0
        for step in (int(s * span) for s in steps):
            total, at = total + step, (at + step) % span
            file.write_text(str(at))
            assert meter.joules() == pytest.approx(total / 1e6)


def test_memory_may_be_missing_or_broken_a_package_may_not(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    assert rapl(tmp_path).source == "RAPL package-0"
    zone(tmp_path, "intel-rapl:0:2", "dram", "garbage")
    assert rapl(tmp_path).source == "RAPL package-0"
    for broken in ("garbage", "", "-5"):
        zone(tmp_path, "intel-rapl:1", "package-1", broken)
        with pytest.raises(NotReady, match="intel-rapl:1 holds no usable number"):
            rapl(tmp_path)
    zone(tmp_path, "intel-rapl:1", "package-1", 5, span="unknown")
    with pytest.raises(NotReady, match="no usable number"):
        rapl(tmp_path)


def test_a_box_without_counters_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl").mkdir()
    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotReady, match="no RAPL") as told:
            rapl(root)
        assert "modprobe" in told.value.next_step and "edge.cost.watts" in told.value.next_step


@contextmanager
def without_privileges() -> Iterator[None]:
    """File permissions mean nothing to root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_counters_for_root_alone_say_how_to_open_them() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        zone(Path(folder), "intel-rapl:0", "package-0", 0).chmod(0o400 if os.geteuid() == 0 else 0)
        with without_privileges(), pytest.raises(NotReady, match="root alone") as told:
            rapl(Path(folder))
    assert "chmod a+r" in told.value.next_step


def test_a_reading_that_fails_is_unknown_and_never_nothing(tmp_path: Path) -> None:
    file = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    meter = rapl(tmp_path)
    file.write_text("garbage")
    assert meter.joules() is None
    assert MeterSum([meter, Constant(5.0)]).joules() is None
    file.write_text("4000000")
    assert meter.joules() == pytest.approx(3.0)
    file.unlink()
    assert meter.joules() is None


def test_power_is_held_from_sample_to_sample_and_not_for_long() -> None:
    clock = Clock()
    power = Integral(clock, stale=3.0)
    assert power.joules() is None
    power.sample(10.0)
    clock.at += 2
    assert power.joules() == pytest.approx(20.0)
    power.sample(50.0)
    clock.at += 1
    assert power.joules() == pytest.approx(70.0)
    clock.at += 2.5
    assert power.joules() is None, "whoever sampled has stopped"
    power.sample(None)
    power.sample(10.0)
    assert power.joules() is None, "nobody knows what was drawn in between"


def smi(folder: Path, body: str) -> tuple[str, ...]:
    """A program in the place of nvidia-smi."""
    script = folder / "smi.py"
    script.write_text(f"import os, sys, time\n{body}\n", encoding="utf-8")
    return (sys.executable, str(script))


def box(folder: Path, body: str = "", **change: object) -> Sources:
    """A box with nothing to read but, where `body` is given, its graphics cards."""
    program = smi(folder, body) if body else (str(folder / "no-such-program"),)
    kept: dict[str, object] = {"powercap": folder / "powercap", "hwmon": folder / "hwmon", "nvidia": program}
    return Sources(**{**kept, **change})  # type: ignore[arg-type]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what is waited for is another process
            await asyncio.sleep(0.01)


def run(scope: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scope()

    asyncio.run(main())


def test_graphics_cards_are_sampled_summed_and_let_go(tmp_path: Path) -> None:
    told = "print('0, 50.00\\n1, 30.50', flush=True)"
    body = f"open(sys.argv[0] + '.pid', 'w').write(str(os.getpid()))\n{told}\ntime.sleep(60)"

    async def scope() -> None:
        clock = Clock()
        async with gpus(box(tmp_path, body), clock) as meter:
            await until(lambda: len(meter.powers) == 2)
            assert drawn(meter, lambda: setattr(clock, "at", clock.at + 2)) == pytest.approx(161.0)
        pid = int((tmp_path / "smi.py.pid").read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    run(scope)


def test_it_is_asked_for_power_by_card_as_often_as_wanted(tmp_path: Path) -> None:
    body = "open(sys.argv[0] + '.asked', 'w').write(' '.join(sys.argv[1:]))\nprint('0, 1', flush=True)\ntime.sleep(60)"

    async def scope() -> None:
        async with gpus(box(tmp_path, body, every=0.25)):
            asked = (tmp_path / "smi.py.asked").read_text()
            assert asked == "--query-gpu=index,power.draw --format=csv,noheader,nounits --loop-ms=250"

    run(scope)


@pytest.mark.parametrize(
    "body",
    [
        "print('0, [N/A]', flush=True); time.sleep(60)",
        "print('NVIDIA-SMI has failed because it could not communicate with the driver.'); sys.exit(9)",
        "sys.exit(0)",
        "time.sleep(60)",
        "sys.stdout.write('0' * 200_000); sys.stdout.flush(); time.sleep(60)",
        "print('0, nan', flush=True); time.sleep(60)",
    ],
    ids=["unsupported", "no driver", "silent end", "silent", "no lines", "nan"],
)
def test_cards_that_report_no_power_are_not_a_meter(body: str, tmp_path: Path) -> None:
    async def scope() -> None:
        with pytest.raises(NotReady):
            async with gpus(box(tmp_path, body, patience=2.0)):
                pass

    run(scope)


def test_a_report_that_ends_leaves_the_energy_unknown(tmp_path: Path) -> None:
    async def scope() -> None:
        body = "print('0, 50', flush=True); time.sleep(0.5)"
        async with gpus(box(tmp_path, body), Clock()) as meter:
            await until(lambda: meter.ended)
            assert meter.joules() is None

    run(scope)


def sensor(root: Path, folder: str, files: Mapping[str, object]) -> None:
    (root / folder).mkdir(parents=True)
    for name, value in files.items():
        (root / folder / name).write_text(f"{value}\n", encoding="ascii")


JETSON = {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": 5_000, "curr1_input": 1_200,
          "in2_label": "VDD_CPU_GPU_CV", "in2_input": 5_000, "curr2_input": 400}  # fmt: skip
ACPI = {"name": "power_meter", "power1_average": 6_000_000}


@pytest.mark.parametrize("files", [JETSON, ACPI], ids=["jetson", "acpi"])
def test_a_sensor_of_the_whole_board_is_read_where_there_are_no_counters(
    files: Mapping[str, object], tmp_path: Path
) -> None:
    sensor(tmp_path / "hwmon", "hwmon0", {"name": "nvme", "power1_average": 9_000_000})
    sensor(tmp_path / "hwmon", "hwmon1", files)

    async def scope() -> None:
        clock = Clock()
        async with open_meter(box(tmp_path, every=60.0), clock) as meter:
            assert "board" in meter.source
            assert drawn(meter, lambda: setattr(clock, "at", clock.at + 3)) == pytest.approx(18.0)

    run(scope)


@pytest.mark.parametrize("files", [{}, {"name": "amdgpu"}, {"name": "power_meter"}, {**ACPI, "power1_average": "x"}])
def test_other_sensors_are_left_alone(files: Mapping[str, object], tmp_path: Path) -> None:
    sensor(tmp_path / "hwmon", "hwmon0", files)

    async def scope() -> None:
        with pytest.raises(NotReady):
            async with board(box(tmp_path)):
                pass

    run(scope)


def test_counters_and_cards_go_together(tmp_path: Path) -> None:
    file = zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 0)

    async def scope() -> None:
        clock = Clock()
        async with open_meter(box(tmp_path, "print('0, 10', flush=True); time.sleep(60)"), clock) as meter:
            assert meter.source == "RAPL package-0 and nvidia-smi every 0.2 s"

            def later() -> None:
                clock.at += 1
                file.write_text("7000000")

            assert drawn(meter, later) == pytest.approx(17.0)

    run(scope)


def test_cards_alone_do_not_speak_for_the_box(tmp_path: Path) -> None:
    async def scope() -> None:
        with pytest.raises(NotReady, match="no RAPL"):
            async with open_meter(box(tmp_path, "print('0, 10', flush=True); time.sleep(60)")):
                pass

    run(scope)


def test_what_was_found_is_said_with_the_next_step(tmp_path: Path) -> None:
    async def scope() -> None:
        clock = Clock()
        nothing = box(tmp_path)
        async with found("tokens", 40.0, nothing, clock) as seen:
            assert seen.meter is None
        async with found("auto", None, nothing, clock) as seen:
            assert seen.meter is None and seen.said.startswith("not readable: ") and "edge.cost.watts" in seen.next_step
        async with found("energy", 40.0, nothing, clock) as seen:
            assert seen.meter is not None and seen.said.startswith("estimated at 40 W")
            assert drawn(seen.meter, lambda: setattr(clock, "at", clock.at + 2)) == pytest.approx(80.0)
        zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 0)
        async with found("auto", 40.0, nothing, clock) as seen:
            assert seen.said == "measured by RAPL package-0", "a measurement goes before an estimate"

    run(scope)


def test_the_doctor_says_whether_energy_can_be_read_and_objects_only_where_it_was_asked_for(tmp_path: Path) -> None:
    def examined(**keys: object) -> Check:
        config = load_config(None, {f"edge.cost.{k}": v for k, v in keys.items()})
        return asyncio.run(energy_check(config, box(tmp_path)))

    missing = examined()
    assert missing.ok and "counted by token price" in missing.found and "edge.cost.watts" in missing.next_step
    assert not examined(basis="energy").ok
    assert examined(basis="tokens").ok and examined(basis="tokens").next_step == ""
    assert examined(basis="energy", watts=40).ok
    zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 0)
    readable = examined(basis="energy", kwh_price=0.25)
    assert readable == Check("energy", True, "measured by RAPL package-0, priced at $0.25 a kWh")
