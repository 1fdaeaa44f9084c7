"""Draw `decision.svg`, the picture of a decision in the README, from a recorded decision of the sample run.

    make run && python docs/picture/draw.py

It composes the review pages' own drawings, so that the picture shows what `edgeclaw log serve` shows.
"""

from __future__ import annotations

import asyncio
import re
import sys
from datetime import datetime, timedelta
from html import escape
from pathlib import Path

import agent.review
from agent.config.load import load_config
from agent.config.places import database_url
from agent.reports.lookup import chosen_run
from agent.review import pictures
from agent.review.reading import DecisionPage, decision_page
from agent.review.whatif import Changed
from storage.records import DecisionFilter
from storage.store import open_store

AT = datetime.fromisoformat("2026-09-28T12:40:00+00:00")
HERE = Path(__file__).parent
WIDTH, LEFT, TOP = 1034, 30, 190
_COLOURS = (":root", "@media (prefers-color-scheme", ".tree", ".path", ".mark path")
"""Beginnings of the style sheet's lines that colour drawings."""
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: var(--ink) }
.tree text { font-size: 12.5px } .path text { font-size: 12px }
.card { fill: var(--paper); stroke: var(--rule) } .small { fill: var(--quiet) }
.head { font-size: 22px; font-weight: 650 }
.section { font-size: 14px; font-weight: 600 } .figure { font-size: 24px; font-variant-numeric: tabular-nums }
.chip { fill: none; stroke: var(--amber) } .chiptext { fill: var(--amber); text-anchor: middle }
.key { fill: var(--card); stroke-width: 2 } .code { font: 12px ui-monospace, monospace; fill: var(--quiet) }
.thin { stroke: var(--amber) } .false { stroke: var(--red) } .supported { stroke: var(--green) }
.number { text-anchor: end; font-variant-numeric: tabular-nums } .rule { stroke: var(--rule) }
.tree .link { stroke: var(--quiet); stroke-opacity: .55 } .tree .link.picked { stroke: var(--ink); stroke-opacity: 1 }
.tree g { stroke: none } .tick { fill: var(--quiet) }
"""


async def recorded(run: str | None) -> DecisionPage:
    """The decision at `AT` with all that its page shows. Raises Misconfigured where it is not recorded."""
    async with open_store(database_url(load_config(None)), read_only=True) as store:
        chosen = await chosen_run(store, run)
        found = await store.listed(DecisionFilter(chosen.id, since=AT, until=AT + timedelta(seconds=1)), limit=1)
        name = found[0].id if found else f"of {AT:%H:%M}"
        return await decision_page(store, chosen.id, name, Changed(None, None, None))


def drawn(page: DecisionPage) -> str:
    """The picture as SVG text."""
    tree, tall = placed(pictures.tree(page.nodes, page.picked), LEFT, TOP + 276)
    path, _ = placed(pictures.path(page.points, page.marks), LEFT, TOP + 18)
    height = TOP + 276 + tall + 62
    parts = [head(page), figures(page), title("Order book of Up: best bid and ask", TOP), path]
    parts.append(evidence(page, 760, TOP))
    parts += [title("Search tree: each claim rests on the one to its left", TOP + 258), legend(TOP + 253), tree]
    parts.append(
        f'<text class="code" x="{LEFT}" y="{height - 26:.0f}">record {page.e.seq} · sha256 {page.e.hash[:32]}… · '
        f"edgeclaw log replay {page.e.id}</text>"
    )
    says = f"A recorded decision: {page.e.thought['action']}, {page.e.thought['reason'].replace('_', ' ')}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(says)}"><style>{style()}</style>'
        f'<rect class="card" x="1" y="1" width="{WIDTH - 2}" height="{height - 2:.0f}" rx="14"/>'
        f"{''.join(parts)}</svg>\n"
    )


def style() -> str:
    """The review pages' colours for light and dark, and the type of this picture."""
    sheet = (Path(agent.review.__file__).parent / "static" / "review.css").read_text(encoding="utf-8")
    return "\n".join(line for line in sheet.splitlines() if line.startswith(_COLOURS)) + _STYLE


def placed(svg: str, x: float, y: float) -> tuple[str, float]:
    """A drawing of the review pages at a place of this one, without links, and its height."""
    width, height = map(float, re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
    bare = re.sub(r"</?a\b[^>]*>", "", svg)
    return re.sub(r'width="\d+"', f'x="{x}" y="{y}" width="{width}" height="{height}"', bare, count=1), height


def title(text: str, y: float) -> str:
    return f'<text class="section" x="{LEFT}" y="{y}">{escape(text)}</text>'


def head(page: DecisionPage) -> str:
    """The market's question, the instant, and what was decided."""
    thought = page.e.thought
    said = f"{thought['action']}: {thought['reason'].replace('_', ' ')}"
    wide = 8 * len(said) + 24
    return (
        f'<text class="head" x="{LEFT}" y="48">{escape(str(page.e.market["question"]))}</text>'
        f'<text class="small" x="{LEFT}" y="72">decided {AT:%Y-%m-%d %H:%M} UTC · policy {thought["search"]["policy"]}'
        f" · {len(page.nodes)} nodes</text>"
        f'<rect class="chip" x="{WIDTH - LEFT - wide}" y="30" width="{wide}" height="28" rx="14"/>'
        f'<text class="chiptext" x="{WIDTH - LEFT - wide / 2}" y="49">{escape(said)}</text>'
    )


def figures(page: DecisionPage) -> str:
    """The figures of the decision in one row."""
    thought, outcome = page.e.thought, page.e.outcome
    belief = thought["search"]["belief"]
    payout = None if outcome is None else outcome.payout
    shown = (
        ("market mid", f"{thought['mid']:.3f}"),
        ("forecast P(Up)", f"{thought['probability']:.3f}"),
        ("verified share", f"{belief['verified_share']:.0%}"),
        ("past windows", f"{page.e.inputs['windows']}"),
        ("tokens", f"{sum(row.prompt + row.generated for row in page.e.tokens)}"),
        ("outcome", "open" if payout is None else "Up" if payout == 1 else "Down"),
    )
    step = (WIDTH - 2 * LEFT) / len(shown)
    return "".join(
        f'<text class="small" x="{LEFT + step * n:.0f}" y="112">{name}</text>'
        f'<text class="figure" x="{LEFT + step * n:.0f}" y="142">{value}</text>'
        for n, (name, value) in enumerate(shown)
    )


def evidence(page: DecisionPage, x: float, y: float) -> str:
    """The claims of the chosen path with what history says of each."""
    columns = (("support", x + 136), ("rate", x + 174), ("base rate", x + 244))
    parts = [f'<text class="section" x="{x}" y="{y}">Evidence of the chosen path</text>']
    parts += [f'<text class="small number" x="{at}" y="{y + 36}">{name}</text>' for name, at in columns]
    chosen = [n for n in page.nodes if n["hash"] in page.picked and n["evidence"] and n["evidence"]["support"]]
    for row, node in enumerate(chosen):
        found, line = node["evidence"], y + 66 + 28 * row
        cells = (f"{found['support']}", f"{found['rate']:.2f}", f"{found['base_rate']:.2f}")
        label = escape(pictures.label_of(node["claim"]))
        parts.append(f'<path class="rule" d="M{x} {line - 19} H{x + 244}"/><text x="{x}" y="{line}">{label}</text>')
        parts += [
            f'<text class="number" x="{at}" y="{line}">{cell}</text>'
            for cell, (_, at) in zip(cells, columns, strict=True)
        ]
    return "".join(parts)


def legend(y: float) -> str:
    """The verdicts by the colours of their boxes."""
    verdicts = (("supported", "supported", 620), ("thin", "too few windows", 735), ("false", "false or refuted", 886))
    return "".join(
        f'<rect class="key {kind}" x="{x}" y="{y - 7}" width="12" height="12" rx="3"/>'
        f'<text class="small" x="{x + 20}" y="{y + 4}">{says}</text>'
        for kind, says, x in verdicts
    )


if __name__ == "__main__":
    made = asyncio.run(recorded(sys.argv[1] if len(sys.argv) > 1 else None))
    (HERE / "decision.svg").write_text(drawn(made), encoding="utf-8")
