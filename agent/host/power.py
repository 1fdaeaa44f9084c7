"""Energy meters of this machine in joules: RAPL, graphics cards, a board sensor, or a configured wattage.

A reading covers the whole machine or chip, other programs included. Independent of tokens, prices
and decisions; readings are measurements like durations are, and enter no hash.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from market.clock import monotonic
from market.errors import NotReady

Seconds = Callable[[], float]
"""A clock for durations."""

_OR_WATTS = "or set edge.cost.watts"
_ALLOW = (
    "Where every user of this box is trusted, run `sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj`, "
    f"{_OR_WATTS}."
)


class Meter(Protocol):
    """An energy meter; only differences between two readings have a meaning."""

    @property
    def source(self) -> str:
        """Description of the source for display."""
        ...

    def joules(self) -> float | None:
        """Joules since a fixed but arbitrary origin; None while it cannot be read. Never blocks for long."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Locations of the sensors, sampling interval (`every`, seconds) of powers without a counter, and how long to wait
    for a first sample (`patience`, seconds)."""

    powercap: Path = Path("/sys/class/powercap")
    hwmon: Path = Path("/sys/class/hwmon")
    nvidia: Sequence[str] = ("nvidia-smi",)
    every: float = 0.2
    patience: float = 5.0


BOX = Sources()
"""Standard locations on Linux."""


@dataclass(frozen=True, slots=True)
class MeterChoice:
    """A meter, or None with the reason. `said` completes "energy: ..."."""

    meter: Meter | None
    said: str
    next_step: str = ""


@asynccontextmanager
async def found(
    basis: str, watts: float | None, sources: Sources = BOX, clock: Seconds = monotonic
) -> AsyncIterator[MeterChoice]:
    """The meter by which dollars are counted: none where `basis` is tokens, else a measurement, else the constant
    `watts` for as long as the engine works. Never raises for a machine that cannot be read."""
    if basis == "tokens":
        yield MeterChoice(None, "not asked for (edge.cost.basis is tokens)")
        return
    async with AsyncExitStack() as stack:
        yield await _best(stack, watts, sources, clock)


async def _best(stack: AsyncExitStack, watts: float | None, sources: Sources, clock: Seconds) -> MeterChoice:
    try:
        meter = await stack.enter_async_context(open_meter(sources, clock))
    except NotReady as missing:
        if watts is None:
            return MeterChoice(None, f"not readable: {missing}", missing.next_step)
        return MeterChoice(Constant(watts, clock), f"estimated at {watts:g} W, because it is not readable: {missing}")
    return MeterChoice(meter, f"measured by {meter.source}")


@asynccontextmanager
async def open_meter(sources: Sources = BOX, clock: Seconds = monotonic) -> AsyncIterator[Meter]:
    """RAPL plus graphics cards where there are any; else a sensor for the whole board. Cards alone are not enough: a
    model that runs on the processor would seem to draw nothing. Raises NotReady with RAPL's reason."""
    async with AsyncExitStack() as stack:
        yield await _measuring(stack, sources, clock)


async def _measuring(stack: AsyncExitStack, sources: Sources, clock: Seconds) -> Meter:
    try:
        processor = rapl(sources.powercap)
    except NotReady as missing:
        try:
            return await stack.enter_async_context(board(sources, clock))
        except NotReady:
            raise missing from None
    try:
        return MeterSum([processor, await stack.enter_async_context(gpus(sources, clock))])
    except NotReady:  # most boxes have no such card
        return processor


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant power of `watts`, configured rather than measured."""

    watts: float
    clock: Seconds = monotonic

    @property
    def source(self) -> str:
        return f"a given {self.watts:g} W"

    def joules(self) -> float | None:
        return self.watts * self.clock()


@dataclass(frozen=True, slots=True)
class MeterSum:
    """Sum of disjoint meters; None while one of them is."""

    meters: Sequence[Meter]

    @property
    def source(self) -> str:
        return " and ".join(m.source for m in self.meters)

    def joules(self) -> float | None:
        read = [m.joules() for m in self.meters]
        known = [r for r in read if r is not None]
        return sum(known) if len(known) == len(read) else None


@dataclass(slots=True)
class Zone:
    """A RAPL domain: a counter of microjoules that wraps around at `span`. It must be read before it wraps twice
    (minutes to an hour, by the chip); within an engine call it always is."""

    path: Path
    name: str
    span: int
    last: int
    total: int = 0

    @classmethod
    def at(cls, path: Path) -> Zone:
        """The domain in a powercap directory. Raises OSError or ValueError where a file is missing, forbidden or not a
        number."""
        span = _number(path / "max_energy_range_uj")
        return cls(path=path, name=_text(path / "name"), span=span, last=_number(path / "energy_uj"))

    def microjoules(self) -> int:
        now = _number(self.path / "energy_uj")
        self.total += now - self.last + (self.span if now < self.last else 0)
        self.last = now
        return self.total


@dataclass(frozen=True, slots=True)
class Rapl:
    """Sum of the processor packages and memory domains. Intel and AMD expose the same files."""

    zones: Sequence[Zone]

    @property
    def source(self) -> str:
        return "RAPL " + ", ".join(z.name for z in self.zones)

    def joules(self) -> float | None:
        try:
            return sum(z.microjoules() for z in self.zones) / 1e6
        except (OSError, ValueError):
            return None


def rapl(root: Path) -> Rapl:
    """The RAPL counters under `root`. Raises NotReady if there is no package, or one of them cannot be read.

    Parts of a package (core, uncore), the platform that contains it (psys) and its second face (intel-rapl-mmio) would
    count the same joules twice; memory that cannot be read is left out, and `source` shows what is in.
    """
    zones: list[Zone] = []
    for path in sorted(root.glob("intel-rapl:*")):
        name = _named(path)
        if not name.startswith(("package", "dram")):
            continue
        try:
            zones.append(Zone.at(path))
        except (OSError, ValueError) as error:
            if name.startswith("package"):
                raise _refused(path, error) from None
    if not any(z.name.startswith("package") for z in zones):
        raise NotReady(
            "this box shows no RAPL energy counters; virtual machines hide them.",
            next_step=f"On bare metal, run `sudo modprobe intel_rapl_msr`, {_OR_WATTS}.",
        )
    return Rapl(zones)


def _refused(path: Path, error: OSError | ValueError) -> NotReady:
    if isinstance(error, PermissionError):
        return NotReady("the RAPL energy counters may be read by root alone.", next_step=_ALLOW)
    return NotReady(f"the RAPL counter {path.name} holds no usable number.", next_step=f"Read it by hand, {_OR_WATTS}.")


@dataclass(slots=True)
class Integral:
    """Power integrated over time, each sample held until the next. None before the first, permanently after a sample
    that is not a number, and while the last sample is older than `stale` seconds."""

    clock: Seconds
    stale: float
    total: float = 0.0
    watts: float | None = None
    at: float = 0.0
    broken: bool = False

    def sample(self, watts: float | None) -> None:
        now = self.clock()
        if self.watts is not None:
            self.total += self.watts * (now - self.at)
        self.watts, self.at = watts, now
        self.broken = self.broken or watts is None

    def joules(self) -> float | None:
        age = self.clock() - self.at
        if self.broken or self.watts is None or age > self.stale:
            return None
        return self.total + self.watts * age


@dataclass(slots=True)
class Sampled:
    """Named powers without a counter, sampled by a task: graphics cards, or a board sensor."""

    label: str
    clock: Seconds
    every: float
    powers: dict[str, Integral] = field(default_factory=dict)
    ended: bool = False
    first: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def source(self) -> str:
        return f"{self.label} every {self.every:g} s"

    def sample(self, name: str, watts: float | None) -> None:
        if name not in self.powers:
            self.powers[name] = Integral(self.clock, max(10 * self.every, 3.0))
        self.powers[name].sample(watts)
        self.first.set()

    def joules(self) -> float | None:
        read = [p.joules() for p in self.powers.values()]
        known = [r for r in read if r is not None]
        return sum(known) if known and len(known) == len(read) and not self.ended else None

    async def ready(self, patience: float) -> None:
        """Wait up to `patience` seconds for the first sample. Raises NotReady if there is none, or it is not a
        number."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.first.wait(), patience)
        if self.joules() is None:
            raise NotReady(f"{self.label} reports no power.", next_step=f"Run it by hand, {_OR_WATTS}.")


@asynccontextmanager
async def gpus(sources: Sources, clock: Seconds = monotonic) -> AsyncIterator[Sampled]:
    """Power draw of all NVIDIA cards, from one `nvidia-smi` process in loop mode. The driver averages over up to a
    second, so a much shorter call gets the mean around it. Raises NotReady."""
    command = [
        *sources.nvidia,
        "--query-gpu=index,power.draw",
        "--format=csv,noheader,nounits",
        f"--loop-ms={max(1, round(sources.every * 1e3))}",
    ]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise NotReady(f"{command[0]} cannot be run: {error.strerror}.") from None
    meter = Sampled("nvidia-smi", clock, sources.every)
    reading = asyncio.create_task(_listen(process, meter))
    try:
        await meter.ready(sources.patience)
        yield meter
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):  # it may have ended in the meantime
                process.kill()
        await reading


async def _listen(process: asyncio.subprocess.Process, meter: Sampled) -> None:
    """Read lines "0, 41.30" until the program ends; a card without a reading prints words instead."""
    assert process.stdout is not None  # noqa: S101 - it was opened with a pipe
    with suppress(ValueError):  # a line without an end: not the program we know
        async for line in process.stdout:
            index, _, power = line.decode(errors="replace").partition(",")
            meter.sample(index.strip(), _watts(power))
    meter.ended = True
    meter.first.set()
    await process.wait()


@asynccontextmanager
async def board(sources: Sources, clock: Seconds = monotonic) -> AsyncIterator[Sampled]:
    """A sensor for the whole board: the input rail of a Jetson, or a server's ACPI power meter. Sensors of single parts
    are ignored, because it is unknown which of them overlap. Raises NotReady."""
    read = _sensor(sources.hwmon)
    if read is None:
        raise NotReady("no sensor sees the whole board.")
    meter = Sampled("the board's own sensor", clock, sources.every)
    reading = asyncio.create_task(_poll(read, meter))
    try:
        await meter.ready(sources.patience)
        yield meter
    finally:
        reading.cancel()
        await asyncio.wait([reading])


async def _poll(read: Callable[[], float | None], meter: Sampled) -> None:
    while True:
        meter.sample("board", await asyncio.to_thread(read))  # an ACPI meter may take a second to answer
        await asyncio.sleep(meter.every)


def _sensor(root: Path) -> Callable[[], float | None] | None:
    """A function that reads the board's power in watts, or None."""
    for folder in sorted(root.glob("hwmon*")):
        name = _named(folder)
        if name == "power_meter":
            return lambda at=folder: _product(1e-6, at / "power1_average")  # type: ignore[misc]
        for label in sorted(folder.glob("in*_label")) if name == "ina3221" else ():
            if _named(label.parent, label.name) == "VDD_IN":
                number = label.name.removeprefix("in").removesuffix("_label")
                volts, amperes = folder / f"in{number}_input", folder / f"curr{number}_input"  # in thousandths
                return lambda: _product(1e-6, volts, amperes)
    return None


def _product(scale: float, *files: Path) -> float | None:
    try:
        for file in files:
            scale *= _number(file)
    except (OSError, ValueError):
        return None
    return scale


def _watts(text: str) -> float | None:
    try:
        watts = float(text)
    except ValueError:
        return None
    return watts if 0 <= watts < float("inf") else None


def _number(path: Path) -> int:
    """A non-negative integer from a file. Raises OSError or ValueError."""
    value = int(_text(path))
    if value < 0:
        raise ValueError(f"{path.name} is negative")
    return value


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()


def _named(folder: Path, file: str = "name") -> str:
    try:
        return _text(folder / file)
    except (OSError, ValueError):
        return ""
