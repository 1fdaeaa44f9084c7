"""`edgeclaw install` and `edgeclaw doctor`: set up the machine, and check it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agent.install import InstallStep

install_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Install the inference engine.")


@install_app.callback()
def _install() -> None:
    """Install what runs on this box."""


@install_app.command(
    "edge-runtime",
    short_help="An engine and a model.",
    epilog="Example: edgeclaw install edge-runtime --dry-run",
)
def edge_runtime(
    engine: Annotated[
        str,
        typer.Option(
            help="auto or llamacpp: the embedded engine; openvino: faster on most CPUs; mlc: MLC-LLM on a card."
        ),
    ] = "auto",
    model: Annotated[str, typer.Option(help="A known model, a GGUF file, or for mlc OWNER/NAME of the hub.")] = "",
    sha256: Annotated[str, typer.Option(help="Required SHA-256 of your own GGUF file.")] = "",
    offline: Annotated[Path | None, typer.Option(help="Folder with all files, for a box without network.")] = None,
    device: Annotated[
        str, typer.Option(help="mlc: cuda, rocm, vulkan, metal, or cuda:1; default: best available.")
    ] = "",
    lock: Annotated[Path | None, typer.Option(help="mlc: lock file to use or create.")] = None,
    pin: Annotated[str, typer.Option(help="mlc: exact versions of mlc-llm and mlc-ai, as LLM,AI.")] = "",
    python: Annotated[Path | None, typer.Option(help="mlc: Python interpreter of the engine's environment.")] = None,
    index: Annotated[str, typer.Option(help="mlc: wheel index or folder instead of MLC's own.")] = "",
    hub: Annotated[str, typer.Option(help="mlc: address of another model hub.")] = "",
    write_config: Annotated[Path | None, typer.Option(help="mlc: YAML file to write the settings to.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Print each step without executing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the steps and their state as JSON.")] = False,
) -> None:
    """Install an engine and a model, verify both, and skip what was done before.

    The embedded engine runs anywhere. mlc needs a graphics card, and is installed in an environment of its own.
    """
    from agent import install
    from agent.cli import show
    from agent.config.paths import home

    if engine not in install.ENGINES:
        raise typer.BadParameter(f"--engine {engine!r} is not one of {', '.join(install.ENGINES)}")
    wanted = model or install.DEFAULT_MODELS[engine]
    if engine == "mlc":
        _only(engine, sha256=sha256)
        choices = install.MlcChoices(
            device=device,
            lock=lock,
            pins=tuple(pin.split(",")) if pin else (),
            interpreter=python or Path(sys.executable),
            index=index or install.INDEX,
            hub=hub or install.HUB,
            write_config=write_config,
        )
        steps = install.plan_mlc(wanted, home(), offline, choices)
    else:
        _only(engine, device=device, lock=lock, pin=pin, python=python, index=index, hub=hub, write_config=write_config)
        steps = install.plan(engine, wanted, home(), offline, sha256=sha256)
    if dry_run:
        lines = [{"step": s.title, "does": s.describe(), "done": s.done()} for s in steps]
        if as_json:
            show.as_json(lines)
        else:
            _print_steps(lines)
        return
    with install.alone(home()):
        if as_json:
            install.execute(steps, lambda *_: None)
            show.as_json([{"step": s.title, "does": s.describe(), "done": s.done()} for s in steps])
        else:
            _execute(steps)


def _only(engine: str, **given: object) -> None:
    """Refuse options that do not apply to this engine."""
    for name, value in given.items():
        if value:
            raise typer.BadParameter(f"--{name.replace('_', '-')} means nothing with --engine {engine}")


def _print_steps(lines: list[dict[str, object]]) -> None:
    from rich.markup import escape

    from agent.cli.show import console, table

    rows = table("Plan of edgeclaw install edge-runtime", "step", "action", "state")
    for line in lines:
        rows.add_row(escape(str(line["step"])), escape(str(line["does"])), "done" if line["done"] else "to do")
    console().print(rows)


def _execute(steps: Sequence[InstallStep]) -> None:
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
    screen.print(f"Ready. {install.told(steps)}", markup=False)


def doctor(
    config: Annotated[Path | None, typer.Option(help="A YAML file over the defaults.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check what a run needs, and name the next step for each thing that is missing. Exit 3 where something is."""
    import asyncio

    from agent.cli import show
    from agent.config.load import load_config
    from agent.doctor import examine

    checks = asyncio.run(examine(load_config(config)))
    if as_json:
        show.as_json(checks)
    else:
        rows = show.table("edgeclaw doctor", "", "check", "result", "next step")
        for check in checks:
            mark = f"[{show.GOOD}]ok[/]" if check.ok else f"[{show.BAD}]no[/]"
            rows.add_row(mark, check.name, check.found, check.next_step)
        show.console().print(rows)
    if not all(c.ok for c in checks):
        raise typer.Exit(3)
