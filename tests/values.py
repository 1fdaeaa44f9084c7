"""Values as the configuration's defaults make them, with changes: their classes have no defaults of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.app import settings
from agent.config.schema import Config, RemoteConfig
from agent.decision.inputs import Limits, Settings
from agent.llm.openai.opening import ServerSettings
from agent.search.tree import Policy
from agent.service.pulse import Bounds, Pulse
from strategies.edge import EdgeRule
from strategies.sizing import Sizing
from tools.limits import RiskLimits

CONFIG = Config()
DECIDED = settings.decision_settings(CONFIG, counted_in_tokens=True)
RULE: EdgeRule = DECIDED.rule
SIZING: Sizing = DECIDED.sizing
BOUNDS: Bounds = settings.pulse_bounds(CONFIG.service)


def decision_settings(policy: Policy, limits: Limits, **changes: Any) -> Settings:
    return replace(DECIDED, policy=policy, limits=limits, **changes)


def limits(**changes: Any) -> Limits:
    """No deadline but in tokens."""
    return replace(DECIDED.limits, **changes)


def risk_limits(**changes: Any) -> RiskLimits:
    return replace(settings.risk_limits(CONFIG), **changes)


def pulse(**bounds: float) -> Pulse:
    return Pulse(replace(BOUNDS, **bounds))


def server_settings(url: str, **changes: Any) -> ServerSettings:
    return replace(settings.server_settings(RemoteConfig(url=url)), **changes)
