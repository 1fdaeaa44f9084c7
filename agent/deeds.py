"""What may be asked of the agent as a Python object, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MARKET, WALLET, ORDER = "market-data-api", "wallet-api", "order-api"
TOOLS = (MARKET, WALLET, ORDER)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a goal. `deed` is the entry of the catalogue that was chosen, with the probability that the model
    gave it; `says` is what came of it in sentences, `facts` the same as values. `tokens` are by phase; `dollars` and
    `seconds` are the model's."""

    goal: str
    deed: str
    probability: float
    says: tuple[str, ...]
    facts: Mapping[str, Any]
    tokens: Mapping[str, int]
    dollars: float
    seconds: float
