"""Market records as Gamma sends them: nulls, fee kinds, and what is refused with a reason."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from market.errors import DataInvalid
from market.polymarket.gamma import read_market, read_page
from market.types import Market

WINDOW: dict[str, Any] = {
    "conditionId": "0x" + "ab" * 32,
    "slug": "btc-updown-5m-1790586000",
    "question": "Bitcoin Up or Down?",
    "outcomes": '["Up","Down"]',
    "clobTokenIds": '["11","22"]',
    "positionIds": None,
    "version": "v1",
    "startDate": "2026-09-27T09:00:00Z",
    "endDate": "2026-09-28T09:05:00Z",
    "eventStartTime": "2026-09-28T09:00:00Z",
    "feesEnabled": True,
    "feeType": "crypto_fees_v2",
    "feeSchedule": {"rate": 0.07, "exponent": 1, "takerOnly": True, "rebateRate": 0.2},
    "orderPriceMinTickSize": 0.01,
    "orderMinSize": 5,
    "negRisk": False,
    "closed": False,
    "acceptingOrders": True,
    "liquidityNum": 100.5,
    "events": [{"slug": "e", "startTime": "2026-09-28T09:00:00Z", "eventMetadata": {"priceToBeat": 109_000.5}}],
}
NEEDED = {"conditionId", "outcomes", "clobTokenIds", "endDate"}


def read(**changed: object) -> Market:
    return read_market(json.dumps(WINDOW | changed).encode()).market


@pytest.mark.parametrize("key", sorted(WINDOW))
def test_null_is_absent(key: str) -> None:
    absent = json.dumps({k: v for k, v in WINDOW.items() if k != key}).encode()
    null = json.dumps(WINDOW | {key: None}).encode()
    if key in NEEDED:
        for raw in (absent, null):
            with pytest.raises(DataInvalid, match=r"a market's record cannot be read: .+\.$"):
                read_market(raw)
    else:
        assert read_market(null) == read_market(absent)


@pytest.mark.parametrize("key", ["slug", "startTime", "eventMetadata"])
def test_null_is_absent_inside_an_event_too(key: str) -> None:
    event = WINDOW["events"][0]
    without = {k: v for k, v in event.items() if k != key}
    assert read(events=[event | {key: None}]) == read(events=[without])


@pytest.mark.parametrize(
    ("said", "rate"),
    [
        ({}, "0.07"),
        ({"feeType": None}, "0.07"),
        ({"feesEnabled": None}, "0.07"),
        ({"feesEnabled": None, "feeType": None, "feeSchedule": {"rate": 0.05}}, "0.05"),
        ({"feeSchedule": None}, "0.07"),
        ({"feeSchedule": {"rate": None}, "feeType": "sports_fees_v3"}, "0.05"),
        ({"feeSchedule": None, "feeType": "sports_fees_v2"}, "0.03"),
        ({"feeSchedule": None, "feeType": "zero_fees"}, "0"),
        ({"feesEnabled": False, "feeType": None, "feeSchedule": None}, "0"),
        ({"feeSchedule": {"rate": 0.04, "exponent": 1.0, "takerOnly": None}}, "0.04"),
    ],
)
def test_fees_come_from_the_markets_own_schedule_then_its_type(said: dict[str, object], rate: str) -> None:
    assert read(**said).fee_rate == Decimal(rate)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"feeSchedule": None, "feeType": None}, "fees are not known"),
        ({"feeSchedule": None, "feeType": "lunar_fees"}, "'lunar_fees'"),
        ({"feesEnabled": None, "feeSchedule": None, "feeType": None}, "fees are not known"),
        ({"feeSchedule": {"rate": 0.25, "exponent": 2}}, "new kind"),
        ({"feeSchedule": {"rate": 0.05, "takerOnly": False}}, "new kind"),
        ({"feeSchedule": {"rate": "NaN"}}, "new kind"),
        ({"orderPriceMinTickSize": 0}, "tick is 0"),
        ({"orderPriceMinTickSize": "NaN"}, "tick is NaN"),
        ({"orderMinSize": "Infinity"}, "smallest order"),
        ({"events": [{"eventMetadata": {"priceToBeat": 0}}]}, "price to beat is 0"),
        ({"events": [{"eventMetadata": {"priceToBeat": "NaN"}}]}, "price to beat is NaN"),
        ({"version": "v3"}, "version"),
    ],
)
def test_what_would_be_a_wrong_price_is_refused_with_its_reason(said: dict[str, object], reason: str) -> None:
    with pytest.raises(DataInvalid, match=reason):
        read(**said)


def test_a_refused_record_spoils_itself_alone_and_null_lists_are_empty() -> None:
    raw = json.dumps({"markets": [WINDOW, WINDOW | {"feeType": "x", "feeSchedule": None}], "next_cursor": None})
    page = read_page(raw.encode())
    assert (len(page.listed), len(page.refused), page.next_cursor) == (1, 1, "")
    assert read_page(b'{"markets": null}').listed == []
