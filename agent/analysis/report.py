"""Report of an analysis: Markdown, and one page with charts."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from agent.analysis.analysis import Analysed
from agent.analysis.pictures import draw_findings
from agent.config import paths
from agent.reports.html import figure, html_page, row
from agent.reports.plots import drawable
from tools.analysis.table import Cell, Table, number


def write_analysis(made: Analysed, folder: Path) -> list[Path]:
    """Write `analysis.md`, `analysis.html` and the charts; returns the paths written."""
    paths.folder(folder)
    drawn = draw_findings(made, folder) if drawable() else {}
    kept = [folder / "analysis.md", folder / "analysis.html"]
    kept[0].write_text(markdown(made, {n: p.name for n, p in drawn.items()}), encoding="utf-8")
    kept[1].write_text(html(made, drawn), encoding="utf-8")
    return [*kept, *drawn.values()]


def title(made: Analysed) -> str:
    return made.question or f"What stands out in {made.file}"


def lead(made: Analysed) -> str:
    return f"{made.file}: {made.profile.rows:,} rows, {len(made.profile.columns)} columns."


def remarks(made: Analysed) -> list[str]:
    """Sentences on columns that look like numbers and are not understood as such."""
    return [column.remark for column in made.profile.columns if column.remark]


def footer(made: Analysed) -> str:
    """Cost, and the basis of the numbers."""
    spent = ", ".join(f"{phase} {count:,}" for phase, count in made.tokens.items() if count) or "none"
    dropped = f" {len(made.dropped)} sentences were left out, since no table bears them out." if made.dropped else ""
    return (
        f"Every number above stands in a table computed from the file. What was computed was chosen by {made.model} on "
        f"this machine; tokens: {spent}; ${made.dollars:.6f}.{dropped}"
    )


def markdown(made: Analysed, drawn: Mapping[int, str]) -> str:
    parts = [f"# {title(made)}", lead(made), *([f"**{made.headline}**"] if made.headline else []), *remarks(made)]
    for at, finding in enumerate(made.findings):
        parts += [f"## {finding.table.title}", *finding.says]
        parts += [f"![{finding.table.title}]({drawn[at]})"] if at in drawn else []
        parts.append(_grid(finding.table))
    parts += ["## Columns", _grid(columns(made)), footer(made)]
    return "\n\n".join(parts) + "\n"


def _grid(table: Table) -> str:
    lines = [table.columns, tuple("---" for _ in table.columns), *(tuple(map(number, r)) for r in table.rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def html(made: Analysed, drawn: Mapping[int, Path]) -> str:
    body = [f"<p><strong>{escape(made.headline)}</strong></p>" if made.headline else ""]
    body += [f"<p class=quiet>{escape(remark)}</p>" for remark in remarks(made)]
    for at, finding in enumerate(made.findings):
        body.append(f"<h2>{escape(finding.table.title)}</h2>")
        body += [f"<p>{escape(sentence)}</p>" for sentence in finding.says]
        body += [figure(drawn[at])] if at in drawn else []
        body.append(_table(finding.table))
    body += ["<h2>Columns</h2>", _table(columns(made)), f"<p class=quiet>{escape(footer(made))}</p>"]
    return html_page(title(made), lead(made), "".join(body))


def _table(table: Table) -> str:
    rows = "".join(row("td", *map(_shown, cells)) for cells in table.rows)
    return f"<div class=scroll><table>{row('th', *table.columns)}{rows}</table></div>"


def _shown(cell: Cell) -> str:
    return number(cell)


def columns(made: Analysed) -> Table:
    """The file's columns as a table."""
    rows = tuple((c.name, c.kind.value, c.distinct, c.missing) for c in made.profile.columns)
    return Table("Columns", ("column", "kind", "distinct", "missing"), rows)
