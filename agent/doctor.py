"""Preflight checks of a run, one at a time; a failing check never hides the next one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec

from agent.app.engines import open_electricity, open_engine
from agent.app.live_plan import LivePlan, promotion_scope
from agent.app.recordings import open_recording
from agent.app.settings import promotion_rule
from agent.config.paths import home
from agent.config.places import database_url
from agent.config.schema import Config
from agent.host.power import BOX, Sources
from agent.live.promotion import promotion
from market.clock import WallClock, monotonic
from market.errors import EdgeclawError, NotReady
from storage.store import open_store
from storage.urls import without_secrets
from tools.halts import KillSwitch

NEEDED_BYTES = 500_000_000


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    found: str
    next_step: str = ""


async def examine(config: Config) -> list[Check]:
    """Run all checks, in the order in which a run needs them."""
    return [
        _disk(),
        _clock(),
        await _tried("database", lambda: _database(config)),
        await _tried("engine", lambda: _engine(config)),
        await _tried("sample", _sample),
        await energy_check(config),
        _halt(),
        *await _account(config),
    ]


def _halt() -> Check:
    halted = KillSwitch(home()).read()
    if halted is None:
        return Check("trading", True, "allowed")
    return Check(
        name="trading", ok=False, found=halted.sentence(), next_step="Look, then run: edgeclaw resume --reason TEXT"
    )


async def _account(config: Config) -> list[Check]:
    """The venue and the wallet, where a live run is configured; paper needs neither."""
    venue = config.venue
    if not (venue.loopback or venue.key_file or venue.key_credential):
        return [Check("venue", True, "not configured: paper trading needs no account")]
    if find_spec("polymarket") is None or find_spec("web3") is None:
        return [
            Check(
                name="venue",
                ok=False,
                found="the extra `live` is not installed",
                next_step="Run: pip install 'edgeclaw[live]'",
            )
        ]
    from agent.live import checks
    from market.polymarket.hosts import Hosts

    return [
        Check("hosts", True, "may be reached: " + ", ".join(sorted(Hosts.named(venue.loopback).names()))),
        await _tried("venue", lambda: checks.venue(config)),
        await _tried("wallet", lambda: checks.wallet(config, home())),
        await _promotion(config),
    ]


async def _promotion(config: Config) -> Check:
    async with open_store(database_url(config)) as store:
        verdict = await promotion(store, promotion_rule(config), promotion_scope(LivePlan(config)), WallClock().now())
    if config.venue.loopback:
        return Check("promotion", True, f"not needed for simulated money ({verdict.sentence.rstrip('.')})")
    step = "" if verdict.passed else "Trade on paper: edgeclaw run --feed live. Or add --i-accept-the-risk."
    return Check(name="promotion", ok=verdict.passed, found=verdict.sentence, next_step=step)


async def _tried(name: str, check: Callable[[], Awaitable[str]]) -> Check:
    try:
        return Check(name, True, await check())
    except EdgeclawError as error:
        return Check(name=name, ok=False, found=str(error), next_step=error.next_step)


def _disk() -> Check:
    folder = home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    ok = free >= NEEDED_BYTES
    return Check(
        name="disk",
        ok=ok,
        found=f"{free / 1e9:.1f} GB free for {home()}",
        next_step="" if ok else "Free half a gigabyte.",
    )


def _clock() -> Check:
    now = WallClock().now()
    ok = now > datetime(2026, 1, 1, tzinfo=UTC)
    return Check(
        name="clock", ok=ok, found=f"{now:%Y-%m-%d %H:%M:%S} UTC", next_step="" if ok else "Set the clock of this box."
    )


async def _database(config: Config) -> str:
    async with open_store(database_url(config)) as store:
        runs = await store.runs()
    return f"{len(runs)} runs in {without_secrets(database_url(config))}"


async def _engine(config: Config) -> str:
    asked, began = await _as_it_runs(config), monotonic()
    async with open_engine(asked) as engine:
        ready = monotonic() - began
        health = await engine.health()
    if not health.ok:
        served = config.edge.runtime in ("openai", "mlc")
        again = "Restart the model server." if served else "Run `edgeclaw install edge-runtime` again."
        raise NotReady(health.detail, next_step=again)
    return f"{health.detail} ({engine.identity.library}), ready in {ready:.1f} s"


async def _as_it_runs(config: Config) -> Config:
    """A configuration that attaches to a model server that the service has already started, instead of starting a
    second."""
    mlc = config.edge.mlc
    if config.edge.runtime != "mlc" or not mlc.python:
        return config
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", mlc.port)
    except OSError:
        return config
    writer.close()
    remote = config.edge.remote.model_copy(
        update={"url": f"http://127.0.0.1:{mlc.port}", "tokenizer": mlc.model_dir, "model": ""}
    )
    edge = config.edge.model_copy(update={"remote": remote, "mlc": mlc.model_copy(update={"python": ""})})
    return config.model_copy(update={"edge": edge})


async def energy_check(config: Config, sources: Sources = BOX) -> Check:
    """Check that energy can be measured. Counting by tokens instead is fine, unless energy was asked for."""
    cost = config.edge.cost
    async with open_electricity(config, sources) as (electricity, seen):
        if electricity is not None:
            return Check("energy", True, f"{seen.said}, priced at ${cost.kwh_price:g} a kWh")
    instead = f"{seen.said.rstrip('.')}; dollars are counted by token price"
    return Check(name="energy", ok=cost.basis != "energy", found=instead, next_step=seen.next_step)


async def _sample() -> str:
    feed = await open_recording("sample")
    return f"recorded books from {feed.info.begins:%Y-%m-%d}" if feed.info.begins else feed.info.name
