"""YAML to a configuration and back. Every unknown key is refused with the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from agent.config.renamed import with_present_names
from agent.config.schema import Config
from market.errors import Misconfigured
from storage.urls import without_secrets_within
from storage.yaml_files import read_yaml

_SCHEMA = "See `edgeclaw config schema`."
_LONGEST = 120

PROFILES = ("sample", "recorded")


def profile_for(feed: str) -> str:
    """The bundled profile a feed is run with."""
    return "sample" if feed == "sample" else "recorded"


def load_config(path: Path | None, overrides: Mapping[str, object] | None = None, *, profile: str = "") -> Config:
    """Read a file over a profile over the defaults, then dotted `overrides` ("edge.model") over all of them. Former
    names are accepted, with a warning.

    Raises Misconfigured in one sentence that names the key.
    """
    tree = _profile(profile) if profile else {}
    if path is not None:
        tree = merged(tree, _read(path))
    return _validated(merged(tree, nested(overrides or {})))


def turned(base: Config, values: Mapping[str, object]) -> Config:
    """A configuration with dotted `values` over it. Raises Misconfigured, as `load` does."""
    # Through the validator: pydantic's own copy with updates checks nothing.
    return _validated(merged(base.model_dump(mode="json"), nested(values)))


def _validated(tree: Mapping[str, object]) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise _explain(error) from None


def amended(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The tree in a configuration file with `values` merged over it. Raises Misconfigured, as `load` does."""
    return merged(_read(path), values)


def _profile(name: str) -> dict[str, Any]:
    text = resources.files("agent.config").joinpath(f"profiles/{name}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def _read(path: Path) -> dict[str, Any]:
    try:
        loaded = read_yaml(path)
    except FileNotFoundError:
        raise Misconfigured(f"there is no configuration file at {path}.", next_step="Check the path.") from None
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}.", next_step="Check the path.") from None
    except ValueError as error:
        raise Misconfigured(f"{path} {error}.", next_step="Correct the file and try again.") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        message = f"{path} must hold sections such as 'edge:' and 'trading:'."
        raise Misconfigured(message, next_step="Start from config/edgeclaw.example.yaml.")
    return with_present_names(loaded)


def nested(values: Mapping[str, object]) -> dict[str, Any]:
    """Dotted keys as the tree that a configuration file holds."""
    tree: dict[str, Any] = {}
    for dotted, value in values.items():
        one: Any = value
        for key in reversed(dotted.split(".")):
            one = {key: one}
        tree = merged(tree, one)
    return with_present_names(tree)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One tree over another. Raises Misconfigured where one has a value and the other keys of its own."""
    made = dict(below)
    for key, value in above.items():
        old = made.get(key)
        if isinstance(value, Mapping) and old is not None and not isinstance(old, Mapping):
            raise Misconfigured(
                f"configuration key {key!r} must hold keys of its own (got {_shown(old)}).", next_step=_SCHEMA
            )
        made[key] = merged(old or {}, value) if isinstance(value, Mapping) else value
    return made


def _explain(error: ValidationError) -> Misconfigured:
    # One sentence, hence one error; the next attempt names the next.
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(where, known_keys(), n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else _SCHEMA
        return Misconfigured(f"unknown configuration key {where!r}.", next_step=hint)
    said = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    message = f"configuration key {where!r} is wrong: {said} (got {_shown(first['input'])})."
    return Misconfigured(message, next_step=_SCHEMA)


def _shown(value: Any) -> str:
    """A value in a message: without the password of a URL, and not longer than a line."""
    text = repr(without_secrets_within(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """All dotted keys."""
    found: list[str] = []
    for name, info in model.model_fields.items():
        dotted = f"{prefix}{name}"
        inner = info.annotation
        found.append(dotted)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += known_keys(inner, f"{dotted}.")
    return found


def _one_line(name: str, value: object) -> str:
    """A key and its value as YAML."""
    # A value must stay on its line, since the description follows it as a comment.
    flow = None if isinstance(value, list) and value else False
    return yaml.safe_dump({name: value}, width=10_000, default_flow_style=flow).rstrip()


def public_values(section: BaseModel) -> Any:
    """A configuration as plain values, without the passwords of its URLs: to be read, not to be loaded again."""
    return without_secrets_within(section.model_dump(mode="json"))


def annotated(section: BaseModel, indent: str = "") -> list[str]:
    """A configuration as lines of YAML, each key with its description, and without the passwords of its URLs."""
    lines: list[str] = []
    values = public_values(section)
    for name, info in type(section).model_fields.items():
        inner = getattr(section, name)
        nested = isinstance(inner, BaseModel)
        shown = f"{name}:" if nested else _one_line(name, values[name])
        lines.append(f"{indent}{shown}" + (f"  # {info.description}" if info.description else ""))
        if nested:
            lines += annotated(inner, f"{indent}  ")
    return lines
