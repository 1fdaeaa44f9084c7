"""`edgeclaw optimize edge-runtime`: what it promises is what the next run takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Edgeclaw

pytest.importorskip("optuna", reason="the extra `research` is not installed")
pytestmark = pytest.mark.usefixtures("sample")


def tokens(summary: Any) -> int:
    return sum(phase["tokens"] for phase in summary["cost"]["phases"])


def test_half_the_tokens_are_promised_and_saved(edgeclaw: Edgeclaw, tmp_path: Path, done_here: dict[str, Any]) -> None:
    config = tmp_path / "edgeclaw.yaml"
    config.write_text("# mine\nedge:\n  runtime: scripted\n")
    asked = ("--target", "tokens", "--goal", "reduce-by", "50%", "--trials", "8", "--config", str(config), "--apply")
    done = edgeclaw("optimize", "edge-runtime", *asked, "--out", str(tmp_path / "kept"), "--json")
    assert done.code == 0, done.err
    found = done.json["result"]
    assert done.json["met"]
    assert found["confirmed"]["less"]["mean"] >= 0.5
    assert found["chosen"]["windows"] + found["confirmed"]["windows"] == 18
    assert {p.name for p in (tmp_path / "kept").iterdir()} >= {"optimize.json", "patch.yaml", "tradeoff.svg"}
    patched = yaml.safe_load(config.read_text())
    assert patched["edge"].pop("runtime") == "scripted"
    assert patched == yaml.safe_load((tmp_path / "kept" / "patch.yaml").read_text())
    assert (tmp_path / "edgeclaw.yaml.bak").read_text().startswith("# mine")
    after = edgeclaw("run", "--feed", "sample", "--speed", "max", "--config", str(config), "--json")
    assert after.code == 0, after.err
    assert tokens(after.json) <= 0.5 * tokens(done_here)


@pytest.mark.usefixtures("done_here")
def test_the_same_question_has_the_same_answer(edgeclaw: Edgeclaw, tmp_path: Path) -> None:
    config = tmp_path / "edgeclaw.yaml"
    config.write_text("edge: {runtime: scripted}\n")
    asked = ("optimize", "edge-runtime", "--target", "tokens", "--trials", "4", "--config", str(config), "--json")
    one, other = edgeclaw(*asked), edgeclaw(*asked)
    for done in (one, other):
        assert done.code in (0, 1), done.err
    first, second = one.json["result"], other.json["result"]
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


@pytest.mark.usefixtures("done_here")
def test_a_goal_out_of_reach_is_said(edgeclaw: Edgeclaw, tmp_path: Path) -> None:
    config = tmp_path / "edgeclaw.yaml"
    config.write_text("edge: {runtime: scripted}\n")
    asked = ("--target", "tokens", "--goal", "99.9%", "--trials", "2", "--config", str(config), "--apply")
    done = edgeclaw("optimize", "edge-runtime", *asked)
    assert done.code == 1
    assert "is the most that was found" in done.out
    assert config.read_text() == "edge: {runtime: scripted}\n"


def test_energy_needs_something_to_measure_it_and_latency_an_engine_that_takes_time(
    edgeclaw: Edgeclaw, tmp_path: Path
) -> None:
    config = tmp_path / "edgeclaw.yaml"
    config.write_text("edge: {runtime: scripted, cost: {basis: tokens}}\n")
    assert edgeclaw("run", "--feed", "sample", "--config", str(config), "--json").code == 0
    for target, says in (("energy", "energy cannot be measured here"), ("latency", "took no time that was measured")):
        done = edgeclaw("optimize", "edge-runtime", "--target", target, "--config", str(config))
        assert (done.code, says in done.err) == (3, True), done.err
    config.write_text("edge: {runtime: scripted, cost: {basis: energy, watts: 40}}\n")
    asked = ("--target", "energy", "--goal", "1%", "--trials", "3", "--config", str(config), "--json")
    found = edgeclaw("optimize", "edge-runtime", *asked).json["result"]
    assert found["present"]["amount"] > 0


@pytest.mark.parametrize(
    ("asked", "code", "says"),
    [
        (("--goal", "a bit"), 2, "is not understood"),
        (("--apply",), 2, "needs the file"),
        ((), 3, "nothing has been recorded yet"),
    ],
)
def test_a_wrong_call_is_one_sentence(edgeclaw: Edgeclaw, asked: tuple[str, ...], code: int, says: str) -> None:
    done = edgeclaw("optimize", "edge-runtime", *asked)
    assert (done.code, says in done.err) == (code, True), done.err
