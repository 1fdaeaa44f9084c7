"""URLs of databases and servers as they may be shown: without the secrets in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from market.errors import Misconfigured
from storage.canonical import Json

if TYPE_CHECKING:
    from sqlalchemy import URL

HIDDEN = "***"
_WEB = frozenset({"http", "https", "ws", "wss"})
_PLAIN_PATHS = frozenset({"", "/", "/v1", "/v1/"})
_PLAIN_OPTIONS = frozenset({"timeout", "mode", "cache", "uri", "host", "port", "sslmode", "connect_timeout"})
"""Query options of database URLs whose values are shown; of all others they are hidden."""


def database_target(url: str) -> URL:
    """Parse a database URL. Raises Misconfigured, which does not repeat its password."""
    from sqlalchemy import make_url  # here: who only shows a URL does without
    from sqlalchemy.exc import ArgumentError

    said = f"{without_secrets(url)!r} is not a database URL."
    try:
        target = make_url(url)
    except (ArgumentError, ValueError):
        raise Misconfigured(said, next_step="Write sqlite:///path/to/file.db.") from None
    # Else the end of the password would be looked up as a name of a host, and stand in the driver's message.
    if "@" in (target.host or ""):
        raise Misconfigured(said, next_step="Write each @ of the password as %40.")
    return target


def without_secrets(value: str) -> str:
    """A value with every place of a URL hidden that may hold a secret: password, a user alone, query values, and the
    path at a web server, which some take for a key. Anything but a URL or "user:password@host" is returned as it is."""
    scheme, mark, rest = value.partition("://")
    if not mark:
        user, at, host = value.rpartition("@")
        return f"{HIDDEN}@{host}" if at and ":" in user and not value.startswith(("/", "~", ".")) else value
    # Up to the last @: an unescaped password may have any other sign in it.
    user, at, place = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
    return f"{scheme}://{_user(user) + at}{_place(place, web=scheme.lower() in _WEB)}"


def _user(text: str) -> str:
    """The name is shown where a password follows it; alone it may be a token."""
    name, colon, _ = text.partition(":")
    if not text:
        return ""
    return f"{name}:{HIDDEN}" if colon and not set("/?#") & set(name) else HIDDEN


def _place(text: str, *, web: bool) -> str:
    whole, hash_sign, _ = text.partition("#") if web else (text, "", "")
    where, question, options = whole.partition("?")
    host, slash, path = where.partition("/")
    if web and slash + path not in _PLAIN_PATHS:
        path = HIDDEN
    shown = "&".join(_option(option, web=web) for option in options.split("&")) if question else ""
    return f"{host}{slash}{path}{question}{shown}" + (f"#{HIDDEN}" if hash_sign else "")


def _option(text: str, *, web: bool) -> str:
    name, equals, _ = text.partition("=")
    if not equals:
        return HIDDEN if text else ""
    return text if name in _PLAIN_OPTIONS and not web else f"{name}={HIDDEN}"


def without_secrets_within(tree: Json) -> Json:
    """A tree of plain values with every text in it as `without_secrets` shows it; keys stay."""
    if isinstance(tree, str):
        return without_secrets(tree)
    if isinstance(tree, Mapping):
        return {key: without_secrets_within(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [without_secrets_within(value) for value in tree]
    return tree
