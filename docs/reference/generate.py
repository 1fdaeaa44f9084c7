"""Write the reference from the code that it is about: verbs, configuration, MQTT, figures for Prometheus.

    python docs/reference/generate.py

A test compares what is here with what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from typer.main import get_command

from agent.app.settings import pulse_bounds
from agent.config.schema import Config, ServiceConfig
from agent.service.contract import schemas
from agent.service.metrics import Metrics
from agent.service.pulse import Pulse

HERE = Path(__file__).parent
_MADE = "Written by `python docs/reference/generate.py`; change the code instead."


def pages() -> Mapping[str, Callable[[], str]]:
    return {"cli.md": cli, "configuration.md": configuration, "mqtt.md": mqtt, "metrics.md": metrics}


def cli() -> str:
    """Every verb with what it takes."""
    from agent.cli import app

    parts = ["# The command line", _MADE]
    parts += [
        "Exit codes: 0 ok, 1 a difference was found, 2 usage or configuration, 3 not ready, 4 halted, 5 venue or "
        "engine unavailable. With `--json` errors are JSON on standard error, too."
    ]
    for path, verb in _verbs(get_command(app), "edgeclaw"):
        parts += [f"## {path}", _paragraph(verb.help), _options(verb)]
        parts += [f"```sh\n{verb.epilog.removeprefix('Example: ')}\n```"] if verb.epilog else []
    return _joined(parts)


def _verbs(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name in sorted(below):
        yield from _verbs(below[name], f"{path} {name}")


def _options(verb: Any) -> str:
    rows = [
        (_spelled(p), _default(p), getattr(p, "help", None) or "")
        for p in verb.params
        if not getattr(p, "hidden", False) and p.name != "help"
    ]
    return _grid(("option", "default", "what it does"), rows) if rows else ""


def _spelled(param: Any) -> str:
    if not any(opt.startswith("-") for opt in param.opts):
        return f"`{param.name.upper()}`"
    kind = param.type_descriptor.annotation
    values = f" {', '.join(one.value for one in kind)}" if isinstance(kind, type) and issubclass(kind, Enum) else ""
    return f"`{' / '.join([*param.opts, *param.secondary_opts])}`{values}"


def _word(choice: Any) -> str:
    return str(getattr(choice, "value", choice))


def _default(param: Any) -> str:
    value = param.default
    if value in (None, "", False) or callable(value) or "Sentinel" in type(value).__name__:
        return ""
    return f"`{_word(value)}`"


def configuration() -> str:
    """Every key with its default and its limits."""
    parts = ["# Configuration", _MADE, "One YAML file; `edgeclaw config check FILE` says what is wrong with it."]
    for name, info in Config.model_fields.items():
        section: Any = info.annotation
        parts += [f"## {name}", _grid(("key", "default", "what it is"), list(_keys(section, f"{name}.")))]
    return _joined(parts)


def _keys(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    made = section()
    for name, info in section.model_fields.items():
        inner: Any = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner, f"{prefix}{name}.")
            continue
        value = made.model_dump(mode="json")[name]
        yield f"`{prefix}{name}`", f"`{json.dumps(value)}`", info.description or ""


def mqtt() -> str:
    """Every topic, what it carries and how surely it arrives."""
    told: Any = schemas()
    parts = [
        "# MQTT",
        _MADE,
        f"Topics below `edgeclaw/INSTANCE/`, version {told['version']}. `edgeclaw config schema --mqtt` prints the "
        "JSON Schemas; [service.md](../service.md) says how it behaves.",
    ]
    rows = []
    for topic, about in told["topics"].items():
        retained = ", retained" if about["retained"] else ""
        fields = [f for f in about["payload"].get("properties", {}) if f != "v"]
        rows.append(
            (f"`{topic}`", about["direction"], f"{about['qos']}{retained}", ", ".join(f"`{f}`" for f in fields))
        )
    return _joined([*parts, _grid(("topic", "way", "QoS", "fields besides `v`"), rows)])


def metrics() -> str:
    """Every figure with its labels."""
    rows = []
    for family in Metrics(Pulse(pulse_bounds(ServiceConfig()))).registry.collect():
        if family.name.startswith("edgeclaw_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            rows.append((f"`{name}`", family.type, family.documentation))
    return _joined(["# Figures for Prometheus", _MADE, _grid(("name", "kind", "what it is"), sorted(rows))])


def _paragraph(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


def _grid(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(' '.join(str(cell).split()) for cell in line)} |" for line in lines)


def _joined(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def main() -> None:
    for name, made in pages().items():
        (HERE / name).write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    main()
