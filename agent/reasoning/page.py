"""One page that holds the whole result: goals, figures and tables, without a single outside file. Pure text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from agent.reasoning.arms import NODES
from agent.reasoning.results import TaskResult
from strategies.score import Interval

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1f2430; max-width: 1180px; margin: 3rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.9rem; margin-bottom: .3rem } h2 { margin-top: 3rem } .quiet { color: #6b7280 }
figure { margin: 1.5rem 0 } figure svg { width: 100%; height: auto }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: 1rem 0 }
th { text-align: left; font-weight: 600; color: #6b7280; border-bottom: 1px solid #d4d8de }
td, th { padding: .3rem 1.1rem .3rem 0 } td.n, th.n { text-align: right } tr.search td { font-weight: 600 }
li.yes::marker { content: "✓  "; color: #00795b } li.no::marker { content: "✗  "; color: #b3400a }
li.none::marker { content: "·  " }
"""


def page(results: Sequence[TaskResult], figures: Sequence[Path], facts: Sequence[str]) -> str:
    """HTML with the SVG figures inside it."""
    drawn = "".join(f"<figure>{_inline(path)}</figure>" for path in figures)
    said = "".join(f"<p class=quiet>{escape(fact)}</p>" for fact in facts)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Does search buy anything?</title><style>{_STYLE}</style>"
        "<h1>Does search buy anything?</h1>"
        "<p>The trading agent's own search code, on questions whose answers can be checked exactly.</p>"
        f"{drawn}{''.join(_section(r) for r in results)}<h2>How it was made</h2>{said}</html>\n"
    )


def percent(interval: Interval, *, signed: bool = False) -> str:
    """A share and its interval in percent."""
    form = "+.0f" if signed else ".0f"
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * interval.mean:{form}} [{low:{form}}, {high:{form}}]"


def _inline(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return text[text.index("<svg") :]


def _section(result: TaskResult) -> str:
    goals = "".join(
        f"<li class={'none' if g.holds is None else 'yes' if g.holds else 'no'}>{escape(g.sentence)}</li>"
        for g in result.goals
    )
    head = _row("th", "arm", "accuracy %", "tokens", "labels or text tokens", "verdicts asked", "GFLOPs")
    lines = "".join(
        _row(
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
    pairs = _row("th", "against", "equal", "budget", "difference, points", "McNemar p") + "".join(
        _row("td", v.against, v.equal, str(v.budget), percent(v.difference, signed=True), f"{v.p:.2g}")
        for v in result.versus
    )
    alone = ""
    if result.alone is not None:
        alone = f" The checker alone, through every label in {NODES} nodes: {100 * result.alone:.0f} % right."
    return (
        f"<h2>{escape(result.title)}</h2><p class=quiet>Checker: {escape(result.checks)}. {result.questions} questions;"
        f" uniform guessing is right {100 * result.guessing:.1f} % of the time. At most {result.budget} tokens a"
        f" question; arms without a model have the nodes that best-first used.{alone}</p><ul>{goals}</ul>"
        f"<table>{head}{lines}</table><details><summary>Paired differences at every budget</summary>"
        f"<table>{pairs}</table></details>"
    )


def _row(cell: str, *values: str, kind: str = "") -> str:
    first, *rest = (escape(v) for v in values)
    return f"<tr class={kind or 'plain'}><{cell}>{first}{''.join(f'<{cell} class=n>{v}' for v in rest)}</tr>"
