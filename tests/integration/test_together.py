"""Several markets thought about at the same time: each hears and pays what it would alone, and none waits for another
that has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from agent.app.engines import open_engine
from agent.app.recorded import PaperPlan, World
from agent.config.load import load_config
from agent.llm.engine import Answers, Engine, Generated, Question, Sampling
from agent.llm.llamacpp.engine import LlamaEngine
from agent.llm.scripted import ScriptedEngine
from agent.llm.together import Conversation, Shared, SharedEngine
from agent.replay.replay import replay as again
from agent.trading.bus import LocalBus
from backtest.columns import Recording
from backtest.replay import ReplayFeed
from market.errors import EngineUnavailable, LedgerMismatch, Misconfigured
from market.types import PayoutSource, Resolution
from storage.records import Record, RecordKind
from tests.engines import LABELS, STATIC, loaded, questions
from tests.fakes import book, levels, market, replay
from tests.integration.test_trading import up
from tests.stores import open_store

Said = list[tuple[object, tuple[int, int, int, int]]]
WINDOWS, SECONDS = 70, 300


def talks() -> list[list[Sequence[Question]]]:
    """Questions of three conversations, call by call: of different lengths, with a beginning in common."""
    shared = [questions(3), questions(2, state=7)]
    return [[*shared, questions(4), questions(4)], [*shared, questions(1, state=9)], [questions(4, state=40)]]


async def told(engine: Engine, calls: Sequence[Sequence[Question]], *, writes: bool) -> Said:
    """Answers and charges of an engine; the charge it foresees is the one it makes."""
    said: Said = []
    for asked in calls:
        foreseen = engine.tokens_needed([q.prompt for q in asked])
        answers: Answers = await engine.classify(asked)
        assert answers.usage.prompt == foreseen
        used = answers.usage
        said.append((answers.probabilities, (used.prompt, used.cached, used.generated, used.calls)))
    if writes:
        made: Generated = await engine.generate(
            STATIC.then("In one word:"), max_tokens=4, sampling=Sampling(0.7, seed=1)
        )
        used = made.usage
        said.append((made.texts, (used.prompt, used.cached, used.generated, used.calls)))
    return said


async def _alike(engine: Shared) -> None:
    await engine.prime(STATIC)
    apart = []
    for number, calls in enumerate(talks()):
        await engine.forget()
        apart.append(await told(engine, calls, writes=number == 1))
    together = SharedEngine(engine, 3)

    async def one(number: int, talk: Conversation) -> Said:
        said = await told(talk, talks()[number], writes=number == 1)
        talk.leave()
        return said

    async with together.conversations(3) as three:
        found = await asyncio.wait_for(asyncio.gather(*(one(n, talk) for n, talk in enumerate(three))), 60)
    assert found == apart
    assert together.batches < sum(map(len, talks()))
    assert together.usage.charged == sum(used[0] + used[2] for said in apart for _, used in said)


def test_each_hears_and_pays_what_it_would_alone() -> None:
    asyncio.run(_alike(ScriptedEngine(seed=3)))


@pytest.fixture(scope="module")
def llama() -> Iterator[tuple[asyncio.Runner, LlamaEngine]]:
    with loaded() as found:
        yield found


@pytest.mark.model
def test_each_hears_and_pays_what_it_would_alone_of_a_real_model(llama: tuple[asyncio.Runner, LlamaEngine]) -> None:
    runner, engine = llama
    runner.run(_alike(engine))


def test_an_engine_that_fails_fails_everybody_and_the_calls_are_charged_as_foreseen() -> None:
    async def scenario() -> None:
        engine = ScriptedEngine(seed=3, fail_after=2)
        await engine.prime(STATIC)
        together = SharedEngine(engine, 2)

        async def one(talk: Engine) -> int:
            await talk.classify(questions(2))
            foreseen = talk.tokens_needed([q.prompt for q in questions(3, state=5)])
            with pytest.raises(EngineUnavailable) as raised:
                await talk.classify(questions(3, state=5))
            assert raised.value.spent == (foreseen, 0, 0, 1)
            return foreseen

        async with together.conversations(2) as two:
            first = [await asyncio.wait_for(asyncio.gather(*map(one, two)), 10)]
            assert len(set(first[0])) == 1 and two[0].usage.calls == 2
        assert together.usage.charged == sum(talk.usage.charged for talk in two)

    asyncio.run(scenario())


def test_any_other_error_reaches_everybody_as_it_is() -> None:
    def broken(text: str, labels: tuple[str, ...]) -> list[float]:
        raise LedgerMismatch("the books differ")

    async def scenario() -> None:
        engine = ScriptedEngine(broken)
        await engine.prime(STATIC)
        async with SharedEngine(engine, 2).conversations(2) as two:
            said = await asyncio.wait_for(
                asyncio.gather(*(talk.classify(questions(2)) for talk in two), return_exceptions=True), 10
            )
        assert [type(error) for error in said] == [LedgerMismatch] * 2

    asyncio.run(scenario())


def test_a_halt_in_one_market_ends_the_slot_as_a_halt(tmp_path: Path) -> None:
    def broken(text: str, labels: tuple[str, ...]) -> list[float]:
        raise LedgerMismatch("the books differ")

    with pytest.raises(LedgerMismatch, match="the books differ"):
        played(tmp_path / "h.db", 2, ScriptedEngine(broken))


def test_nobody_waits_for_one_that_was_given_up() -> None:
    async def scenario() -> None:
        engine = ScriptedEngine(seed=3)
        async with SharedEngine(engine, 2).conversations(2) as (one, other):
            waiting = asyncio.create_task(one.classify([Question(STATIC, LABELS)]))
            await asyncio.sleep(0.01)
            assert not waiting.done(), "the other may still ask"
            other.leave()
            other.leave()
            assert len((await asyncio.wait_for(waiting, 5)).probabilities) == 1

    asyncio.run(scenario())


def test_an_engine_that_cannot_says_so() -> None:
    class Rounding(ScriptedEngine):
        @property
        def capabilities(self):  # type: ignore[no-untyped-def]
            return replace(super().capabilities, bit_exact=False)

    with pytest.raises(Misconfigured, match="a larger batch"):
        SharedEngine(Rounding(), 2)


@lru_cache(maxsize=1)
def twins() -> ReplayFeed:
    """Two markets in each window, with the planted effect of `test_trading`: what one orders changes the money that the
    other may spend."""
    windows = []
    for number in range(WINDOWS):
        for twin in (0, 1000):
            m = replace(market(number, seconds=SECONDS), id=f"0x{number + twin:04x}", slug=f"twin-{number + twin}")
            books = [
                book(
                    m.opens_at + timedelta(seconds=s),
                    market_id=m.id,
                    bids=levels(("0.49", 300), ("0.48", 300)),
                    asks=levels(("0.51", 90), ("0.63", 60)),
                )
                for s in range(-320, SECONDS, 10)
            ]
            payout = Decimal(0 if number % 10 == 7 else 1)
            ended = Resolution(m.id, payout, PayoutSource.OFFICIAL, m.closes_at + timedelta(minutes=2))
            windows.append(Recording.of(m, books, ended))
    return replay(*windows)


def played(place: Path, at_once: int, engine: ScriptedEngine | None = None) -> list[Record]:
    keys = {"trading.shrink": 0.5, "trading.max_shift": 1.0, "trading.max_order": "5", "edge.runtime": "scripted"}
    config = load_config(None, keys)

    async def scope() -> list[Record]:
        async with open_store(f"sqlite:///{place}") as store:
            model = engine or ScriptedEngine(up)
            used = model if at_once == 1 else SharedEngine(model, at_once)
            run, *_ = await World(PaperPlan(config, "twins"), twins(), store, LocalBus()).agent(used)
            records = await store.records(run.id)
            decisions = [r for r in records if r.kind is RecordKind.DECISION]
            for decision in decisions[-6:]:
                assert not (await again(store, decision, store)).differences
            return records

    return asyncio.run(scope())


def test_markets_of_a_slot_are_decided_alike_and_the_second_orders_on_the_money_that_is_left(tmp_path: Path) -> None:
    apart, together = played(tmp_path / "a.db", 1), played(tmp_path / "t.db", 2)
    first = next(i for i, r in enumerate(together) if r.kind is RecordKind.INTENT)
    assert first > 100, "fifty outcomes of two markets each must be known before the first trade"
    assert [_thought(r) for r in apart[:first]] == [_thought(r) for r in together[:first]]
    intents = [r for r in together if r.kind is RecordKind.INTENT]
    ordered: list[Any] = [r.body["signed"] for r in intents]
    markets = [int(signed["order"]["market_id"], 16) for signed in ordered]
    assert len(markets) == len(set(markets)), "one order a decision"
    assert min(markets) < 1000 <= max(markets), "both of a pair trade"
    slots = {r.at for r in together if r.kind is RecordKind.DECISION}
    at_slots = [r.at for r in intents if r.at in slots]
    assert len(set(at_slots)) == len(at_slots), "at the slot itself one order alone knows what money there is"


def _thought(record: Record) -> tuple[object, ...]:
    """The decision, without the fields that name the run."""
    decision: Any = record.body.get("thought") or {}
    return (record.kind, record.at, *(decision.get(f) for f in ("action", "probability", "arms", "tokens", "search")))


def test_the_configuration_says_how_many() -> None:
    async def scenario() -> None:
        async with open_engine(load_config(None, {"edge.runtime": "scripted", "edge.batched_markets": 3})) as engine:
            assert isinstance(engine, SharedEngine) and engine.at_once == 3

    asyncio.run(scenario())
