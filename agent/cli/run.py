"""`edgeclaw run`: trade, with a live view and a closing summary."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market.errors import EdgeclawError

if TYPE_CHECKING:
    from agent.config.schema import Config
    from agent.reports.run_summary import Summary
    from agent.service.journal import RunLogger
    from agent.trading.bus import LocalBus
    from agent.trading.result import RunResult

_TREE_KEYS = {
    "depth": "edge.tree_search.depth",
    "branching": "edge.tree_search.branching_factor",
    "width": "edge.tree_search.width",
    "policy": "edge.tree_search.policy",
    "samples": "edge.tree_search.samples",
}


_MARKET = "polymarket"
"""Name of the real venue on the screen."""


def run(
    mode: Annotated[str, typer.Option(help="paper: simulated orders; live: orders at the venue.")] = "paper",
    feed: Annotated[
        str, typer.Option(help="Paper: sample, a folder or file of recorded books, or live for the live market.")
    ] = "sample",
    venue: Annotated[str | None, typer.Option(help="Live: address of a loopback venue (simulated money).")] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Live: file with the private key, readable by its owner only.")
    ] = None,
    trade_with: Annotated[
        list[str] | None,
        typer.Option(help="Strategy on a live market: agent, late_favourite, join_best; may be repeated."),
    ] = None,
    i_accept_the_risk: Annotated[
        bool, typer.Option("--i-accept-the-risk", help="Live: trade real money without the required paper trading.")
    ] = False,
    speed: Annotated[str, typer.Option(help="Replay speed: max, or a multiple of real time.")] = "max",
    cycles: Annotated[int | None, typer.Option(min=1, help="Number of cycles to run.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file over the profile of the feed.")] = None,
    model: Annotated[str | None, typer.Option(help="Name of a known model, or path of a GGUF file.")] = None,
    inference: Annotated[str, typer.Option(help="Place of inference: edge (this box) only.")] = "edge",
    engine: Annotated[
        str | None, typer.Option(help="llamacpp, openvino, openai or mlc; scripted for a dry run without a model.")
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="Search budget: compute-optimal or fixed.")] = None,
    tree_search: Annotated[
        list[str] | None,
        typer.Option(help="Search settings: depth=5, branching=3, width=2, policy=beam, samples=8; may be repeated."),
    ] = None,
    self_verify: Annotated[
        bool | None, typer.Option(help="Self-verification: the model's own verdict on each claim.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Also append every event to this file as JSON lines.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Run the agent and print the funnel, the money, the scores and the evidence ladder.

    On paper nothing is sent: orders meet recorded books, or with --feed live those of the venue as it is now. Live it
    sends orders: to the loopback venue named by --venue, or to the real one.
    """
    import asyncio

    from agent.config.load import load_config, profile_for
    from agent.reports.run_summary import summarise
    from agent.trading.bus import LocalBus

    _only("--inference", inference, "edge", "The model runs on this box.")
    asked = {
        "edge.model": model,
        "edge.runtime": engine,
        "edge.strategy": strategy,
        "edge.self_verify.enabled": self_verify,
        "venue.loopback": venue,
        "venue.key_file": None if key_file is None else str(key_file),
        **_tree(tree_search or []),
    }
    recorded = _mode(mode) == "paper" and feed != "live"
    profile = profile_for(feed) if recorded else ""
    settings = load_config(config, {k: v for k, v in asked.items() if v is not None}, profile=profile)
    risk = i_accept_the_risk
    work = _paper(settings, feed, speed, cycles) if recorded else _live(settings, trade_with, cycles, mode, risk)
    bus = LocalBus()
    with ExitStack() as stack:
        if output is not None:
            stack.enter_context(_event_log(bus, output))
        watched = _watched_recording if recorded else _watched_live
        title = screen_title(settings, mode, feed)
        stage = stack.enter_context(watched(bus, settings, title, quiet=as_json))
        outcome = asyncio.run(_until_told(work(bus, stage)))
    summary = asyncio.run(summarise(settings, outcome))
    _tell(summary, as_json)
    if summary.halted:
        raise typer.Exit(4)


Work = Callable[["LocalBus", Callable[[str], None]], Coroutine[Any, Any, "RunResult"]]


def _mode(named: str) -> str:
    if named not in ("paper", "live"):
        raise typer.BadParameter(f"--mode {named} is not possible: use paper or live")
    return named


def _paper(config: Config, feed: str, speed: str, cycles: int | None) -> Work:
    from agent.app.recorded import PaperPlan, run_paper

    plan = PaperPlan(config, feed, _speed(speed), cycles)
    return lambda bus, stage: run_paper(plan, bus, stage)


async def _until_told(work: Coroutine[Any, Any, RunResult]) -> RunResult:
    """Treat SIGTERM like Ctrl-C: orders are cancelled first."""
    import asyncio
    import signal

    loop, task = asyncio.get_running_loop(), asyncio.create_task(work)
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        # The same end as after Ctrl-C, with the same sentence and exit code.
        raise KeyboardInterrupt from None
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def _live(config: Config, trade_with: list[str] | None, cycles: int | None, mode: str, risk: bool) -> Work:
    from agent.app.live import run_live
    from agent.app.live_plan import LivePlan
    from agent.app.traders import TRADERS

    named = tuple(dict.fromkeys(trade_with or ["agent"]))
    for one in named:
        if one not in TRADERS:
            raise typer.BadParameter(f"--trade-with {one} is not one of {', '.join(TRADERS)}")
    plan = LivePlan(config, named, cycles, paper=mode == "paper", accept_the_risk=risk)
    return lambda bus, stage: run_live(plan, bus, stage)


def _only(flag: str, given: str, allowed: str, why: str) -> None:
    if given != allowed:
        raise typer.BadParameter(f"{flag} {given} is not possible: {why} Use {flag} {allowed}")


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise typer.BadParameter(f"--speed {text!r} is neither max nor a positive number")
    return speed


def _tree(options: list[str]) -> dict[str, object]:
    """Parse options like "depth=5" into configuration keys."""
    found: dict[str, object] = {}
    for option in (part for text in options for part in text.split(",")):
        key, _, value = option.strip().partition("=")
        if key not in _TREE_KEYS or not value:
            raise typer.BadParameter(
                f"--tree-search {option!r} is not one of {', '.join(f'{k}=...' for k in _TREE_KEYS)}"
            )
        found[_TREE_KEYS[key]] = int(value) if value.isdigit() else value
    return found


@contextmanager
def _event_log(bus: LocalBus, path: Path) -> Iterator[None]:
    from agent.trading.event_log import event_log

    with event_log(bus, path):
        yield


def screen_title(config: Config, mode: str, feed: str) -> str:
    """Mode of a run and where it trades: real money must never look like paper."""
    loopback = config.venue.loopback
    if mode == "paper":
        return f"paper · {feed if feed != 'live' else f'live market at {loopback or _MARKET}'}"
    return f"live at loopback · {loopback}" if loopback else f"live · {_MARKET}"


@contextmanager
def _watched_recording(bus: LocalBus, _: Config, title: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """The live view on a terminal, else a line a decision. Yields what takes the run's stages."""
    from agent.cli.show import console

    if quiet:
        yield lambda _: None
    elif (screen := console()).is_terminal:
        from agent.cli.live import LiveView

        with LiveView(bus, screen, title) as view:
            yield view.stage
    else:
        from agent.cli.live import plain_stage

        with plain_stage(bus, screen) as stage:
            yield stage


@contextmanager
def _watched_live(bus: LocalBus, config: Config, title: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """The log, and on a terminal the live view. Yields what takes the run's stages. The log goes to standard output, or
    to standard error where the output is the JSON of the summary."""
    from agent.app.live import must_trade

    must_trade()  # says so in a sentence where the library of the log is not installed
    from agent.cli.show import console
    from agent.service.journal import run_journal

    out = sys.stderr if quiet else sys.stdout
    with run_journal(bus, config.service.log_level, out) as journal, _end_logged(journal):
        if quiet or not (screen := console()).is_terminal:
            yield journal.stage
            return
        from agent.cli.live import LiveView

        with LiveView(bus, screen, title) as view:

            def stage(text: str) -> None:
                view.stage(text)
                journal.stage(text)

            yield stage


@contextmanager
def _end_logged(journal: RunLogger) -> Iterator[None]:
    """Have what ends the process in the log. An unexpected error is logged instead of printed by the interpreter: the
    log takes secrets out of its text."""
    try:
        yield
    except EdgeclawError as error:
        if not sys.stderr.isatty():  # there the sentence follows
            journal.exits(error.sentence(), error.exit_code)
        raise
    except (typer.TyperException, typer.Exit):
        raise
    except Exception as error:
        journal.failed(error)
        raise typer.Exit(1) from None


def _tell(summary: Summary, as_json: bool) -> None:
    from agent.cli import show

    if as_json:
        show.as_json(summary)
    else:
        from agent.cli.summary import print_summary

        print_summary(summary, show.console())
