"""Prompts on a file and a question: names of columns and, to choose the answer, computed sentences.

Whatever text a file contains, the only possible output of a prompt is a letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from agent.llm.engine import Prompt
from tools.analysis.operations import CATALOGUE
from tools.analysis.table import Column

LETTERS = tuple(f" {letter}" for letter in ascii_uppercase)
"""Labels of operations and columns in a choice: their first tokens differ, whatever the names are."""
_SYSTEM = "<|im_start|>system\nYou choose how to answer a question about a table.<|im_end|>\n<|im_start|>user\n"
_END = "<|im_end|>\n<|im_start|>assistant\n"


def opening() -> Prompt:
    """The catalogue, and one example question for each operation; evaluated once."""
    lines = "\n".join(f"{letter.strip()} {one.does}" for letter, one in zip(LETTERS, CATALOGUE, strict=False))
    shown = "".join(
        f"question: {one.example}{_END}way{letter}<|im_end|>\n<|im_start|>user\n"
        for letter, one in zip(LETTERS, CATALOGUE, strict=False)
    )
    return Prompt((f"{_SYSTEM}{lines}\n{shown}",))


def operation(question: str) -> Prompt:
    """The prompt for the operation that answers a question: a letter of the catalogue follows."""
    return opening().then(f"question: {question}{_END}way")


def column(question: str, does: str, columns: Sequence[Column]) -> Prompt:
    """The prompt for the column that is meant: a letter of the list follows."""
    lines = "\n".join(f"{letter.strip()} {c.name}" for letter, c in zip(LETTERS, columns, strict=False))
    return Prompt((_SYSTEM, f"columns:\n{lines}\nquestion: {question}\nway: {does}{_END}column"))


def headline(question: str, says: Sequence[str]) -> Prompt:
    """The prompt for the computed sentence that answers the question: a letter follows."""
    lines = "\n".join(f"{letter.strip()} {sentence}" for letter, sentence in zip(LETTERS, says, strict=False))
    return Prompt((_SYSTEM, f"{lines}\nquestion: {question}{_END}answer"))
