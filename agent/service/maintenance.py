"""Maintenance jobs of a live run: redemption of late winnings, disk space, calibration, garbage, retention,
back-fill."""

from __future__ import annotations

import asyncio
import gc
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from agent.config.schema import Config
from agent.learning.learner import OnlineLearner
from agent.live.backfill import fill
from agent.live.redeem import WinningsRedeemer
from agent.service.jobs import Job
from agent.service.pulse import Pulse
from agent.trading.bus import Bus
from market.clock import EPOCH, Clock
from market.errors import DataInvalid
from market.events import CalibrationMeasured
from market.polymarket.hosts import Hosts
from market.polymarket.rest import reader
from storage.store import Store
from strategies.calibration import prepare

_REDEEM, _HEALTH, _CALIBRATION = timedelta(minutes=1), timedelta(minutes=1), timedelta(minutes=10)
_RETENTION, _HISTORY, _MEMORY = timedelta(days=1), timedelta(hours=1), timedelta(minutes=30)
_MEGABYTE = 1_000_000
_AWAY = timedelta(hours=24)
"""Span before a start in which windows that ended while nothing ran are back-filled."""


@dataclass(slots=True)
class MaintenanceJobs:
    """Maintenance jobs of one run and their dependencies. `filled` is the instant up to which windows have been
    back-filled; `winnings` redeems those of an account at the venue."""

    config: Config
    home: Path
    store: Store
    hosts: Hosts
    clock: Clock
    bus: Bus
    pulse: Pulse
    learner: OnlineLearner
    winnings: WinningsRedeemer | None = None
    filled: datetime = EPOCH
    folders: Sequence[Path] = field(default_factory=tuple)

    def jobs(self) -> list[Job]:
        """The jobs of this run; redemption only with an account at the venue."""
        service = self.config.service
        known = [
            Job("redemption", _REDEEM, self.redeem) if self.winnings is not None else None,
            Job("health", _HEALTH, self.health),
            Job("calibration", _CALIBRATION, self.calibration),
            Job("memory", _MEMORY, self.memory),
            Job("retention", _RETENTION, self.retention) if service.price_retention_days else None,
            Job("history", _HISTORY, self.history) if service.backfill else None,
        ]
        return [job for job in known if job is not None]

    async def redeem(self) -> str:
        """Redeem winnings on the chain that the venue is late with."""
        if self.winnings is None:
            return ""
        try:
            return await self.winnings.redeem_late()
        finally:
            self.pulse.warn("winnings", self.winnings.overdue())

    async def health(self) -> str:
        """Check free disk space. The run warns long before it has to stop for lack of it."""
        least = self.config.service.min_free_disk_mb * _MEGABYTE
        short = await asyncio.to_thread(_short, self.folders, least)
        self.pulse.warn("disk", short)
        return short

    async def calibration(self) -> str:
        """Score the forecasts against the market mid, and refit the learner here, so that no slot waits for it."""
        now = self.clock.now()
        await asyncio.to_thread(prepare, len(self.learner.known))
        self.learner.learned(now)
        windows, ours, mids = self.learner.scored()
        if windows:
            self.bus.publish(CalibrationMeasured(at=now, windows=windows, log_score=ours, mid_log_score=mids))
        return ""

    async def memory(self) -> str:
        """Collect reference cycles half-way between two slots: by itself the interpreter scans old objects only once
        there are a quarter more of them, which takes a service days."""
        trading = self.config.trading
        await self.clock.wait_until(half_way(self.clock.now(), trading.every, trading.offset))
        gc.collect()
        return ""

    async def retention(self) -> str:
        """Delete prices older than configured. Decisions, and all their inputs, stay."""
        dropped = await self.store.drop_bars(
            self.clock.now() - timedelta(days=self.config.service.price_retention_days)
        )
        return f"{dropped} old pieces of price history were dropped." if dropped else ""

    async def history(self) -> str:
        """Back-fill minute prices and outcomes of windows that ended since the last time, or while nothing ran."""
        until = self.clock.now() - timedelta(minutes=5)  # an outcome takes a moment
        since = max(self.filled, until - _AWAY)
        count, refused = 0, list[str]()
        async with reader(self.hosts, self.clock) as asked:
            for slug, opens, closes in _windows(self.config.venue.watched(), since, until):
                listed = await asked.market(slug)
                if listed is None:
                    continue
                try:
                    await fill(asked, self.store, listed.market, opens, closes)
                except DataInvalid as error:
                    refused.append(f"{slug}: {error}")  # the others are stored
                    continue
                count += 1
        self.filled = until
        said = [f"{count} windows were back-filled."] if count else []
        if refused:
            said.append(f"{len(refused)} could not be read, the last: {refused[-1]}")
        return " ".join(said)


def half_way(now: datetime, cadence: float, offset: float) -> datetime:
    """The next instant half-way between two slots."""
    grid, since = timedelta(seconds=cadence), now - EPOCH - timedelta(seconds=offset + cadence / 2)
    return now - since % grid + (grid if since % grid else timedelta())


def _windows(
    series: Sequence[tuple[str, int]], since: datetime, until: datetime
) -> list[tuple[str, datetime, datetime]]:
    """Slugs, openings and closings of the windows that closed in (since, until]."""
    found = []
    for asset, seconds in series:
        width = timedelta(seconds=seconds)
        for number in range((since - EPOCH) // width, (until - EPOCH) // width):
            opens = EPOCH + number * width
            found.append((f"{asset}-updown-{seconds // 60}m-{int(opens.timestamp())}", opens, opens + width))
    return found


def _short(folders: Sequence[Path], least: int, usage: Callable[[Path], int] | None = None) -> str:
    """A sentence on the first folder with too little space, or an empty string."""
    free = usage or (lambda folder: shutil.disk_usage(folder).free)
    for folder in folders:
        try:
            left = free(folder)
        except OSError as error:
            return f"{folder} cannot be looked at ({error.strerror})."
        if left < least:
            return f"Only {left // _MEGABYTE} MB are free at {folder}."
    return ""
