"""An agent from outside: the official client starts `edgeclaw mcp` and calls every tool; nothing of it moves money."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Edgeclaw

pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
from mcp import Client, StdioServerParameters

pytestmark = pytest.mark.usefixtures("sample")
READS = {
    "runs", "decisions", "reasons", "explain_decision", "evidence_ladder", "monitor", "account_status", "verify_log",
    "replay_decision",
}  # fmt: skip


def started(home: Path) -> StdioServerParameters:
    line = ["-m", "agent", "mcp", "--engine", "scripted"]
    return StdioServerParameters(command=sys.executable, args=line, env={**os.environ, "EDGECLAW_HOME": str(home)})


async def told(client: Client, tool: str, **asked: Any) -> Any:
    found = await client.call_tool(tool, asked)
    assert not found.is_error, found.content
    return found.structured_content


def test_another_agent_trades_on_paper_and_reads_why(home: Path) -> None:
    async def visit() -> None:
        async with Client(started(home)) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert set(tools) == READS | {"paper_run"}
            assert all(tools[name].annotations.read_only_hint for name in READS)  # type: ignore[union-attr]
            assert all(tool.description for tool in tools.values())
            before = await client.call_tool("runs", {})
            assert before.is_error
            assert "Make a run first" in before.content[0].text  # type: ignore[union-attr]
            summary = await told(client, "paper_run", cycles=3)
            runs = (await told(client, "runs"))["runs"]
            assert summary["run_id"] in {run["id"] for run in runs}
            decisions = (await told(client, "decisions", limit=2))["decisions"]
            assert len(decisions) == 2
            one = decisions[0]["id"]
            assert (await told(client, "explain_decision", decision=one))["id"] == one
            assert (await told(client, "replay_decision", decision=one))["differences"] == []
            assert (await told(client, "verify_log"))["problems"] == []
            assert (await told(client, "reasons"))["reasons"]
            assert (await told(client, "evidence_ladder"))["rungs"][0]["name"] == "market mid"
            assert (await told(client, "monitor"))["decisions"] == 3
            assert (await told(client, "account_status"))["halted"] is None
            wrong = await client.call_tool("explain_decision", {"decision": "zzzz"})
            assert wrong.is_error
            odd = await client.call_tool("decisions", {"sort": "sideways"})
            assert odd.is_error
            assert "lost_most" in odd.content[0].text  # type: ignore[union-attr]

    asyncio.run(visit())


def test_the_tools_are_listed_for_people(edgeclaw: Edgeclaw) -> None:
    done = edgeclaw("mcp", "--show")
    assert done.code == 0, done.err
    assert "explain_decision" in done.out
    assert {tool["name"] for tool in edgeclaw("mcp", "--show", "--json").json} == READS | {"paper_run"}


def test_the_skill_folder_keeps_the_published_rules() -> None:
    """By the reference validator of AgentSkills; and every command that it names is one that there is."""
    validator = pytest.importorskip("skills_ref.validator", reason="skills-ref is not installed")
    folder = Path(__file__).parents[2] / "deploy" / "openclaw-skill"
    assert validator.validate(folder) == []


def test_every_command_of_the_skill_is_understood(edgeclaw: Edgeclaw) -> None:
    folder = Path(__file__).parents[2] / "deploy" / "openclaw-skill"
    text = (folder / "SKILL.md").read_text()
    allowed = text[text.index("## What you may call") : text.index("## How to answer")]
    commands = [line.split("`")[1] for line in allowed.splitlines() if "`edgeclaw " in line]
    assert len(commands) > 10
    for line in commands:
        verb = [w for w in line.split()[1:] if not w.startswith("-") and w.islower() and not w.isdigit()][:2]
        assert edgeclaw(*verb[: 2 if verb[0] in ("log", "evidence", "monitor") else 1], "--help").code == 0, line
        assert "live" not in line
        assert "wallet" not in line
