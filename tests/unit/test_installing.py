"""The service's files: what systemd itself says of them, and what is refused in one sentence before anything is
written."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from agent.app.engines import server_command
from agent.config.load import load_config
from agent.service.installing import InstallRequest, Steps, installation, keys_of, removal, words_of
from market.errors import Misconfigured, NotReady

PROGRAM = Path("/opt/edgeclaw/bin/edgeclaw")
NETWORKS = ("192.0.2.0/24", "2001:db8::/32")
systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd on this machine")


def steps(**how: object) -> Steps:
    asked = InstallRequest(PROGRAM, words_of(Path("/etc/edgeclaw/edgeclaw.yaml"), real=True), **how)  # type: ignore[arg-type]
    server = ("/opt/mlc/bin/python", "-m", "mlc_llm", "serve", "/srv/model dir", "--port", "8000")
    return installation(asked, server)


def written(folder: Path, made: Steps, program: Path) -> list[Path]:
    """The units in a folder of their own, with a program that is there."""
    files = []
    for path, text in made.files:
        file = folder / path.name
        file.write_text(text.replace(str(PROGRAM), str(program)).replace("/opt/mlc/bin/python", str(program)))
        files.append(file)
    return files


@systemd
@pytest.mark.parametrize("addresses", [(), NETWORKS])
def test_systemd_finds_no_fault_and_little_exposure(tmp_path: Path, addresses: tuple[str, ...]) -> None:
    program = tmp_path / "edgeclaw"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    keys = (("edgeclaw-key", Path("/etc/edgeclaw/key")),)
    for file in written(tmp_path, steps(addresses=addresses, keys=keys), program):
        verified = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(file)], capture_output=True, text=True, check=False
        )
        ours = [line for line in verified.stderr.splitlines() if file.name in line]
        assert (verified.returncode, ours) == (0, []), verified.stderr
        judged = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", str(file)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if file.name == "edgeclaw.service":
            assert judged.returncode == 0, judged.stdout[-300:]


def test_a_unit_says_what_was_asked_for() -> None:
    (path, text), (server_path, server) = steps(addresses=NETWORKS, keys=(("k", Path("/etc/k")),), systemd=255).files
    assert (path.name, server_path.name) == ("edgeclaw.service", "edgeclaw-mlc.service")
    for line in (
        "ExecStart=/opt/edgeclaw/bin/edgeclaw run --mode live --config /etc/edgeclaw/edgeclaw.yaml --json",
        "LoadCredential=k:/etc/k",
        "IPAddressDeny=any",
        "IPAddressAllow=localhost 192.0.2.0/24 2001:db8::/32",
        "Type=notify",
        "WatchdogSec=60",
        "RestartSteps=6",
        "ConditionPathExists=!/etc/edgeclaw/stopped",
    ):
        assert line in text.splitlines(), line
    assert "'/srv/model dir'" in server
    assert "RestartSteps" not in steps(systemd=252).files[0][1], "an older systemd does not know it"
    assert "IPAddress" not in steps().files[0][1] and "LoadCredential" not in steps().files[0][1]
    assert steps().commands[-1] == ("systemctl", "enable", "--now", "edgeclaw-mlc.service", "edgeclaw.service")


def test_what_cannot_work_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="lies in a home folder"):
        installation(InstallRequest(Path("/home/me/venv/bin/edgeclaw"), ("run",)))
    with pytest.raises(Misconfigured, match="no network"):
        steps(addresses=("polymarket.example",))
    with pytest.raises(Misconfigured, match=r"--key needs venue\.key_credential"):
        keys_of(load_config(None), Path("/etc/k"), None)
    named = load_config(None, {"venue.key_credential": "k"})
    with pytest.raises(Misconfigured, match="no file was named"):
        keys_of(named, None, None)
    assert keys_of(named, Path("/etc/k"), None) == (("k", Path("/etc/k")),)
    with pytest.raises(Misconfigured, match=r"edge\.mlc\.python"):
        server_command(load_config(None))


def test_what_is_taken_away_leaves_everything_else(tmp_path: Path) -> None:
    alone = removal(tmp_path)
    assert alone.files == ()
    assert alone.commands[0] == ("systemctl", "disable", "--now", "edgeclaw.service")
    (tmp_path / "edgeclaw-mlc.service").touch()
    both = removal(tmp_path)
    assert both.commands[1] == ("rm", "-f", *(str(tmp_path / f"edgeclaw{name}.service") for name in ("", "-mlc")))
    assert both.commands[-1] == ("systemctl", "daemon-reload")
