"""The fast search finds what looking at every point finds, to the last bit and in the same order."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.neighbours import LARGEST, distances, nearest, points, reach, state_of
from tests.profiles import examples


def brute(states: np.ndarray, query: np.ndarray, k: int, family: np.ndarray | None) -> tuple[list[int], list[float]]:
    """All rows, in 64 bits, from the first coordinate to the last."""
    away = states.astype(np.float64) - query.astype(np.float64)
    exact: list[float] = reduce(np.add, (away * away).T).tolist()
    rows: list[int] = []
    met = set()
    for i in sorted(range(len(exact)), key=lambda i: (exact[i], i)):
        if family is None or family[i] not in met:
            rows.append(i)
            met.add(None if family is None else family[i])
    return rows[:k], [exact[i] for i in rows[:k]]


SHAPES = st.sampled_from(["heavy", "lattice", "far", "twins", "small", "large"])
SIZES = st.integers(0, 700) | st.sampled_from([64, 128, 16_384, 16_385, 16_384 + 64, 20_000])


def cloud(shape: str, size: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Points that are hard in one way: long tails, many ties, cancellation, equal points, extreme lengths."""
    heavy = rng.standard_t(2, (size, d))
    made = {
        "heavy": heavy,
        "lattice": rng.integers(0, 2, (size, d)),
        "far": 1e6 + heavy * 0.5,
        "twins": rng.integers(0, 9, (size, 1)).repeat(d, 1) / 7,
        "small": heavy * 1e-25,
        "large": np.clip(heavy * 1e8, -LARGEST, LARGEST),
    }
    return made[shape].astype(np.float32)


@examples(200)
@given(SHAPES, SIZES, st.integers(1, 12), st.integers(0, 70), st.sampled_from([0, 1, 3, 30]), st.integers(0, 2**32))
def test_nothing_nearer_is_missed(shape: str, size: int, d: int, k: int, together: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    states = cloud(shape, size, d, rng)
    query = cloud(shape, 1, d, rng)[0] if seed % 2 or not size else states[int(rng.integers(size))]
    family = rng.permutation(np.arange(size, dtype=np.int32) // together) if together else None
    rows, squares = nearest(points(states), query, k, family)
    expected, exact = brute(states, query, k, family)
    assert rows.tolist() == expected
    assert squares.tolist() == exact


@examples(100)
@given(SHAPES, st.integers(1, 12), st.integers(0, 2**32))
def test_no_approximate_distance_is_further_out_than_is_allowed_for(shape: str, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns, query = points(cloud(shape, 500, d, rng)), cloud(shape, 1, d, rng)[0]
    approximate = np.append(query * np.float32(-2), np.float32(1)) @ columns
    exact = distances(columns, query, np.arange(500))
    assert all(near <= reach(square, query) for near, square in zip(approximate, exact.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_points_that_32_bits_cannot_tell_apart_are_told_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    states, query = cloud("far", 20_000, 6, rng), cloud("far", 1, 6, rng)[0]
    rows, squares = nearest(points(states), query, 3)
    assert (rows.tolist(), squares.tolist()) == brute(states, query, 3, None)


def test_a_search_that_outgrows_its_first_look_still_ends_right() -> None:
    """Ten thousand equal points of one family around the query, and the other families far away."""
    states = np.zeros((12_000, 3), np.float32)
    states[10_000:] = np.arange(1, 2001, dtype=np.float32)[:, None]
    family = np.maximum(np.arange(12_000, dtype=np.int32) - 9_999, 0)
    rows, squares = nearest(points(states), np.zeros(3, np.float32), 4, family)
    assert rows.tolist() == [0, 10_000, 10_001, 10_002]
    assert squares.tolist() == [0.0, 3.0, 12.0, 27.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2 * LARGEST])
def test_values_that_cannot_be_compared_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not a number within"):
        state_of([0.0, value])
    with pytest.raises(ValueError, match="not a number within"):
        points(np.array([[0.0, value]], np.float32))
