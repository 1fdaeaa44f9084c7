"""The agent as a systemd service: the unit files and commands of an installation, and their execution."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from ipaddress import ip_network
from pathlib import Path
from string import Template

from agent.config.schema import Config
from market.errors import Misconfigured, NotReady

FOLDER = Path("/etc/systemd/system")
STOPPED = Path("/etc/edgeclaw/stopped")
"""While this file exists systemd starts nothing. (`edgeclaw halt` only stops trading: the run goes on settling.)"""
UNIT, SERVER = "edgeclaw.service", "edgeclaw-mlc.service"
_RUNNING = Path("/run/systemd/system")
"""Exists where systemd is the init system (sd_booted)."""
_STEPS_SINCE = 254
_BACKOFF = "RestartSteps=6\nRestartMaxDelaySec=10min"
_WATCHDOG = "60"


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """The service to install: `executable` is the console script's path, `words` its arguments, `keys` credentials as
    name and file, `addresses` the only networks besides loopback that it may reach (empty: any), `memory` its limit,
    `systemd` the version of systemd."""

    executable: Path
    words: tuple[str, ...]
    keys: tuple[tuple[str, Path], ...] = ()
    addresses: tuple[str, ...] = ()
    memory: str = "4G"
    systemd: int = 0


@dataclass(frozen=True, slots=True)
class Steps:
    """Files to write, by path, and commands to run after them."""

    files: tuple[tuple[Path, str], ...]
    commands: tuple[tuple[str, ...], ...]


def words_of(config: Path | None, *, real: bool) -> tuple[str, ...]:
    """Arguments with which the service calls `edgeclaw`."""
    mode = ("--mode", "live") if real else ("--feed", "live")
    return ("run", *mode, *(("--config", str(config)) if config is not None else ()), "--json")


def keys_of(config: Config, key: Path | None, passphrase: Path | None) -> tuple[tuple[str, Path], ...]:
    """Credentials named by the configuration, with their files. Raises Misconfigured where a file comes without a
    credential name, or the reverse."""
    found = []
    pairs = (
        ("venue.key_credential", config.venue.key_credential, "--key", key),
        ("venue.passphrase_credential", config.venue.passphrase_credential, "--passphrase", passphrase),
    )
    for name, credential, flag, file in pairs:
        if file is not None and not credential:
            raise Misconfigured(f"{flag} needs {name}: the name under which the service finds it.")
        if file is None and credential:
            raise Misconfigured(f"{name} is {credential!r}, and no file was named.", next_step=f"Add {flag} FILE.")
        if file is not None:
            found.append((credential, file))
    return tuple(found)


def installation(asked: InstallRequest, server: tuple[str, ...] = (), folder: Path = FOLDER) -> Steps:
    """Steps that install the service; `server` is the command of a model server beside it, or empty. Raises
    Misconfigured for an invalid address, NotReady where the service could not read its own program."""
    _must_be_readable(asked.executable)
    backoff = _BACKOFF if asked.systemd >= _STEPS_SINCE else ""
    common = {"stopped": str(STOPPED), "backoff": backoff}
    agent = _filled(
        UNIT,
        common
        | {
            "command": shlex.join((str(asked.executable), *asked.words)),
            "credentials": "\n".join(f"LoadCredential={name}:{file}" for name, file in asked.keys),
            "watchdog": _WATCHDOG,
            "memory": asked.memory,
            "addresses": _addresses(asked.addresses),
        },
    )
    files = [(folder / UNIT, agent)]
    if server:
        files.append((folder / SERVER, _filled(SERVER, common | {"command": shlex.join(server)})))
    names = tuple(path.name for path, _ in files)
    return Steps(tuple(files), (("systemctl", "daemon-reload"), ("systemctl", "enable", "--now", *names[::-1])))


def removal(folder: Path = FOLDER) -> Steps:
    """Steps that remove the service. State and configuration stay."""
    units = (UNIT, SERVER) if (folder / SERVER).exists() else (UNIT,)
    files = tuple(str(folder / unit) for unit in units)
    return Steps((), (("systemctl", "disable", "--now", *units), ("rm", "-f", *files), ("systemctl", "daemon-reload")))


def _filled(name: str, values: dict[str, str]) -> str:
    text = resources.files("agent.service").joinpath("units", name).read_text(encoding="utf-8")
    lines = Template(text).substitute(values).splitlines()
    # Settings that are left empty leave blank lines: one of a run of them stays.
    kept = [line for n, line in enumerate(lines) if line or (n and lines[n - 1])]
    return "\n".join(kept) + "\n"


def _addresses(networks: Sequence[str]) -> str:
    if not networks:
        return ""
    for network in networks:
        try:
            ip_network(network, strict=False)
        except ValueError:
            raise Misconfigured(f"{network} is no network, as 192.0.2.0/24 is.") from None
    return "IPAddressDeny=any\nIPAddressAllow=" + " ".join(("localhost", *networks))


def _must_be_readable(program: Path) -> None:
    """Raise NotReady for a program in a home folder, which the unit's sandbox hides."""
    homes = (Path("/root"), Path("/home"), Path("/run/user"))
    if any(program.is_relative_to(home) for home in homes):
        raise NotReady(
            f"{program} lies in a home folder, which the service cannot see.",
            next_step="Install edgeclaw into a virtual environment under /opt, and run this from there.",
        )


def systemd_version() -> int:
    """Version of systemd on this machine; 0 without it."""
    try:
        said = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False)  # noqa: S607
    except OSError:
        return 0
    words = said.stdout.split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def console_script() -> Path:
    """Path of the running program."""
    return Path(sys.executable).with_name("edgeclaw")


def carried_out(steps: Steps) -> None:
    """Write the files and run the commands. Raises NotReady in one sentence where that is not possible."""
    if not _RUNNING.is_dir():
        raise NotReady("systemd does not run this machine.", next_step="See the steps with --dry-run.")
    if os.geteuid() != 0:
        raise NotReady("Only root may install a service.", next_step="Run it with sudo, or see the steps: --dry-run.")
    for path, text in steps.files:
        path.write_text(text, encoding="utf-8")
    for command in steps.commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            said = " ".join(done.stderr.split()) or f"it ended with {done.returncode}"
            raise NotReady(f"{shlex.join(command)}: {said}", next_step="Correct that and run it again.")


def read_journal(lines: int, *, follow: bool) -> int:
    """Show the newest lines of both services; returns the exit code. Raises NotReady without a journal."""
    units = [word for unit in (UNIT, SERVER) for word in ("--unit", unit)]
    command = ["journalctl", *units, "--lines", str(lines), *(["--follow"] if follow else ["--no-pager"])]
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603
    except FileNotFoundError:
        raise NotReady(
            "There is no systemd journal on this machine.", next_step="Look where the output was sent."
        ) from None
