"""`edgeclaw config show|check|schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show, check or describe the configuration.")

File = Annotated[Path | None, typer.Option("--config", help="A YAML file over the defaults.")]
Feed = Annotated[str | None, typer.Option(help="Apply the profile of this feed: sample, or a folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(epilog="Example: edgeclaw config show --feed sample")
def show(config: File = None, feed: Feed = None, as_json: AsJson = False) -> None:
    """Print the configuration in force, defaults included, as YAML with a comment for each key that needs one.
    Passwords in URLs are hidden as ***."""
    from agent.cli import show as screen
    from agent.config.load import annotated, load_config, profile_for, public_values

    loaded = load_config(config, profile=profile_for(feed) if feed else "")
    if as_json:
        screen.as_json(public_values(loaded))
    else:
        screen.console().print("\n".join(annotated(loaded)), markup=False, soft_wrap=True)


@app.command(epilog="Example: edgeclaw config check my.yaml")
def check(file: Annotated[Path, typer.Argument(help="The YAML file to check.")], as_json: AsJson = False) -> None:
    """Say whether a file is a valid configuration; exit 2 and the reason where it is not."""
    from agent.cli import show as screen
    from agent.config.load import load_config

    load_config(file)
    if as_json:
        screen.as_json({"ok": True, "file": str(file)})
    else:
        screen.console().print(f"{file} is a valid configuration.", markup=False)


@app.command(epilog="Example: edgeclaw config schema > edgeclaw.schema.json")
def schema(
    mqtt: Annotated[bool, typer.Option("--mqtt", help="Schemas of the MQTT topics instead.")] = False,
    _as_json: AsJson = True,
) -> None:
    """Print the JSON Schema of the configuration; editors complete and check YAML with it."""
    from agent.cli import show as screen

    if mqtt:
        from agent.service.contract import schemas

        screen.as_json(schemas())
        return
    from agent.config.schema import Config

    screen.as_json(Config.model_json_schema())
