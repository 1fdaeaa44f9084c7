"""Features from bars: every bucket is reachable, and nothing looks past the last bar."""

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from market.feed import Bar
from strategies.features import BUCKETS, LOOKBACK, STEP, features
from tests.fakes import START


def bars(mids: Sequence[int], *, spread: int = 10_000, bid_depth: int = 100, ask_depth: int = 100) -> list[Bar]:
    return [
        Bar("m", START + timedelta(seconds=STEP * i), m - spread // 2, m + spread // 2, bid_depth, ask_depth, 1)
        for i, m in enumerate(mids, 1)
    ]


prices = st.lists(st.integers(20_000, 980_000), min_size=1, max_size=90)


@given(prices, st.integers(0, 900))
def test_every_feature_is_in_one_of_its_buckets(mids: list[int], left: int) -> None:
    seen = features(bars(mids), left, 900)
    assert seen is not None and seen.mid == mids[-1]
    assert all(bucket in BUCKETS[name] for name, bucket in seen.buckets.items())


@given(prices)
def test_older_bars_than_the_lookback_do_not_matter(mids: list[int]) -> None:
    assert features(bars([500_000] * 50 + mids)[-LOOKBACK:], 300, 900) == features(
        bars([500_000] * 50 + mids), 300, 900
    )


def test_a_rise_a_fall_and_a_standstill() -> None:
    up = features(bars([400_000 + 5_000 * i for i in range(60)]), 300, 900)
    down = features(bars([700_000 - 5_000 * i for i in range(60)]), 300, 900)
    flat = features(bars([500_000] * 60), 300, 900)
    assert up and down and flat
    assert (up.buckets["momentum"], up.buckets["drift"], up.buckets["trend"]) == ("rising", "up", "trending")
    assert (down.buckets["momentum"], down.buckets["range"], down.buckets["bias"]) == ("falling", "bottom", "below")
    assert (flat.buckets["trend"], flat.buckets["volatility"], flat.buckets["momentum"]) == ("noisy", "calm", "steady")


def test_a_zigzag_reverts() -> None:
    seen = features(bars([500_000 + (10_000 if i % 2 else 0) for i in range(60)]), 300, 900)
    assert seen and seen.buckets["trend"] == "reverting" and seen.buckets["volatility"] == "wild"


def test_depth_and_spread() -> None:
    seen = features(bars([500_000] * 20, spread=40_000, bid_depth=300, ask_depth=100), 300, 900)
    assert seen and seen.buckets["imbalance"] == "buyers" and seen.buckets["spread"] == "wide"


def test_no_two_sided_book_no_features() -> None:
    one_sided = bars([500_000])[0]._replace(ask=None)
    crossed = bars([500_000])[0]._replace(bid=600_000)
    assert features([one_sided], 300, 900) is None
    assert features([crossed], 300, 900) is None
    assert features([], 300, 900) is None
