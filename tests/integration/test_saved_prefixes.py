"""A primed prefix restored from disk gives the same bits as one evaluated now, and is not charged."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from agent.llm.engine import Prompt, Question, Usage
from agent.llm.llamacpp.engine import open_llamacpp
from agent.llm.llamacpp.prefixes import Blocks
from agent.llm.llamacpp.saved import SavedPrefixes, State
from agent.llm.logits import Logits
from agent.llm.stop import CallStop
from tests.engines import LABELS, STATIC, model_file

pytestmark = pytest.mark.model

SEGMENTS = Prompt(("One two three", " four five six seven eight nine ten eleven", " twelve", " and"))


async def started(folder: Path | None, prefix: Prompt, threads: int = 1) -> tuple[Usage, list[Logits], object]:
    """Cost of priming, logits of the prefix and of two prompts after it, and some text."""
    async with open_llamacpp(model_file(), threads=threads, context=512, sequences=8, saved=folder) as engine:
        usage = await engine.prime(prefix)
        session = engine._session
        wanted = [session.wanted(p) for p in (prefix, prefix.then(" so"), prefix.then(" it", " rose again"))]
        found = await engine._submit(lambda: session.answered(wanted), CallStop(None))
        asked = [Question(prefix.then(" It goes"), LABELS)]
        said = (await engine.classify(asked)).probabilities, (await engine.generate(prefix, max_tokens=9)).texts
        return usage, [found[want][0] for want in wanted], said


@pytest.mark.parametrize("prefix", [STATIC, SEGMENTS], ids=["one segment", "four segments"])
def test_a_restored_prefix_is_the_evaluated_one_to_the_bit(tmp_path: Path, prefix: Prompt) -> None:
    first, expected, said = asyncio.run(started(tmp_path, prefix))
    again, found, same = asyncio.run(started(tmp_path, prefix))
    fresh, never_saved, plain = asyncio.run(started(None, prefix))
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(never_saved, found, strict=True))
    assert said == same == plain
    assert (first.prompt, first.cached) == (fresh.prompt, fresh.cached) == (again.cached, 0)
    assert again.prompt == 0 and first.calls == again.calls == 1


def test_a_damaged_or_foreign_state_is_evaluated_anew(tmp_path: Path) -> None:
    _, expected, said = asyncio.run(started(tmp_path, STATIC))
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    usage, found, same = asyncio.run(started(tmp_path, STATIC))
    assert usage.prompt > 0 and said == same
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    assert asyncio.run(started(tmp_path, STATIC))[0].prompt == 0  # mended


def test_a_state_the_library_does_not_take_is_evaluated_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole by its hash, but nothing that the library can read."""
    _, expected, said = asyncio.run(started(tmp_path, STATIC))
    found = SavedPrefixes.find

    def cut(self: SavedPrefixes, blocks: Blocks, first: int) -> State | None:
        state = found(self, blocks, first)
        return None if state is None else State(state.state[: len(state.state) // 2], state.logits)

    monkeypatch.setattr(SavedPrefixes, "find", cut)
    usage, rows, same = asyncio.run(started(tmp_path, STATIC))
    assert usage.prompt > 0 and said == same
    assert all(np.array_equal(a, b) for a, b in zip(expected, rows, strict=True))
