"""What every engine promises, over each adapter: scripted, replayed from a record, and llama.cpp."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

import pytest

from agent.llm.engine import Answers, Engine, Question, Sampling, Usage
from agent.llm.recorded import RecordedCall, RecordingEngine, ReplayEngine
from agent.llm.scripted import ScriptedEngine
from market.errors import DataInvalid, Drift, EngineTimeout, EngineUnavailable
from tests.engines import LABELS, STATIC, loaded, questions

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


@pytest.fixture(params=["scripted", "replayed", pytest.param("llamacpp", marks=pytest.mark.model)])
def play(request: pytest.FixtureRequest) -> Play:
    if request.param == "llamacpp":
        found: Play = request.getfixturevalue("play_llama")
        return found
    return {"scripted": play_scripted, "replayed": play_replayed}[request.param]


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
        assert engine.capabilities.bit_exact
        assert again.probabilities == together.probabilities == tuple(reversed(alone))

    play(scenario)


def test_tokens_needed_is_what_is_then_charged(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        for asked in (questions(2), questions(4), questions(4), questions(3, state=40), questions(1)):
            needed = engine.tokens_needed([question.prompt for question in asked])
            usage = (await engine.classify(asked)).usage
            assert (usage.prompt, usage.generated) == (needed, 0)

    play(scenario)


def test_shared_beginnings_are_evaluated_once(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        alone = engine.tokens_needed([questions(1)[0].prompt])
        both = engine.tokens_needed([question.prompt for question in questions(2)])
        assert alone < both < 2 * alone
        assert (await engine.classify(questions(2))).usage.prompt == both
        assert (await engine.classify(questions(2))).usage.prompt == 0

    play(scenario)


def test_a_primed_prefix_survives_forgetting_and_is_not_charged_again(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        first = (await engine.classify(questions(3))).usage
        await engine.forget()
        second = (await engine.classify(questions(3))).usage
        assert (first.prompt, first.cached) == (second.prompt, second.cached)
        primed = await engine.prime(STATIC)
        assert primed.prompt == 0 < primed.cached

    play(scenario)


def test_usage_is_the_sum_of_the_calls(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        before = engine.usage
        parts = [
            (await engine.classify(questions(3))).usage,
            (await engine.score(STATIC, [" up and away", " down"])).usage,
            (await engine.generate(STATIC, max_tokens=5, n=2, sampling=Sampling(0.7, 5))).usage,
        ]
        assert _tokens(engine.usage) == _tokens(sum(parts, before))
        assert [usage.calls for usage in parts] == [1, 1, 1]
        assert parts[2].generated > 0

    play(scenario)


def test_an_expired_deadline_raises_and_leaves_the_engine_usable(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        expected = await engine.classify(questions(2))
        with pytest.raises(EngineTimeout):
            await engine.classify(questions(3), deadline=0)
        with pytest.raises(EngineTimeout):
            await engine.generate(STATIC, max_tokens=3, deadline=0)
        assert (await engine.classify(questions(2))).probabilities == expected.probabilities

    play(scenario)


def test_samples_repeat_with_their_seed_and_end_in_time(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        write = partial(engine.generate, STATIC.then("Say:"), max_tokens=6)
        one = await write(n=3, sampling=Sampling(1.0, seed=1))
        await engine.forget()
        same = await write(n=3, sampling=Sampling(1.0, seed=1))
        other = await write(n=3, sampling=Sampling(1.0, seed=2))
        assert one.texts == same.texts != other.texts
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
        first = await engine.score(STATIC, tails)
        assert all(value < 0 for value in first.logprobs)
        assert (await engine.score(STATIC, tails)).logprobs == first.logprobs

    play(scenario)


def test_health_says_ok(play: Play) -> None:
    async def scenario(engine: Engine) -> None:
        health = await engine.health()
        assert health.ok and health.detail

    play(scenario)


@pytest.mark.parametrize("labels", [(), (" up", " up"), ("", " up")])
@pytest.mark.parametrize("name", ["scripted", pytest.param("llamacpp", marks=pytest.mark.model)])
def test_labels_must_begin_differently(name: str, labels: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    play: Play = play_scripted if name == "scripted" else request.getfixturevalue("play_llama")

    async def scenario(engine: Engine) -> None:
        with pytest.raises(ValueError, match="token"):
            await engine.classify([Question(STATIC, labels)])
        await engine.classify(questions(1))

    play(scenario)


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
