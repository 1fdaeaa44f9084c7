"""A user's own GGUF through the embedded engine: another shape, a begin token, embeddings tied or not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.llm.engine import Prompt, Question
from agent.llm.llamacpp.engine import LlamaEngine, open_llamacpp
from tests.engines import LABELS, STATIC, model_file, questions
from tests.random_model import Shape, write_random

pytestmark = pytest.mark.model

SHAPES = {
    "tied": Shape(),
    "untied": Shape(tied=False, layers=3),
    "wide groups": Shape(width=256, heads=8, key_heads=1, inner=384),
    "no begin": Shape(begins=False),
}


async def exercise(engine: LlamaEngine, shape: Shape) -> None:
    primed = await engine.prime(STATIC)
    model = engine._session.context.model
    plain = model.tokens(STATIC.text)
    assert primed.prompt == len(plain) + shape.begins
    asked = questions(4)
    together = (await engine.classify(asked)).probabilities
    await engine.forget()
    alone = tuple([(await engine.classify([question])).probabilities[0] for question in asked])
    assert together == alone and len(set(alone)) == 4
    up, down = (await engine.score(asked[0].prompt, asked[0].labels)).logprobs
    assert 1 / (1 + 2.718281828459045 ** (down - up)) == pytest.approx(alone[0][0], rel=1e-9)
    first, second = (await engine.generate(STATIC.then("So"), max_tokens=10, n=2)).texts
    assert first == second


@pytest.mark.parametrize("name", SHAPES)
def test_another_shape_answers_as_exactly(tmp_path: Path, name: str) -> None:
    path = write_random(model_file(), tmp_path / "own.gguf", SHAPES[name])

    async def scenario() -> None:
        async with open_llamacpp(path, threads=1, context=512, sequences=8) as engine:
            assert engine.identity.model == "own" and engine.capabilities.bit_exact
            await exercise(engine, SHAPES[name])

    asyncio.run(scenario())


def test_only_the_first_segment_begins_with_the_begin_token(tmp_path: Path) -> None:
    path = write_random(model_file(), tmp_path / "own.gguf", Shape(layers=1))

    async def scenario() -> None:
        async with open_llamacpp(path, threads=1, context=512, sequences=8) as engine:
            session = engine._session
            blocks = session.wanted(Prompt(("one", "two"))).blocks
            tokens = [token for block in blocks for token in block]
            assert tokens[0] == 1 and 1 not in tokens[1:]
            assert tokens[1:] == [*session.context.model.tokens("one"), *session.context.model.tokens("two")]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("words", "segments", "restored"), [(900, 1, True), (900, 150, True), (3600, 1, False)], ids=["run", "gaps", "far"]
)
def test_long_prefixes_are_restored_as_far_as_placeholders_reach(
    tmp_path: Path, words: int, segments: int, restored: bool
) -> None:
    """A longer one is evaluated again; to the same bits in any case."""
    path = write_random(model_file(), tmp_path / "own.gguf", Shape(layers=1))
    prefix = Prompt(("buyers and sellers wait for news " * (words // segments // 6),) * segments)

    async def scenario() -> tuple[int, object]:
        async with open_llamacpp(path, threads=1, context=8192, sequences=8, saved=tmp_path / "saved") as engine:
            usage = await engine.prime(prefix)
            asked = [Question(prefix.then(f"Case {number}:"), LABELS) for number in range(3)]
            rows = (await engine.classify(asked)).probabilities
            await engine.forget()
            assert (await engine.classify(asked[2:])).probabilities == rows[2:]
            return usage.prompt, rows

    first, again = asyncio.run(scenario()), asyncio.run(scenario())
    assert first[0] > 800 and first[1] == again[1]
    assert (again[0] == 0) is restored


def test_other_weights_are_another_model(tmp_path: Path) -> None:
    """The engine computes with the file it was given."""

    async def scenario(seed: int) -> tuple[object, ...]:
        path = write_random(model_file(), tmp_path / f"{seed}.gguf", Shape(), seed)
        async with open_llamacpp(path, threads=1, context=512, sequences=8) as engine:
            return engine.identity.sha256, (await engine.classify(questions(1))).probabilities

    one, other = asyncio.run(scenario(1)), asyncio.run(scenario(2))
    assert one[0] != other[0] and one[1] != other[1]
