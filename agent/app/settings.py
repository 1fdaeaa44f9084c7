"""Configuration to the plain values that other rooms take. The one place that knows both sides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config.schema import Config, EdgeConfig, MlcConfig, RemoteConfig, ServiceConfig
from agent.decision.inputs import Limits, Settings
from agent.live.promotion import PromotionRule
from agent.search.tree import Policy
from agent.service.pulse import Bounds
from market.errors import Misconfigured
from market.types import micro
from strategies.edge import EdgeRule
from strategies.sizing import Sizing
from tools.limits import RiskLimits

if TYPE_CHECKING:
    from agent.llm.mlc.engine import Child
    from agent.llm.openai.opening import ServerSettings
    from backtest.fault_model import FaultModel


@dataclass(frozen=True, slots=True)
class Delays:
    """Latency of an order: held by the venue, None for as long as it does on the date, and on the network before."""

    venue: timedelta | None
    network: timedelta


def decision_settings(config: Config, *, counted_in_tokens: bool) -> Settings:
    """Settings of decisions. On recorded data the deadline is counted in tokens, so that a replay stops where the run
    stopped."""
    edge, trading = config.edge, config.trading
    return Settings(
        policy=search_policy(config),
        frugal=edge.strategy == "compute-optimal",
        limits=decision_limits(config, counted_in_tokens=counted_in_tokens),
        rule=EdgeRule(
            threshold=edge.self_verify.threshold,
            buffer=trading.buffer,
            min_support=trading.min_support,
            post=trading.maker_premium,
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
        fresh_for=trading.max_evidence_age,
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


def analysis_limits(edge: EdgeConfig, tokens: int) -> Limits:
    """The budget of questions about a file, in dollars as for a decision."""
    return Limits(tokens=tokens, seconds=None, cost=edge.cost_limit, token_price=edge.cost.token_price)


def risk_limits(config: Config) -> RiskLimits:
    """The hard limits around the order tool, in micro-dollars."""
    risk = config.risk
    return RiskLimits(
        order=micro(risk.order),
        market=micro(risk.market_exposure),
        loss=micro(risk.loss),
        open_orders=risk.open_orders,
        together=micro(risk.total_exposure),
        day=micro(risk.daily_loss),
        drawdown=micro(risk.drawdown),
    )


def promotion_rule(config: Config) -> PromotionRule:
    """The condition on paper trading before real money is traded."""
    return PromotionRule(days=config.promotion.days, level=config.promotion.level)


def delays(config: Config) -> Delays:
    """Latency of orders at the paper exchange."""
    trading = config.trading
    venue = None if trading.taker_delay is None else timedelta(seconds=trading.taker_delay)
    return Delays(venue=venue, network=timedelta(seconds=trading.network_delay))


def faults(config: Config) -> FaultModel:
    """Faults of the paper exchange and of the way to it."""
    from backtest.fault_model import FaultModel  # a run with real money loads nothing of it

    trading = config.trading
    return FaultModel(
        spread=trading.network_delay_sigma,
        refuses=trading.rejection_rate,
        fails=trading.settlement_failure_rate,
        late=trading.payout_delay,
        changes=trading.tick_change_rate,
    )


def pulse_bounds(service: ServiceConfig) -> Bounds:
    """Silence of the market and lateness of the loop that are complained of."""
    return Bounds(silence=service.market_data_timeout, lag=service.loop_lag)


def server_settings(remote: RemoteConfig) -> ServerSettings:
    """A model server as its client takes it: files as paths, None for none."""
    from agent.llm.openai.opening import ServerSettings  # needs the extra `remote`

    return ServerSettings(
        url=remote.url,
        allow_remote=remote.allow_remote,
        api_key_file=_path(remote.api_key_file),
        model=remote.model,
        tokenizer=_path(remote.tokenizer),
        context=remote.context,
        timeout=remote.timeout,
        parallel=remote.parallel,
    )


def mlc_child(mlc: MlcConfig) -> Child:
    """A model server of our own as its supervisor takes it. Raises Misconfigured for a path that is not set."""
    from agent.llm.mlc.engine import Child  # needs the extra `remote`

    python, folder, library = _path(mlc.python), _path(mlc.model_dir), _path(mlc.model_lib)
    if python is None or folder is None or library is None:
        paths = {"python": python, "model_dir": folder, "model_lib": library}
        missing = [f"edge.mlc.{name}" for name, path in paths.items() if path is None]
        raise Misconfigured(
            f"{' and '.join(missing)} must be set too.", next_step="Run: edgeclaw install edge-runtime --engine mlc"
        )
    return Child(
        python=python,
        model_dir=folder,
        model_lib=library,
        device=mlc.device,
        port=mlc.port,
        mode=mlc.mode,
        overrides=mlc.overrides,
    )


def _path(given: str) -> Path | None:
    return Path(given).expanduser() if given else None
