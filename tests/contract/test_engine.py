"""Contract of every engine, over each adapter: scripted, replayed from a record, llama.cpp and OpenVINO in the
process, and behind HTTP our own server in each dialect, a real llama-server, and any server named by OPENAI_BASE_URL
or MLC_BASE_URL.

Where a promise depends on the engine, the test asks its capabilities.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from agent.llm.engine import Answers, Engine, Question, Sampling, Usage
from agent.llm.mlc.engine import attached
from agent.llm.openai.opening import ServerSettings, open_server
from agent.llm.recorded import RecordedCall, RecordingEngine, ReplayEngine
from agent.llm.scripted import ScriptedEngine
from market.errors import DataInvalid, Drift, EngineTimeout, EngineUnavailable
from tests.engines import LABELS, STATIC, loaded, loaded_openvino, questions
from tests.servers import llama_server, served
from tests.tiny_model import write_model
from tests.values import server_settings

Scenario = Callable[[Engine], Awaitable[None]]
Play = Callable[[Scenario], None]


def play_scripted(scenario: Scenario) -> None:
    with asyncio.Runner() as runner:
        runner.run(_started(scenario, ScriptedEngine(seed=3)))


def play_replayed(scenario: Scenario) -> None:
    """The scenario once on a recorder, then again on the record alone, after a trip through JSON."""
    recorder = RecordingEngine(ScriptedEngine(seed=3))
    with asyncio.Runner() as runner:
        runner.run(_started(scenario, recorder))
        calls = [RecordedCall.from_json(json.loads(json.dumps(call.to_json()))) for call in recorder.take()]
        runner.run(_started(scenario, ReplayEngine(calls, recorder.identity, recorder.capabilities)))


async def _started(scenario: Scenario, engine: Engine) -> None:
    await engine.prime(STATIC)
    await engine.forget()
    await scenario(engine)


@pytest.fixture(scope="module")
def play_llama() -> Iterator[Play]:
    with loaded() as (runner, engine):
        yield lambda scenario: runner.run(_started(scenario, engine))


@pytest.fixture(scope="module")
def play_openvino() -> Iterator[Play]:
    with loaded_openvino() as (runner, engine):
        yield lambda scenario: runner.run(_started(scenario, engine))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny"))


def play_served(flavour: str, folder: Path) -> Play:
    async def scope(scenario: Scenario) -> None:
        async with served(flavour, folder) as (_, engine):
            await _started(scenario, engine)

    return lambda scenario: asyncio.run(scope(scenario))


def play_remote(
    opening: Callable[[ServerSettings], AbstractAsyncContextManager[Engine]], remote: ServerSettings
) -> Play:
    async def scope(scenario: Scenario) -> None:
        async with opening(remote) as engine:
            await _started(scenario, engine)

    return lambda scenario: asyncio.run(scope(scenario))


@pytest.fixture(scope="module")
def llama_base() -> Iterator[str]:
    with llama_server() as base:
        yield base


def _named(variable: str) -> ServerSettings:
    """The server that the environment names. `..._TOKENIZER` is its tokenizer.json, `..._CONTEXT` its context."""
    prefix = variable.removesuffix("BASE_URL")
    tokenizer = os.environ.get(f"{prefix}TOKENIZER")
    context = int(os.environ.get(f"{prefix}CONTEXT", "0"))
    return server_settings(os.environ[variable], tokenizer=Path(tokenizer) if tokenizer else None, context=context)


SERVERS = ("OPENAI_BASE_URL", "MLC_BASE_URL")
IN_PROCESS = {"llamacpp": "play_llama", "openvino": "play_openvino"}
LOADED = [pytest.param(name, marks=pytest.mark.model) for name in (*IN_PROCESS, "llama-server")]
LIVE = ["scripted", *LOADED, "openai:llamacpp", "openai:vllm", "openai:plain", "mlc", *filter(os.environ.get, SERVERS)]


def _play(name: str, request: pytest.FixtureRequest) -> Play:
    kind, _, flavour = name.partition(":")
    if kind in IN_PROCESS:
        found: Play = request.getfixturevalue(IN_PROCESS[kind])
        return found
    if kind in ("openai", "mlc"):
        return play_served(flavour or "mlc", request.getfixturevalue("folder"))
    if kind == "llama-server":
        return play_remote(open_server, server_settings(request.getfixturevalue("llama_base"), parallel=1))
    if kind.endswith("_BASE_URL"):
        return play_remote(attached if kind.startswith("MLC") else open_server, _named(kind))
    return {"scripted": play_scripted, "replayed": play_replayed}[kind]


@pytest.mark.parametrize("variable", SERVERS)
def test_a_server_that_the_environment_names_is_held_to_this_suite(variable: str) -> None:
    if variable not in os.environ:
        pytest.skip(f"{variable} names no server to run this suite against")
    assert variable in LIVE


@pytest.fixture(params=["replayed", *LIVE])
def play(request: pytest.FixtureRequest) -> Play:
    return _play(request.param, request)


@pytest.fixture(params=LIVE)
def play_live(request: pytest.FixtureRequest) -> Play:
    return _play(request.param, request)


def same(engine: Engine, one: Answers, other: Answers) -> bool:
    """To the bit where the engine promises it; else as near as another order of summing leaves it."""
    if engine.capabilities.bit_exact:
        return one.probabilities == other.probabilities
    pairs = zip(one.probabilities, other.probabilities, strict=True)
    return all(abs(p - q) < 0.02 for a, b in pairs for p, q in zip(a, b, strict=True))


def test_each_row_has_one_probability_per_label_and_sums_to_one(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        three = Question(STATIC.then("Choose:"), (" up", " down", " nothing"))
        rows = (await engine.classify([*questions(3), three])).probabilities
        assert [len(row) for row in rows] == [2, 2, 2, 3]
        assert all(abs(sum(row) - 1) < 1e-12 and min(row) > 0 for row in rows)
        assert len({row[0] for row in rows}) == 4

    play(scenario)


def test_an_answer_depends_neither_on_the_cache_nor_on_the_batch(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        together = await engine.classify(questions(4))
        again = await engine.classify(questions(4))
        await engine.forget()
        alone = [(await engine.classify([question])).probabilities[0] for question in reversed(questions(4))]
        assert same(engine, again, together)
        assert same(engine, together, Answers(tuple(reversed(alone)), Usage()))

    play(scenario)


def test_tokens_needed_is_what_is_then_charged(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        exact = engine.capabilities.exact_usage
        for asked in (questions(2), questions(4), questions(4), questions(3, state=40), questions(1)):
            if not exact:  # once asked, the tokens of all segments are known here; what the server holds is not
                await engine.classify(asked)
                await engine.forget()
            needed = engine.tokens_needed([question.prompt for question in asked])
            usage = (await engine.classify(asked)).usage
            assert usage.charged == needed if exact else usage.charged >= needed > 0

    play(scenario)


def test_what_is_reserved_suffices_where_the_cache_holds(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        for asked in (questions(1), questions(3), questions(3, state=7)):
            needed = engine.tokens_needed([question.prompt for question in asked])
            assert (await engine.classify(asked)).usage.charged <= needed

    play(scenario)


def test_shared_beginnings_are_evaluated_once(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        exact = engine.capabilities.exact_usage
        alone = engine.tokens_needed([questions(1)[0].prompt])
        both = engine.tokens_needed([question.prompt for question in questions(2)])
        assert alone < both < 2 * alone
        first = (await engine.classify(questions(2))).usage.charged
        again = (await engine.classify(questions(2))).usage.charged
        assert (first, again) == (both, 0) if exact else again < first <= both

    play(scenario)


def test_a_primed_prefix_survives_forgetting_and_is_not_charged_again(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        first = (await engine.classify(questions(3))).usage
        await engine.forget()
        second = (await engine.classify(questions(3))).usage
        if engine.capabilities.exact_usage:
            assert (first.prompt, first.cached) == (second.prompt, second.cached)
        assert second.cached > 0
        primed = await engine.prime(STATIC)
        assert primed.prompt == 0 < primed.cached

    play(scenario)


def test_usage_is_the_sum_of_the_calls(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        before = engine.usage
        parts = [
            (await engine.generate(STATIC, max_tokens=5, n=2, sampling=Sampling(0.7, 5))).usage,
            (await engine.classify(questions(3))).usage,
        ]
        if engine.capabilities.score:
            parts.append((await engine.score(STATIC, [" up and away", " down"])).usage)
        assert _tokens(engine.usage) == _tokens(sum(parts, before))
        assert {usage.calls for usage in parts} == {1}
        assert parts[0].generated > 0

    play(scenario)


def test_an_expired_deadline_raises_and_leaves_the_engine_usable(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        expected = await engine.classify(questions(2))
        with pytest.raises(EngineTimeout):
            await engine.classify(questions(3), deadline=0)
        with pytest.raises(EngineTimeout):
            await engine.generate(STATIC, max_tokens=3, deadline=0)
        assert same(engine, await engine.classify(questions(2)), expected)

    play(scenario)


def test_samples_repeat_with_their_seed_and_end_in_time(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        write = partial(engine.generate, STATIC.then("Say:"), max_tokens=6)
        one = await write(n=3, sampling=Sampling(1.0, seed=1))
        await engine.forget()
        repeated = await write(n=3, sampling=Sampling(1.0, seed=1))
        other = await write(n=3, sampling=Sampling(1.0, seed=2))
        assert one.texts == repeated.texts != other.texts
        assert len(one.texts) == 3 and one.usage.generated <= 18
        greedy = await write(n=2)
        assert greedy.texts[0] == greedy.texts[1] and greedy.usage.generated <= 6

    play(scenario)


def test_a_stop_text_ends_a_sample_and_is_not_returned(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        (whole,) = (await engine.generate(STATIC, max_tokens=6)).texts
        middle = whole[len(whole) // 2]
        (cut,) = (await engine.generate(STATIC, max_tokens=6, stop=middle)).texts
        assert cut == whole.partition(middle)[0]

    play(scenario)


def test_scores_are_log_probabilities_and_repeat(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        tails = [" up", " up and away", " down"]
        if not engine.capabilities.score:
            with pytest.raises(EngineUnavailable, match="cannot score"):
                await engine.score(STATIC, tails)
            return
        first = await engine.score(STATIC, tails)
        assert all(value < 0 for value in first.logprobs)
        assert (await engine.score(STATIC, tails)).logprobs == first.logprobs

    play(scenario)


def test_health_says_ok(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        health = await engine.health()
        assert health.ok and health.detail

    play(scenario)


def test_a_closed_engine_says_so(request: pytest.FixtureRequest) -> None:
    """The embedded one is closed in its own tests: here it is shared."""

    async def scenario(engine: Engine) -> None:
        await engine.aclose()
        for call in (engine.classify(questions(1)), engine.generate(STATIC, max_tokens=2), engine.prime(STATIC)):
            with pytest.raises(EngineUnavailable, match="closed"):
                await call
        assert not (await engine.health()).ok

    for name in ("scripted", "openai:llamacpp", "mlc"):
        _play(name, request)(scenario)


@pytest.mark.parametrize("labels", [(), (" up", " up"), ("", " up")])
def test_labels_must_begin_differently(play_live: Play, labels: tuple[str, ...]) -> None:
    async def scenario(engine: Engine) -> None:
        with pytest.raises(ValueError, match="token"):
            await engine.classify([Question(STATIC, labels)])
        await engine.classify(questions(1))

    play_live(scenario)


def test_more_labels_than_an_engine_can_tell_apart_are_refused_before_anything_is_sent(play_live: Play) -> None:
    async def scenario(engine: Engine) -> None:
        most = engine.capabilities.labels
        if most is None:
            return
        before = engine.usage
        with pytest.raises(ValueError, match="at most"):
            await engine.classify([Question(STATIC, tuple(f" {chr(97 + at)}" for at in range(most + 1)))])
        assert engine.usage == before

    play_live(scenario)


def test_a_script_fails_when_told_and_can_favour_any_label() -> None:
    async def scenario(engine: Engine) -> None:
        rows = (await engine.classify(questions(40))).probabilities
        assert {row.index(max(row)) for row in rows} == {0, 1}

    play_scripted(scenario)

    async def failing() -> None:
        engine = ScriptedEngine(lambda text, labels: [1.0, 3.0], fail_after=1)
        assert (await engine.classify(questions(1))).probabilities == ((0.25, 0.75),)
        with pytest.raises(EngineUnavailable):
            await engine.classify(questions(1))

    asyncio.run(failing())


def test_what_a_failed_call_spent_is_recorded_and_replayed() -> None:
    class Stopped(ScriptedEngine):
        async def classify(self, questions: Sequence[Question], *, deadline: float | None = None) -> Answers:
            error = EngineTimeout("The model was stopped at its deadline.")
            error.spent = (7, 0, 2, 1)
            raise error

    async def scenario() -> None:
        recorder = RecordingEngine(Stopped())
        with pytest.raises(EngineTimeout):
            await recorder.classify(questions(1))
        calls = [RecordedCall.from_json(json.loads(json.dumps(call.to_json()))) for call in recorder.take()]
        replay = ReplayEngine(calls, recorder.identity, recorder.capabilities)
        with pytest.raises(EngineTimeout) as stopped:
            await replay.classify(questions(1))
        assert stopped.value.spent == (7, 0, 2, 1) == _tokens(replay.usage)

    asyncio.run(scenario())


def test_a_replay_refuses_what_was_never_asked() -> None:
    async def scenario() -> None:
        recorder = RecordingEngine(ScriptedEngine())
        await recorder.classify(questions(1))
        replay = ReplayEngine(recorder.take(), recorder.identity, recorder.capabilities)
        await replay.classify(questions(1))
        with pytest.raises(Drift, match="not in the record"):
            await replay.classify(questions(1))
        with pytest.raises(Drift):
            await replay.classify([Question(questions(1)[0].prompt, tuple(reversed(LABELS)))])
        assert recorder.take() == ()

    asyncio.run(scenario())


def test_a_damaged_record_is_refused() -> None:
    with pytest.raises(DataInvalid):
        RecordedCall.from_json({"kind": "classify", "usage": [1, 2]})


def _tokens(usage: Usage) -> tuple[int, int, int, int]:
    return usage.prompt, usage.cached, usage.generated, usage.calls
