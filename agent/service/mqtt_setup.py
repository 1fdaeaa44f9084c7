"""Setup of the MQTT link from the configuration: broker, credentials, TLS, command handlers."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path

from agent.config.schema import MqttConfig
from agent.service.commands import Commands
from agent.trading.bus import LocalBus
from market.errors import Misconfigured, NotReady
from storage.canonical import digest
from storage.store import Store
from tools.keystore import passphrase_from, secret_text


def link(
    commands: Commands,
    store: Store,
    account: str,
    bus: LocalBus,
    home: Path,
    environment: Mapping[str, str] = os.environ,
) -> AbstractAsyncContextManager[None]:
    """Context that keeps a run connected to its broker, if one is configured. Raises Misconfigured or NotReady in one
    sentence; an unreachable broker is no error."""
    asked = commands.config.mqtt
    if not asked.host:
        return nullcontext()
    if find_spec("aiomqtt") is None:
        raise NotReady("mqtt.host needs a package.", next_step="Run: pip install 'edgeclaw[service]'")
    from agent.service.mqtt import Broker, Link, linked
    from agent.service.outbox import Outbox

    broker = Broker(
        host=asked.host,
        port=asked.port,
        instance=asked.instance,
        # The account alone does not do: that of simulated money has the same name on every machine.
        agent=digest([account, socket.gethostname(), str(home.absolute())])[:8],
        username=asked.username,
        password=_password(asked, environment),
        tls=_tls(asked),
        heartbeat=asked.heartbeat,
        queue=asked.queue,
    )
    outbox = Outbox(store, account, home / "mqtt.json")
    return linked(Link(broker, commands.pulse, outbox, commands.handle_command, commands.handle_signal), bus)


def _password(asked: MqttConfig, environment: Mapping[str, str]) -> str:
    if asked.password_credential:
        return passphrase_from(asked.password_credential, environment)
    return secret_text(Path(asked.password_file).expanduser()) if asked.password_file else ""


def _tls(asked: MqttConfig) -> ssl.SSLContext | None:
    if not asked.tls:
        return None
    try:
        return ssl.create_default_context(cafile=asked.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"mqtt.ca_file {asked.ca_file} cannot be used: {error}.") from error
