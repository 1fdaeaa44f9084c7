"""Acceptance of a model in OpenVINO: compares its answers with the embedded engine's, and keeps the result in a note.

A fast engine with wrong answers looks like any other (one published reader of GGUF files rounds Q4_1 weights away), so
no model is used in OpenVINO before this check.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.llm.engine import Prompt
from agent.llm.llamacpp.abi import Library
from agent.llm.llamacpp.context import Context, Model
from agent.llm.llamacpp.session import LlamacppSession
from agent.llm.logits import Logits, log_softmax
from agent.llm.openvino import runtime
from agent.llm.openvino.network import Network, Precision, Saved
from agent.llm.openvino.tree import CacheRequest, CacheTree, Tokens
from market.errors import NotReady

LIBRARY = f"{runtime.PACKAGE} {runtime.PINNED}"
DIVERGENCE_LIMIT = 0.05
"""Largest mean Kullback-Leibler divergence in nats at which the answers count as the same model's."""

OPENING = "The market opened quietly and the price of Up stood at forty-eight cents."
REST = (
    " For an hour buyers and sellers took turns, the spread stayed one cent wide, and nobody moved the book. Then a "
    "large order lifted every offer below fifty-five, the tape turned green, and the depth on the other side vanished. "
    "Most of that was given back within minutes: profit takers returned, the imbalance changed its sign, and by the "
    "half hour the price was close to where it had begun. What mattered was not the jump but that it failed to hold, "
    "because a market that knows something does not come back. A careful reader would say that the evidence was "
    "mixed, and would wait for the next trade."
)

_CELLS = 512


@dataclass(frozen=True, slots=True)
class Reference:
    """The embedded engine's logits after each token of REST; `tokens` are those of the whole text."""

    tokens: Tokens
    logits: list[Logits]


def reference(path: Path) -> Reference:
    """Evaluate the text with the embedded engine. Raises NotReady when its library or the file cannot be used."""
    model = Model(Library(), path)
    context = Context(model, threads=1, cells=_CELLS, sequences=4)
    try:
        session = LlamacppSession(context)
        rest = session.continuation(REST)
        want = session.wanted(Prompt((OPENING,)), rest)
        return Reference((*model.tokens(OPENING, opening=True), *rest), session.answered([want])[want])
    finally:
        context.close()
        model.close()


def answers(network: Network, tokens: Tokens, last: int) -> list[Logits]:
    """OpenVINO's logits after each of the last `last` tokens."""
    tree = CacheTree(_CELLS)
    network.back(Saved(0))
    return [row for step in tree.steps([CacheRequest(tokens, last)]) for row in network.evaluate(tree, step.rows)]


def divergence(expected: Sequence[Logits], found: Sequence[Logits]) -> float:
    """Mean Kullback-Leibler divergence of next-token distributions, in nats."""
    each = []
    for p_row, q_row in zip(expected, found, strict=True):
        p, q = log_softmax(p_row), log_softmax(q_row)
        each.append(float((np.exp(p) * (p - q)).sum()))
    return sum(each) / len(each)


def write_note(folder: Path, sha256: str, found: Mapping[str, float]) -> None:
    """Store the divergence of each precision for the model file with this hash."""
    folder.mkdir(parents=True, exist_ok=True)
    target = _note(folder, sha256)
    part = target.with_suffix(".part")
    body = {"sha256": sha256, "library": LIBRARY, "divergence": dict(found)}
    part.write_text(json.dumps(body, indent=2) + "\n")
    part.replace(target)


def noted(folder: Path, sha256: str) -> dict[str, float]:
    """Divergences noted in `folder` for this file with the pinned library; empty without such a note."""
    try:
        note = json.loads(_note(folder, sha256).read_text())
        if (note["sha256"], note["library"]) != (sha256, LIBRARY):
            return {}
        return {str(name): float(value) for name, value in note["divergence"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def require(folder: Path, sha256: str, precision: Precision) -> None:
    """Raises NotReady unless a note says that this file gives right answers in OpenVINO at this precision."""
    found = noted(folder, sha256).get(precision)
    if found is None:
        raise NotReady("The model has not been checked in OpenVINO on this machine.", next_step=runtime.INSTALL)
    if not found <= DIVERGENCE_LIMIT:
        raise NotReady(
            f"The model answers differently in OpenVINO at {precision} ({found:.3f} nats).",
            next_step="Set edge.runtime to llamacpp, or edge.precision to f32.",
        )


def _note(folder: Path, sha256: str) -> Path:
    return folder / f"{sha256[:16]}.json"
