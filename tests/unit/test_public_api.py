"""The Python interface: its names, its types as a type checker finds them, and that it costs nothing unasked."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import agent

ROOT = Path(__file__).parents[2]
FOLDERS = ("agent", "backtest", "strategies", "tools", "storage", "market")

SIGNATURES = {
    "EdgeAgent": "(model: 'str | None' = None, inference: 'str' = 'edge', strategy: 'str | None' = None, "
    "tools: 'Sequence[str]' = ('market-data-api', 'wallet-api', 'order-api'), *, engine: 'str | None' = None, "
    "config: 'Path | None' = None, feed: 'str' = 'sample') -> 'None'",
    "EdgeAgent.aanalyze": "async (self, file: 'str | Path', question: 'str' = '') -> 'Analysed'",
    "EdgeAgent.analyze": "(self, file: 'str | Path', question: 'str' = '') -> 'Analysed'",
    "EdgeAgent.arun": "async (self, goal: 'str') -> 'GoalResult'",
    "EdgeAgent.run": "(self, goal: 'str') -> 'GoalResult'",
}
RESULTS = {
    "Analysed": {
        "file": "str",
        "question": "str",
        "profile": "Profile",
        "findings": "tuple[TableFinding, ...]",
        "headline": "str",
        "dropped": "tuple[str, ...]",
        "model": "str",
        "ledger": "tuple[LedgerRow, ...]",
        "dollars": "float",
        "tokens": "dict[str, int]",
        "seconds": "float",
        "says": "tuple[str, ...]",
    },
    "GoalResult": {
        "goal": "str",
        "action": "str",
        "probability": "float",
        "says": "tuple[str, ...]",
        "facts": "Mapping[str, Any]",
        "tokens": "Mapping[str, int]",
        "dollars": "float",
        "seconds": "float",
        "deed": "str",
    },
}
"""The interface as it was promised: a change here belongs in the changelog."""


def test_the_public_names_and_signatures_are_the_promised_ones() -> None:
    pytest.importorskip("polars", reason="the extra `analysis` is not installed")
    kind = agent.EdgeAgent
    methods = {name: value for name, value in vars(kind).items() if inspect.isfunction(value) and name[0] != "_"}
    found = {
        f"EdgeAgent.{name}": ("async " if inspect.iscoroutinefunction(method) else "") + str(inspect.signature(method))
        for name, method in methods.items()
    }
    assert {"EdgeAgent": str(inspect.signature(kind)), **found} == SIGNATURES
    assert {name: shape(getattr(agent, name)) for name in RESULTS} == RESULTS
    assert sorted(agent.__all__) == sorted({"EdgeAgent", *RESULTS})


def shape(kind: type) -> dict[str, str]:
    """The fields and properties of a result, with their types."""
    properties = {n: p.fget.__annotations__["return"] for n, p in vars(kind).items() if isinstance(p, property)}
    return {**{f.name: str(f.type) for f in fields(kind)}, **properties}


def test_every_public_thing_says_what_it_is() -> None:
    pytest.importorskip("polars", reason="the extra `analysis` is not installed")
    named = [getattr(agent, name) for name in agent.__all__]
    for thing in (*named, *(getattr(agent.EdgeAgent, name.split(".")[1]) for name in SIGNATURES if "." in name)):
        assert thing.__doc__ and not thing.__doc__.startswith(thing.__name__ + "("), thing


def test_there_is_nothing_else() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'EdgAgent'"):
        agent.EdgAgent  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_imports_nothing_of_ours_and_no_library() -> None:
    """The command line and every test begin with it."""
    ask = "import sys; before = set(sys.modules); import agent; print(*sorted(set(sys.modules) - before))"
    told = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name for name in told.stdout.split() if name.split(".")[0] not in sys.stdlib_module_names}
    assert loaded == {"agent"}


MISUSES = {
    'EdgeAgent(modle="smollm2-135m")': 'Unexpected keyword argument "modle" for "EdgeAgent"',
    "EdgeAgent(tools=3)": 'Argument "tools" to "EdgeAgent" has incompatible type "int"',
    'EdgeAgent().run("predict").say': '"GoalResult" has no attribute "say"',
    'EdgeAgent().analyze("a.csv").headlines': '"Analysed" has no attribute "headlines"',
    "from agent import EdgAgent": 'Module "agent" has no attribute "EdgAgent"',
}
USE = """from agent import Analysed, EdgeAgent, GoalResult

agent = EdgeAgent(model="smollm2-135m", tools=["order-api"], engine="scripted")
told: GoalResult = agent.run("predict")
found: Analysed = agent.analyze("sales.csv", "which region sells most")
dollars: float = told.dollars + found.dollars
"""


def test_a_type_checker_finds_misuse_and_nothing_else(tmp_path: Path) -> None:
    """Only the interface's own modules are read, so that it takes seconds."""
    pytest.importorskip("mypy", reason="the extra `dev` is not installed")
    snippet = tmp_path / "snippet.py"
    snippet.write_text(USE + "".join(f"{line}\n" for line in MISUSES))
    interface = ["agent/__init__.py", "agent/api.py", "agent/goals.py", "agent/analysis/analysis.py"]
    line = [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=skip"]
    done = subprocess.run(
        [*line, "--cache-dir", str(tmp_path / "cache"), *interface, str(snippet)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = [said for said in done.stdout.splitlines() if "snippet.py:" in said and ": error: " in said]
    first = USE.count("\n") + 1
    assert [int(said.split("snippet.py:")[1].split(":")[0]) for said in found] == list(
        range(first, first + len(MISUSES))
    ), done.stdout
    assert all(wanted in said for wanted, said in zip(MISUSES.values(), found, strict=True)), done.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_says_that_it_is_typed(folder: str) -> None:
    """Without the mark a type checker takes nothing from an installed package."""
    assert (ROOT / folder / "py.typed").exists()
