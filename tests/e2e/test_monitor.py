"""`edgeclaw monitor edge-runtime`: what it says agrees with the log, once and again and again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Edgeclaw, command
from tests.e2e.test_bad_input import one_sentence

MONITOR = ("monitor", "edge-runtime")


def test_nothing_recorded_is_one_sentence(edgeclaw: Edgeclaw) -> None:
    one_sentence(edgeclaw(*MONITOR), 3, "no database")


@pytest.mark.usefixtures("sample")
def test_figures_of_the_newest_decisions(edgeclaw: Edgeclaw, home: Path) -> None:
    done = edgeclaw("run", "--feed", "sample", "--engine", "scripted", "--cycles", "9", "--json")
    assert done.code == 0, done.err
    summary, found = done.json, edgeclaw(*MONITOR, "--json").json
    assert (found["decisions"], found["running"]) == (summary["funnel"]["cycles"], False)
    assert {p["phase"]: p["tokens"] for p in found["cost"]["phases"]} == summary["tokens"]
    assert found["cost"]["dollars"] * found["decisions"] == pytest.approx(summary["dollars"])
    assert found["funnel"] == summary["funnel"]
    assert 0 < found["cached"] < 1 and found["tokens_per_second"] is None, "a script takes no time"
    assert found["health"] is None
    few = edgeclaw(*MONITOR, "--last", "2", "--json").json
    assert few["decisions"] == 2 and few["newest"] == found["newest"]
    assert sum(p["tokens"] for p in few["cost"]["phases"]) < sum(summary["tokens"].values())
    screen = edgeclaw(*MONITOR).out
    for word in ("Tokens by phase", "Latency, milliseconds", "Projected month", f"run {found['run_id'][:8]}"):
        assert word in screen


@pytest.mark.usefixtures("sample")
def test_it_looks_again_and_says_where_the_agent_does_not_answer(
    edgeclaw: Edgeclaw, home: Path, tmp_path: Path
) -> None:
    assert edgeclaw("run", "--feed", "sample", "--engine", "scripted", "--cycles", "2", "--json").code == 0
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"service": {"listen": "127.0.0.1:9"}}))
    line, environment = command(home, *MONITOR, "--watch", "--every", "0.2", "--json", "--config", str(config))
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.kill()
    assert [t["decisions"] for t in told] == [told[0]["decisions"]] * 3
    assert not told[0]["health"]["well"] and "does not answer" in told[0]["health"]["complaints"][0]
    assert "does not answer" in edgeclaw(*MONITOR, "--config", str(config)).out
