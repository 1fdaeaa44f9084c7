"""The command line: `edgeclaw VERB`. Knows how to ask and how to show; what it shows is computed elsewhere.

Exit codes: 0 ok, 1 a finding or difference, 2 usage or configuration, 3 not ready, 4 halted, 5 venue or engine
unavailable. Heavy modules are imported inside the verbs, so that `--help` is quick.
"""

from __future__ import annotations

import json
import sys

import typer

from agent.cli import analyze as analyze_verb
from agent.cli import backtest as backtest_verb
from agent.cli import backup as backup_verbs
from agent.cli import config as config_verbs
from agent.cli import data as data_verbs
from agent.cli import evidence as evidence_verbs
from agent.cli import halt as halt_verbs
from agent.cli import log as log_verbs
from agent.cli import mcp as mcp_verb
from agent.cli import monitor as monitor_verbs
from agent.cli import optimize as optimize_verbs
from agent.cli import run as run_verb
from agent.cli import service as service_verbs
from agent.cli import setup as setup_verbs
from agent.cli import sweep as sweep_verb
from agent.cli import venue as venue_verbs
from agent.cli import wallet as wallet_verbs
from agent.host.memory import collect_seldom, share_heaps
from market.errors import EdgeclawError

app = typer.Typer(
    name="edgeclaw",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A Polymarket trading agent whose small model runs on your own box, searches, and is verified.",
    epilog="Example: edgeclaw install edge-runtime && edgeclaw run --feed sample --speed max",
)
app.add_typer(setup_verbs.install_app, name="install")
app.command("doctor", short_help="Check what a run needs.", epilog="Example: edgeclaw doctor --json")(
    setup_verbs.doctor
)
app.command(
    "run",
    short_help="Trade, on paper or live.",
    epilog="Example: edgeclaw run --feed sample --speed max --cycles 6",
)(run_verb.run)
app.command(
    "backtest",
    short_help="Judge strategies on recorded markets.",
    epilog="Example: edgeclaw backtest --data sample --trade-with late_favourite --out report",
)(backtest_verb.backtest)
app.command(
    "sweep",
    short_help="Try many settings of a strategy.",
    epilog="Example: edgeclaw sweep space.yaml --data sample --trials 40",
)(sweep_verb.sweep)
app.command(
    "analyze",
    short_help="Find out what stands in a file.",
    epilog='Example: edgeclaw analyze sales.csv --question "which region sells most" --out report',
)(analyze_verb.analyze)
app.command("halt", short_help="Stop trading now.", epilog='Example: edgeclaw halt --reason "going on holiday"')(
    halt_verbs.halt
)
app.command(
    "resume", short_help="Allow trading again.", epilog='Example: edgeclaw resume --reason "read the ten losers"'
)(halt_verbs.resume)
app.command("status", short_help="How things stand.", epilog="Example: edgeclaw status --json")(halt_verbs.status)
app.add_typer(monitor_verbs.monitor_app, name="monitor")
app.add_typer(optimize_verbs.app, name="optimize")
app.add_typer(service_verbs.service_app, name="service")
app.add_typer(log_verbs.app, name="log")
app.add_typer(config_verbs.app, name="config")
app.add_typer(evidence_verbs.app, name="evidence")
data_verbs.app.command(
    "backup", short_help="Copy the database while it is in use.", epilog="Example: edgeclaw data backup ~/edgeclaw.bak"
)(backup_verbs.backup)
data_verbs.app.command(
    "restore", short_help="Put such a copy back.", epilog="Example: edgeclaw data restore ~/edgeclaw.bak"
)(backup_verbs.restore)
app.command("mcp", short_help="Serve the log to other agents.", epilog="Example: edgeclaw mcp --show")(mcp_verb.mcp)
app.add_typer(data_verbs.app, name="data")
app.add_typer(venue_verbs.app, name="venue")
app.add_typer(wallet_verbs.app, name="wallet")


def main() -> None:
    """The console script."""
    collect_seldom()
    share_heaps()
    try:
        code = app(standalone_mode=False)
    except EdgeclawError as error:
        sys.exit(_say(error.sentence(), error.exit_code))
    except typer.TyperException as error:
        sys.exit(_usage(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_say("Stopped. Whatever was recorded is kept; the same command goes on from there.", 130))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: typer.TyperException) -> int:
    """A wrong call: the help where nothing was asked for, else one sentence."""
    said = error.format_message()
    if said.startswith("Usage:"):
        sys.stderr.write(f"{said}\n")
        return 2
    path = getattr(getattr(error, "ctx", None), "command_path", "edgeclaw")
    return _say(f"{' '.join(said.split()).rstrip('.')}. Try `{path} --help`.", 2)


def _say(sentence: str, code: int) -> int:
    """One sentence on standard error, as JSON where JSON was asked for."""
    text = json.dumps({"error": sentence, "exit_code": code}) if "--json" in sys.argv else f"edgeclaw: {sentence}"
    sys.stderr.write(f"{text}\n")
    return code


if __name__ == "__main__":
    main()
