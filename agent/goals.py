"""Goals in words, mapped by the model onto a fixed catalogue of actions, and carried out on paper."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from string import ascii_uppercase
from typing import Any

from agent.app.engines import unprimed
from agent.app.recorded import PaperPlan, run_paper
from agent.config.paths import home
from agent.config.places import database_url, own_hosts
from agent.config.schema import Config
from agent.host.egress import confined
from agent.live.status import status
from agent.llm.engine import Prompt, Question, Usage
from agent.trading.bus import LocalBus
from market.clock import WallClock
from market.errors import Misconfigured
from market.types import UNIT
from storage.canonical import plain
from storage.decisions import RecordedDecision
from storage.records import RecordKind, Run
from storage.store import open_store
from tools.halts import KillSwitch

MARKET, WALLET, ORDER = "market-data-api", "wallet-api", "order-api"
TOOLS = (MARKET, WALLET, ORDER)


@dataclass(frozen=True, slots=True)
class GoalResult:
    """The result of a goal.

    `goal` is as it was given. `action` is the one that was chosen ("predict", "portfolio" or "trade"), `probability`
    in [0, 1] the model's for it, and 1 where nothing had to be chosen. `says` is the result in sentences, never empty;
    `facts` is the same as values: prices and probabilities in [0, 1], `cash` in micro-dollars, instants in ISO 8601,
    and ids for `edgeclaw log show`. `tokens` are prompt and generated ones that were charged, by phase ("choose",
    "search", ...); `dollars` is their price; `seconds` is the model's time.
    """

    goal: str
    action: str
    probability: float
    says: tuple[str, ...]
    facts: Mapping[str, Any]
    tokens: Mapping[str, int]
    dollars: float
    seconds: float

    @property
    def deed(self) -> str:
        """Former name of `action`, in this version only."""
        return self.action


@dataclass(frozen=True, slots=True)
class GoalCost:
    """Tokens by phase, dollars and seconds of the model."""

    tokens: Mapping[str, int]
    dollars: float = 0.0
    seconds: float = 0.0


_NOTHING = GoalCost({})
Came = tuple[tuple[str, ...], Mapping[str, Any], GoalCost]
"""Result of an action in sentences and as values, and its cost."""
_TRADED = 12
"""Slots of the trading action: an hour."""
_SYSTEM = "<|im_start|>system\nYou choose which tool does what is asked.<|im_end|>\n<|im_start|>user\n"
_TURN = "<|im_end|>\n<|im_start|>assistant\ntool"
_NEXT = "<|im_end|>\n<|im_start|>user\n"


@dataclass(frozen=True, slots=True)
class GoalAction:
    """An entry of the catalogue. `cues` are words that name it outright; `examples` are shown to the model."""

    name: str
    tool: str
    does: str
    cues: frozenset[str]
    examples: tuple[str, ...]
    do: Callable[[Config, str], Awaitable[Came]]


async def done(config: Config, feed: str, tools: Sequence[str], goal: str) -> GoalResult:
    """Choose an action and carry it out. Raises Misconfigured without tools or without a goal."""
    if not goal.strip():
        raise Misconfigured(
            "the goal is empty.", next_step='Say what is wanted, as "predict next 5-min price movement".'
        )
    actions = [action for action in ACTIONS if action.tool in tools]
    if not actions:
        raise Misconfigured("no tool was given.", next_step="Give tools, as in tools=['market-data-api'].")
    with confined(own_hosts(config)):
        action, probability, used = await _chosen(config, actions, goal)
        says, facts, spent = await action.do(config, feed)
    return GoalResult(
        goal=goal,
        action=action.name,
        probability=probability,
        says=says,
        facts=facts,
        tokens={"choose": used.charged, **spent.tokens},
        dollars=spent.dollars + used.charged * config.edge.cost.token_price,
        seconds=spent.seconds + used.milliseconds / 1e3,
    )


async def _chosen(config: Config, actions: Sequence[GoalAction], goal: str) -> tuple[GoalAction, float, Usage]:
    """The likeliest action; those that the goal names outright come first."""
    said = set(goal.lower().replace("-", " ").split())
    named = [action for action in actions if action.cues & said]
    pool = named or list(actions)
    if len(pool) == 1:
        return pool[0], 1.0, Usage()
    letters = tuple(f" {letter}" for letter in ascii_uppercase[: len(pool)])
    async with unprimed(config.edge) as engine:
        answers = await engine.classify([Question(_prompt(pool, letters, goal), letters)])
    (row,) = answers.probabilities
    best = max(range(len(pool)), key=row.__getitem__)
    return pool[best], row[best], answers.usage


def _prompt(actions: Sequence[GoalAction], letters: Sequence[str], goal: str) -> Prompt:
    pairs = list(zip(letters, actions, strict=True))
    lines = "\n".join(f"{letter.strip()} {action.does}" for letter, action in pairs)
    shown = "".join(f"goal: {said}{_TURN}{letter}{_NEXT}" for letter, action in pairs for said in action.examples)
    return Prompt((f"{_SYSTEM}{lines}\n{shown}", f"goal: {goal}{_TURN}"))


async def _predict(config: Config, feed: str) -> Came:
    """Decide on the first slot of the feed."""
    run, spent = await _on_paper(config, feed, cycles=1)
    async with open_store(database_url(config), read_only=True) as store:
        records = await store.records(run.id, RecordKind.DECISION)
    if not records:
        return ("There was no market to decide on in the first slot.",), {"run": run.id}, spent
    record = records[0]
    decision = RecordedDecision.of(record)
    facts = {
        "market": plain(decision.market), "at": record.at.isoformat(), "mid": decision.mid,
        "probability": decision.probability, "action": decision.action, "reason": decision.reason,
        "decision": record.key, "claims": [step.says for step in decision.search.path] if decision.search else [],
    }  # fmt: skip
    return _predicted(decision, record.at), facts, spent


def _predicted(decision: RecordedDecision, at: datetime) -> tuple[str, ...]:
    slug = decision.market.slug
    if decision.probability is None or decision.mid is None:
        return (f"{slug}: no forecast, because of {decision.reason}.",)
    said = f"{slug} at {at:%H:%M} UTC: up with {decision.probability:.1%}, where the market says "
    what = "nothing" if decision.action == "abstain" else f"{decision.action} an order"
    return f"{said}{decision.mid:.1%}.", f"It would do {what} ({decision.reason})."


async def _trade(config: Config, feed: str) -> Came:
    """Trade an hour on paper, orders behind the limits."""
    run, spent = await _on_paper(config, feed, cycles=_TRADED)
    async with open_store(database_url(config), read_only=True) as store:
        fills, intents = await store.fills(run.id), await store.intents(run.id)
        ended = await store.records(run.id, RecordKind.END)
    cash: Any = ended[-1].body["cash"]
    facts = {"run": run.id, "orders": len(intents), "fills": len(fills), "cash": cash}
    says = f"{len(intents)} orders and {len(fills)} fills on paper in {_TRADED} slots; ${cash / UNIT:,.2f} in cash."
    return (says,), facts, spent


async def _portfolio(config: Config, feed: str) -> Came:
    """Status of the accounts by the log."""
    del feed
    async with open_store(database_url(config), read_only=True) as store:
        seen = await status(store, KillSwitch(home()), WallClock().now())
    says = [
        f"{a.account}: ${a.cash / UNIT:,.2f} in cash, ${a.at_risk / UNIT:,.2f} at risk, {len(a.positions)} positions."
        for a in seen.accounts
    ]
    facts: Any = plain(seen)
    return tuple(says) or ("No account has traded live or on a live market yet.",), facts, _NOTHING


async def _on_paper(config: Config, feed: str, cycles: int) -> tuple[Run, GoalCost]:
    """A paper run, and the cost of its decisions."""
    result = await run_paper(PaperPlan(config, feed, None, cycles), LocalBus())
    async with open_store(database_url(config), read_only=True) as store:
        ledger = await store.ledger(result.run.id)
    tokens: dict[str, int] = {}
    rows = [row for per in ledger.values() for row in per]
    for row in rows:
        tokens[row.phase.value] = tokens.get(row.phase.value, 0) + row.prompt + row.generated
    return result.run, GoalCost(tokens, sum(r.micro_usd for r in rows) / UNIT, sum(r.milliseconds for r in rows) / 1e3)


ACTIONS = (
    GoalAction(
        name="predict",
        tool=MARKET,
        does="predict where the price goes",
        cues=frozenset({"predict", "forecast", "prediction", "movement"}),
        examples=("predict next 5-min price movement", "will bitcoin be up"),
        do=_predict,
    ),
    GoalAction(
        name="portfolio",
        tool=WALLET,
        does="tell what the account holds",
        cues=frozenset({"balance", "portfolio", "positions", "wallet", "cash", "holdings"}),
        examples=("what is my balance", "show my positions"),
        do=_portfolio,
    ),
    GoalAction(
        name="trade",
        tool=ORDER,
        does="trade on paper for an hour",
        cues=frozenset({"trade", "buy", "sell", "order", "orders", "trading"}),
        examples=("trade for me", "place orders on the next markets"),
        do=_trade,
    ),
)
