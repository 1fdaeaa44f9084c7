"""Invariants of the package as a whole."""

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = {"agent", "tools", "market", "storage", "strategies", "backtest", "tests"}


def test_no_dependency_ships_our_top_level_names() -> None:
    clashes = {n: d for n, d in packages_distributions().items() if n in OURS and set(d) - {"edgeclaw"}}
    assert not clashes


def test_the_changelog_begins_with_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    heading = re.search(r"^## \[?([0-9.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading is not None and heading[1] == version


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {re.split(r"[<>=\[ ]", d)[0].lower() for d in wanted}
    explained = (ROOT / "docs" / "dependencies.md").read_text().lower()
    assert [n for n in sorted(names) if f"`{n}`" not in explained] == []


def test_only_the_clock_reads_the_time_and_only_the_command_line_prints() -> None:
    sources = [p for folder in OURS - {"tests"} for p in (ROOT / folder).rglob("*.py")]
    reads = re.compile(r"datetime\.now\(|time\.time\(|perf_counter\(|utcnow\(")
    assert [p.name for p in sources if reads.search(p.read_text()) and p.name != "clock.py"] == []
    prints = re.compile(r"^\s*print\(|sys\.stdout", re.MULTILINE)
    assert [p for p in sources if prints.search(p.read_text()) and "cli" not in p.parts] == []
