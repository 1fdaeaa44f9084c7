"""One program trades an account. Real processes, real locks: the holder is killed, frozen, and comes back too late."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from market.errors import NotReady
from market.types import Ack, OrderStatus
from storage.connection import open_database
from storage.lease import leased
from storage.migrate import prepare
from storage.records import RunIdentity
from storage.store import open_store
from tests.fakes import START

HOLD = """
import asyncio, sys
from storage.store import open_store
from tests.fakes import START
async def hold():
    async with open_store(sys.argv[1]) as store, store.leased(sys.argv[2], START):
        print("held", flush=True)
        await asyncio.sleep(60)
asyncio.run(hold())
"""


@contextmanager
def holder(url: str, account: str = "mine") -> Iterator[subprocess.Popen[str]]:
    """Another program that holds the account."""
    where = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, url, account], stdout=subprocess.PIPE, text=True, cwd=where
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'e.db'}"


def test_a_second_program_is_told_and_the_first_goes_on(url: str) -> None:
    check_one_at_a_time(url)


def test_a_database_has_one_lock_by_whatever_name_it_is_reached(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)

    async def scope() -> None:
        async with open_store(f"sqlite:///{tmp_path / 'link' / 'e.db'}") as store:
            with holder(f"sqlite:///{tmp_path / 'e.db'}"), pytest.raises(NotReady, match="trades mine already"):
                async with store.leased("mine", START):
                    pass

    asyncio.run(scope())


def test_a_holder_that_is_killed_holds_nothing(url: str) -> None:
    check_killed(url)


def test_who_was_replaced_can_write_nothing_any_more(url: str) -> None:
    check_fenced(url)


def check_one_at_a_time(url: str) -> None:
    async def scope() -> None:
        async with open_store(url) as store:
            with holder(url):
                with pytest.raises(NotReady, match="Another agent trades mine already"):
                    async with store.leased("mine", START):
                        pass
                async with store.leased("another", START):
                    pass

    asyncio.run(scope())


def check_killed(url: str) -> None:
    async def scope() -> None:
        async with open_store(url) as store:
            with holder(url) as process:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            async with asyncio.timeout(10):
                while True:
                    try:
                        async with store.leased("mine", START) as lease:
                            assert lease.token == 2 and not lease.taken_from, "it died on this machine"
                            return
                    except NotReady:  # a server takes a moment to notice
                        await asyncio.sleep(0.05)

    asyncio.run(scope())


def check_fenced(url: str) -> None:
    """A holder whose lock was lost while it was cut off: another takes the account, and the first one comes back."""

    async def scope() -> None:
        async with open_store(url) as store:
            run = await store.begin_run(RunIdentity("d", "c", "x", "m"), {}, START)
            async with store.leased("mine", START) as lease:
                log = store.log(run.id, lease)
                await log.ack(Ack("a", OrderStatus.LIVE), START)
                await _pass_to_another_machine(url)
                with pytest.raises(NotReady, match=r"taken over mine \(box-2/77\)"):
                    await log.ack(Ack("b", OrderStatus.LIVE), START)
            assert (await store.run(run.id)).records == 1  # type: ignore[union-attr]
            async with store.leased("mine", START + timedelta(minutes=1)) as again:
                assert again.token == 3 and again.taken_from == "box-2/77", "which nobody knows to be dead"
                log = store.log(run.id, again)
                await log.go_on()
                await log.ack(Ack("b", OrderStatus.LIVE), START)

    asyncio.run(scope())


async def _pass_to_another_machine(url: str) -> None:
    from sqlalchemy import text

    async with open_database(url) as database:
        taken = text("UPDATE leases SET token = token + 1, holder = 'box-2/77' WHERE account = 'mine'")
        await database.write(lambda connection: connection.execute(taken))


def test_a_lease_is_given_back_in_an_orderly_end(url: str) -> None:
    async def scope() -> None:
        async with open_database(url) as database:
            await database.call(lambda: prepare(database))
            for token in (1, 2, 3):
                async with leased(database, "mine", START) as lease:
                    assert lease.token == token and not lease.taken_from

    asyncio.run(scope())
