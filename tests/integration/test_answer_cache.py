"""Answers from the log in place of the model: the same decisions, nothing spent, and never a wrong one."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path

import pytest

from agent.app.recorded import PaperPlan, World
from agent.app.recordings import open_recording
from agent.config.load import load_config
from agent.config.schema import Config
from agent.llm.scripted import ScriptedEngine
from agent.replay.answer_cache import AnswerCache
from agent.trading.bus import LocalBus
from storage.records import RecordKind
from tests.stores import open_store

pytestmark = pytest.mark.skipif(find_spec("resolvedkit") is None, reason="the extra sample is not installed")
CYCLES = 6


async def ran(
    place: Path, config: Config, engine: ScriptedEngine, *, recall: bool = True
) -> tuple[list[object], int, int]:
    """Decisions, the tokens the engine worked through, and those that were taken from the log."""
    feed = await open_recording("sample")
    recalls: list[AnswerCache] | None = [] if recall else None
    async with open_store(f"sqlite:///{place}") as store:
        world = World(PaperPlan(config, cycles=CYCLES), feed, store, LocalBus(), recalls=recalls)
        run, *_ = await world.agent(engine)
        thoughts: list[object] = [d.body["thought"] for d in await store.records(run.id, RecordKind.DECISION)]
        answers = [d.body["answers"] for d in await store.records(run.id, RecordKind.DECISION)]
    return [thoughts, answers], engine.usage.charged, sum(r.spared.charged for r in recalls or ())


def config(**changes: object) -> Config:
    return load_config(None, {"edge.runtime": "scripted", **changes}, profile="sample")


def test_another_configuration_with_the_same_questions_spends_nothing(tmp_path: Path) -> None:
    asyncio.run(ran(tmp_path / "one.db", config(), ScriptedEngine()))
    other = config(**{"trading.rejection_rate": 0.01})
    found, spent, spared = asyncio.run(ran(tmp_path / "one.db", other, ScriptedEngine()))
    fresh, again, none = asyncio.run(ran(tmp_path / "two.db", other, ScriptedEngine()))
    assert found == fresh
    assert (spent, spared, none) == (0, again, 0)
    assert spared > 0


def test_other_questions_are_asked_and_cost_what_they_cost_without_a_log(tmp_path: Path) -> None:
    asyncio.run(ran(tmp_path / "one.db", config(), ScriptedEngine()))
    other = config(**{"edge.tree_search.branching_factor": 2})
    found, spent, _ = asyncio.run(ran(tmp_path / "one.db", other, ScriptedEngine()))
    fresh, again, _ = asyncio.run(ran(tmp_path / "two.db", other, ScriptedEngine()))
    assert found == fresh
    assert 0 < spent <= again


def test_another_model_has_its_own_answers_and_a_paper_run_recalls_nothing(tmp_path: Path) -> None:
    asyncio.run(ran(tmp_path / "one.db", config(), ScriptedEngine()))
    _, spent, spared = asyncio.run(ran(tmp_path / "one.db", config(), ScriptedEngine(seed=9)))
    assert spent > 0 and spared == 0
    _, spent, spared = asyncio.run(ran(tmp_path / "one.db", config(), ScriptedEngine(), recall=False))
    assert spent > 0 and spared == 0


def test_a_conversation_in_which_the_model_failed_is_had_again(tmp_path: Path) -> None:
    asyncio.run(ran(tmp_path / "one.db", config(), ScriptedEngine(fail_after=3)))
    other = config(**{"trading.rejection_rate": 0.01})
    found, spent, _ = asyncio.run(ran(tmp_path / "one.db", other, ScriptedEngine()))
    fresh, again, _ = asyncio.run(ran(tmp_path / "two.db", other, ScriptedEngine()))
    assert found == fresh and 0 < spent <= again
