"""Storage of a benchmark: one JSON line for every question and arm, the results, the figures and the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from agent.search_benchmark.experiment import ExperimentResult
from agent.search_benchmark.figures import draw_benchmark
from agent.search_benchmark.page import benchmark_page
from agent.search_benchmark.results import TaskResult
from agent.search_benchmark.suite import trials
from storage.canonical import plain


def write_benchmark(found: ExperimentResult, results: Sequence[TaskResult], path: Path, *, figures: bool) -> list[Path]:
    """Write everything into a folder; returns the files written, the page last."""
    lines, summary = path / "answers.jsonl", path / "results.json"
    ordered = sorted(found.records, key=lambda r: (r.task, r.arm, r.seed, r.number))
    lines.write_text("".join(json.dumps(plain(r), sort_keys=True) + "\n" for r in ordered))
    summary.write_text(json.dumps({"facts": facts(found), "results": plain(results)}, indent=2, sort_keys=True) + "\n")
    if not figures:
        return [lines, summary]
    drawn, report = draw_benchmark(results, path), path / "report.html"
    report.write_text(benchmark_page(results, drawn, facts(found)), encoding="utf-8")
    return [lines, summary, *drawn, report]


def facts(found: ExperimentResult) -> list[str]:
    """Facts for repeating the run, in sentences without durations."""
    setup = found.setup
    return [
        f"Seeds {', '.join(map(str, setup.seeds))}, {setup.count} questions of each task and seed; the same questions, "
        "worked examples and draws for every arm.",
        *(f"Model {name}: {i.engine}, SHA-256 {i.sha256[:16]}." for name, i in found.models.items()),
        *(
            f"{task}: the worked examples are {tokens} tokens for {model}, evaluated once and charged to no question."
            for (task, model), tokens in found.prefixes.items()
        ),
        "Tokens are those evaluated for a question and those written, as if each search ran alone with a cache of its "
        "own; questions shared between arms are computed once.",
        f"Trials while the tasks were tuned, on other seeds: {len(trials())}; they are listed in trials.json.",
    ]
