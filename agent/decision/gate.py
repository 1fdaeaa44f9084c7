"""The gate: is it worth thinking at all? Costs no tokens and decides most cycles. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from agent.decision.inputs import Inputs
from market.types import Book
from strategies.edge import least_cost, plausible_edge


@dataclass(frozen=True, slots=True)
class Gate:
    """`reason` is empty when the gate is open. Edges are dollars a share."""

    reason: str
    plausible: float = 0.0
    cost: float = 0.0

    @property
    def open(self) -> bool:
        return not self.reason


def book_fault(book: Book | None) -> str:
    """Why no price can be read from a book, or empty."""
    if book is None:
        return "no_book"
    if book.mid is None:
        return "one_sided_book"
    if book.crossed:
        return "crossed_book"
    return "placeholder_book" if book.placeholder else ""


def gate(inputs: Inputs) -> Gate:
    """The first reason not to search, cheapest test first."""
    fault = inputs.blocked or book_fault(inputs.book) or ("" if inputs.features else "no_features")
    view = inputs.view()
    if fault or view is None or view.book.mid is None:
        return Gate(fault or "no_book")
    if stale(inputs):
        return Gate("stale_book")
    plausible = plausible_edge(float(view.book.mid), inputs.settings.max_shift)
    cost = least_cost(view, inputs.settings.rule)
    if inputs.windows < inputs.settings.rule.min_support:
        return Gate("thin_history", plausible, cost)
    if plausible <= cost:
        return Gate("edge_below_costs", plausible, cost)
    return Gate("", plausible, cost)


def stale(inputs: Inputs) -> bool:
    """Whether the newest book is older than the settings allow."""
    if inputs.book is None:
        return True
    return (inputs.as_of - inputs.book.received_at).total_seconds() > inputs.settings.max_age


THINKABLE = frozenset({"", "thin_history", "edge_below_costs"})
"""Gate reasons under which there still is a market to think about, for shadow searches."""
