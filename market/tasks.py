"""Cancellation of a task by its owner."""

from __future__ import annotations

import asyncio
from typing import Any


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended; raises its exception. A cancellation of the caller meanwhile is raised
    here: suppressing CancelledError around `await task` would swallow that one too, and its requester would wait for
    ever."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
