"""`edgeclaw resume` where an account has lost what it may, and where it has not."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from market.clock import WallClock
from market.types import UNIT
from storage.records import RunIdentity, RunManifest
from tests.running import EDGECLAW
from tests.stores import open_store
from tests.unit.test_loss_limits import round_trip
from tools.halts import KillSwitch

RISK = {"loss": "500", "daily_loss": "50", "drawdown": "500"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with an open run that has lost 55 dollars today, and that a limit has halted."""
    now = WallClock().now()

    async def scope() -> None:
        async with open_store(f"sqlite:///{tmp_path / 'edgeclaw.db'}") as store:
            about = RunManifest(cash=1000 * UNIT, account="paper", config={"config": {"risk": RISK}})
            run = await store.begin_run(RunIdentity("d", "c", "x", "m"), about.to_json(), now)
            log = store.log(run.id)
            for fill in round_trip(1, datetime.combine(now.date(), datetime.min.time(), UTC), 55):
                await log.fill(fill)

    asyncio.run(scope())
    KillSwitch(tmp_path).throw("lost", "a limit", now - timedelta(seconds=1))
    return tmp_path


def run(home: Path, *words: str) -> tuple[int, str]:
    """Exit code and what is said."""
    ended = subprocess.run(
        [*EDGECLAW, *words], env={**os.environ, "EDGECLAW_HOME": str(home)}, capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_a_margin_is_asked_for_and_kept(home: Path) -> None:
    code, said = run(home, "resume", "--reason", "looked")
    assert code == 4 and "of $55.000000 reached the limit of $50.000000 on paper" in said and "--margin 25" in said
    assert said.count("\n") == 1
    code, said = run(home, "resume", "--reason", "looked", "--json")
    assert code == 4 and "$55.000000" in json.loads(said)["error"]
    for wrong in ("0", "-3", "much", "0.0000001", "NaN", "Infinity"):
        assert run(home, "resume", "--reason", "looked", "--margin", wrong)[0] == 2
    code, said = run(home, "status", "--json")
    assert code == 4 and "$55.000000" in json.loads(said)["accounts"][0]["breach"]
    assert KillSwitch(home).read() is not None and KillSwitch(home).resumes() == []
    code, said = run(home, "resume", "--reason", "looked", "--margin", "12.50", "--json")
    told: dict[str, Any] = json.loads(said)
    assert code == 0 and told["was"]["reason"] == "lost"
    assert (told["margin_micro_dollars"], told["reset_limits"]) == (12_500_000, False)
    (resumed,) = KillSwitch(home).resumes()
    assert (resumed.margin, resumed.reset) == (12_500_000, False)
    code, said = run(home, "status", "--json")
    assert code == 0 and json.loads(said)["accounts"][0]["breach"] == ""


def test_limits_are_reset_where_that_is_asked_for(home: Path) -> None:
    assert run(home, "resume", "--reason", "looked", "--reset-limits")[0] == 0
    (resumed,) = KillSwitch(home).resumes()
    assert resumed.reset and resumed.margin is None
    _, said = run(home, "status", "--json")
    (account,) = json.loads(said)["accounts"]
    assert (account["breach"], account["earned"]) == ("", 0)


def test_where_no_limit_is_reached_no_margin_is_needed(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path)
    switch.throw("a look", "a person", WallClock().now())
    assert run(tmp_path, "resume", "--reason", "looked")[0] == 0
    assert [(r.margin, r.reset) for r in switch.resumes()] == [(None, False)]
    assert run(tmp_path, "resume", "--reason", "looked")[0] == 1
