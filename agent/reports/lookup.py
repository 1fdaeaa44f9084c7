"""Runs and decisions by what a person types: the beginning of an id, or nothing for the newest."""

from __future__ import annotations

from market.errors import Misconfigured, NotReady
from storage.log_reader import LogReader
from storage.records import Record, Run


async def chosen_run(store: LogReader, prefix: str | None) -> Run:
    """A run by the beginning of its id, or the agent's newest."""
    # Baselines and ablations are found by their id alone: the newest run is the one that somebody started.
    runs = [r for r in await store.runs() if prefix or r.identity.label == "agent" or r.about.account]
    if not runs:
        raise NotReady("nothing has been recorded yet.", next_step="Run `edgeclaw run` first.")
    if prefix is None:
        return max(runs, key=lambda r: r.started_at)
    matching = [r for r in runs if r.id.startswith(prefix)]
    if len(matching) != 1:
        found = "no run begins" if not matching else f"{len(matching)} runs begin"
        raise Misconfigured(f"{found} with {prefix!r}.", next_step="See `edgeclaw log list --runs`.")
    return matching[0]


async def chosen_decision(store: LogReader, prefix: str, run: str | None) -> Record:
    """One decision by the beginning of its id, in the chosen run or in any."""
    return await store.decision((await chosen_run(store, run)).id if run else None, prefix)
