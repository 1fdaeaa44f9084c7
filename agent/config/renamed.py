"""Settings under their former names: accepted for one version, each with a warning that names the new key."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from market.errors import Misconfigured

RENAMED: Mapping[str, str] = {
    "edge.together": "edge.batched_markets",
    "edge.read_until": "edge.knowledge_cutoff",
    "trading.post": "trading.maker_premium",
    "trading.fresh_for": "trading.max_evidence_age",
    "trading.delay_spread": "trading.network_delay_sigma",
    "trading.refused": "trading.rejection_rate",
    "trading.failed": "trading.settlement_failure_rate",
    "trading.tick_changes": "trading.tick_change_rate",
    "trading.stale": "trading.outage_rate",
    "trading.late_payouts": "trading.payout_delay",
    "risk.market": "risk.market_exposure",
    "risk.together": "risk.total_exposure",
    "risk.day": "risk.daily_loss",
    "service.market_silence": "service.market_data_timeout",
    "service.least_room": "service.min_free_disk_mb",
    "service.keep_prices": "service.price_retention_days",
}
"""Former dotted key to the present one, within the same section."""

log = logging.getLogger(__name__)


def with_present_names(tree: Mapping[str, Any], *, told: bool = True) -> dict[str, Any]:
    """A configuration tree with every former name replaced; `told` warns of each. Raises Misconfigured where a key
    stands under both."""
    return {section: _renamed(section, keys, told) for section, keys in tree.items()}


def _renamed(section: str, keys: Any, told: bool) -> Any:
    if not isinstance(keys, Mapping):
        return keys
    made: dict[str, Any] = {}
    for name, value in keys.items():
        former = f"{section}.{name}"
        present = RENAMED.get(former, former)
        key = present.removeprefix(f"{section}.")
        if key != name:
            # Neither can win: nobody knows which of two values the owner meant.
            if key in keys:
                message = f"configuration keys {former!r} and {present!r} are the same setting."
                raise Misconfigured(message, next_step=f"Keep {present!r} alone.")
            if told:
                log.warning(
                    "configuration key %r is now %r; the former name is accepted in this version only", former, present
                )
        made[key] = value
    return made
