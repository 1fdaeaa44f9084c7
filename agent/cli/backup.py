"""`edgeclaw data backup|restore`: the whole database in one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

File = Annotated[Path | None, typer.Option("--config", help="A YAML file over the defaults.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def backup(
    to: Annotated[Path, typer.Argument(help="Backup file to create; must not exist.")],
    config: File = None,
    as_json: AsJson = False,
) -> None:
    """Copy the database as it is at this instant, while the agent goes on. The copy has been read through when it has
    its name."""
    from agent.cli import show
    from agent.config.load import load_config
    from agent.config.places import database_url
    from storage.backup import back_up

    made = back_up(database_url(load_config(config)), to)
    if as_json:
        show.as_json({"file": str(made.file), "bytes": made.size, "runs": made.runs, "records": made.records})
        return
    show.console().print(
        f"{made.file}: {made.size / 1e6:,.1f} MB, {made.runs} runs with {made.records:,} records, read through.",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


def restore(
    file: Annotated[Path, typer.Argument(help="Backup file made by `edgeclaw data backup`.")],
    config: File = None,
    as_json: AsJson = False,
) -> None:
    """Put a copy in the database's place, with the agent stopped. The database that was there is kept beside it under
    another name."""
    from agent.cli import show
    from agent.config.load import load_config
    from agent.config.places import database_url
    from storage.backup import restore as put_back

    made, aside = put_back(file, database_url(load_config(config)))
    if as_json:
        show.as_json({"file": str(made.file), "records": made.records, "kept": str(aside) if aside else None})
        return
    kept = f" What was there is {aside} now." if aside else ""
    show.console().print(
        f"{made.file} holds {made.runs} runs with {made.records:,} records again.{kept}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    show.console().print("Check it: edgeclaw log verify", style=show.MUTED, markup=False)
