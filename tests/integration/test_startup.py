"""Imports of short verbs and of a live process, counted: time would depend on the machine, imports do not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import grimp
import pytest

from agent.config.paths import own_database
from agent.config.places import database_url
from agent.config.schema import Config
from tests.running import EDGECLAW

OURS = ("agent", "backtest", "market", "storage", "strategies", "tools")
HEAVY = (
    "aiohttp", "alembic", "apscheduler", "distributed", "hypothesis", "jinja2", "mako", "matplotlib", "mcp", "msgspec",
    "numpy", "optuna", "pandas", "picows", "polars", "polymarket", "prometheus_client", "psycopg", "pyarrow", "scipy",
    "sklearn", "starlette", "structlog", "tokenizers", "uvicorn", "web3", "xllamacpp",
)  # fmt: skip
TELLING = """
import atexit, sys
atexit.register(lambda: sys.stderr.write("\\n".join(["", "loaded:", *sys.modules])))
from agent.cli import main
main()
"""


def loaded(*words: str, home: Path) -> frozenset[str]:
    """Modules that are imported when a verb has ended."""
    env = {**os.environ, "EDGECLAW_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", TELLING, *words], env=env, check=False, capture_output=True, text=True)
    said, _, modules = done.stderr.partition("\nloaded:\n")
    assert done.returncode == 0, said
    return frozenset(modules.split())


def packages(modules: frozenset[str]) -> frozenset[str]:
    return frozenset(m.partition(".")[0] for m in modules)


def ours(modules: frozenset[str]) -> frozenset[str]:
    return frozenset(m for m in modules if m.partition(".")[0] in OURS)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home of a finished run of two decisions."""
    pytest.importorskip("resolvedkit", reason="the sample data is not installed")
    home = tmp_path_factory.mktemp("home")
    run = [*EDGECLAW, "run", "--feed", "sample", "--engine", "scripted", "--cycles", "2", "--json"]
    subprocess.run(run, env={**os.environ, "EDGECLAW_HOME": str(home)}, check=True, capture_output=True)
    return home


READING: Mapping[str, tuple[str, ...]] = {
    "list": ("log", "list"),
    "list-json": ("log", "list", "--json"),
    "runs": ("log", "list", "--runs"),
    "why": ("log", "list", "--why"),
    "verify": ("log", "verify"),
    "status": ("status",),
    "monitor": ("monitor", "edge-runtime"),
    "config": ("config", "show"),
}


@pytest.mark.sample
@pytest.mark.parametrize("words", READING.values(), ids=READING)
def test_reading_imports_nothing_heavy(recorded: Path, words: tuple[str, ...]) -> None:
    modules = loaded(*words, home=recorded)
    assert packages(modules) & set(HEAVY) == set()
    assert "sqlalchemy.dialects.postgresql" not in modules
    assert len(ours(modules)) < 70


@pytest.mark.sample
def test_explaining_and_exporting_decisions_import_nothing_heavy(recorded: Path, tmp_path: Path) -> None:
    listed = subprocess.run(
        [*EDGECLAW, "log", "list", "--json"],
        env={**os.environ, "EDGECLAW_HOME": str(recorded)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r'"id": "(\w+)"', listed)
    assert found is not None
    for words in (("show", found[1]), ("export", str(tmp_path / "all.csv")), ("export", str(tmp_path / "all.jsonl"))):
        assert packages(loaded("log", *words, home=recorded)) & set(HEAVY) == set()


@pytest.mark.sample
def test_json_is_printed_without_what_draws_tables(recorded: Path) -> None:
    assert "rich" in packages(loaded("log", "list", home=recorded))
    assert "rich" not in packages(loaded("log", "list", "--json", home=recorded))


@pytest.mark.sample
def test_the_ladder_of_a_finished_run_asks_neither_alembic_nor_any_engine(recorded: Path) -> None:
    found = loaded("evidence", "ladder", home=recorded)
    assert packages(found) & (set(HEAVY) - {"numpy"}) == set()
    assert not {m for m in found if m.startswith(("agent.llm.", "agent.app"))}


def test_help_imports_the_command_line_alone(tmp_path: Path) -> None:
    modules = loaded("--help", home=tmp_path)
    heavy = {*HEAVY, "asyncio", "pydantic", "rich", "sqlalchemy", "yaml"}
    assert packages(modules) & heavy == set()
    assert {m for m in ours(modules) if not m.startswith("agent.cli")} <= {
        "agent", "agent.host", "agent.host.memory", "market", "market.errors",
    }  # fmt: skip


def test_a_verb_imports_no_other_verb(tmp_path: Path) -> None:
    shown = {m for m in loaded("log", "list", "--help", home=tmp_path) if m.startswith("agent.cli")}
    assert shown == {"agent.cli", "agent.cli.log"}
    assert {m for m in loaded("config", "show", home=tmp_path) if m.startswith("agent.cli")} == {
        "agent.cli", "agent.cli.config", "agent.cli.show",
    }  # fmt: skip


def test_the_database_without_a_configuration_is_that_of_the_defaults() -> None:
    assert database_url(Config()) == own_database()


def test_a_live_process_reaches_of_the_simulated_worlds_the_paper_exchange_alone() -> None:
    graph = grimp.build_graph(*OURS, exclude_type_checking_imports=True, cache_dir=None)
    reached = {m for m in graph.find_upstream_modules("agent.app.live") if m.startswith("backtest.")}
    assert reached <= {"backtest.exchange", *graph.find_upstream_modules("backtest.exchange")}
    assert not {m for m in reached if m.startswith(("backtest.venue", "backtest.replay", "backtest.recorded"))}


def test_a_live_process_at_the_venue_loads_nothing_of_the_simulated_worlds() -> None:
    pytest.importorskip("polymarket", reason="the extra `live` is not installed")
    code = "import sys, agent.app.live, agent.live.account, agent.live.wallet, market.polymarket.feed; "
    told = code + "print(*(m for m in sys.modules if m.partition('.')[0] == 'backtest'))"
    done = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


COUNTING = """
import gc, sys
collections = []
gc.callbacks.append(lambda phase, _: collections.append(phase == "start"))
from agent.cli import main
begun = len(collections)
try:
    main()
except SystemExit:
    sys.stderr.write(f"\\ncollections: {sum(collections[begun:])}, enabled: {gc.isenabled()}")
"""


@pytest.mark.sample
@pytest.mark.parametrize(
    ("words", "enabled"), [(("log", "list"), False), (("status",), False), (("log", "verify"), True)]
)
def test_verbs_that_read_a_little_collect_no_garbage_and_others_do(
    recorded: Path, words: tuple[str, ...], enabled: bool
) -> None:
    env = {**os.environ, "EDGECLAW_HOME": str(recorded)}
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, *words], env=env, check=False, capture_output=True, text=True
    )
    said = done.stderr.rpartition("\n")[2]
    assert said.endswith(f"enabled: {enabled}"), done.stderr
    if not enabled:
        assert said.startswith("collections: 0,")
