"""Search budget: the compute-optimal policy for a decision's value in dollars, down to no search at all. Pure.

A search is worth the gain of a verified claim (edge in reach after costs, on the stake that sizing allows),
times the chance that this policy finds one, times the chance that finding one has paid so far; less what its tokens
cost. The chance of finding is learnt: how often searches in such states found one, starting from a prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

from agent.decision.gate import Gate
from agent.decision.inputs import Earned, Inputs
from agent.search.tree import Policy
from market.types import UNIT
from strategies.logit import logit

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy and its measured performance: `tokens` a decision, and `found`, of the decisions with a claim that
    history supports, the share in which the search had one on its path."""

    policy: str
    width: int
    tokens: int
    found: float


TABLE = (
    Candidate("greedy", 1, 82, 0.70),
    Candidate("beam", 1, 130, 0.85),
    Candidate("beam", 2, 190, 0.875),
)
"""Measured by `python -m benchmarks.allocation 40` with SmolLM2-135M in a world with planted effects."""

PRIOR_FOUND, PRIOR_SEARCHES = 1.0, 20.0
"""Prior: one search in twenty finds a claim that verifies."""
ENOUGH = 30
"""Number of finds from which the measured gain is used."""


def kind(inputs: Inputs, entry: Gate) -> str:
    """The kind of state of a decision: edge in reach relative to its costs, and the disagreement of the baselines."""
    ratio = entry.plausible / entry.cost if entry.cost > 0 else 9.0
    edge = "slim" if ratio < 1.5 else "fair" if ratio < 3 else "wide"
    apart = disagreement(inputs)
    return f"{edge}/{'alone' if apart is None else 'agreed' if apart < 0.1 else 'disputed'}"


def disagreement(inputs: Inputs) -> float | None:
    """Absolute difference in log-odds between market and diffusion; None without a reference price."""
    seen = inputs.features
    if seen is None or seen.diffusion is None:
        return None
    return abs(logit(seen.mid / UNIT) - logit(seen.diffusion))


def prize(inputs: Inputs, entry: Gate) -> float:
    """Gain of a verified claim in dollars: the plausible edge after costs on the largest stake. Half of it where market
    and diffusion agree, since there is less to find."""
    if inputs.features is None:
        return 0.0
    mid = inputs.features.mid / UNIT
    shares = min(inputs.settings.sizing.max_order, inputs.cash) / UNIT / max(mid, 1 - mid, 0.05)
    apart = disagreement(inputs)
    return max(0.0, entry.plausible - entry.cost) * shares * (0.5 if apart is not None and apart < 0.1 else 1.0)


def chance_of_finding(earned: Earned | None) -> float:
    """Probability that a search in such a state finds a verified claim, times the probability that its gain is positive
    once enough finds are known."""
    if earned is None:
        return PRIOR_FOUND / PRIOR_SEARCHES
    found = (earned.found + PRIOR_FOUND) / (earned.n + PRIOR_SEARCHES)
    if earned.found < ENOUGH or earned.sd <= 0:
        return found
    return found * _NORMAL.cdf(earned.gain / (earned.sd / earned.n**0.5))


def allocate(inputs: Inputs, entry: Gate) -> Policy | None:
    """The policy of highest net value, or None where no search is worth its tokens.

    Where the owner fixed a policy, and for shadow searches, it is the configured one: those are run for their record.
    """
    policy = inputs.settings.policy
    if not inputs.settings.frugal or not entry.open:
        return policy
    gain = prize(inputs, entry) * chance_of_finding(inputs.learned.earned.get(kind(inputs, entry)))
    price = inputs.settings.limits.token_price
    # The owner's token price, not measured energy: the choice must come out the same in a replay.
    worth = {c: gain * c.found - price * c.tokens for c in TABLE}
    best = max(TABLE, key=lambda c: (worth[c], -c.tokens))
    if worth[best] <= 0:
        return None
    if best == TABLE[-1]:
        return policy
    numbers = {"depth": policy.depth, "branching": policy.branching, "max_nodes": policy.max_nodes}
    return Policy.named(best.policy, width=min(best.width, policy.width), **numbers)
