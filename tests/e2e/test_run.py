"""A whole run over the sample with the scripted engine: complete, repeatable, resumable, balanced."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.app.replaying import replayed
from agent.replay.replay import ReplayResult
from storage.records import RecordKind
from storage.store import open_store
from tests.e2e.conftest import SAMPLE_RUN as RUN
from tests.e2e.conftest import Edgeclaw, command

pytestmark = [pytest.mark.sample, pytest.mark.usefixtures("sample")]
PLACEBOS = ("placebo: outcomes", "placebo: claims", "placebo: search")


def rows(home: Path, sql: str, *values: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(home / "edgeclaw.db") as connection:
        return connection.execute(sql, values).fetchall()


def chain(home: Path) -> list[tuple[Any, ...]]:
    return rows(home, "SELECT run_id, seq, kind, key, hash FROM records ORDER BY run_id, seq")


def test_54_decisions_each_with_a_reason_and_a_tree(done: tuple[Path, dict[str, Any]], edgeclaw: Edgeclaw) -> None:
    home, summary = done
    listed = edgeclaw("log", "list", "--json", at=home).json
    assert len(listed) == 54 == summary["funnel"]["cycles"]
    assert all(d["reason"] for d in listed)
    shown = edgeclaw("log", "show", listed[-1]["id"], "--json", at=home).json
    assert len(shown["nodes"]) == 27 and shown["thought"]["book"] and shown["outcome"]["source"] == "official"
    assert {"support", "base_rate", "low", "high"} <= set(shown["thought"]["search"]["path"][0]["evidence"])
    assert sum(t["prompt"] + t["generated"] for t in shown["tokens"]) <= 400


def test_tokens_by_phase_equal_the_engines_own_count(done: tuple[Path, dict[str, Any]]) -> None:
    summary = done[1]
    assert sum(summary["tokens"].values()) == summary["engine_tokens"] > 0


def test_what_a_decision_costs_by_phase_and_in_a_month(done: tuple[Path, dict[str, Any]]) -> None:
    summary = done[1]
    cost, month = summary["cost"], summary["cost"]["month"]
    assert {p["phase"]: p["tokens"] for p in cost["phases"]} == summary["tokens"]
    assert sum(p["dollars"] for p in cost["phases"]) == pytest.approx(cost["dollars"])
    assert cost["dollars"] * summary["funnel"]["cycles"] == pytest.approx(summary["dollars"])
    assert month["markets"] == 1 and month["inference"] == pytest.approx(cost["dollars"] * 288 * 365.25 / 12)
    assert 0 < month["total"] < month["goal"] == 100 and len(month["assumes"]) == 3 and cost["energy"]


def test_energy_is_kept_beside_the_decisions_and_makes_no_other_run(home: Path, edgeclaw: Edgeclaw) -> None:
    home.mkdir()
    (home / "watts.yaml").write_text("edge: {cost: {basis: energy, watts: 40, kwh_price: 1000}}", encoding="utf-8")
    priced = edgeclaw(*RUN, "--cycles", "2", "--config", str(home / "watts.yaml")).json
    assert priced["cost"]["by_energy"] == priced["cost"]["asked"] == 2 and priced["cost"]["month"]["idle"] > 0
    search = next(p for p in priced["cost"]["phases"] if p["phase"] == "search")
    assert search["joules"] is not None and search["joules_per_token"] is not None
    shown = edgeclaw("log", "show", edgeclaw("log", "list", "--json").json[0]["id"], "--json").json
    assert "joules:search" in shown["timings"]
    plain = edgeclaw(*RUN, "--cycles", "2").json
    assert plain["run_id"] == priced["run_id"] and (plain["appended"], plain["compared"]) == (0, priced["appended"])
    assert edgeclaw("log", "replay", "--all").code == 0
    text = edgeclaw(*[a for a in RUN if a != "--json"], "--cycles", "2").out
    assert "J/token" in text and "Projected month" in text and "the goal is below $100" in text


def test_the_ladder_holds_the_mid_a_placebo_and_says_why_there_is_no_diffusion(
    done: tuple[Path, dict[str, Any]],
) -> None:
    rungs = {r["name"]: r for r in done[1]["ladder"]}
    assert rungs["market mid"]["n"] >= 50
    assert "reference" in rungs["diffusion"]["note"] and rungs["diffusion"]["n"] == 0
    for name in ("logistic", "model greedy", "+ search", "+ calibrate", *PLACEBOS):
        assert rungs[name]["n"] == rungs["market mid"]["n"] and rungs[name]["gain"] is not None


def test_baselines_fill_and_settle_where_the_agent_abstains(done: tuple[Path, dict[str, Any]]) -> None:
    traders = {t["name"]: t for t in done[1]["traders"]}
    assert traders["late_favourite"]["fills"] > 0 and traders["late_favourite"]["fees"] > 0
    assert [m["evidence"] for m in traders["late_favourite"]["money"]] == ["book_cross"]
    assert traders["market_mid"]["orders"] == 0


def test_money_balances_to_the_micro_unit_from_the_raw_records(done: tuple[Path, dict[str, Any]]) -> None:
    """Recomputed here from the record bodies alone, with arithmetic of its own."""
    home, summary = done
    for trader in summary["traders"]:
        cash, held, fees = 1_000_000_000, dict[str, int](), 0
        end: dict[str, Any] = {}
        for kind, text in rows(home, "SELECT kind, body FROM records WHERE run_id = ? ORDER BY seq", trader["run_id"]):
            body = json.loads(text)
            if kind == "fill":
                # Half a micro-dollar is rounded up: shares bought by dollars are not in hundredths.
                gross = int(Decimal(body["price"]) * body["size"] + Decimal("0.5"))
                buys = body["side"] == "buy"
                name = f"{body['market_id']}/{body['outcome']}"
                cash += -gross - body["fee"] if buys else gross - body["fee"]
                held[name] = held.get(name, 0) + (body["size"] if buys else -body["size"])
                fees += body["fee"]
            elif kind == "settlement":
                cash += int(Decimal(body["payout"]) * body["size"])
                held[f"{body['market_id']}/{body['outcome']}"] -= body["size"]
            elif kind == "end":
                end = body
        assert end["cash"] == cash
        assert {k: v for k, v in held.items() if v} == end["holdings"] == {}
        assert (trader["fees"], trader["pnl"]) == (fees, cash - 1_000_000_000)


def test_a_second_run_recomputes_everything_and_adds_nothing(
    done_here: dict[str, Any], home: Path, edgeclaw: Edgeclaw
) -> None:
    before = chain(home)
    again = edgeclaw(*RUN).json
    assert again["appended"] == 0 and again["compared"] == done_here["appended"]
    assert chain(home) == before


def test_killed_half_way_and_started_again(done: tuple[Path, dict[str, Any]], home: Path, edgeclaw: Edgeclaw) -> None:
    home.mkdir()
    line, env = command(home, *RUN)
    running = subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    database = home / "edgeclaw.db"
    for _ in range(3000):
        if database.exists() and _decided(database) >= 20:
            break
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert 20 <= _decided(database) < 54
    resumed = edgeclaw(*RUN).json
    assert resumed["compared"] > 0 and resumed["appended"] > 0
    assert chain(home) == chain(done[0]), "the same decisions, ids and hashes as a run that was never interrupted"


def _decided(database: Path) -> int:
    try:
        with sqlite3.connect(database, timeout=5) as connection:
            found: int = connection.execute("SELECT count(*) FROM records WHERE kind = 'decision'").fetchone()[0]
            return found
    except sqlite3.OperationalError:
        return 0


def test_every_decision_replays_and_the_log_verifies(done: tuple[Path, dict[str, Any]], edgeclaw: Edgeclaw) -> None:
    replayed = edgeclaw("log", "replay", "--all", "--json", at=done[0])
    assert replayed.code == 0 and [r["differences"] for r in replayed.json] == [[]] * 54
    assert edgeclaw("log", "verify", "--json", at=done[0]).json == []


def test_every_arm_of_the_ladder_replays_from_the_history_it_read(
    done: tuple[Path, dict[str, Any]], edgeclaw: Edgeclaw
) -> None:
    runs = edgeclaw("log", "list", "--runs", "--json", at=done[0]).json
    arms = {r["identity"]["label"]: r["id"] for r in runs if r["identity"]["label"].startswith("arm:")}
    assert set(arms) == {"arm:greedy", "arm:search", "arm:redrawn", "arm:claims", "arm:moves"}
    for run in arms.values():
        replayed = edgeclaw("log", "replay", "--run", run, "--all", "--json", at=done[0])
        assert replayed.code == 0 and [r["differences"] for r in replayed.json] == [[]] * 54


@pytest.mark.usefixtures("done_here")
def test_a_flipped_byte_is_named(home: Path, edgeclaw: Edgeclaw) -> None:
    with sqlite3.connect(home / "edgeclaw.db") as copy:
        found = copy.execute("SELECT run_id, seq, key, body FROM records WHERE kind = 'decision' LIMIT 1 OFFSET 7")
        run_id, seq, key, body = found.fetchone()
        copy.execute(
            "UPDATE records SET body = ? WHERE run_id = ? AND seq = ?",
            (body.replace("abstain", "abstaim"), run_id, seq),
        )
    verified = edgeclaw("log", "verify")
    assert verified.code == 1 and key in verified.out
    assert edgeclaw("log", "verify", "--json").json


@pytest.mark.usefixtures("done_here")
def test_a_changed_answer_is_a_readable_difference(home: Path, edgeclaw: Edgeclaw) -> None:
    with sqlite3.connect(home / "edgeclaw.db") as copy:
        copy.execute("UPDATE observations SET payout = 1000000 - payout")
    replayed = edgeclaw("log", "replay", "--all")
    assert replayed.code == 1 and "differs from the record" in replayed.out and "was" in replayed.out


def test_a_changed_prompt_is_caught_and_named(
    done: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stored run is a test of prompts: one that reads otherwise asks what nobody was asked."""
    monkeypatch.setenv("EDGECLAW_HOME", str(done[0]))

    async def again() -> list[ReplayResult]:
        async with open_store(f"sqlite:///{done[0] / 'edgeclaw.db'}", read_only=True) as store:
            records = await store.records(done[1]["run_id"], RecordKind.DECISION)
            return await replayed(store, records, None, ask=False)

    assert all(r.differences == () for r in asyncio.run(again()))
    monkeypatch.setattr("agent.decision.prompts.verdict", lambda prompt: prompt.then(" right?"))
    found = asyncio.run(again())
    assert len(found) == 54 and all("is not in the record" in r.differences[0] for r in found if r.differences)
    assert sum(bool(r.differences) for r in found) > 40  # those that were searched


def test_a_short_run_is_a_run_of_its_own(edgeclaw: Edgeclaw) -> None:
    short = edgeclaw(*RUN, "--cycles", "2").json
    assert short["funnel"]["cycles"] == 2
    longer = edgeclaw(*RUN, "--cycles", "3").json
    assert longer["run_id"] != short["run_id"] and longer["compared"] == 0


def test_a_paced_run_decides_what_a_fast_one_does(edgeclaw: Edgeclaw) -> None:
    fast = edgeclaw(*RUN, "--cycles", "2").json
    paced = edgeclaw(*RUN, "--cycles", "2", "--speed", "2000").json
    assert paced["run_id"] == fast["run_id"] and paced["appended"] == 0
