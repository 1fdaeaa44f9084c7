"""A live run as it was asked for: its slots, and the identity and manifest of what it leaves in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from agent.app.identity import code_identity
from agent.config.schema import Config
from agent.live.promotion import PromotionScope
from agent.llm.engine import ModelIdentity
from agent.trading.loop import Schedule
from market.types import Micro
from storage.canonical import Json, digest
from storage.records import RunIdentity, RunManifest

if TYPE_CHECKING:
    from agent.live.account import LiveAccount


@dataclass(frozen=True, slots=True)
class LivePlan:
    """A run on the market as it is now: at a loopback venue, or the real one; with which traders; how many slots
    (None is until it is stopped).

    On `paper` nothing is sent: no key is read, and orders meet the books in this process. With real money a run has to
    be promoted from paper, unless its owner accepts the risk.
    """

    config: Config
    trade_with: tuple[str, ...] = ("agent",)
    cycles: int | None = None
    paper: bool = False
    accept_the_risk: bool = False

    @property
    def reference(self) -> str:
        """Source of reference prices by name, or none."""
        return self.config.venue.reference_named(keyed=not self.paper)

    def schedule(self, begins: datetime) -> Schedule:
        """Slots from an instant on."""
        trading = self.config.trading
        return Schedule(
            begins,
            None,
            cadence=timedelta(seconds=trading.every),
            offset=timedelta(seconds=trading.offset),
            cycles=self.cycles,
        )


def live_manifest(plan: LivePlan, account: LiveAccount, venue: str, cash: Micro) -> RunManifest:
    """Manifest of a run of the account at a venue's address; `cash` is what its first run began with."""
    return RunManifest(
        data=f"polymarket at {venue}",
        notes=(account.note,),
        has_reference=plan.reference != "none",
        config=scope_of(plan),
        cash=cash,
        account=account.name,
    )


def scope_of(plan: LivePlan) -> dict[str, Json]:
    """The configuration as the manifest has it, with what else decides which markets are traded."""
    return {"config": plan.config.identity(), "series": list(plan.config.venue.series)}


def promotion_scope(plan: LivePlan) -> PromotionScope:
    """Traders and settings whose paper days unlock this run."""
    return PromotionScope.of(plan.trade_with, scope_of(plan))


def identities(plan: LivePlan, account: str, model: ModelIdentity, scope: Json) -> Callable[[int], RunIdentity]:
    """Identity of the account's run of a number; `scope` is the manifest's configuration."""
    label = "live:" + ",".join(plan.trade_with)
    return lambda number: RunIdentity(
        data=f"live|{account}",
        config=digest(scope),
        code=code_identity(),
        model=digest(model),
        label=f"{label}/{number}",
    )
