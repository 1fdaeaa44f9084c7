"""A default stands once: the configuration's. Values that are made from it have none of their own, or the same."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from datetime import timedelta
from importlib import import_module
from types import ModuleType

import pytest

from agent.app import settings
from agent.config.schema import Config
from agent.reports import cost
from agent.service import mqtt_setup
from agent.trading.loop import Schedule
from backtest.exchange import NETWORK_DELAY
from backtest.fault_model import CALM, FaultModel
from tests.fakes import START

CONVERSIONS = (settings, mqtt_setup, cost)
"""Modules that make values of the configuration."""
SAME = {FaultModel}
"""Classes whose defaults mean that nothing is done; `test_what_has_defaults_agrees` holds them to the configuration."""


def made(module: ModuleType) -> Iterator[tuple[type, list[str]]]:
    """Every dataclass that a module makes by keyword, with the keywords."""
    tree = ast.parse(inspect.getsource(module))
    imported = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.keywords:
            name = node.func.id
            place, member = imported.get(name, (module.__name__, name))
            found = getattr(import_module(place), member, None)
            if isinstance(found, type) and is_dataclass(found):
                yield found, [k.arg for k in node.keywords if k.arg]


def own_defaults(kind: type, given: list[str]) -> list[str]:
    """Fields among those that have a default of their own."""
    return [
        f"{kind.__name__}.{f.name}"
        for f in fields(kind)
        if f.name in given and (f.default is not MISSING or f.default_factory is not MISSING)
    ]


@pytest.mark.parametrize("module", CONVERSIONS, ids=lambda module: module.__name__)
def test_what_is_configured_has_no_other_default(module: ModuleType) -> None:
    found = list(made(module))
    assert found
    assert [one for kind, given in found if kind not in SAME for one in own_defaults(kind, given)] == []


def test_a_second_default_is_seen() -> None:
    assert own_defaults(Schedule, ["begins", "offset"]) == ["Schedule.offset"]
    assert {kind.__name__ for kind, _ in made(settings)} >= {"Settings", "EdgeRule", "Sizing", "RiskLimits", "Limits"}


def test_what_has_defaults_agrees() -> None:
    """The paper exchange and its schedule stand in tests and benchmarks by themselves, as they are configured."""
    config = Config()
    assert settings.faults(config) == CALM
    assert settings.delays(config) == settings.Delays(venue=None, network=NETWORK_DELAY)
    usual = Schedule(START, None)
    assert (usual.cadence, usual.offset) == (
        timedelta(seconds=config.trading.every),
        timedelta(seconds=config.trading.offset),
    )
