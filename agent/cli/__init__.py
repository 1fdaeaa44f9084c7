"""The command line: `edgeclaw VERB`. Parses and prints; results are computed elsewhere.

Exit codes: 0 ok, 1 a finding or difference, 2 usage or configuration, 3 not ready, 4 halted, 5 venue or engine
unavailable. A verb's module is imported when the verb is asked for, and heavy modules inside the verbs, so that
`--help` and whatever only reads are quick.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from agent.host.memory import collect_never, collect_seldom, share_heaps
from market.errors import EdgeclawError


@dataclass(frozen=True, slots=True)
class _Verb:
    """Place of a verb, as `module:name` below `agent.cli`; without a `short_help` it is a group of verbs."""

    place: str
    short_help: str = ""
    example: str = ""

    def register(self, name: str, on: typer.Typer) -> None:
        module, _, attribute = self.place.partition(":")
        found = getattr(import_module(f"{__name__}.{module}"), attribute)
        if self.short_help:
            on.command(name, short_help=self.short_help, epilog=f"Example: {self.example}")(found)
        else:
            on.add_typer(found, name=name)


_VERBS = {
    "doctor": _Verb("setup:doctor", "Check what a run needs.", "edgeclaw doctor --json"),
    "run": _Verb("run:run", "Trade, on paper or live.", "edgeclaw run --feed sample --speed max --cycles 6"),
    "backtest": _Verb(
        "backtest:backtest",
        "Backtest strategies on recorded markets.",
        "edgeclaw backtest --data sample --trade-with late_favourite --out report",
    ),
    "sweep": _Verb(
        "sweep:sweep", "Sweep the parameters of a strategy.", "edgeclaw sweep space.yaml --data sample --trials 40"
    ),
    "analyze": _Verb(
        "analyze:analyze",
        "Analyze a table.",
        'edgeclaw analyze sales.csv --question "which region sells most" --out report',
    ),
    "halt": _Verb("halt:halt", "Halt trading now (kill switch).", 'edgeclaw halt --reason "going on holiday"'),
    "resume": _Verb(
        "halt:resume", "Resume trading after a halt.", 'edgeclaw resume --reason "read the ten losers" --margin 25'
    ),
    "status": _Verb("halt:status", "Status of trading and accounts.", "edgeclaw status --json"),
    "mcp": _Verb("mcp:mcp", "Serve the log to other agents.", "edgeclaw mcp --show"),
    "install": _Verb("setup:install_app"),
    "monitor": _Verb("monitor:monitor_app"),
    "optimize": _Verb("optimize:app"),
    "service": _Verb("service:service_app"),
    "log": _Verb("log:app"),
    "config": _Verb("config:app"),
    "evidence": _Verb("evidence:app"),
    "data": _Verb("data:app"),
    "venue": _Verb("venue:app"),
    "wallet": _Verb("wallet:app"),
}


_INTERRUPTED = 130
"""Exit code after Ctrl-C. Typer catches the KeyboardInterrupt of a verb itself and returns this instead."""
_BRIEF = {("log", "list"), ("log", "show"), ("config", "show"), ("config", "check"), ("config", "schema")}
_BRIEF_ALONE = (["status"], ["halt"], ["resume"], ["--help"])
"""Verbs that read a little and end: they are over before garbage could matter."""


@cache
def _built(name: str) -> Any:
    alone = typer.Typer(add_completion=False, rich_markup_mode=None, callback=_edgeclaw)
    _VERBS[name].register(name, alone)
    return get_group(alone).commands[name]


class _Commands(Mapping[str, Any]):
    """Commands by name, each built when it is looked up: to build all of them takes longer than most verbs."""

    def __getitem__(self, name: str) -> Any:
        return _built(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_VERBS)

    def __len__(self) -> int:
        return len(_VERBS)


class _Verbs(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: Any = _Commands()


def _edgeclaw() -> None:
    """A callback makes of an application a group, whatever is registered on it."""


app = typer.Typer(
    name="edgeclaw",
    cls=_Verbs,
    callback=_edgeclaw,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A Polymarket trading agent with a small on-device model, tree search and verified claims.",
    epilog="Example: edgeclaw install edge-runtime && edgeclaw run --feed sample --speed max",
)


def main() -> None:
    """Entry point of the console script."""
    if tuple(sys.argv[1:3]) in _BRIEF or sys.argv[1:2] in _BRIEF_ALONE:
        collect_never()
    else:
        collect_seldom()
    share_heaps()
    try:
        # Errors come out as exceptions, so that each is printed as one sentence with its own exit code.
        code = app(standalone_mode=False)
    except EdgeclawError as error:
        sys.exit(_say(error.sentence(), error.exit_code))
    except typer.TyperException as error:
        sys.exit(_usage(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_interrupted())
    except BrokenPipeError:
        # Else the interpreter would complain of the closed pipe once more at exit.
        sys.stderr.close()
        sys.exit(0)
    if code == _INTERRUPTED:
        sys.exit(_interrupted())
    sys.exit(code if isinstance(code, int) else 0)


def _interrupted() -> int:
    return _say("Interrupted. Everything recorded is kept; the same command resumes from there.", _INTERRUPTED)


def _usage(error: typer.TyperException) -> int:
    """Handle a wrong call: print the help if no verb was given, else one sentence."""
    said = error.format_message()
    if said.startswith("Usage:"):
        sys.stderr.write(f"{said}\n")
        return 2
    path = getattr(getattr(error, "ctx", None), "command_path", "edgeclaw")
    return _say(f"{' '.join(said.split()).rstrip('.')}. Try `{path} --help`.", 2)


def _say(sentence: str, code: int) -> int:
    """Print one sentence on standard error, as JSON where JSON was asked for."""
    text = json.dumps({"error": sentence, "exit_code": code}) if "--json" in sys.argv else f"edgeclaw: {sentence}"
    sys.stderr.write(f"{text}\n")
    return code


if __name__ == "__main__":
    main()
