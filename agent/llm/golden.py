"""Is a converted model still the same model? Compares two GGUF files by what they answer, on the installed runtime.

It knows nothing of where files come from or go.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from agent.llm.engine import Prompt
from agent.llm.llamacpp.abi import PACKAGE, PINNED, Library
from agent.llm.llamacpp.context import Context, Logits, Model
from agent.llm.llamacpp.session import Session, log_softmax

RUNTIME = f"{PACKAGE}=={PINNED}"
_OPENING = "The price rose for three days,"
_REST = " then the buyers left and the price began to"
_LABELS = (" fall", " rise", " sing")


@dataclass(frozen=True, slots=True)
class Comparison:
    """`divergence` is the mean Kullback-Leibler divergence of next-token distributions, in nats."""

    divergence: float
    same_order: bool
    library: str


def runtime_installed() -> bool:
    """Whether the pinned library package is there."""
    try:
        return importlib.util.find_spec(PACKAGE) is not None and version(PACKAGE) == PINNED
    except PackageNotFoundError:
        return False


def compared(reference: Path, candidate: Path) -> Comparison:
    """Ask both models about the same text. Raises NotReady when the runtime or a file cannot be used."""
    library = Library()
    expected, found = _answers(library, reference), _answers(library, candidate)
    divergences = []
    for p_row, q_row in zip(expected[0], found[0], strict=True):
        p, q = log_softmax(p_row), log_softmax(q_row)
        divergences.append(float((np.exp(p) * (p - q)).sum()))
    return Comparison(sum(divergences) / len(divergences), expected[1] == found[1], library.label)


def _answers(library: Library, path: Path) -> tuple[list[Logits], list[int]]:
    """Logits along the rest of the text, and the labels from likeliest to least likely."""
    model = Model(library, path)
    context = Context(model, threads=1, cells=512, sequences=4)
    try:
        session = Session(context)
        want = session.wanted(Prompt((_OPENING,)), session.continuation(_REST))
        rows = session.answered([want])[0][want]
        labels = [session.continuation(label)[0] for label in _LABELS]
        return rows, sorted(range(len(labels)), key=lambda at: -float(rows[-1][labels[at]]))
    finally:
        context.close()
        model.close()
