"""The sd_notify protocol: datagrams on a service's state to the socket that systemd names."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

log = logging.getLogger(__name__)
_UNASKED = 10.0


@dataclass(slots=True)
class Notifier:
    """Sender of notifications; silent without a socket. `interval` is how often `alive` is due: a third of the
    watchdog's timeout."""

    address: str = ""
    interval: float = _UNASKED
    watched: bool = False

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """The notifier that systemd's environment asks for; without a watchdog in a child of the supervised process."""
        micros, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        watched = micros.isdigit() and int(micros) > 0 and pid in ("", str(os.getpid()))
        address = environment.get("NOTIFY_SOCKET", "")
        return cls(address, int(micros) / 3e6 if watched else _UNASKED, watched)

    def ready(self) -> None:
        self._say("READY=1")

    def status(self, text: str) -> None:
        self._say("STATUS=" + " ".join(text.split()))

    def alive(self) -> None:
        if self.watched:
            self._say("WATCHDOG=1")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def _say(self, line: str) -> None:
        if not self.address:
            return
        # A leading @ stands for the abstract namespace, which the socket call spells with a null byte.
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
                out.connect(name)
                out.send(line.encode())
        except OSError as error:
            log.warning("systemd notification %s failed: %s", line.partition("=")[0], error.strerror)
