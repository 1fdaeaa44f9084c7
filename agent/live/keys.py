"""The private key of a live account: from a file, from systemd credentials, or generated for simulated money."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.config.schema import VenueConfig
from market.errors import DataInvalid, NotReady
from tools.keystore import SecretKey, from_credentials, passphrase_from, read_key, secret_text
from tools.polymarket.relayer import RelayerKey

Ask = Callable[[str], str]


def key_of(
    venue: VenueConfig, home: Path, ask: Ask | None = None, environment: Mapping[str, str] = os.environ
) -> SecretKey:
    """The configured key; for a loopback venue one that is generated on first use. `ask` prompts a person for a
    passphrase. Raises NotReady, Misconfigured and DataInvalid, none of which contains anything secret."""
    if venue.key_credential:
        return from_credentials(venue.key_credential, environment)
    if venue.key_file:
        path = Path(venue.key_file).expanduser()
        return read_key(path, lambda: _passphrase(venue, path, ask or at_terminal, environment))
    if venue.loopback:
        return play_key(home / "play.key")
    raise NotReady("No key is configured.", next_step="Set venue.key_file, or name one with --key-file.")


def _passphrase(venue: VenueConfig, path: Path, ask: Ask, environment: Mapping[str, str]) -> str:
    if venue.passphrase_credential:
        return passphrase_from(venue.passphrase_credential, environment)
    return ask(f"Passphrase of {path}: ")


def at_terminal(prompt: str) -> str:
    """Prompt at the terminal without echo. Raises NotReady without a terminal."""
    if not sys.stdin.isatty():
        raise NotReady(
            "The key file is encrypted and there is no terminal to prompt for its passphrase.",
            next_step="Name a systemd credential: venue.passphrase_credential.",
        )
    return getpass.getpass(prompt)


def play_key(file: Path) -> SecretKey:
    """A key for simulated money, generated on first use."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        # Exclusive and private from the first byte: a later chmod would leave it readable for a moment.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as made:
            made.write(secrets.token_hex(32))
    return read_key(file, lambda: "")


def relayer_key(venue: VenueConfig) -> RelayerKey:
    """The relayer's key from its file, JSON of {"address": ..., "key": ...}. Raises NotReady, Misconfigured and
    DataInvalid, none of which contains anything of it."""
    if not venue.relayer_key_file:
        raise NotReady(
            "This wallet kind sends through the venue's relayer, which requires a relayer key.",
            next_step="Make one in the venue's settings and name its file: venue.relayer_key_file.",
        )
    file = Path(venue.relayer_key_file).expanduser()
    try:
        said = json.loads(secret_text(file))
        return RelayerKey(str(said["address"]), str(said["key"]))
    except (ValueError, KeyError, TypeError):
        raise DataInvalid(
            f"{file} is not a relayer key.", next_step='Write it as {"address": "0x...", "key": "..."}.'
        ) from None
