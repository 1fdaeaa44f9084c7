"""Tasks beside a block of code: cancelled by their owner, and never failing unseen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended; raises its exception. A cancellation of the caller meanwhile is raised
    here: suppressing CancelledError around `await task` would swallow that one too, and its requester would wait for
    ever."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


@asynccontextmanager
async def alongside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Context in which coroutines run as tasks, which are cancelled when it ends. An exception of one ends the block at
    once, as if it had been raised there: what runs beside a run must not fail unseen. A block that is cancelled from
    outside as well stays cancelled."""
    here = asyncio.current_task()
    if here is None:
        raise RuntimeError("alongside needs a task to end")
    tasks = [asyncio.ensure_future(one) for one in work]
    failed: list[BaseException] = []

    def ended(task: asyncio.Future[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            if not failed:
                here.cancel(f"{type(error).__name__}: {error}")
            failed.append(error)

    for task in tasks:
        task.add_done_callback(ended)
    await asyncio.sleep(0)  # each takes its first step before the block begins
    try:
        try:
            yield
        finally:
            await _ended(tasks, ended)
    except asyncio.CancelledError:
        # Cancelled by a task alone: its error takes the place of the cancellation.
        if failed and here.uncancel() == 0:
            raise failed[0] from None
        raise


async def _ended(tasks: Sequence[asyncio.Future[None]], watcher: Callable[[asyncio.Future[None]], None]) -> None:
    """Cancel the tasks, and wait until they have ended."""
    for task in tasks:
        task.remove_done_callback(watcher)
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
