"""Choice of operations for a question: the model proposes, each is tried on the table, and those without a result are
dropped.

The model chooses letters from closed lists, by their probabilities, so it cannot ask for what does not exist. A column
or a catalogue word that the question names outright counts more than the model's choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import polars as pl

from agent.analysis import prompts
from agent.decision.asker import Asker
from agent.llm.engine import Question
from storage.records import Phase
from tools.analysis.operations import CATALOGUE, Operation, ask
from tools.analysis.table import Column, Profile, TableFinding

NAMED, HINTED = 40.0, 5.0
"""Factors on the weight of a column or an operation that the question names, or hints at."""
_WAYS, _PLACES, _KEPT = 4, 6, 3
_UNNAMED, _LEAST = 0.05, 0.05
"""Factor for a choice without any named column; fraction of the best choice's weight below which others are dropped."""
_SCANNED = 16
"""Maximum number of findings for a file without a question."""
_COLUMNS = len(prompts.LETTERS)
_CUES = {
    "by_category": ("each", "group", "per", "compare"),
    "over_time": ("time", "month", "monthly", "week", "weekly", "day", "daily", "hour", "trend", "develop", "season"),
    "shift": ("change", "changed", "shift", "since", "level", "jump", "break"),
    "correlate": ("depend", "depends", "relate", "related", "correlate", "correlation", "against", "influence"),
    "rate": ("often", "rate", "share", "likely", "percentage"),
    "outliers": ("odd", "strange", "outlier", "outliers", "anomaly", "anomalies", "spike", "spikes", "unusual"),
    "gaps": ("gap", "gaps", "outage", "silent", "offline", "interruption"),
    "stuck": ("stuck", "hang", "hung", "frozen", "froze", "constant", "still"),
    "total": ("total", "sum", "average", "mean", "median", "overall"),
    "top": ("top", "largest", "biggest", "highest"),
    "missing": ("missing", "empty", "complete", "incomplete", "blank"),
    "duplicates": ("duplicate", "duplicates", "repeated", "twice"),
}
_HINTS = {
    "by_category": ("which", "who", "best", "worst", "by"),
    "total": ("much",),
    "top": ("most",),
    "shift": ("when",),
}
"""Common words of questions, and the operations they suggest where no cue is named."""


@dataclass(frozen=True, slots=True)
class OperationChoice:
    """An operation on some columns, and its weight by the model and the question."""

    operation: Operation
    about: tuple[str, ...]
    weight: float


async def choose(asker: Asker, question: str, profile: Profile) -> list[OperationChoice]:
    """The likeliest operations on their likeliest columns, best first. Raises OutOfBudget."""
    said = _stems(question)
    ways = [one for one in CATALOGUE if next(one.places(profile), None) is not None]
    # Letters by position in the whole catalogue, as in the examples of the primed prompt.
    letters = tuple(prompts.LETTERS[CATALOGUE.index(one)] for one in ways)
    (row,) = await asker.ask(Phase.SEARCH, [Question(prompts.operation(question), letters)])
    weighed = [w * _named(o.name, said) for o, w in zip(ways, row, strict=True)]
    best = sorted(range(len(ways)), key=lambda n: -weighed[n])[:_WAYS]
    found = [
        choice for n in best for choice in await _placed(asker, question, ways[n], weighed[n] / sum(weighed), profile)
    ]
    return sorted(found, key=lambda c: -c.weight)


def _named(operation: str, said: set[str]) -> float:
    """Factor on an operation's weight for the words of the question."""
    if found := said & set(map(_stem, _CUES[operation])):
        return NAMED * len(found)
    return HINTED if said & set(map(_stem, _HINTS.get(operation, ()))) else 1.0


async def _placed(
    asker: Asker, question: str, way: Operation, weight: float, profile: Profile
) -> list[OperationChoice]:
    """One operation on its likeliest columns."""
    pools = [profile.of(*kinds)[:_COLUMNS] for kinds in way.takes]
    asked = [Question(prompts.column(question, way.does, p), prompts.LETTERS[: len(p)]) for p in pools if len(p) > 1]
    rows = iter(await asker.ask(Phase.SEARCH, asked))
    weights = [_weighed(p, next(rows) if len(p) > 1 else (1.0,), question) for p in pools]
    best = [max(w.values(), default=1.0) for w in weights]
    named = {c.name for c in profile.columns if _stems(c.name) & _stems(question)}
    # Pairs of all columns of a wide file would be millions.
    asked_about = {c for pool in pools for c in pool}
    narrow = Profile(profile.rows, tuple(c for c in profile.columns if c in asked_about))
    places = [
        OperationChoice(
            way, about, weight * _product(w[n] / b for w, n, b in zip(weights, about, best, strict=True)) * share
        )
        for about in way.places(narrow)
        if all(name in w for w, name in zip(weights, about, strict=True)) and (share := _covered(named, about))
    ]
    return sorted(places, key=lambda c: -c.weight)[:_PLACES]


def _covered(named: set[str], about: Sequence[str]) -> float:
    """Factor for the fraction of named columns that a choice covers; at least `_UNNAMED`."""
    return max(_UNNAMED, (len(named & set(about)) / len(named)) ** 2) if named else 1.0


def _weighed(pool: Sequence[Column], row: Sequence[float], question: str) -> dict[str, float]:
    """Normalised weight of each column; named ones count more."""
    said = _stems(question)
    raw = [w * (NAMED if _stems(c.name) & said else 1) for c, w in zip(pool, row, strict=True)]
    return {c.name: w / sum(raw) for c, w in zip(pool, raw, strict=True)}


def _product(values: Iterator[float]) -> float:
    made = 1.0
    for value in values:
        made *= value
    return made


def _stems(text: str) -> set[str]:
    return {_stem(word) for word in re.findall(r"[a-z0-9]+", text.lower().replace("_", " "))}


def _stem(word: str) -> str:
    """A word without its plural s."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def tried(frame: pl.DataFrame, choices: Sequence[OperationChoice]) -> list[TableFinding]:
    """Findings of the likeliest choices; a choice without a finding is replaced by the next."""
    found: list[TableFinding] = []
    least = _LEAST * max((choice.weight for choice in choices), default=0.0)
    for choice in (c for c in choices if c.weight >= least):
        made = ask(frame, choice.operation.name, choice.about)
        if made is not None and made not in found:
            found.append(made)
        if len(found) == _KEPT:
            break
    return found


def scan(frame: pl.DataFrame, profile: Profile) -> list[TableFinding]:
    """Findings of the whole catalogue on all columns, strongest first, with the best of each kind at least."""
    made = [
        found
        for one in CATALOGUE
        # Bounded, because pairs of columns grow with the square of their number.
        for about in islice(one.places(profile), 40)
        if (found := ask(frame, one.name, about)) is not None
    ]
    ranked = sorted(made, key=lambda f: -f.weight)
    first = list({f.operation: f for f in reversed(ranked)}.values())  # the best of each kind, and then the rest
    rest = [f for f in ranked if f not in first]
    kept = [*sorted(first, key=lambda f: -f.weight), *rest][:_SCANNED]
    return sorted(kept, key=lambda f: -f.weight)
