"""A user's own GGUF through the embedded engine: another shape, a begin token, embeddings tied or not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.llm.engine import Prompt
from agent.llm.llamacpp.engine import LlamaEngine, opened
from tests.engines import STATIC, model_file, questions
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
        async with opened(path, threads=1, context=512, sequences=8) as engine:
            assert engine.identity.model == "own" and engine.capabilities.bit_exact
            await exercise(engine, SHAPES[name])

    asyncio.run(scenario())


def test_only_the_first_segment_begins_with_the_begin_token(tmp_path: Path) -> None:
    path = write_random(model_file(), tmp_path / "own.gguf", Shape(layers=1))

    async def scenario() -> None:
        async with opened(path, threads=1, context=512, sequences=8) as engine:
            session = engine._session
            blocks = session.wanted(Prompt(("one", "two"))).blocks
            tokens = [token for block in blocks for token in block]
            assert tokens[0] == 1 and 1 not in tokens[1:]
            assert tokens[1:] == [*session.context.model.tokens("one"), *session.context.model.tokens("two")]

    asyncio.run(scenario())


def test_other_weights_are_another_model(tmp_path: Path) -> None:
    """The engine computes with the file it was given."""

    async def scenario(seed: int) -> tuple[object, ...]:
        path = write_random(model_file(), tmp_path / f"{seed}.gguf", Shape(), seed)
        async with opened(path, threads=1, context=512, sequences=8) as engine:
            return engine.identity.sha256, (await engine.classify(questions(1))).probabilities

    one, other = asyncio.run(scenario(1)), asyncio.run(scenario(2))
    assert one[0] != other[0] and one[1] != other[1]
