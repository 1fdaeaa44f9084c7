"""The gate: decides whether a market is worth a search. Costs no tokens and settles most cycles. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from agent.decision.inputs import Inputs
from market.types import Book
from strategies.edge import least_cost, plausible_edge


@dataclass(frozen=True, slots=True)
class Gate:
    """The gate's result. `reason` is empty when it is open. Edges are dollars a share."""

    reason: str
    plausible: float = 0.0
    cost: float = 0.0

    @property
    def open(self) -> bool:
        return not self.reason


def book_fault(book: Book | None) -> str:
    """Reason code if no price can be read from a book, else an empty string."""
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
    # With fewer windows than the rule asks of a claim no claim could verify, whatever the edge.
    if inputs.windows < inputs.settings.rule.min_support:
        return Gate("thin_history", plausible, cost)
    if plausible <= cost:
        return Gate("edge_below_costs", plausible, cost)
    return Gate("", plausible, cost)


def stale(inputs: Inputs) -> bool:
    """True if the newest book is missing or older than the settings allow."""
    if inputs.book is None:
        return True
    return (inputs.as_of - inputs.book.received_at).total_seconds() > inputs.settings.max_age


THINKABLE = frozenset({"", "thin_history", "edge_below_costs"})
"""Gate reasons under which a shadow search is still possible: there is a market with a price."""
