"""Equal values have one text; what has no fixed text is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.canonical import canonical, digest, plain

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('aé"\\\n€'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Pair:
    price: Decimal
    colour: Colour


@given(JSON)
def test_text_reads_back_as_the_same_value(value: object) -> None:
    assert json.loads(canonical(value)) == value
    assert canonical(json.loads(canonical(value))) == canonical(value)


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_the_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    assert digest(dict(reversed(value.items()))) == digest(value)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=6))
def test_a_decimal_keeps_its_exact_amount_and_loses_its_zeros(amount: Decimal) -> None:
    text = plain(amount)
    assert isinstance(text, str)
    assert Decimal(text) == amount
    assert plain(amount * Decimal("1.000")) == text


def test_dataclasses_enums_and_instants_become_plain() -> None:
    pair = Pair(Decimal("0.50"), Colour.RED)
    assert canonical({"at": datetime(2026, 1, 2, tzinfo=UTC), "pair": pair}) == (
        '{"at":"2026-01-02T00:00:00+00:00","pair":{"colour":"red","price":"0.5"}}'
    )


def test_digest_is_sha256_of_the_text() -> None:
    assert digest({"b": 1, "a": "é"}) == hashlib.sha256('{"a":"é","b":1}'.encode()).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_without_a_text_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="no place in a record"):
        canonical([value])


@pytest.mark.parametrize("value", [{1, 2}, object(), Pair])
def test_a_thing_without_a_text_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="no canonical form"):
        canonical(value)


def test_an_instant_in_another_zone_is_another_text() -> None:
    """The log therefore converts to UTC before it hashes."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    assert canonical(at) != canonical(at.astimezone(timezone(timedelta(hours=1))))
