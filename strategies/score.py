"""Forecast scores with intervals. Pure functions of arrays; resampling is seeded.

Losses: Brier is the squared error, log score is the negative log-likelihood in nats; lower is better for both.
Forecasts of neighbouring decisions are correlated, so intervals come from a moving-block bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_FLOOR = 1e-4
FEWEST = 20
"""Smallest sample for a statement about significance."""
_NORMAL = NormalDist()
_EULER = 0.5772156649015329


def brier(p: Sequence[float], y: Sequence[float]) -> Floats:
    """Squared error of each forecast; `p` and `y` in [0, 1], equal length."""
    result: Floats = (np.asarray(p, np.float64) - np.asarray(y, np.float64)) ** 2
    return result


def log_score(p: Sequence[float], y: Sequence[float]) -> Floats:
    """Negative log-likelihood in nats; forecasts are clipped to [1e-4, 1 - 1e-4]."""
    q = np.clip(np.asarray(p, np.float64), _FLOOR, 1 - _FLOOR)
    t = np.asarray(y, np.float64)
    result: Floats = -(t * np.log(q) + (1 - t) * np.log(1 - q))
    return result


@dataclass(frozen=True, slots=True)
class Interval:
    mean: float
    low: float
    high: float


def block_interval(
    losses: Floats,
    clusters: Sequence[str] | None = None,
    *,
    block: int = 1,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """Mean of a series with a moving-block bootstrap interval; None for an empty series.

    `clusters` names each loss's cluster (decisions that share an outcome), clusters in order of time; without it each
    loss is one. `block` neighbouring clusters are drawn together, and a draw's mean is over its losses.
    """
    if len(losses) == 0:
        return None
    sums, counts = _by_cluster(losses, clusters)
    n = len(sums)
    size = min(max(block, 1), n)
    starts = np.random.default_rng(seed).integers(0, n - size + 1, size=(draws, math.ceil(n / size)))
    # Cut to n, so that a draw has as many clusters as the sample even if blocks do not divide it.
    index = (starts[:, :, None] + np.arange(size)).reshape(draws, -1)[:, :n]
    means = sums[index].sum(axis=1) / counts[index].sum(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(losses.mean()), float(low), float(high))


def ratio_interval(
    over: Floats, under: Floats, clusters: Sequence[str], *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval | None:
    """Ratio of two sums with a bootstrap interval over clusters; None if the lower sum is zero.

    `over` and `under` are equally long; a draw whose lower sum is zero is left out.
    """
    above, below = (_by_cluster(values, clusters)[0] for values in (over, under))
    if not below.sum():
        return None
    drawn = np.random.default_rng(seed).integers(0, len(below), size=(draws, len(below)))
    sums, bases = above[drawn].sum(axis=1), below[drawn].sum(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(sums[bases > 0] / bases[bases > 0], [tail, 1 - tail])
    return Interval(float(above.sum() / below.sum()), float(low), float(high))


def cluster_means(losses: Floats, clusters: Sequence[str]) -> Floats:
    """Mean of each cluster, in order of first appearance."""
    sums, counts = _by_cluster(losses, clusters)
    result: Floats = sums / counts
    return result


def _by_cluster(losses: Floats, clusters: Sequence[str] | None) -> tuple[Floats, Floats]:
    if clusters is None:
        return losses, np.ones(len(losses))
    names = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    at = np.array([names[c] for c in clusters], np.int64)
    return np.bincount(at, losses).astype(np.float64), np.bincount(at).astype(np.float64)


def days_for_verdict(gains: Floats, *, per_day: float) -> float | None:
    """Days until a one-sided 5 % test with 80 % power would detect the mean gain observed so far.

    None without a gain or without variance. (z_0.95 + z_0.80)^2 sd^2 / mean^2 decisions.
    """
    if len(gains) < 2:
        return None
    mean, sd = float(gains.mean()), float(gains.std(ddof=1))
    if mean <= 0 or sd == 0 or per_day <= 0:
        return None
    # 6.1826 = (1.6449 + 0.8416)^2.
    return 6.1826 * (sd / mean) ** 2 / per_day


def paired_interval(
    a: Sequence[float], b: Sequence[float], *, draws: int = 10_000, level: float = 0.95, seed: int = 0
) -> Interval | None:
    """Mean of a - b over questions answered by both, with a bootstrap interval over questions; None without any."""
    difference: Floats = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return block_interval(difference, draws=draws, level=level, seed=seed)


def clark_west(p: Sequence[float], base: Sequence[float], y: Sequence[float], clusters: Sequence[str]) -> float | None:
    """One-sided p-value that `p` improves on `base`, of which it is an extension (Clark and West, 2007); None for fewer
    than FEWEST clusters or without variance.

    Squared errors, less the noise that an extension adds by itself: (y-b)^2 - (y-p)^2 + (b-p)^2. Clusters, in order of
    time, count once; their variance is Newey and West's over n^(1/3) lags.
    """
    f, b, t = (np.asarray(values, np.float64) for values in (p, base, y))
    means = cluster_means((t - b) ** 2 - (t - f) ** 2 + (b - f) ** 2, clusters)
    n = len(means)
    if n < FEWEST:
        return None
    off, lags = means - means.mean(), int(n ** (1 / 3))
    variance = float(off @ off) / n
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(off[lag:] @ off[:-lag]) / n
    return 1 - _NORMAL.cdf(float(means.mean()) / math.sqrt(variance / n)) if variance > 0 else None


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a reliability diagram: number of forecasts, their mean, and the observed frequency with a 95 %
    interval (Wilson)."""

    n: int
    forecast: float
    share: float
    low: float
    high: float


def reliability(p: Sequence[float], y: Sequence[float], bins: int = 10) -> list[Bin]:
    """Bins of a reliability diagram in equal steps of probability; empty bins are left out."""
    forecasts, truth = np.asarray(p, np.float64), np.asarray(y, np.float64)
    step = np.minimum((forecasts * bins).astype(np.int64), bins - 1)
    found = []
    for number in np.unique(step).tolist():
        own = step == number
        n, share = int(own.sum()), float(truth[own].mean())
        z = 1.959964
        # Wilson's interval, which stays inside [0, 1] and is sound for a handful of forecasts.
        middle, width = (share + z * z / (2 * n)) / (1 + z * z / n), z / (1 + z * z / n)
        half = width * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        found.append(
            Bin(n=n, forecast=float(forecasts[own].mean()), share=share, low=middle - half, high=middle + half)
        )
    return found


def risk_by_coverage(losses: Floats, confidence: Sequence[float]) -> list[tuple[float, float]]:
    """(coverage, mean loss) of the most confident forecasts, from few to all; equally confident ones enter together."""
    sure = np.asarray(confidence, np.float64)
    order = np.argsort(-sure, kind="stable")
    running = np.cumsum(losses[order]) / np.arange(1, len(order) + 1)
    last = np.flatnonzero(np.append(np.diff(sure[order]) != 0, True))
    return [(float((k + 1) / len(order)), float(running[k])) for k in last.tolist()]


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Exact two-sided p-value that two success rates on the same questions differ; 1 if no question discriminates."""
    wins = sum(x and not y for x, y in zip(a, b, strict=True))
    losses = sum(y and not x for x, y in zip(a, b, strict=True))
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, float(2 * tail / 2**n))


def sharpe(values: Floats) -> float | None:
    """Mean over standard deviation; None for fewer than two values or without variance."""
    if len(values) < 2:
        return None
    sd = float(values.std(ddof=1))
    return float(values.mean()) / sd if sd > 0 else None


def deflated_sharpe(values: Floats, trials: Sequence[float]) -> float | None:
    """Probability that the true Sharpe ratio of `values` beats the best of that many worthless trials; None without
    variance, and for fewer than FEWEST values, too few for skewness and kurtosis.

    `trials` are the Sharpe ratios of everything that was tried on these data, this one included. Their spread gives the
    best expected by luck; skewness and kurtosis of `values` widen the error of the one observed (Bailey and Lopez de
    Prado, 2014). With a single trial it is the probability that the true ratio is positive.
    """
    observed, n = sharpe(values), len(values)
    if observed is None or n < FEWEST:
        return None
    z = (values - values.mean()) / values.std()
    skew, kurtosis = float((z**3).mean()), float((z**4).mean())
    wide = 1 - skew * observed + (kurtosis - 1) / 4 * observed**2
    if wide <= 0:
        return None
    return float(_NORMAL.cdf((observed - _luck(trials)) * math.sqrt((n - 1) / wide)))


def _luck(trials: Sequence[float]) -> float:
    """Expected best Sharpe ratio among that many worthless trials."""
    count = len(trials)
    if count < 2:
        return 0.0
    spread = float(np.std(trials, ddof=1))
    high, higher = _NORMAL.inv_cdf(1 - 1 / count), _NORMAL.inv_cdf(1 - 1 / (count * math.e))
    return spread * ((1 - _EULER) * high + _EULER * higher)


def overfitting(profits: Floats, *, blocks: int = 10) -> float | None:
    """Probability of backtest overfitting: share of splits in which the best trial of one half of the time is below the
    median of all trials in the other half (combinatorially symmetric cross-validation: Bailey, Borwein, Lopez de Prado,
    Zhu, 2015).

    `profits` is (trials, markets), markets in order of time. Time is cut into `blocks`, and every choice of half of
    them is tried. None for fewer than two trials or too few markets.
    """
    trials, markets = profits.shape
    if trials < 2 or markets < blocks:
        return None
    cut = np.array_split(np.arange(markets), blocks)
    sums = np.stack([profits[:, part].sum(axis=1) for part in cut], axis=1)
    whole, below, count = sums.sum(axis=1), 0.0, 0
    for chosen in combinations(range(blocks), blocks // 2):
        inside = sums[:, list(chosen)].sum(axis=1)
        outside = whole - inside
        best = int(inside.argmax())
        # Ties count half, so that trials with equal results rank at the median.
        rank = float((outside < outside[best]).sum() + 0.5 * ((outside == outside[best]).sum() - 1)) / (trials - 1)
        below += rank < 0.5
        count += 1
    return below / count
