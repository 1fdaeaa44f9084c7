"""mosquitto as deploy/ configures it, in a process of its own: for tests and benchmarks that kill and freeze it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.running import free_port

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
PASSWORDS = {"edgeclaw": "a-play-password", "owner": "another"}


@dataclass
class Broker:
    """mosquitto with the configuration of deploy/, except for its paths."""

    place: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        deploy = Path(__file__).parents[1] / "deploy"
        for user, password in PASSWORDS.items():
            made = [] if (self.place / "passwd").exists() else ["-c"]
            subprocess.run(["mosquitto_passwd", *made, "-b", str(self.place / "passwd"), user, password], check=True)
        shutil.copy(deploy / "mosquitto.acl", self.place / "acl")
        places = {
            "listener 1883 127.0.0.1": f"listener {self.port} 127.0.0.1",
            "/etc/mosquitto/edgeclaw.passwd": str(self.place / "passwd"),
            "/etc/mosquitto/edgeclaw.acl": str(self.place / "acl"),
            "/var/lib/mosquitto/": f"{self.place}/",
        }
        text = (deploy / "mosquitto.conf").read_text()
        for there, here in places.items():
            # A path that deploy/ renames must fail here, or the broker would write into the real places.
            assert there in text
            text = text.replace(there, here)
        for file in self.place.iterdir():
            file.chmod(0o600)
        # Started by root, mosquitto changes to a user of its own, who cannot read this folder.
        (self.place / "conf").write_text(f"user {os.environ.get('USER', 'root') or 'root'}\n{text}")

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self.place / "conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        ends = time.monotonic() + 10
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert time.monotonic() < ends, "mosquitto does not come up"
            time.sleep(0.05)

    def secured(self) -> tuple[int, Path]:
        """Add a TLS listener with a certificate of its own, effective from the next start; return its port and the
        certificate."""
        port, certificate, key = free_port(), self.place / "cert.pem", self.place / "key.pem"
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(made, check=True, stderr=subprocess.DEVNULL)
        door = f"listener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n"
        with (self.place / "conf").open("a") as conf:
            conf.write(door)
        return port, certificate

    def settings(self, home: Path) -> dict[str, Any]:
        """The section `mqtt` of an agent's configuration; its password is put into `home`."""
        secret = home / "mqtt.password"
        secret.write_text(PASSWORDS["edgeclaw"])
        secret.chmod(0o600)
        return {"host": "127.0.0.1", "port": self.port, "username": "edgeclaw", "password_file": str(secret)}

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.send(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


@contextmanager
def serving(place: Path) -> Iterator[Broker]:
    """A broker until the block ends."""
    place.mkdir(exist_ok=True)
    made = Broker(place)
    made.start()
    try:
        yield made
    finally:
        made.kill()


def client(broker: Broker, name: str) -> Any:
    """The owner's client, with a persistent session."""
    kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    kept.SessionExpiryInterval = 600
    return aiomqtt.Client(
        "127.0.0.1", broker.port, username="owner", password=PASSWORDS["owner"], identifier=name,
        protocol=aiomqtt.ProtocolVersion.V5, clean_start=False, properties=kept, keepalive=5, timeout=5,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )  # fmt: skip
