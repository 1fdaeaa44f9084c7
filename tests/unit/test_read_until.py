"""Markets that the model may have read about are left out of a backtest, which says so."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from agent.app.backtests import BacktestPlan, unread
from agent.config.load import load_config
from agent.install import read_until
from backtest.replay import ReplayFeed
from market.errors import DataInvalid
from tests.fakes import START, book, market, recorded, replay


def plan(until: date | None, *strategies: str, include_read: bool = False, runtime: str = "llamacpp") -> BacktestPlan:
    config = load_config(None, {"edge.runtime": runtime, "edge.knowledge_cutoff": until})
    return BacktestPlan(config, "test", strategies or ("agent",), include_read=include_read)


@pytest.fixture
def feed() -> ReplayFeed:
    """One window of today and one of the day after tomorrow."""
    later = 2 * 96
    other = market(later)
    return replay(recorded(book()), recorded(book(other.opens_at, market_id=other.id), number=later))


def test_days_until_then_are_left_out_and_counted(feed: ReplayFeed) -> None:
    day = START.date()
    found = unread(feed, plan(day))
    assert [r.market.id for r in found.recordings] == [market(2 * 96).id]
    assert found.info.notes[-1].startswith("Left out: 1 of 2 markets") and day.isoformat() in found.info.notes[-1]
    with pytest.raises(DataInvalid, match="later than every market"):
        unread(feed, plan(day + timedelta(days=2)))


def test_nothing_is_left_out_where_nothing_was_read_or_it_was_asked_for(feed: ReplayFeed) -> None:
    day = START.date()
    assert unread(feed, plan(day - timedelta(days=1))) is feed
    assert unread(feed, plan(day, include_read=True)) is feed
    assert unread(feed, plan(day, "late_favourite")) is feed
    assert unread(feed, plan(day, runtime="scripted")) is feed


def test_the_day_of_known_models_is_known_and_of_others_not(feed: ReplayFeed) -> None:
    assert read_until("llama3.2-3b") == date(2023, 12, 31)
    assert read_until("somebody.gguf") is None
    assert unread(feed, plan(None)) is feed
