"""Databases that the version before the rooms made: they read, list, verify and replay as they did, and a live account
goes on from them. How they were made is in tests/data/before_moves/README.md."""

from __future__ import annotations

import asyncio
import json
import lzma
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from typer.testing import CliRunner

from agent.app.traders import BASELINES
from agent.cli import app
from agent.config.load import load_config
from agent.learning.learner import OnlineLearner
from agent.learning.warm_start import warm_start
from agent.live.recovery import load_account_history, runs_of
from agent.llm.engine import ModelIdentity, Usage
from agent.reports.run_summary import summarise
from agent.trading.result import RunResult
from storage.canonical import plain
from storage.decisions import RecordedDecision, thought_of
from storage.records import Record, RecordKind, RunIdentity, RunManifest
from storage.store import Store, open_store
from tools.ledger import Ledger

T = TypeVar("T")
KEPT = Path(__file__).parents[1] / "data" / "before_moves"


@dataclass(frozen=True, slots=True)
class Before:
    """A home with the database, and what the version before said of it."""

    home: Path
    said: dict[str, Any]

    def asked(self, *words: str) -> Any:
        """Output of today's verb, as JSON."""
        ran = CliRunner().invoke(app, [*words, "--json"], env={"EDGECLAW_HOME": str(self.home)}, catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        return json.loads(ran.stdout)

    def read(self, ask: Callable[[Store], Awaitable[T]]) -> T:
        async def scope() -> T:
            async with open_store(f"sqlite:///{self.home / 'edgeclaw.db'}") as store:
                return await ask(store)

        return asyncio.run(scope())


def unpacked(name: str, home: Path) -> Before:
    (home / "edgeclaw.db").write_bytes(lzma.decompress((KEPT / f"{name}.db.xz").read_bytes()))
    return Before(home, json.loads((KEPT / f"{name}.json").read_text()))


@pytest.fixture(scope="module", params=["paper", "live"])
def before(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Before:
    """Both databases; they are only read."""
    return unpacked(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def account(tmp_path: Path) -> Before:
    """The live account's database, to go on with."""
    return unpacked("live", tmp_path)


def test_its_runs_and_decisions_are_listed_as_they_were(before: Before) -> None:
    assert before.asked("log", "list", "--runs") == before.said["runs"]
    for run, said in before.said["of"].items():
        assert before.asked("log", "list", "--run", run) == said["list"]
        assert before.asked("log", "list", "--why", "--run", run) == said["reasons"]


def test_every_hash_and_link_holds(before: Before) -> None:
    assert before.asked("log", "verify") == before.said["verify"] == []


def test_every_decision_replays_to_the_byte(before: Before) -> None:
    for run, said in before.said["of"].items():
        found = before.asked("log", "replay", "--all", "--run", run)
        assert found == said["replay"] and found
        assert all(replayed["differences"] == [] for replayed in found)


def test_decisions_are_explained_with_the_same_words(before: Before) -> None:
    shown = [one for said in before.said["of"].values() for one in said["show"].items()]
    assert shown
    for decision, said in shown:
        assert before.asked("log", "show", decision) == said


def test_figures_are_what_they_were(before: Before) -> None:
    for run, said in before.said["of"].items():
        monitored = before.asked("monitor", "edge-runtime", "--run", run)
        assert {k: v for k, v in monitored.items() if k != "health"} == said["monitor"]
        if "ladder" in said:
            assert before.asked("evidence", "ladder", "--run", run) == said["ladder"]


def test_the_summary_of_a_run_is_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = unpacked("paper", tmp_path)
    monkeypatch.setenv("EDGECLAW_HOME", str(tmp_path))
    said = before.said["summary"]
    runs = {run.id: run for run in before.read(lambda store: store.runs())}
    lines = {line["name"]: runs[line["run_id"]] for line in said["traders"]}
    result = RunResult(
        run=runs[said["run_id"]],
        appended=said["appended"],
        compared=said["compared"],
        ticks=(),
        engine=ModelIdentity("scripted", "scripted", ""),
        used=Usage(prompt=said["engine_tokens"]),
        halted="",
        baselines=tuple((strategy, lines[strategy.name]) for strategy in BASELINES),
        energy=said["cost"]["energy"],
    )
    made = asyncio.run(summarise(load_config(None, profile="sample"), result))
    assert json.loads(json.dumps(plain(made))) == said


def test_every_record_of_the_first_version_is_read_whole(before: Before) -> None:
    async def decisions(store: Store) -> list[Record]:
        return [r for run in await store.runs() for r in await store.records(run.id, RecordKind.DECISION)]

    found = before.read(decisions)
    assert found
    for record in found:
        decision = RecordedDecision.of(record)
        assert decision.version == 1 and "version" not in record.body
        assert plain(decision.thought()) == thought_of(record), "nothing is lost on the way"


def test_a_live_account_stands_as_it_did(account: Before) -> None:
    found, said = account.asked("status"), account.said["status"]
    (now,), (then,) = found.pop("accounts"), said["accounts"]
    assert found == {"halted": said["halted"]}
    # Fields may be added, and what is there stays.
    assert now == then | {"breach": "", "active": True}


def test_a_new_run_takes_the_account_over(account: Before) -> None:
    (told,) = account.said["status"]["accounts"]

    async def scope(store: Store) -> None:
        earlier = await runs_of(store, told["account"])
        begun = earlier[-1].started_at + timedelta(hours=1)
        manifest = RunManifest(data="polymarket", cash=earlier[0].about.cash, account=told["account"])
        run = await store.begin_run(RunIdentity("d", "c", "today", "m", "live:agent/1"), manifest.to_json(), begun)
        assert [r.id for r in await runs_of(store, told["account"])] == [*(r.id for r in earlier), run.id]
        past = await load_account_history(store, told["account"], run.id)
        ledger = Ledger(past.cash, past.fills, past.settlements)
        assert ledger.cash == told["cash"] and past.since == earlier[0].started_at
        assert len(past.fills) == told["fills"] and len(past.working) == told["working"] == 1
        held = {(past.markets[m].slug, outcome.value): size for (m, outcome), size in ledger.holdings.items()}
        assert held == {(p["market"], p["outcome"]): p["size"] for p in told["positions"]}
        assert set(past.unsettled) >= {m for m, _ in ledger.holdings}

    account.read(scope)


def test_what_its_decisions_taught_is_learnt_again(account: Before) -> None:
    async def scope(store: Store) -> None:
        (told,) = account.said["status"]["accounts"]
        runs = await runs_of(store, told["account"])
        made = [r for run in runs for r in await store.records(run.id, RecordKind.DECISION)]
        priced = [r for r in made if RecordedDecision.of(r).mid is not None]
        assert await warm_start(store, "source", runs, OnlineLearner(0.1), made[-1].at) == len(priced) > 0

    account.read(scope)
