"""Past cases that a decision may see: nothing later, nothing too fresh, nothing twice, and the most alike first."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.decision.analogs import Analogs, PlaceboHistory, look_back, scaled
from market.types import UNIT
from storage.analogs import WindowHistory
from storage.records import Observation
from strategies.claims import Claim, Effect
from strategies.features import SCALES, Features
from strategies.logit import sigmoid
from strategies.verification import Finding
from tests.fakes import START, Remembered, book
from tests.profiles import examples
from tests.unit.test_decide import BUCKETS_NOW, STATE, inputs, row

FEATURE = "momentum"
BUCKET = BUCKETS_NOW[FEATURE]


def past(rows: list[Observation], **change: object) -> Analogs:
    asked = inputs(0, book(), **change)
    assert asked.features is not None
    return asyncio.run(look_back(asked, asked.features, Remembered(rows), 27))


def test_an_outcome_within_the_embargo_is_not_seen() -> None:
    rows = [row(n, 1) for n in range(1, 30)]  # the first became known 12 minutes ago, the next a window earlier
    assert past(rows, embargo=0).evidence(FEATURE, BUCKET, 1).support == 29
    assert past(rows).evidence(FEATURE, BUCKET, 1).support == 28, "one window's length is the default"
    assert past(rows, embargo=3600).evidence(FEATURE, BUCKET, 1).support == 25


@examples(60)
@given(st.lists(st.tuples(st.integers(-40, 40), st.booleans()), min_size=1, max_size=60), st.integers(0, 3600))
def test_rows_planted_in_the_future_are_never_read(planted: list[tuple[int, bool]], embargo: int) -> None:
    """Any mixture of rows of the past and of the future answers as its past alone does."""
    rows = [
        replace(row(2 + i, int(up)), known_at=START + timedelta(minutes=minutes), at=START + timedelta(minutes=minutes))
        for i, (minutes, up) in enumerate(planted)
    ]
    honest = [r for r in rows if r.known_at < START - timedelta(seconds=embargo)]
    seen, alone = past(rows, embargo=embargo), past(honest, embargo=embargo)
    assert seen.evidence(FEATURE, BUCKET, 5) == alone.evidence(FEATURE, BUCKET, 5)
    assert seen.hopes() == alone.hopes() and (not honest or seen.digest() == alone.digest())


def test_of_many_analogs_the_nearest_in_state_are_weighed() -> None:
    at = list(SCALES).index(FEATURE)
    near = [replace(row(n, 1), state=(0.0,) * len(SCALES)) for n in range(2, 102)]
    far = [replace(row(n, 0), state=tuple(9.0 * (i == at) for i in range(len(SCALES)))) for n in range(102, 302)]
    every, some = past([*near, *far], analogs=400), past([*near, *far], analogs=100)
    assert every.evidence(FEATURE, BUCKET, 1).rate == pytest.approx(1 / 3)
    assert some.evidence(FEATURE, BUCKET, 1).rate == 1 and some.evidence(FEATURE, BUCKET, 1).support == 100


@examples(60)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=60, max_size=160), st.integers(50, 59))
def test_those_most_like_now_are_the_ones_that_history_calls_nearest(states: list[tuple[int, int]], most: int) -> None:
    """Ties included: few distinct states, so that many rows are equally near."""
    width = len(SCALES)
    rows = [replace(row(2 + n, n % 2), state=(a / 2, b / 2, *[0.0] * (width - 2))) for n, (a, b) in enumerate(states)]
    seen = past(rows, analogs=most)
    alike = seen.windows.like(FEATURE, BUCKET, seen.band)
    found, _ = seen.windows.nearest(scaled(seen.now), most, among=alike)
    places = seen.windows.around(seen.band, per_market=False).searchsorted(alike)
    assert alike[seen.nearest(places, most)].tolist() == found.tolist()


def test_old_history_is_called_stale() -> None:
    rows = [row(n, 1) for n in range(200, 400)]
    claim = Claim("flow", FEATURE, BUCKET, Effect.UP)
    assert past(rows, fresh_for=86_400.0).check(claim).finding is Finding.STALE
    assert past(rows, fresh_for=86_400.0 * 9).check(claim).verified


def test_the_diffusion_of_each_window_is_read_back_from_its_gap() -> None:
    gap = list(SCALES).index("gap")
    state = tuple(0.8 / SCALES["gap"] * (i == gap) for i in range(len(SCALES)))
    seen = past([replace(row(n, n % 2), mid=UNIT // 2, state=state) for n in range(2, 102)])
    assert seen.evidence(FEATURE, BUCKET, 1).rival_rate == pytest.approx(sigmoid(-0.8), abs=1e-6)


def test_in_a_redrawn_history_the_mid_is_right_and_nothing_adds_to_it() -> None:
    """Whatever really happened: here the dear windows lost and the cheap ones won."""
    rows = [row(n, int(n % 2 == 0), mid=200_000 if n % 2 == 0 else 800_000) for n in range(2, 4002)]
    seen = redrawn(rows)
    for mid in (200_000, 800_000):
        assert seen.payout[seen.mid == mid].mean() / UNIT == pytest.approx(mid / UNIT, abs=0.03)
    assert set(seen.payout.tolist()) == {0, UNIT}


def test_a_redrawn_outcome_is_one_a_window_and_stays_when_more_becomes_known() -> None:
    rows = [row(n, 1) for n in range(2, 302)]
    later = [replace(r, seconds_left=840, at=r.at + timedelta(seconds=60)) for r in rows]
    seen, earlier = redrawn([*rows, *later]), redrawn([*rows, *later], START - timedelta(seconds=900 * 100))
    assert 100 < len(earlier) < len(seen) == 600 and (seen.payout[: len(earlier)] == earlier.payout).all()
    drawn = {m: set(seen.payout[seen.market == m].tolist()) for m in set(seen.market.tolist())}
    assert all(len(outcomes) == 1 for outcomes in drawn.values())


def redrawn(rows: list[Observation], as_of: datetime = START) -> WindowHistory:
    return asyncio.run(PlaceboHistory(Remembered(rows), 4).past("s", as_of=as_of, window=900))


def test_features_that_cannot_be_seen_have_no_hopes() -> None:
    rows = [row(n, 1) for n in range(2, 202)]
    asked = inputs()
    few = Features(500_000, 900, {FEATURE: BUCKET}, STATE)
    seen = asyncio.run(look_back(replace(asked, features=few), few, Remembered(rows), 27))
    assert seen.hopes() == {FEATURE}


def test_the_band_of_the_mid_comes_from_how_far_it_moved_in_the_windows_before() -> None:
    pairs = [
        replace(row(n, 1, mid=mid), seconds_left=left, at=row(n, 1).at + timedelta(seconds=900 - left))
        for n in range(2, 202)
        for left, mid in ((900, 500_000), (840, 500_000 + 1_000 * (n % 100)))
    ]
    half, most = past(pairs).reach(0.5), past(pairs).reach(0.1)
    assert half is not None and most is not None
    assert half.high == pytest.approx(0.55, abs=0.015) and most.high == pytest.approx(0.59, abs=0.01)
    assert half.low == pytest.approx(1 - half.high) and past(pairs[:98]).reach(0.5) is None
