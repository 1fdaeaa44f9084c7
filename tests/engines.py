"""Embedded test model: its location, and prompts for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.config.paths import home
from agent.install import model_path
from agent.llm.engine import Prompt, Question
from agent.llm.golden import runtime_installed
from agent.llm.llamacpp.engine import LlamaEngine, open_llamacpp
from agent.llm.openvino import runtime as openvino_runtime
from agent.llm.openvino.engine import OpenVinoEngine
from agent.llm.openvino.engine import open_openvino as openvino_opened

STATIC = Prompt(("You judge one market at a time and answer with a single word. The words are up and down.\n",))
LABELS = (" up", " down")
_HERE = Path(__file__).parent.parent / ".edgeclaw"


def long_question(words: int, salt: str = "") -> Question:
    """A question of about that many words."""
    return Question(STATIC.then(salt + "buyers and sellers wait " * (words // 4)), LABELS)


def questions(count: int, state: int = 0) -> tuple[Question, ...]:
    """Questions with a common static text and state that differ in their last words."""
    shared = STATIC.then(f"The price stood at {state} cents, then at {state + 3}, while the book was thin.\n")
    return tuple(Question(shared.then(f"Clue {at}: the next move is"), LABELS) for at in range(count))


def model_file() -> Path:
    """Path of the installed small model; skips the test if it or the library is missing."""
    if not runtime_installed():
        pytest.skip("the embedded runtime is not installed (edgeclaw install edge-runtime)")
    for folder in (home(), _HERE):
        if (path := model_path(folder, "smollm2-135m")).is_file():
            return path
    pytest.skip("the small model is not installed (edgeclaw install edge-runtime)")


@contextmanager
def loaded() -> Iterator[tuple[asyncio.Runner, LlamaEngine]]:
    """The embedded engine with an event loop for it."""
    path = model_file()
    with asyncio.Runner() as runner:
        # Entered by hand: the test uses the runner between enter and exit.
        holder = open_llamacpp(path, name="smollm2-135m", threads=1, context=2048)
        engine = runner.run(holder.__aenter__())
        try:
            yield runner, engine
        finally:
            runner.run(holder.__aexit__(None, None, None))


@contextmanager
def loaded_openvino() -> Iterator[tuple[asyncio.Runner, OpenVinoEngine]]:
    """The accelerator engine on the same model, with an event loop for it; skips the test if it is missing."""
    path = model_file()
    if not openvino_runtime.installed():
        pytest.skip("OpenVINO is not installed (edgeclaw install edge-runtime --engine openvino)")
    with asyncio.Runner() as runner:
        holder = openvino_opened(path, name="smollm2-135m", threads=1, context=1024)
        engine = runner.run(holder.__aenter__())
        try:
            yield runner, engine
        finally:
            runner.run(holder.__aexit__(None, None, None))
