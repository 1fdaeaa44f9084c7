"""Replay of decisions: from the recorded answers of the model, or by asking it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.app.engines import open_engine
from agent.config.load import load_config, profile_for
from agent.replay.ablations import history_of
from agent.replay.replay import ReplayResult, regenerate, replay
from market.errors import NotReady
from storage.canonical import digest
from storage.records import Record
from storage.store import Store


async def replayed(store: Store, records: Sequence[Record], config: Path | None, ask: bool) -> list[ReplayResult]:
    """One result for each decision. With `ask` the configured engine is asked again. Raises NotReady where that is
    another model than the run's, or one whose answers are not the same each time."""
    runs = {run.id: run for run in await store.runs()}
    histories = {record.run_id: history_of(runs[record.run_id].identity.label, store) for record in records}
    if not ask:
        return [await replay(store, record, histories[record.run_id]) for record in records]
    profile = "" if any(runs[record.run_id].about.account for record in records) else profile_for("sample")
    async with open_engine(load_config(config, profile=profile)) as engine:
        if not engine.capabilities.bit_exact:
            raise NotReady(f"{engine.identity.engine} is not deterministic.", next_step="Omit --regenerate.")
        if any(runs[record.run_id].identity.model != digest(engine.identity) for record in records):
            raise NotReady(
                f"The run was made with another model than {engine.identity.model}.",
                next_step="Name its configuration: --config FILE",
            )
        return [await regenerate(store, record, engine, histories[record.run_id]) for record in records]
