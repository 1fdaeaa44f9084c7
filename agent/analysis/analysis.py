"""An analysis, from a file to sentences that its tables support."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.analysis import prompts
from agent.analysis.choosing import choose, scan, tried
from agent.decision.asker import Asker
from agent.decision.budget import Budget
from agent.llm.engine import Engine, Question
from agent.search.tree import OutOfBudget
from storage.records import LedgerRow, Phase
from tools.analysis.checking import unsupported
from tools.analysis.reading import load_table, profile
from tools.analysis.table import Profile, TableFinding

_FADING = 0.3
"""Prior weight of a finding's sentences relative to those of the finding before it."""


@dataclass(frozen=True, slots=True)
class Analysed:
    """The result of an analysis.

    `file` is the file's name, `question` as it was given; `profile` is the file's rows and columns. `findings` are what
    answers the question, the strongest first, each with its table. `headline` is the one of their sentences that the
    model chose as the answer, empty where nothing was asked or found; `dropped` are sentences that were left out,
    since a number in them is in no table. `model` names the model. `ledger` has a row for each phase; `tokens` are
    prompt and generated ones by phase, `dollars` their price, `seconds` the model's time.
    """

    file: str
    question: str
    profile: Profile
    findings: tuple[TableFinding, ...]
    headline: str
    dropped: tuple[str, ...]
    model: str
    ledger: tuple[LedgerRow, ...]
    dollars: float

    @property
    def tokens(self) -> dict[str, int]:
        return {row.phase.value: row.prompt + row.generated for row in self.ledger}

    @property
    def seconds(self) -> float:
        return sum(row.milliseconds for row in self.ledger) / 1e3

    @property
    def says(self) -> tuple[str, ...]:
        """Sentences of the findings, whose numbers are all in the tables."""
        return tuple(sentence for finding in self.findings for sentence in finding.says)


async def analyse(file: Path, question: str, engine: Engine, budget: Budget, decimal: str = "") -> Analysed:
    """Read the file, choose operations, compute, check the sentences, and choose the answer; `decimal` is point, comma
    or empty. Raises Misconfigured for a bad file."""
    loaded = await asyncio.to_thread(load_table, file, decimal)
    frame = loaded.frame
    shape = await asyncio.to_thread(profile, frame, loaded.remarks)
    asker = Asker(engine, budget)
    findings: Sequence[TableFinding] = ()
    if question:
        with suppress(OutOfBudget):
            findings = await asyncio.to_thread(tried, frame, await choose(asker, question, shape))
    findings = findings or await asyncio.to_thread(scan, frame, shape)
    findings, dropped = checked(findings)
    headline = await _headline(asker, question, findings)
    return Analysed(
        file=file.name,
        question=question,
        profile=shape,
        findings=tuple(findings),
        headline=headline,
        dropped=dropped,
        model=engine.identity.model,
        ledger=budget.ledger(),
        dollars=budget.dollars,
    )


def checked(findings: Sequence[TableFinding]) -> tuple[list[TableFinding], tuple[str, ...]]:
    """The findings with their supported sentences, and the sentences that a table does not support."""
    kept, dropped = list[TableFinding](), list[str]()
    for finding in findings:
        wrong = [sentence for sentence in finding.says if unsupported(sentence, [finding.table])]
        dropped += wrong
        kept.append(replace(finding, says=tuple(s for s in finding.says if s not in wrong)))
    return kept, tuple(dropped)


async def _headline(asker: Asker, question: str, findings: Sequence[TableFinding]) -> str:
    """The sentence that answers, chosen by its letter, those of likelier findings first: a sentence written by the
    model could claim what no table supports without a single wrong number."""
    said = [(sentence, _FADING**rank) for rank, finding in enumerate(findings) for sentence in finding.says]
    if not question or not said:
        return ""
    some = said[: len(prompts.LETTERS)]
    letters = prompts.LETTERS[: len(some)]
    with suppress(OutOfBudget):
        (row,) = await asker.ask(Phase.ANSWER, [Question(prompts.headline(question, [s for s, _ in some]), letters)])
        return max(zip(some, row, strict=True), key=lambda one: one[0][1] * one[1])[0][0]
    return some[0][0]
