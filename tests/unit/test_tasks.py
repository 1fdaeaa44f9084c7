"""Tasks beside a block: none fails unseen or outlives it, and a request to end ourselves is not lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from market.tasks import alongside, end


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


class Broken(Exception):
    """A fault of a task."""


async def fails(after: float = 0.01) -> None:
    await asyncio.sleep(after)
    raise Broken("a fault")


def test_a_failure_ends_the_block_at_once_with_its_own_error() -> None:
    reached = []

    async def scenario() -> None:
        async with alongside(asyncio.sleep(60), fails()):
            await asyncio.sleep(60)
            reached.append("the end")

    with pytest.raises(Broken, match="a fault"):
        asyncio.run(asyncio.wait_for(scenario(), 5))
    assert not reached


def test_the_block_is_told_why_it_is_cancelled_before_it_ends() -> None:
    """What it cleans up may be logged, and the reason belongs there."""
    heard = []

    async def scenario() -> None:
        async with alongside(fails()):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError as stop:
                heard.append(str(stop))
                await asyncio.sleep(0)  # a clean-up may wait
                raise

    with pytest.raises(Broken):
        asyncio.run(scenario())
    assert heard == ["Broken: a fault"]


def test_a_cancellation_from_outside_stays_one() -> None:
    async def scenario() -> None:
        async def block() -> None:
            async with alongside(fails(60)):
                await asyncio.sleep(60)

        task = asyncio.create_task(block())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_tasks_end_with_the_block_and_its_own_error_stands() -> None:
    ended = []

    async def works() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended.append(True)

    async def scenario() -> None:
        async with alongside(works(), works()):
            raise Broken("the block's")

    with pytest.raises(Broken, match="block's"):
        asyncio.run(scenario())
    assert ended == [True, True]


def test_blocks_in_each_other_end_from_the_inside() -> None:
    async def scenario() -> list[str]:
        order = []
        try:
            async with alongside(fails()):
                try:
                    async with alongside(asyncio.sleep(60)):
                        await asyncio.sleep(60)
                finally:
                    order.append("inner")
        except Broken:
            order.append("outer")
        return order

    assert asyncio.run(scenario()) == ["inner", "outer"]


def test_a_task_that_ends_by_itself_ends_nothing() -> None:
    async def scenario() -> str:
        async with alongside(asyncio.sleep(0)):
            await asyncio.sleep(0.02)
        return "done"

    assert asyncio.run(scenario()) == "done"
