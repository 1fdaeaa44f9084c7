"""`edgeclaw analyze` and the Python interface, as somebody with a file and no network uses them."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agent import EdgeAgent
from market.errors import Misconfigured, NotReady
from tests import planted
from tests.e2e.conftest import Edgeclaw, command
from tools.analysis.checking import unsupported
from tools.analysis.table import Table

pytest.importorskip("polars", reason="the extra `analysis` is not installed")

_SPY = """
import os, sys

def hear(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        if event == "socket.connect" and not isinstance(args[1], tuple):
            return  # a socket of this machine's own files
        with open(os.environ["SPY"], "a") as file:
            file.write(f"{event} {args!r}\\n")

sys.addaudithook(hear)
"""


def test_a_question_is_answered_with_the_table(edgeclaw: Edgeclaw, tmp_path: Path) -> None:
    file, out = planted.sales(tmp_path / "sales.csv"), tmp_path / "report"
    asked = ("--question", "which region has most revenue", "--engine", "scripted", "--out", str(out))
    done = edgeclaw("analyze", str(file), *asked, "--json")
    assert done.code == 0, done.err
    finding = done.json["analysis"]["findings"][0]
    assert finding["table"]["rows"][0][0] == "West"
    assert finding["says"][0].startswith("West has the most revenue")
    text = (out / "analysis.md").read_text()
    assert "West has the most revenue" in text
    assert "![revenue by region](finding_1.svg)" in text
    page = (out / "analysis.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")


def test_a_column_that_cannot_be_told_is_named_and_read_once_it_is_said(edgeclaw: Edgeclaw, tmp_path: Path) -> None:
    file, out = tmp_path / "prices.csv", tmp_path / "report"
    file.write_text("who;price\n" + "".join(f"{'ab'[n % 2]};{1 + n}.{n % 10}00\n" for n in range(60)))
    done = edgeclaw("analyze", str(file), "--engine", "scripted", "--out", str(out), "--json")
    assert done.code == 0, done.err
    remark = {c["name"]: c["remark"] for c in done.json["analysis"]["profile"]["columns"]}["price"]
    assert remark.startswith("Column price stays text") and remark in (out / "analysis.md").read_text()
    assert "Column price stays text" in (out / "analysis.html").read_text()
    shown = edgeclaw("analyze", str(file), "--engine", "scripted")
    assert "Column price stays text" in " ".join(shown.out.split())
    said = edgeclaw("analyze", str(file), "--engine", "scripted", "--decimal", "comma", "--json")
    columns = said.json["analysis"]["profile"]["columns"]
    assert [(c["kind"], c["remark"]) for c in columns] == [("category", ""), ("number", "")]
    wrong = edgeclaw("analyze", str(file), "--engine", "scripted", "--decimal", "dot")
    assert wrong.code == 2 and "Say point or comma." in wrong.err


@pytest.mark.parametrize("make", [planted.sales, planted.sensor, planted.trades])
def test_without_a_network_nothing_is_missing_and_nobody_is_called(tmp_path: Path, make: object) -> None:
    """In a network namespace of its own, where there is not even a loopback."""
    alone = [shutil.which("unshare") or "unshare", "-rn"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a network namespace")
    name = "log.parquet" if make is planted.sensor else "file.xlsx" if make is planted.trades else "file.csv"
    file = make(tmp_path / name)  # type: ignore[operator]
    (tmp_path / "sitecustomize.py").write_text(_SPY)
    spy = tmp_path / "spied"
    line, environment = command(tmp_path / "home", "analyze", str(file), "--engine", "scripted", "--json")
    path = os.pathsep.join([str(tmp_path), os.getcwd()])
    done = subprocess.run(
        [*alone, *line], env={**environment, "PYTHONPATH": path, "SPY": str(spy)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"findings"' in done.stdout
    assert not spy.exists(), spy.read_text()


@pytest.mark.parametrize(
    ("file", "code", "says"), [("gone.csv", 2, "there is no file"), ("notes.txt", 2, "is none of .csv")]
)
def test_a_wrong_file_is_one_sentence(edgeclaw: Edgeclaw, file: str, code: int, says: str) -> None:
    done = edgeclaw("analyze", file, "--engine", "scripted")
    assert (done.code, says in done.err) == (code, True), done.err


def test_the_python_interface_analyses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECLAW_HOME", str(tmp_path))
    made = EdgeAgent(engine="scripted").analyze(planted.sales(tmp_path / "sales.csv"), "which region has most revenue")
    tables: list[Table] = [finding.table for finding in made.findings]
    assert made.says[0].startswith("West has the most revenue")
    assert all(unsupported(sentence, tables) == [] for sentence in made.says)
    assert made.tokens["search"] > 0
    assert made.dollars > 0


@pytest.mark.usefixtures("sample")
def test_goals_are_mapped_onto_deeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECLAW_HOME", str(tmp_path))
    agent = EdgeAgent(inference="edge", strategy="compute-optimal", engine="scripted")
    answer = agent.run("predict next 5-min price movement")
    assert answer.action == "predict"
    assert 0 < answer.facts["mid"] < 1
    assert answer.says[0].startswith("btc-updown-15m")
    assert sum(answer.tokens.values()) > 0
    assert agent.run("place orders for an hour").facts["orders"] >= 0
    assert agent.run("what is my balance").says == ("No account has traded live or on a live market yet.",)
    asked = asyncio.run(agent.arun("do something clever"))
    assert asked.action in ("predict", "portfolio", "trade")
    assert 1 / 3 <= asked.probability < 1


def test_what_an_agent_may_not_use_it_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECLAW_HOME", str(tmp_path))
    reader = EdgeAgent(engine="scripted", tools=["wallet-api"])
    with pytest.raises(NotReady, match="there is no database"):
        reader.run("place an order")
    with pytest.raises(Misconfigured, match="there is no tool"):
        EdgeAgent(tools=["shell"])
    with pytest.raises(Misconfigured, match="is not possible"):
        EdgeAgent(inference="cloud")
    with pytest.raises(Misconfigured, match="goal is empty"):
        EdgeAgent(engine="scripted").run(" ")


def test_names_that_look_like_markup_are_shown_as_they_are(edgeclaw: Edgeclaw, tmp_path: Path) -> None:
    file = tmp_path / "odd.csv"
    file.write_text("[bold]n,<b>who\n" + "".join(f"{n},<i>{'ab'[n % 2]}\n" for n in range(60)))
    done = edgeclaw("analyze", str(file), "--engine", "scripted", "--out", str(tmp_path / "out"))
    assert done.code == 0, done.err
    assert "[bold]n" in done.out
    assert "<b>who" not in (tmp_path / "out" / "analysis.html").read_text()
