"""`edgeclaw analyze`: what stands in a file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table as Grid

    from agent.analysis.analysis import Analysed
    from tools.analysis.table import Table

_ROWS = 6


def analyze(
    file: Annotated[Path, typer.Argument(help="A .csv, .xlsx or .parquet file.")],
    question: Annotated[str, typer.Option(help="Question to answer; without it, the most notable findings.")] = "",
    decimal: Annotated[
        str, typer.Option(help="Decimal mark where the file does not show it, as in 1.234: point or comma.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Write Markdown, an HTML page and figures to this folder.")] = None,
    model: Annotated[str | None, typer.Option(help="Name of a known model, or path of a GGUF file.")] = None,
    engine: Annotated[str | None, typer.Option(help="scripted for a dry run without a model.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file over the defaults.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Answer a question about a table. The model chooses among fixed operations, which compute the answer; nothing that
    it writes is run, and every number that is said stands in a computed table. Nothing leaves this machine.
    """
    import asyncio
    from contextlib import nullcontext

    from agent.app.analysing import analysed
    from agent.cli import show
    from agent.config.load import load_config

    asked = {"edge.model": model, "edge.runtime": engine}
    settings = load_config(config, {key: value for key, value in asked.items() if value is not None})
    screen = show.console()
    busy = screen.status("analysing the file") if screen.is_terminal and not as_json else nullcontext()
    with busy:
        made = asyncio.run(analysed(settings, file, question, decimal))
    kept = _kept(made, out)
    if as_json:
        told = {"says": made.says, "tokens": made.tokens, "seconds": made.seconds, "kept": [str(path) for path in kept]}
        show.as_json({"analysis": made, **told})
    else:
        _tell(made, kept, screen)


def _kept(made: Analysed, out: Path | None) -> Sequence[Path]:
    if out is None:
        return ()
    from agent.analysis.report import write_analysis

    return write_analysis(made, out)


def _tell(made: Analysed, kept: Sequence[Path], screen: Console) -> None:
    from rich.markup import escape

    from agent.analysis.report import columns, footer, lead, remarks, title
    from agent.cli.show import ACCENT, MUTED

    screen.print()
    screen.rule(f"[bold]{escape(title(made))}[/] · {escape(lead(made))}", style=ACCENT)
    screen.print()
    if made.headline:
        screen.print(f"[bold]{escape(made.headline)}[/]\n")
    for remark in remarks(made):
        screen.print(f"[{MUTED}]{escape(remark)}[/]\n")
    if not made.findings:
        screen.print("Nothing stands out: the file holds no numbers, times or groups to compare.\n")
    for finding in made.findings:
        for sentence in (s for s in finding.says if s != made.headline):
            screen.print(f"● {escape(sentence)}")
        screen.print(_grid(finding.table))
        screen.print()
    screen.print(_grid(columns(made)))
    screen.print(f"\n[{MUTED}]{escape(footer(made))}[/]")
    for path in kept:
        screen.print(f"Kept: {path}", markup=False, highlight=False)


def _grid(table: Table) -> Grid:
    from rich.markup import escape

    from agent.cli import show
    from tools.analysis.table import number

    numeric = [c for c in table.columns if all(isinstance(v, int | float) or v is None for v in table.column(c))]
    grid = show.table(escape(table.title), *map(escape, table.columns), right=[escape(name) for name in numeric])
    for row in table.rows[:_ROWS]:
        grid.add_row(*(escape(number(cell)) for cell in row))
    if len(table.rows) > _ROWS:
        grid.add_row(f"… {len(table.rows) - _ROWS} more")
    return grid
