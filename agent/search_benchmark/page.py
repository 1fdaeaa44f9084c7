"""The benchmark's page: goals, figures and tables in one file. Pure text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from agent.reports import html as pages
from agent.search_benchmark.arms import NODES
from agent.search_benchmark.results import TaskResult
from strategies.score import Interval


def benchmark_page(results: Sequence[TaskResult], figures: Sequence[Path], facts: Sequence[str]) -> str:
    """HTML with the SVG figures inside it."""
    drawn = "".join(pages.figure(path) for path in figures)
    said = "".join(f"<p class=quiet>{escape(fact)}</p>" for fact in facts)
    return pages.html_page(
        "Search benchmark: does search improve accuracy?",
        "The trading agent's own search code, on questions whose answers can be checked exactly.",
        f"{drawn}{''.join(_section(r) for r in results)}<h2>Method</h2>{said}",
    )


def percent(interval: Interval, *, signed: bool = False) -> str:
    """A share and its interval in percent."""
    form = "+.0f" if signed else ".0f"
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * interval.mean:{form}} [{low:{form}}, {high:{form}}]"


def _section(result: TaskResult) -> str:
    goals = "".join(
        f"<li class={'none' if g.holds is None else 'yes' if g.holds else 'no'}>{escape(g.sentence)}</li>"
        for g in result.goals
    )
    head = pages.row("th", "arm", "accuracy, %", "tokens", "nodes", "checker calls", "GFLOPs")
    lines = "".join(
        pages.row(
            "td",
            line.arm,
            percent(line.accuracy),
            f"{line.charged:.0f}",
            f"{line.generated:.0f}",
            f"{line.checks:.0f}",
            "-" if line.flops is None else f"{line.flops / 1e9:.1f}",
            kind=line.role,
        )
        for line in result.lines
    )
    pairs = pages.row("th", "baseline", "matched on", "budget", "difference, points", "p-value (McNemar)") + "".join(
        pages.row("td", v.against, v.equal, str(v.budget), percent(v.difference, signed=True), f"{v.p:.2g}")
        for v in result.versus
    )
    alone = ""
    if result.alone is not None:
        alone = f" The checker alone, through every label in {NODES} nodes: {100 * result.alone:.0f} % right."
    return (
        f"<h2>{escape(result.title)}</h2><p class=quiet>Checker: {escape(result.checks)}. {result.questions} questions;"
        f" uniform guessing is right {100 * result.guessing:.1f} % of the time. At most {result.budget} tokens a"
        f" question; arms without a model are matched on the nodes of best-first.{alone}</p><ul>{goals}</ul>"
        f"<table>{head}{lines}</table><details><summary>Paired differences at every budget</summary>"
        f"<table>{pairs}</table></details>"
    )
