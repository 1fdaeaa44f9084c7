"""Supervisor of one serving child process: starts it, watches it, kills it when it hangs, starts it again.

Independent of HTTP and models: `alive` tests the child, `ready` makes a fresh one usable. A child that has
lost its engine may ignore SIGTERM, so SIGKILL follows; one that keeps dying is left alone for a while.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from market.clock import monotonic
from market.errors import EdgeclawError, NotReady
from market.tasks import end

_KEPT = 4000
"""Bytes of the child's latest output that are kept."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Time-outs in seconds: for a child to come up, between checks, for it to end after SIGTERM, before the first
    restart (doubled each time). `misses` checks in a row must fail; `crashes` within `window` seconds are a crash loop,
    after which the next start waits as long."""

    start: float = 300.0
    poll: float = 0.25
    watch: float = 5.0
    stop: float = 10.0
    back_off: float = 1.0
    misses: int = 2
    crashes: int = 5
    window: float = 600.0


class Supervisor:
    """Supervisor of the child. `trouble` is the reason why it must not be asked now, or empty."""

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        alive: Callable[[], Awaitable[bool]],
        patience: Patience = Patience(),
    ) -> None:
        self._argv, self._environment = tuple(argv), dict(environment)
        self._alive = alive
        self._patience = patience
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._ready: Callable[[], Awaitable[None]] | None = None
        self._nudged = asyncio.Event()
        self._said = b""
        self._crashes: deque[float] = deque()
        self.trouble = "it is starting."

    async def start(self) -> None:
        """Start the child and wait until it is alive. Raises NotReady, with its last line of output, if it does not
        come up."""
        try:
            await self._spawn()
        except BaseException:
            await self._end()
            raise
        self.trouble = ""

    def keep(self, ready: Callable[[], Awaitable[None]]) -> None:
        """Watch the child from now on and replace it when it fails; `ready` is awaited on each new one."""
        self._ready = ready
        self._watcher = asyncio.create_task(self._watch())
        self._watcher.add_done_callback(self._unwatched)

    def _unwatched(self, watcher: asyncio.Task[None]) -> None:
        """Mark a child without a watch as unusable, whatever ended the watch."""
        if not watcher.cancelled():
            self.trouble = f"it is no longer watched ({watcher.exception()})."

    def look(self) -> None:
        """Check the child now rather than at the next interval."""
        self._nudged.set()

    async def stop(self) -> None:
        """End the watch and the child."""
        self.trouble = "it was stopped."
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        await self._end()

    async def _spawn(self) -> None:
        self._said = b""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                # A process group of its own, so that `_end` reaches the child's workers, too.
                start_new_session=True,
            )
        except OSError as error:
            raise NotReady(f"{self._argv[0]} cannot be started: {error.strerror}.") from error
        self._listener = asyncio.create_task(self._listen(self._process))
        ends = monotonic() + self._patience.start
        while not await self._alive():
            if self._process.returncode is not None:
                raise NotReady(
                    f"The model server ended at once ({self._process.returncode}): {await self._last_words()}"
                )
            if monotonic() >= ends:
                raise NotReady(
                    f"The model server did not come up within {self._patience.start:g} s: {await self._last_words()}"
                )
            await asyncio.sleep(self._patience.poll)

    async def _watch(self) -> None:
        misses = 0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience.watch if not misses else self._patience.poll):
                    await self._nudged.wait()
            self._nudged.clear()
            process = self._process
            gone = process is None or process.returncode is not None
            misses = 0 if not gone and await self._alive() else misses + 1
            # One missed check is not enough: a long prefill keeps a healthy engine silent for as long as it takes.
            if gone or misses >= self._patience.misses:
                why = "it ended by itself" if gone else "it no longer answers"
                await self._replace(why)
                misses = 0

    async def _replace(self, why: str) -> None:
        """Restart until a new child is ready; each failure on the way counts as a crash."""
        while True:
            self.trouble = f"{why}, and is being started again."
            await self._end()
            await asyncio.sleep(self._pause(why))
            try:
                await self._spawn()
                if self._ready is not None:
                    await self._ready()
            except EdgeclawError as error:
                why = str(error).rstrip(".")
                continue
            self.trouble = ""
            return

    def _pause(self, why: str) -> float:
        """Seconds before the next start; a whole window after a crash loop."""
        now, patience = monotonic(), self._patience
        self._crashes.append(now)
        while self._crashes[0] < now - patience.window:
            self._crashes.popleft()
        if len(self._crashes) >= patience.crashes:
            self.trouble = f"it failed {len(self._crashes)} times within {patience.window:g} s; the last time {why}."
            return patience.window
        return float(patience.back_off * 2 ** (len(self._crashes) - 1))

    async def _end(self) -> None:
        """SIGTERM, grace period, SIGKILL; to the whole process group, so that no worker of the child is left."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            _signal(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience.stop):
                    await process.wait()
        _signal(process.pid, signal.SIGKILL)
        await process.wait()
        self._process = None
        if self._listener is not None:
            await end(self._listener)  # a worker that left the group might hold the pipe open

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Drain the child's output, so that it never blocks on a full pipe."""
        if process.stdout is None:
            return
        while chunk := await process.stdout.read(4096):
            self._said = (self._said + chunk)[-_KEPT:]

    async def _last_words(self) -> str:
        if self._listener is not None:
            await asyncio.wait([self._listener], timeout=0.5)  # lets the latest output arrive
        lines = [line.strip() for line in self._said.decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1][-200:] if lines else "it said nothing."


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
