"""Several decisions in one window: each its own, none taught by its own window, money within its limits."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from market.types import UNIT, notional
from tests.fakes import START, replay
from tests.integration.test_trading import CASH, SECONDS, Played, planted, play

WINDOWS, SUPPORT, CADENCE = 54, 50, 30
FEW = 6
KEYS = {"trading.cadence": CADENCE, "trading.max_market": "20"}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play(tmp_path_factory.mktemp("cadence") / "e.db", replay(*planted().recordings[:WINDOWS]), **KEYS)


def test_every_window_is_decided_on_ten_times(played: Played) -> None:
    assert len({d.key for d in played.decisions}) == len(played.decisions) == WINDOWS * SECONDS // CADENCE
    assert set(Counter(d.body["market"]["id"] for d in played.decisions).values()) == {SECONDS // CADENCE}
    told = [d.at - START for d in played.decisions]
    assert told == [timedelta(seconds=CADENCE) * n for n in range(len(told))]


def test_a_window_teaches_only_those_after_it(played: Played) -> None:
    """Its outcome is known two minutes after the close: five decisions of the next window do not know it yet."""
    taken = [n for n, d in enumerate(played.decisions) if d.body["summary"]["action"] == "take"]
    known = (SUPPORT - 1) * SECONDS + SECONDS + 120
    assert taken[0] * CADENCE >= known
    for n in taken:
        support = played.decisions[n].body["thought"]["search"]["belief"]["support"]
        assert SUPPORT <= support <= (n * CADENCE - 120) // SECONDS


def test_several_orders_of_one_window_stay_within_its_limit(played: Played) -> None:
    spent: Counter[str] = Counter()
    for fill in played.fills:
        spent[fill.market_id] += notional(fill.price, fill.size)
    orders = Counter(f.market_id for f in played.fills)
    assert max(orders.values()) > 1
    assert max(spent.values()) <= 20 * UNIT
    assert played.end["cash"] != CASH and played.end["holdings"] == {}


def test_it_replays_to_the_byte(played: Played) -> None:
    assert all(r.differences == () for r in played.replayed)


def test_one_cadence_is_recomputed_and_another_is_another_run(tmp_path: Path) -> None:
    feed = replay(*planted().recordings[:FEW])
    first, again = (play(tmp_path / "e.db", feed, **KEYS) for _ in range(2))
    assert again.appended == 0 and [d.hash for d in again.decisions] == [d.hash for d in first.decisions]
    slower = play(tmp_path / "e.db", feed, **{**KEYS, "trading.cadence": 600})
    assert slower.run.id != first.run.id
    assert len(slower.decisions) == FEW // 2
