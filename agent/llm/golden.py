"""Acceptance of a converted model: compares the answers of two GGUF files on the installed runtime.

Independent of where the files come from.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.llm.engine import Prompt
from agent.llm.llamacpp.abi import PACKAGE, PINNED, Library
from agent.llm.llamacpp.context import THREADS, Context, Model
from agent.llm.llamacpp.session import LlamacppSession
from agent.llm.logits import log_softmax

RUNTIME = f"{PACKAGE}=={PINNED}"
_OPENING = "The price rose for three days,"
_REST = """ \
then the buyers left and the price began to fall. Nobody in the room was surprised, because the news had been \
thin all week and the volume thinner still. A market is a place where people disagree about the future and put \
money beside their words; when they stop disagreeing, the price stops moving. On Tuesday a large order had come \
in at noon, and for about ten minutes every offer within reach was taken. The book looked empty afterwards, like \
a shop on the day before a holiday, and the spread between the best bid and the best ask was wider than anyone \
could remember.

Those who make a living from small differences came back first. They set their bids a little lower and their \
offers a little higher than usual, waited, and counted. By the evening there were forty orders on each side, \
none of them large. A clerk who had watched the screen since morning said that it reminded him of the sea: it \
goes out further than you think, it returns sooner than you expect, and it never tells you which of the two it \
is about to do.

On Wednesday the weather changed and so did the mood. A report was published, two numbers in it were better than \
the experts had said, and one was worse. The first reaction lasted less than a second and the second one took \
most of the hour. People who had sold on Monday bought again at a higher price, and wrote long letters to \
explain why this time was different. The clerk went home early, fed his cat, and slept well."""
_LABELS = (" fall", " rise", " sing")


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """Comparison of two models on one text of about 300 tokens. `divergence` is the mean Kullback-Leibler divergence of
    the candidate's next-token distributions from the reference's, in nats; `same_order` is True if both rank three
    words alike after an opening; `perplexities` are the reference's and the candidate's."""

    divergence: float
    same_order: bool
    perplexities: tuple[float, float]
    library: str


@dataclass(frozen=True, slots=True)
class _Answers:
    """Log-probabilities along the text, the tokens that actually follow, and the labels from likeliest to least
    likely."""

    rows: list[NDArray[np.float64]]
    follow: tuple[int, ...]
    order: list[int]

    @property
    def perplexity(self) -> float:
        return float(np.exp(-np.mean([row[t] for row, t in zip(self.rows, self.follow, strict=False)])))


def runtime_installed() -> bool:
    """True if the pinned library package is installed."""
    try:
        return importlib.util.find_spec(PACKAGE) is not None and version(PACKAGE) == PINNED
    except PackageNotFoundError:
        return False


def compared(reference: Path, candidate: Path, library: str = "auto") -> ModelComparison:
    """Evaluate the same text with both models. Raises NotReady when the runtime or a file cannot be used."""
    loaded = Library(library)
    expected, found = _answers(loaded, reference), _answers(loaded, candidate)
    divergences = [float((np.exp(p) * (p - q)).sum()) for p, q in zip(expected.rows, found.rows, strict=True)]
    return ModelComparison(
        sum(divergences) / len(divergences),
        expected.order == found.order,
        (expected.perplexity, found.perplexity),
        loaded.label,
    )


def _answers(library: Library, path: Path) -> _Answers:
    model = Model(library, path)
    context = Context(model, threads=THREADS, cells=512, sequences=4)
    try:
        session = LlamacppSession(context)
        opening, follow = Prompt((_OPENING,)), session.continuation(_REST)
        text, short = session.wanted(opening, follow), session.wanted(opening.then(" and the price began to"))
        found = session.answered([text, short])
        labels = [session.continuation(label)[0] for label in _LABELS]
        order = sorted(range(len(labels)), key=lambda at: -float(found[short][0][labels[at]]))
        return _Answers([log_softmax(row) for row in found[text]], follow[1:], order)
    finally:
        context.close()
        model.close()
