"""Configuration to the plain values that other rooms take. The one place that knows both sides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from agent.config.schema import Config
from agent.decision.inputs import Limits, Settings
from agent.live.promotion import PromotionRule
from agent.search.tree import Policy
from market.types import micro
from strategies.edge import EdgeRule
from strategies.sizing import Sizing
from tools.limits import RiskLimits

if TYPE_CHECKING:
    from backtest.fault_model import FaultModel


@dataclass(frozen=True, slots=True)
class Delays:
    """How long an order is under way: held by the venue, and on the network before that."""

    venue: timedelta
    network: timedelta


def decision_settings(config: Config, *, counted_in_tokens: bool) -> Settings:
    """How to decide. On recorded data the deadline is counted in tokens, so that a replay stops where it stopped."""
    edge, trading = config.edge, config.trading
    return Settings(
        policy=search_policy(config),
        frugal=edge.strategy == "compute-optimal",
        limits=decision_limits(config, counted_in_tokens=counted_in_tokens),
        rule=EdgeRule(
            threshold=edge.self_verify.threshold,
            buffer=trading.buffer,
            min_support=trading.min_support,
            post=trading.post,
        ),
        sizing=Sizing(
            fraction=trading.kelly_fraction,
            max_order=micro(trading.max_order),
            max_market=micro(trading.max_market),
        ),
        shrink=trading.shrink,
        max_shift=trading.max_shift,
        analogs=trading.analogs,
        embargo=None if trading.embargo is None else int(trading.embargo),
        fresh_for=trading.fresh_for,
        seed=edge.seed,
        max_age=trading.max_book_age,
        self_verify=edge.self_verify.enabled,
        correct=edge.correct,
        shadow=edge.shadow_search,
        answer_tokens=edge.answer_tokens,
    )


def search_policy(config: Config) -> Policy:
    """The search policy of that name and its size."""
    search = config.edge.tree_search
    return Policy.named(
        search.policy,
        depth=search.depth,
        branching=search.branching_factor,
        width=search.width,
        max_nodes=config.edge.budget.nodes,
        samples=search.samples,
    )


def decision_limits(config: Config, *, counted_in_tokens: bool) -> Limits:
    """The budget of one decision: no tokens where the search is off, no seconds where tokens are the deadline."""
    edge = config.edge
    return Limits(
        tokens=edge.budget.tokens if edge.tree_search.enabled else 0,
        seconds=None if counted_in_tokens else edge.budget.deadline,
        cost=edge.cost_limit,
        token_price=edge.cost.token_price,
    )


def risk_limits(config: Config) -> RiskLimits:
    """The hard limits around the order tool, in micro-dollars."""
    risk = config.risk
    return RiskLimits(
        order=micro(risk.order),
        market=micro(risk.market),
        loss=micro(risk.loss),
        open_orders=risk.open_orders,
        together=micro(risk.together),
        day=micro(risk.day),
        drawdown=micro(risk.drawdown),
    )


def promotion_rule(config: Config) -> PromotionRule:
    """What paper trading must have shown before real money is traded."""
    return PromotionRule(days=config.promotion.days, level=config.promotion.level)


def delays(config: Config) -> Delays:
    """How long the paper exchange takes for an order."""
    trading = config.trading
    return Delays(venue=timedelta(seconds=trading.taker_delay), network=timedelta(seconds=trading.network_delay))


def faults(config: Config) -> FaultModel:
    """Faults of the paper exchange and of the way to it."""
    from backtest.fault_model import FaultModel  # a run with real money loads nothing of it

    trading = config.trading
    return FaultModel(
        spread=trading.delay_spread,
        refuses=trading.refused,
        fails=trading.failed,
        late=trading.late_payouts,
        changes=trading.tick_changes,
    )
