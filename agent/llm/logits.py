"""Next-token distributions as arrays; independent of any library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    """Log-probabilities over the whole vocabulary, in float64."""
    wide: NDArray[np.float64] = logits.astype(np.float64)
    # The largest exponent becomes 0: exp cannot overflow, and the sum is at least 1.
    wide -= wide.max()
    wide -= np.log(np.exp(wide).sum())
    return wide


def among(logits: Logits, tokens: Sequence[int]) -> tuple[float, ...]:
    """Probabilities of `tokens` relative to each other, summing to 1."""
    wide = logits[list(tokens)].astype(np.float64)
    weights = np.exp(wide - wide.max())
    return tuple(float(p) for p in weights / weights.sum())


def sampled(logits: Logits, temperature: float, chance: np.random.Generator) -> int:
    """The likeliest token at temperature 0, otherwise a draw."""
    if temperature <= 0:
        return int(logits.argmax())
    wide = logits.astype(np.float64) / temperature
    cumulative = np.exp(wide - wide.max()).cumsum()
    return int(cumulative.searchsorted(chance.random() * cumulative[-1], side="right"))
