"""Decision funnel and latencies, from records alone and without arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from storage.decisions import RecordedDecision
from storage.records import Record


@dataclass(frozen=True, slots=True)
class Funnel:
    """Decisions by the stage they reached, with reasons of the others. `shadow` searches were for the log alone."""

    cycles: int
    gated: int
    searched: int
    shadow: int
    verified: int
    corrected: int
    traded: int
    filled: int
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds; None where nothing was measured. `over` counts what took longer than `limit`."""

    name: str
    n: int
    p50: float | None
    p99: float | None
    limit: float | None = None
    over: int = 0


def funnel(decisions: Sequence[Record], ordered: Collection[str], filled: Iterable[str]) -> Funnel:
    """Count decisions by how far they came. `ordered` and `filled` are the ids of decisions with an order and with a
    fill, at the cycle or later on the hot path."""
    made = [RecordedDecision.of(d) for d in decisions]
    searches = [d.search for d in made if d.search]
    return Funnel(
        cycles=len(decisions),
        gated=sum(1 for d in made if d.gate.reason),
        searched=len(searches),
        shadow=sum(1 for d in made if d.search and d.gate.reason),
        verified=sum(1 for s in searches if any(step.supported for step in s.path)),
        corrected=sum(1 for s in searches if s.correction),
        traded=sum(1 for d in decisions if d.key in ordered),
        filled=len(set(filled)),
        reasons=dict(Counter(m.reason for d, m in zip(decisions, made, strict=True) if d.key not in ordered)),
    )


def latency(name: str, milliseconds: Sequence[float], limit: float | None = None) -> Latency:
    """Median and 99th percentile, by the nearest rank, and how many were over `limit`."""
    ordered = sorted(milliseconds)
    if not ordered:
        return Latency(name=name, n=0, p50=None, p99=None, limit=limit)
    p50, p99 = (ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.5, 0.99))
    over = sum(1 for m in ordered if limit is not None and m > limit)
    return Latency(name=name, n=len(ordered), p50=p50, p99=p99, limit=limit, over=over)
