"""`edgeclaw mcp`: the log and paper runs for other agents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def mcp(
    config: Annotated[Path | None, typer.Option(help="A YAML file that names the database.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="Engine of paper runs; scripted for a dry run without a model.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="List the tools and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --show, print JSON.")] = False,
) -> None:
    """Serve the Model Context Protocol on standard input and output, for an agent that starts this program. It reads
    the log and trades recorded markets on paper; it has no tool that moves money."""
    import asyncio
    from importlib.util import find_spec

    from agent.cli import show as screen
    from agent.config.load import load_config, profile_for
    from agent.config.places import own_hosts
    from agent.host.egress import confined
    from market.errors import NotReady

    if find_spec("mcp") is None:
        raise NotReady("The package mcp is not installed.", next_step="Run: pip install 'edgeclaw[mcp]'")
    from agent.mcp import server

    asked = {} if engine is None else {"edge.runtime": engine}
    paper = load_config(config, asked, profile=profile_for("sample"))
    made = server(load_config(config), paper)
    if not show:
        with confined(own_hosts(paper)):
            made.run("stdio")
        return
    tools = asyncio.run(made.list_tools())
    if as_json:
        screen.as_json([tool.model_dump(mode="json", exclude_none=True) for tool in tools])
        return
    rows = screen.table("MCP tools", "tool", "description")
    for tool in tools:
        rows.add_row(tool.name, " ".join((tool.description or "").split()))
    screen.console().print(rows)
