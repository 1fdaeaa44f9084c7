"""Strict parsing of a completion's body: anything missing, impossible or of the wrong type raises
EngineUnavailable with a sentence; nothing is guessed or filled in.

Pure functions; knows no connection.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.llm.openai.dialects import Dialect
from market.errors import EngineUnavailable

ROUNDING = 1e-3
"""Tolerance of the sum of probabilities around one, and of a log-probability above zero."""
_ABSURD = 10**9
"""Bound on the magnitude of any count or log-probability."""
_LEAST = -60.0
"""Floor of log-probabilities relative to the likeliest label."""


@dataclass(frozen=True, slots=True)
class Reported:
    """Token counts of the server; None where not reported."""

    prompt: int | None
    prefilled: int | None
    generated: int | None


@dataclass(frozen=True, slots=True)
class Completion:
    """The only choice of an answer. `ended` is the server's finish_reason."""

    text: str
    ended: str
    logprobs: Any
    reported: Reported


@dataclass(frozen=True, slots=True)
class Label:
    """A label's first token, and that token's text."""

    token: int
    text: str


def completion(body: Mapping[str, Any]) -> Completion:
    """The single choice that was requested. Raises EngineUnavailable."""
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise EngineUnavailable("The model server's answer does not hold the one choice that was asked for.")
    text, ended = choices[0].get("text"), choices[0].get("finish_reason")
    if not isinstance(text, str) or ended not in ("stop", "length"):
        raise EngineUnavailable(f"The model server's answer has no text, or did not end well ({ended!r}).")
    return Completion(text, ended, choices[0].get("logprobs"), reported(body))


def reported(body: Mapping[str, Any]) -> Reported:
    """Usage in any server's form: `usage.extra` of MLC, `timings` of llama-server, cached tokens of vLLM."""
    usage = _mapping(body.get("usage"))
    prompt, generated = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    extra, timings = _mapping(usage.get("extra")), _mapping(body.get("timings"))
    prefilled = _count(extra.get("prefill_tokens"))
    if prefilled is None:
        prefilled = _count(timings.get("prompt_n"))
    cached = _count(_mapping(usage.get("prompt_tokens_details")).get("cached_tokens"))
    if prefilled is None and prompt is not None and cached is not None:
        prefilled = max(0, prompt - cached)
    return Reported(prompt, prefilled, generated)


def label_row(dialect: Dialect, logprobs: Any, labels: Sequence[Label]) -> tuple[float, ...]:
    """Probabilities of the labels, summing to 1, from the answer to `dialect.question`."""
    found = _by_id(logprobs) if dialect.by_id else _by_text(dialect, logprobs, labels)
    try:
        values = [found[label.token] for label in labels]
    except KeyError:
        missing = next(label.text for label in labels if label.token not in found)
        raise EngineUnavailable(f"The model server gave no probability for the label {missing!r}.") from None
    mass = sum(map(math.exp, values))
    if not _possible(mass, len(labels), dialect.biased):
        raise EngineUnavailable(f"The labels' probabilities add up to {mass:.3f}: the server's answer cannot be right.")
    top = max(values)
    weights = [math.exp(max(value - top, _LEAST)) for value in values]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def _possible(mass: float, labels: int, biased: bool) -> bool:
    """True if the labels' total probability is possible: some of it, or all where the bias has left nothing else."""
    return (1 - ROUNDING * labels if biased else 0.0) < mass <= 1 + ROUNDING * labels


def _by_text(dialect: Dialect, logprobs: Any, labels: Sequence[Label]) -> dict[int, float]:
    """Log-probabilities by token text. Two tokens may print alike, so an answer that names anything but the labels is
    rejected."""
    first = _first(_mapping(logprobs).get("top_logprobs"))
    tokens = {dialect.shown(label.text): label.token for label in labels}
    if set(first) != set(tokens):
        raise EngineUnavailable(
            f"The model server's probabilities are of {sorted(map(str, first))}, not of {sorted(tokens)}."
        )
    return {tokens[name]: _logprob(value) for name, value in first.items()}


def _by_id(logprobs: Any) -> dict[int, float]:
    """Log-probabilities by token id: a list of entries with ids (llama-server), or a mapping with keys "token_id:7"
    (vLLM)."""
    named = _mapping(logprobs)
    if "content" in named:
        first = _first(named["content"])
        entries = first.get("top_probs", first.get("top_logprobs"))
        if not isinstance(entries, list):
            raise EngineUnavailable("The model server's answer holds no probabilities.")
        return dict(map(_entry, entries))
    first = _first(named.get("top_logprobs"))
    return {_token(key): _logprob(value) for key, value in first.items()}


def _first(entries: Any) -> dict[Any, Any]:
    """Entry of the only sampled token."""
    if not isinstance(entries, list) or not entries or not isinstance(entries[0], dict):
        raise EngineUnavailable("The model server's answer holds no probabilities.")
    return entries[0]


def _entry(entry: Any) -> tuple[int, float]:
    named = _mapping(entry)
    token = _count(named.get("id"))
    if token is None:
        raise EngineUnavailable("The model server's probabilities do not say which tokens they are of.")
    if "prob" in named:
        p = named["prob"]
        if not _number(p) or not 0 <= p <= 1 + ROUNDING:
            raise EngineUnavailable(f"The model server calls {p!r} a probability.")
        return token, math.log(p) if p > 0 else -math.inf
    return token, _logprob(named.get("logprob"))


def _token(key: Any) -> int:
    kind, _, digits = str(key).partition(":")
    if kind != "token_id" or not digits.isdigit():
        raise EngineUnavailable("The model server's probabilities do not say which tokens they are of.")
    return int(digits)


def _logprob(value: Any) -> float:
    if not _number(value) or value > ROUNDING:
        raise EngineUnavailable(f"The model server calls {value!r} a log-probability.")
    return float(value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_ABSURD < value < _ABSURD


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _ABSURD else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
