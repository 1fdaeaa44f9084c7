"""`edgeclaw service install|uninstall|logs`: the agent as a service of systemd."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agent.service.installing import Steps

service_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run the agent as a systemd service.")
DryRun = Annotated[bool, typer.Option(help="Print files and commands without executing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@service_app.command("install", epilog="Example: sudo edgeclaw service install --config /etc/edgeclaw/edgeclaw.yaml")
def install(
    config: Annotated[Path | None, typer.Option(help="Configuration file of the service.")] = None,
    mode: Annotated[
        str, typer.Option(help="paper: simulated orders on the live market; live: orders at the venue.")
    ] = "paper",
    key: Annotated[
        Path | None, typer.Option(help="Live: key file, passed as the credential venue.key_credential.")
    ] = None,
    passphrase: Annotated[
        Path | None, typer.Option(help="Live: passphrase file, passed as venue.passphrase_credential.")
    ] = None,
    server: Annotated[
        Path | None, typer.Option(help="YAML file with edge.mlc: also install mlc_llm serve as a service.")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="Allowed network, as 192.0.2.0/24; others are blocked. May be repeated.")
    ] = None,
    memory: Annotated[str, typer.Option(help="Memory limit (MemoryMax= of systemd).")] = "4G",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write the unit, hardened and watched, and start it now and at every boot. What it did before goes on."""
    from agent.config.load import load_config
    from agent.service import installing

    if mode not in ("paper", "live"):
        raise typer.BadParameter(f"--mode {mode} is not possible: use paper or live")
    settings = load_config(config)
    asked = installing.InstallRequest(
        executable=installing.console_script(),
        words=installing.words_of(config.absolute() if config is not None else None, real=mode == "live"),
        keys=installing.keys_of(settings, key, passphrase),
        addresses=tuple(allow or ()),
        memory=memory,
        systemd=installing.systemd_version(),
    )
    beside: tuple[str, ...] = ()
    if server is not None:
        from agent.app.engines import server_command

        beside = server_command(load_config(server))
    _do(installing.installation(asked, beside), dry_run=dry_run, as_json=as_json)


@service_app.command("uninstall", epilog="Example: sudo edgeclaw service uninstall --dry-run")
def uninstall(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Stop the service and start it no more. The database, the model and the configuration stay where they are."""
    from agent.service import installing

    _do(installing.removal(), dry_run=dry_run, as_json=as_json)


@service_app.command("logs", epilog="Example: edgeclaw service logs --lines 50 --follow")
def logs(
    lines: Annotated[int, typer.Option(min=1, help="Number of lines to show.")] = 100,
    follow: Annotated[bool, typer.Option(help="Follow new lines.")] = False,
) -> None:
    """Log lines of the service, from the journal."""
    from agent.service.installing import read_journal

    raise typer.Exit(read_journal(lines, follow=follow))


def _do(steps: Steps, *, dry_run: bool, as_json: bool) -> None:
    from agent.cli import show
    from agent.service.installing import carried_out

    if not dry_run:
        carried_out(steps)
    if as_json:
        files = [{"path": str(path), "text": text} for path, text in steps.files]
        show.as_json({"done": not dry_run, "files": files, "commands": [list(c) for c in steps.commands]})
        return
    screen = show.console()
    for path, text in steps.files:
        screen.print(f"{'write' if dry_run else 'wrote'} {path}", style="bold", markup=False)
        if dry_run:
            screen.print(text, markup=False, highlight=False, soft_wrap=True)
    for command in steps.commands:
        screen.print(f"{'run' if dry_run else 'ran'} {' '.join(command)}", style="bold", markup=False)
    if not dry_run and steps.files:
        screen.print("How it is: edgeclaw service logs --follow", style=show.MUTED, markup=False)
