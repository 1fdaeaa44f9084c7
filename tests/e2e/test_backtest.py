"""`edgeclaw backtest` as a user runs it, and its fills by somebody else's arithmetic."""

from __future__ import annotations

import asyncio
import csv
import json
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from agent.app.backtests import BacktestPlan, run_backtest
from agent.config.load import load_config
from agent.reports.plots import drawable
from agent.trading.bus import LocalBus
from market.clock import to_ms
from market.types import Order, Outcome
from storage.records import RecordKind
from storage.store import open_store
from tests.e2e.conftest import Edgeclaw

Int64 = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
DATA = Path(__file__).parents[2].parent / "shared" / "data"
RULE = ("backtest", "--data", "sample", "--trade-with", "late_favourite", "--trade-with", "threshold")


@pytest.mark.usefixtures("sample")
def test_the_same_inputs_give_the_same_files_in_another_home(edgeclaw: Edgeclaw, tmp_path: Path) -> None:
    kept = []
    for name in ("one", "two"):
        done = edgeclaw(*RULE, "--out", str(tmp_path / name / "out"), "--json", at=tmp_path / name)
        assert done.code == 0, done.err
        kept.append({p.name: p.read_bytes() for p in sorted((tmp_path / name / "out").iterdir())})
        assert done.json["report"] == json.loads(kept[-1]["result.json"])
    assert kept[0].keys() == kept[1].keys()
    assert [name for name, text in kept[0].items() if text != kept[1][name]] == []
    by_name = {t["name"]: t["judgement"] for t in json.loads(kept[0]["result.json"])["tried"]}
    for judgement in by_name.values():
        for groups in judgement["by"].values():
            assert sum(g["pnl"] for g in groups) == judgement["pnl"]
            assert sum(g["fees"] for g in groups) == judgement["fees"]
        assert judgement["equity"][-1]["total"] == judgement["pnl"]
    trades = pq.read_table(tmp_path / "one" / "out" / "trades.parquet").to_pylist()
    for name, judgement in by_name.items():
        assert sum(t["pnl"] for t in trades if t["strategy"] == name) == judgement["pnl"]
    page = kept[0]["report.html"].decode()
    assert len(page) < 2_000_000
    assert page.count("<svg") == (5 if drawable() else 0)
    assert "src=" not in page and "http-equiv" not in page and "<script" not in page


@pytest.mark.usefixtures("sample")
def test_the_tables_name_every_strategy_and_no_look_ahead_is_found(edgeclaw: Edgeclaw) -> None:
    done = edgeclaw(*RULE, "--cycles", "6", "--check-lookahead")
    assert done.code == 0, done.err
    assert "No look-ahead" in done.out
    for word in ("late_favourite", "threshold", "p-value", "deflated Sharpe", "Taker fee"):
        assert word in done.out


@pytest.mark.usefixtures("sample")
def test_a_paper_run_is_replayed_exactly_and_another_configuration_is_told_apart(
    edgeclaw: Edgeclaw, tmp_path: Path
) -> None:
    ran = edgeclaw("run", "--feed", "sample", "--engine", "scripted", "--cycles", "4", "--json")
    assert ran.code == 0, ran.err
    again = ("backtest", "--parity", ran.json["run_id"][:8], "--engine", "scripted", "--cycles", "4")
    same = edgeclaw(*again, "--json")
    assert same.code == 0, same.err
    assert same.json["exact"]
    decisions = same.json["parity"]["compared"][0]
    assert (decisions["equal"], decisions["differ"]) == (4, 0)
    other = tmp_path / "other.yaml"
    other.write_text("edge: {budget: {tokens: 40}}\n")
    apart = edgeclaw(*again, "--config", str(other))
    assert apart.code == 1
    assert "another configuration" in apart.out and "decision at 2026-" in apart.out
    both = edgeclaw(*again, "--check-lookahead")
    assert both.code == 2 and "--parity compares one run" in both.err
    unknown = edgeclaw("backtest", "--parity", "feed")
    assert unknown.code == 2 and "no run begins with 'feed'" in unknown.err


@pytest.mark.usefixtures("sample")
def test_what_the_agent_forecast_is_kept_decision_by_decision(edgeclaw: Edgeclaw, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("--trade-with", "agent", "--engine", "scripted", "--cycles", "5", "--out", str(out), "--json")
    done = edgeclaw("backtest", *words)
    assert done.code == 0, done.err
    rows = pq.read_table(out / "decisions.parquet").to_pylist()
    assert [r["at"] for r in rows] == sorted(r["at"] for r in rows) and len(rows) == 5
    rungs = {r["name"]: r for r in done.json["report"]["ladder"]}
    scored = [r for r in rows if r["paid"] is not None]
    assert len(scored) == rungs["market mid"]["n"] > 0
    mean = sum((r["mid"] - r["paid"]) ** 2 for r in scored) / len(scored)
    assert mean == pytest.approx(rungs["market mid"]["brier"])
    assert sum(r["tokens"] for r in rows) / len(rows) == pytest.approx(rungs["+ calibrate"]["tokens"])
    again = edgeclaw("backtest", *words)
    assert (done.json["recalled_tokens"], again.json["recalled_tokens"]) == (0, sum(r["tokens"] for r in rows))
    assert again.json["report"] == done.json["report"]
    page = (out / "report.html").read_text()
    assert "Gain of each part over the market price" in page and page.count("<svg") == (1 if drawable() else 0)


@pytest.mark.usefixtures("sample")
def test_markets_that_the_model_may_have_read_about_are_left_out_unless_asked_for(
    edgeclaw: Edgeclaw, tmp_path: Path
) -> None:
    settings = tmp_path / "read.yaml"
    settings.write_text("edge: {read_until: 2026-12-31}\n")
    words = ("backtest", "--trade-with", "agent", "--cycles", "1", "--config", str(settings))
    refused = edgeclaw(*words)
    assert refused.code == 2 and "later than every market" in refused.err and "--include-read" in refused.err
    assert edgeclaw(*words, "--engine", "scripted").code == 0
    assert edgeclaw(*words, "--engine", "scripted", "--include-read").code == 0
    strategies = edgeclaw("backtest", "--cycles", "1", "--config", str(settings))
    assert strategies.code == 0, strategies.err


def test_a_strategy_nobody_knows_is_refused_with_the_names_of_those_there_are(edgeclaw: Edgeclaw) -> None:
    done = edgeclaw("backtest", "--trade-with", "hindsight")
    assert done.code == 2
    assert "late_favourite" in done.err and "Traceback" not in done.err


@pytest.mark.skipif(not DATA.is_dir(), reason="the recorded books of April are not beside the project")
def test_every_fill_and_fee_of_april_agrees_with_ten_lines_over_the_raw_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each order is taken from the log; what it got is computed here from the files."""
    monkeypatch.setenv("EDGECLAW_HOME", str(tmp_path))
    plan = BacktestPlan(load_config(None, {}, profile="recorded"), str(DATA), ("late_favourite",))
    orders, got = asyncio.run(_played(plan, f"sqlite:///{tmp_path / 'edgeclaw.db'}"))
    raw = _raw_books()
    for order_id, order in orders.items():
        received, cells = raw[order.market_id]
        row = cells[int(received.searchsorted(to_ms(order.placed_at) + 350, "right")) - 1]
        assert got[order_id] == _ten_lines(order, row), order
    assert (len(orders), sum(map(len, got.values()))) == (97, 83)


def _ten_lines(order: Order, row: Floats) -> list[tuple[Decimal, int, int]]:
    """Price, size and fee of each level that a purchase takes from a row: bid prices, sizes, ask prices, sizes."""
    bids, asks = ([(Decimal(str(round(p, 4))), round(n * 100) * 10_000) for p, n in zip(row[i], row[i + 1], strict=True)
                   if p == p] for i in (0, 2))  # fmt: skip
    offers = asks if order.outcome is Outcome.NO else [(1 - p, n) for p, n in bids]
    if bids and asks and bids[0][0] >= asks[0][0]:
        return []
    # It spends the dollars of its limit, in whole cents; a last micro-dollar buys nothing.
    left, found = Decimal(int(order.price * order.size / 10_000) * 10_000), []
    for price, size in offers:
        if price <= order.price and left > 1:
            part = min(size, int(left / price))
            exact = Decimal("0.072") * price * (1 - price) * part / 10
            found.append((price, part, 10 * int(exact.to_integral_value(ROUND_HALF_UP))))
            left -= (price * part).to_integral_value(ROUND_HALF_UP)
    return found


def _raw_books() -> dict[str, tuple[Int64, Floats]]:
    """By condition id: when each row was received, in milliseconds, and its (rows, 4, 5) cells."""
    with (DATA / "btc5m_book_markets.csv").open() as listed:
        ids = {row["slug"]: row["condition_id"] for row in csv.DictReader(listed)}
    found: dict[str, list[tuple[Int64, Floats]]] = defaultdict(list)
    for file in sorted(DATA.glob("btc5m_book_l5_*.parquet")):
        table = pq.read_table(file)
        received = np.maximum(table["event_ms"].to_numpy(), table["recv_ms"].to_numpy())
        names = [[f"{side}{n}{part}" for n in range(1, 6)] for side in ("bid", "ask") for part in ("", "_size")]
        cells = np.stack([np.stack([table[c].to_numpy() for c in group], 1) for group in names], 1)
        slugs = np.array(table["slug"].to_pylist())
        for slug in dict.fromkeys(slugs.tolist()):
            found[ids[slug]].append((received[slugs == slug], cells[slugs == slug]))
    return {
        one: (np.maximum.accumulate(np.concatenate([t for t, _ in parts])), np.concatenate([c for _, c in parts]))
        for one, parts in found.items()
    }


async def _played(plan: BacktestPlan, url: str) -> tuple[dict[str, Order], dict[str, list[tuple[Decimal, int, int]]]]:
    """Every order that the exchange let in, and what each got, level by level."""
    done = await run_backtest(plan, LocalBus())
    run = done.runs["late_favourite"]
    async with open_store(url, read_only=True) as store:
        acks = await store.records(run.id, RecordKind.ACK)
        refused = {a.body["order_id"] for a in acks if a.body["status"] == "rejected"}
        got: dict[str, list[tuple[Decimal, int, int]]] = defaultdict(list)
        for fill in await store.fills(run.id):
            got[fill.order_id].append((fill.price, fill.size, fill.fee))
        orders = {i.order_id: i.order for i in await store.intents(run.id) if i.order_id not in refused}
        return orders, got
