"""One analysis from a file to checked words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.analysis import prompts
from agent.analysis.choosing import choose, scan, tried
from agent.budget import Budget
from agent.llm.engine import Engine
from agent.proposals import Asker
from agent.search.tree import OutOfBudget
from storage.records import LedgerRow, Phase
from tools.analysis.checking import unsupported
from tools.analysis.reading import profile, read
from tools.analysis.table import Finding, Profile

_WORDS = 48


@dataclass(frozen=True, slots=True)
class Analysed:
    """`findings` are what answers the question, the most telling first. `words` is the model's own sentence where all
    its numbers are in the tables, else empty; `dropped` are the numbers for which it was not taken. `tokens` are by
    phase, `dollars` by token price, `seconds` those of the model."""

    file: str
    question: str
    profile: Profile
    findings: tuple[Finding, ...]
    words: str
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
        """What was found, in sentences whose numbers are all in the tables."""
        return tuple(sentence for finding in self.findings for sentence in finding.says)


async def analyse(file: Path, question: str, engine: Engine, budget: Budget) -> Analysed:
    """Read, choose, compute, say, and check what is said. Raises Misconfigured for a file that cannot be read."""
    frame = await asyncio.to_thread(read, file)
    shape = await asyncio.to_thread(profile, frame)
    asker = Asker(engine, budget)
    findings: Sequence[Finding] = ()
    if question:
        with suppress(OutOfBudget):
            findings = await asyncio.to_thread(tried, frame, await choose(asker, question, shape))
    findings = findings or await asyncio.to_thread(scan, frame, shape)
    words, dropped = await _said(asker, question, findings)
    return Analysed(
        file=file.name,
        question=question,
        profile=shape,
        findings=tuple(findings),
        words=words,
        dropped=dropped,
        model=engine.identity.model,
        ledger=budget.ledger(),
        dollars=budget.dollars,
    )


async def _said(asker: Asker, question: str, findings: Sequence[Finding]) -> tuple[str, tuple[str, ...]]:
    """The model's sentence, corrected once on the numbers that no table has; else nothing, and those numbers."""
    tables = [finding.table for finding in findings]
    prompt = prompts.words(question, [s for f in findings for s in f.says][:4])
    wrong: list[str] = []
    with suppress(OutOfBudget):
        for phase, asked in ((Phase.ANSWER, prompt), (Phase.CORRECT, prompt)):
            asked = prompts.corrected(prompt, wrong) if wrong else asked
            words = await asker.write(phase, asked, _WORDS)
            wrong = unsupported(words, tables)
            if words and not wrong:
                return f"In short, {_whole(words)}", ()
    return "", tuple(wrong)


def _whole(words: str) -> str:
    """As far as the last sentence that was finished, where one was."""
    end = max(words.rfind(mark + " ") for mark in ".!?")
    return words if words.endswith((".", "!", "?")) or end < 0 else words[: end + 1]
