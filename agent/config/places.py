"""Addresses of the owner: the database and the hosts."""

from __future__ import annotations

from agent.config.paths import own_database
from agent.config.schema import Config
from agent.host.egress import host_of


def own_hosts(config: Config) -> frozenset[str]:
    """The hosts that belong to the owner: of the model server, of the database and of the broker."""
    # Sections that are not used have an empty host, which must not be allowed.
    return frozenset({host_of(config.edge.remote.url), host_of(config.storage.url), config.mqtt.host}) - {""}


def database_url(config: Config) -> str:
    """URL of the store: as configured, else in the home folder."""
    return config.storage.url or own_database()
