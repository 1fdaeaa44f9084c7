"""A restart forgets nothing: what decisions taught while they were made is learnt again from the log, to the bit."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from agent.decision.record import inputs_of
from agent.learning.learner import OnlineLearner
from agent.learning.warm_start import SPAN, warm_start
from storage.records import RecordKind
from tests.integration.test_trading import planted, play
from tests.stores import open_store


def test_what_was_learnt_is_learnt_again_from_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lived: list[OnlineLearner] = []

    class Kept(OnlineLearner):
        def __init__(self, start: float) -> None:
            super().__init__(start)
            lived.append(self)

    monkeypatch.setattr("agent.app.recorded.OnlineLearner", Kept)
    made = play(tmp_path / "e.db", planted())

    async def scope() -> None:
        async with open_store(f"sqlite:///{tmp_path / 'e.db'}") as store:
            records = await store.records(made.run.id, RecordKind.DECISION)
            source, after = (await inputs_of(store, records[-1])).source, records[-1].at + timedelta(hours=1)
            again = OnlineLearner(lived[0].start)
            assert await warm_start(store, source, await store.runs(), again, after) > 50
            assert again.known == lived[0].known and again.waiting == lived[0].waiting
            assert again.learned(after) == lived[0].learned(after)
            assert any(s.searched and s.found for _, _, some in again.known for s in some)
            assert any(s.missed is not None for _, _, some in again.known for s in some)
            monkeypatch.setattr("agent.learning.warm_start._PAGE", 7)
            by_page = OnlineLearner(lived[0].start)
            await warm_start(store, source, await store.runs(), by_page, after)
            assert by_page.known == again.known and by_page.waiting == again.waiting
            for module in ("agent.learning.warm_start", "agent.learning.learner"):
                monkeypatch.setattr(f"{module}.NEWEST", 20)
            few = OnlineLearner(lived[0].start)
            assert 20 < await warm_start(store, source, await store.runs(), few, after) < 40, (
                "no more than is learnt from"
            )
            lived[0]._learned = None
            assert few.learned(after) == lived[0].learned(after)
            late = OnlineLearner(0.5)
            assert await warm_start(store, source, await store.runs(), late, after + SPAN) == 0 and not late.known

    asyncio.run(scope())
