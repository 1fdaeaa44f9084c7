"""The accelerator engine on the real model: the embedded engine's answers, stopping, and a free event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.install import InstallStep, execute, plan
from agent.install.openvino import Accept, InstallOpenVino, notes
from agent.llm import gguf
from agent.llm.engine import Prompt, Question, Sampling
from agent.llm.llamacpp.engine import file_hash
from agent.llm.llamacpp.engine import open_llamacpp as llama_opened
from agent.llm.openvino import acceptance, runtime
from agent.llm.openvino.engine import OpenVinoEngine, open_openvino
from agent.llm.openvino.network import Precision
from market.errors import EngineTimeout, EngineUnavailable, NotReady
from tests.engines import LABELS, STATIC, loaded_openvino, long_question, model_file, questions

pytestmark = pytest.mark.model

Loaded = tuple[asyncio.Runner, OpenVinoEngine]


@pytest.fixture(scope="module")
def vino() -> Iterator[Loaded]:
    with loaded_openvino() as (runner, engine):
        runner.run(engine.prime(STATIC))
        yield runner, engine


def test_it_answers_as_the_embedded_engine_and_charges_no_more(vino: Loaded) -> None:
    """Same tokens, and probabilities as close as the embedded engine's own rounding to 8 bits allows."""
    runner, engine = vino
    asked = [*questions(3), *questions(3, state=41), Question(STATIC.then("It rose. ", "So"), LABELS)]

    async def scenario() -> None:
        async with llama_opened(model_file(), threads=1, context=2048) as embedded:
            await embedded.prime(STATIC)
            await engine.forget()
            expected, found = await embedded.classify(asked), await engine.classify(asked)
        for one, other in zip(expected.probabilities, found.probabilities, strict=True):
            assert one[0] == pytest.approx(other[0], abs=0.05)
        taken_in = [usage.prompt + usage.cached for usage in (expected.usage, found.usage)]
        assert taken_in[0] == taken_in[1] and found.usage.prompt <= expected.usage.prompt  # shared token by token

    runner.run(scenario())


def test_the_same_calls_after_forgetting_give_the_same_bits(vino: Loaded) -> None:
    runner, engine = vino

    async def decision() -> list[object]:
        await engine.forget()
        return [
            (await engine.classify(questions(3))).probabilities,
            (await engine.classify(questions(5, state=7))).probabilities,
            (await engine.score(questions(1)[0].prompt, [" up and away", " down"])).logprobs,
            (await engine.generate(questions(1)[0].prompt, max_tokens=6, n=2, sampling=Sampling(0.9, 4))).texts,
        ]

    async def scenario() -> None:
        first = await decision()
        await engine.classify([long_question(300, "Other work. ")])
        assert await decision() == first

    runner.run(scenario())


def test_what_was_asked_before_forgetting_changes_no_charge(vino: Loaded) -> None:
    """Even when it was about the inside of the primed prefix, whose logits were not at hand."""
    runner, engine = vino
    inside = Question(Prompt((STATIC.text[:40],)), LABELS)

    async def scenario() -> None:
        await engine.forget()
        needed = engine.tokens_needed([inside.prompt])
        assert (await engine.classify([inside])).usage.prompt == needed > 0
        assert (await engine.classify([inside])).usage.prompt == 0
        with pytest.raises(EngineTimeout):
            await engine.classify([inside, long_question(800)], deadline=0.01)
        await engine.forget()
        assert (await engine.classify([inside])).usage.prompt == needed

    runner.run(scenario())


def test_a_score_agrees_with_a_classification(vino: Loaded) -> None:
    runner, engine = vino

    async def scenario() -> None:
        (question,) = questions(1)
        row = (await engine.classify([question])).probabilities[0]
        up, down = (await engine.score(question.prompt, LABELS)).logprobs
        assert 1 / (1 + 2.718281828459045 ** (down - up)) == pytest.approx(row[0], rel=1e-9)

    runner.run(scenario())


def test_samples_written_in_several_turns_are_as_many_and_charged_once(vino: Loaded) -> None:
    runner, engine = vino
    prompt, draw = STATIC.then("Tell:"), Sampling(0.9, seed=4)

    async def scenario() -> None:
        await engine.forget()
        needed = engine.tokens_needed([prompt], max_tokens=4)
        many = await engine.generate(prompt, max_tokens=4, n=35, sampling=draw)
        assert (len(many.texts), many.usage.prompt) == (35, needed)
        assert len(set(many.texts)) > 10 and many.usage.generated <= 35 * 4
        few = await engine.generate(prompt, max_tokens=4, n=3, sampling=draw)
        assert few.usage.prompt == 0 and few.texts == many.texts[:3]

    runner.run(scenario())


def test_more_prompts_than_fit_are_answered_in_turns(vino: Loaded) -> None:
    runner, engine = vino
    asked = [Question(Prompt((f"{number} or {number}, " * 20,)), LABELS) for number in range(14)]

    async def scenario() -> None:
        await engine.forget()
        needed = engine.tokens_needed([question.prompt for question in asked])
        answers = await engine.classify(asked)
        assert answers.usage.prompt == needed > engine.capabilities.context
        await engine.forget()
        (alone,) = (await engine.classify(asked[:1])).probabilities
        assert alone[0] == pytest.approx(answers.probabilities[0][0], abs=1e-4)

    runner.run(scenario())


def test_a_prompt_beyond_the_context_is_refused(vino: Loaded) -> None:
    runner, engine = vino
    with pytest.raises(EngineUnavailable, match="does not fit the context"):
        runner.run(engine.classify([long_question(3000)]))
    with pytest.raises(EngineUnavailable):
        runner.run(engine.generate(STATIC, max_tokens=3000))
    assert runner.run(engine.classify(questions(1))).probabilities


def test_a_deadline_stops_a_prefill_in_the_middle(vino: Loaded) -> None:
    runner, engine = vino

    async def scenario() -> None:
        await engine.forget()
        expected = await engine.classify(questions(2))
        with pytest.raises(EngineTimeout):
            await engine.classify([long_question(800)], deadline=0.05)
        again = await engine.classify(questions(2))
        assert (again.probabilities, again.usage.prompt) == (expected.probabilities, expected.usage.prompt)

    runner.run(scenario())


def test_a_cancelled_call_leaves_the_engine_usable(vino: Loaded) -> None:
    runner, engine = vino

    async def scenario() -> None:
        await engine.forget()
        expected = await engine.classify(questions(2))
        task = asyncio.create_task(engine.classify([long_question(800, "Now ")]))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await engine.classify(questions(2))).probabilities == expected.probabilities

    runner.run(scenario())


def test_the_event_loop_stays_free_during_a_prefill(vino: Loaded) -> None:
    runner, engine = vino

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


def test_the_installer_accepts_the_model_and_says_what_it_would_do(vino: Loaded, tmp_path: Path) -> None:
    path, seen = model_file(), dict[str, float]()
    step = Accept(str(path), tmp_path)
    said = "\n".join(each.describe() for each in plan("openvino", str(path), tmp_path, tmp_path))
    assert "--isolated install --only-binary :all: --no-index --no-deps --find-links" in said
    assert f"openvino=={runtime.PINNED}" in said and "0.05 nats" in said
    assert InstallOpenVino().done() and not step.done()
    execute([step], lambda title, share: seen.update({title: share}))
    assert seen == {step.title: 1.0} and step.done()
    found = acceptance.noted(notes(tmp_path), file_hash(path))
    assert set(found) == set(Precision) and all(0 < value < acceptance.DIVERGENCE_LIMIT for value in found.values())


def test_a_model_that_answers_differently_is_refused(
    vino: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference is asked about the whole model, OpenVINO about one whose last layers are gone."""
    whole, spoilt = model_file(), tmp_path / "spoilt.gguf"
    content = bytearray(whole.read_bytes())
    model = gguf.read_gguf(whole)
    start = len(content) - len(model.data)
    for tensor in model.tensors:
        if tensor.name.startswith(("blk.28.ffn_down", "blk.29.ffn_down")):
            at = start + tensor.offset
            content[at : at + tensor.bytes] = bytes(tensor.bytes)
    spoilt.write_bytes(content)
    expected = acceptance.reference(whole)
    monkeypatch.setattr(acceptance, "reference", lambda _: expected)
    step: InstallStep = Accept(str(spoilt), tmp_path)
    with pytest.raises(NotReady, match="answers differently in OpenVINO"):
        execute([step])
    assert not step.done()


def test_nothing_opens_without_a_note_that_accepts_it(vino: Loaded, tmp_path: Path) -> None:
    path = model_file()

    async def opening(precision: Precision) -> str:
        async with open_openvino(path, precision=precision, threads=1, context=512, notes=tmp_path) as engine:
            return engine.identity.library

    with pytest.raises(NotReady, match="has not been checked") as missing:
        asyncio.run(opening(Precision.F32))
    assert missing.value.next_step == runtime.INSTALL
    acceptance.write_note(tmp_path, file_hash(path), {"f32": 0.004, "int8": 0.3, "bf16": float("nan")})
    for precision in (Precision.INT8, Precision.BF16):
        with pytest.raises(NotReady, match="answers differently in OpenVINO"):
            asyncio.run(opening(precision))
    assert asyncio.run(opening(Precision.F32)) == f"openvino {runtime.PINNED} f32"
    for damaged in ("[]", "{", '{"sha256": 1}'):
        next(tmp_path.glob("*.json")).write_text(damaged)
        with pytest.raises(NotReady, match="has not been checked"):
            asyncio.run(opening(Precision.F32))


def test_what_is_missing_is_named_and_a_closed_engine_refuses(vino: Loaded, tmp_path: Path) -> None:
    async def open_with(path: Path, sha256: str | None = None) -> None:
        async with open_openvino(path, sha256=sha256):
            pass

    with pytest.raises(NotReady, match="does not exist"):
        asyncio.run(open_with(tmp_path / "none.gguf"))
    with pytest.raises(NotReady, match="hash differs"):
        asyncio.run(open_with(model_file(), sha256="0" * 64))
    (tmp_path / "empty.gguf").write_bytes(b"GGUF")
    with pytest.raises(NotReady, match="not a whole GGUF file"):
        asyncio.run(open_with(tmp_path / "empty.gguf"))

    async def closed() -> None:
        async with open_openvino(model_file(), threads=1, context=512) as engine:
            assert (await engine.health()).facts["precision"] == "f32"
        with pytest.raises(EngineUnavailable, match="closed"):
            await engine.classify(questions(1))
        assert not (await engine.health()).ok

    asyncio.run(closed())
