"""Ending a task: it has ended, what it raised is raised, and a request to end ourselves is not lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from market.tasks import end


async def _slow_to_end() -> None:
    try:
        await asyncio.sleep(60)
    finally:
        for _ in range(5):
            await asyncio.sleep(0)


def test_a_task_that_is_ended_has_ended() -> None:
    async def scenario() -> None:
        task = asyncio.create_task(_slow_to_end())
        await asyncio.sleep(0)
        await end(task)
        assert task.cancelled()
        await end(task)

    asyncio.run(scenario())


def test_what_it_raised_is_raised() -> None:
    async def fails() -> None:
        raise ValueError("as it is")

    async def scenario() -> None:
        task = asyncio.create_task(fails())
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="as it is"):
            await end(task)

    asyncio.run(scenario())


@pytest.mark.parametrize("steps", range(10))
def test_a_request_to_end_that_comes_meanwhile_is_not_lost(steps: int) -> None:
    """Whenever it comes: while the task is being ended, the caller must not go on."""
    went_on: list[int] = []

    async def caller() -> None:
        task = asyncio.create_task(_slow_to_end())
        await asyncio.sleep(0)
        await end(task)
        await asyncio.sleep(60)
        went_on.append(1)

    async def scenario() -> None:
        running = asyncio.create_task(caller())
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=5)
        assert running in done and running.cancelled() and not went_on
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(scenario())
