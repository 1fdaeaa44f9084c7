"""`edgeclaw log list|show|replay|verify`: read, explain, reproduce and check decisions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from storage.log_reader import LogReader
    from storage.records import Record
    from storage.store import Store

S = TypeVar("S")
T = TypeVar("T")


class Action(StrEnum):
    TAKE = "take"
    POST = "post"
    ABSTAIN = "abstain"


class Sort(StrEnum):
    NEWEST = "newest"
    LOST_MOST = "lost_most"
    EARNED_MOST = "earned_most"
    MOST_TOKENS = "most_tokens"
    LEAST_VERIFIED = "least_verified"


app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, explain, replay and verify decisions.")

RunId = Annotated[str | None, typer.Option("--run", help="Id (or prefix) of a run; default: newest.")]
InRun = Annotated[str | None, typer.Option("--run", help="Restrict to this run.")]
File = Annotated[Path | None, typer.Option("--config", help="A YAML file that names the database.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Market = Annotated[str | None, typer.Option(help="Filter: part of the market's slug.")]
Since = Annotated[datetime | None, typer.Option(help="Start (UTC), inclusive.")]
Until = Annotated[datetime | None, typer.Option(help="End (UTC), exclusive.")]


@app.command("list", epilog="Example: edgeclaw log list --sort lost_most --traded --limit 10")
def list_(
    run: RunId = None,
    reason: Annotated[str | None, typer.Option(help="Filter: reason of the decision.")] = None,
    action: Annotated[Action | None, typer.Option(help="Filter: action of the decision.")] = None,
    market: Market = None,
    since: Since = None,
    until: Until = None,
    below: Annotated[
        float | None, typer.Option("--verified-below", min=0, max=1.01, help="Filter: verified share below this.")
    ] = None,
    searched: Annotated[
        bool | None, typer.Option("--searched/--gated", help="Filter: with or without a search.")
    ] = None,
    corrected: Annotated[bool | None, typer.Option(help="Filter: with or without a self-correction.")] = None,
    traded: Annotated[bool | None, typer.Option(help="Filter: with or without an order.")] = None,
    sort: Annotated[Sort, typer.Option(help="Sort order.")] = Sort.NEWEST,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of decisions.")] = 10_000,
    why: Annotated[bool, typer.Option("--why", help="Count actions and reasons instead.")] = False,
    runs: Annotated[bool, typer.Option("--runs", help="List the runs instead.")] = False,
    config: File = None,
    as_json: AsJson = False,
) -> None:
    """List decisions, oldest first, or in the order of --sort."""
    from agent.cli import show
    from agent.reports.lookup import chosen_run
    from storage.records import DecisionFilter, Sorting

    async def read(store: LogReader) -> Any:
        if runs:
            return await store.runs()
        chosen = (await chosen_run(store, run)).id
        if why:
            return await store.reasons(chosen)
        wanted = DecisionFilter(
            run_id=chosen,
            action=None if action is None else action.value,
            reason=reason,
            slug=market,
            since=_utc(since),
            until=_utc(until),
            below=below,
            searched=searched,
            corrected=corrected,
            traded=traded,
        )
        found = await store.listed(wanted, sorting=Sorting(sort.value), limit=limit)
        # The limit selects the newest; they are printed oldest first, the newest beside the prompt.
        return found[::-1] if sort is Sort.NEWEST else found

    found = with_log(config, read)
    if as_json:
        show.as_json(found)
        return
    from agent.cli import logview

    look = logview.print_runs if runs else logview.print_reasons if why else logview.print_decisions
    look(found, show.console())


def _utc(at: datetime | None) -> datetime | None:
    """Read an instant as UTC where it has no zone."""
    from datetime import UTC

    return None if at is None else at.replace(tzinfo=at.tzinfo or UTC)


@app.command(
    "export", short_help="Export decisions to a file.", epilog="Example: edgeclaw log export decisions.parquet"
)
def export_(
    file: Annotated[Path, typer.Argument(help="Output file: .jsonl (whole decisions), .csv or .parquet.")],
    run: RunId = None,
    market: Market = None,
    since: Since = None,
    until: Until = None,
    redacted: Annotated[bool, typer.Option("--redacted", help="Omit money: profit, orders and edges.")] = False,
    config: File = None,
    as_json: AsJson = False,
) -> None:
    """Write the decisions of a run for other programs, oldest first."""
    from agent.cli import show
    from agent.reports.export import export
    from agent.reports.lookup import chosen_run
    from storage.records import DecisionFilter

    async def read(store: LogReader) -> Any:
        chosen = (await chosen_run(store, run)).id
        wanted = DecisionFilter(run_id=chosen, slug=market, since=_utc(since), until=_utc(until))
        return await export(store, wanted, file, redacted=redacted)

    done = with_log(config, read)
    if as_json:
        show.as_json(done)
    else:
        show.console().print(f"{done.decisions:,} decisions are in {done.file}.", markup=False, highlight=False)


@app.command("show", short_help="Explain one decision.", epilog="Example: edgeclaw log show 3f2a91")
def show_(
    decision: Annotated[str, typer.Argument(help="Id (or prefix) of a decision.")],
    run: InRun = None,
    config: File = None,
    as_json: AsJson = False,
) -> None:
    """Explain one decision: book, tree, every claim with its evidence, belief, tokens, orders and fills."""
    from agent.cli import show
    from agent.reports.explain import explain
    from agent.reports.lookup import chosen_decision

    async def read(store: LogReader) -> Any:
        return await explain(store, await chosen_decision(store, decision, run))

    found = with_log(config, read)
    if as_json:
        show.as_json(found.to_json())
    else:
        from agent.cli import logview

        logview.print_explanation(found, show.console())


@app.command(short_help="Replay decisions from the log.", epilog="Example: edgeclaw log replay --all")
def replay(
    decision: Annotated[str | None, typer.Argument(help="Id (or prefix) of a decision.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All decisions of the run.")] = False,
    regenerate: Annotated[
        bool, typer.Option("--regenerate", help="Run the model again instead of replaying its recorded answers.")
    ] = False,
    run: RunId = None,
    config: File = None,
    as_json: AsJson = False,
) -> None:
    """Think decisions through again from their recorded answers; exit 1 where one comes out differently."""
    from agent.cli import show

    if every == (decision is not None):
        raise typer.BadParameter("name one decision, or pass --all")

    async def read(store: Store) -> Any:
        from agent.app.replaying import replayed

        return await replayed(store, await _chosen(store, decision, run), config if regenerate else None, regenerate)

    results = with_store(config, read)
    if as_json:
        show.as_json(results)
    else:
        from agent.cli import logview

        logview.print_replays(results, show.console())
    if any(r.differences for r in results):
        raise typer.Exit(1)


@app.command(short_help="Serve the review pages.", epilog="Example: edgeclaw log serve")
def serve(
    listen: Annotated[
        str, typer.Option(help="HOST:PORT to listen on; a token is required beyond localhost.")
    ] = "127.0.0.1:8765",
    config: File = None,
    as_json: AsJson = False,
) -> None:
    """Serve the review site until it is stopped: overview, decisions with filters, and each decision in pictures. It
    reads the log, also while an agent writes it, and changes nothing."""
    import asyncio

    from agent.cli import show
    from agent.review.serving import reviewing

    async def read(store: Store) -> None:
        async with reviewing(store, listen) as served:
            if as_json:
                show.as_line({"url": served.url})
            else:
                show.console().print(f"Read the log at {served.url}", soft_wrap=True, markup=False)
            await asyncio.Event().wait()

    with_store(config, read)


@app.command(short_help="Verify the hash chain.", epilog="Example: edgeclaw log verify")
def verify(run: RunId = None, config: File = None, as_json: AsJson = False) -> None:
    """Check every hash and link of the log, of all runs or one; exit 1 and name what does not hold."""
    from agent.cli import show
    from agent.reports.lookup import chosen_run

    async def read(store: LogReader) -> Any:
        chosen = (await chosen_run(store, run)).id if run else None
        return await store.verify(chosen)

    problems = with_log(config, read)
    if as_json:
        show.as_json(problems)
    else:
        from agent.cli import logview

        logview.print_problems(problems, show.console())
    if problems:
        raise typer.Exit(1)


def with_log(config: Path | None, read: Callable[[LogReader], Awaitable[T]]) -> T:
    """Open the log read-only, ask it one thing, close it. Raises NotReady where nothing has been recorded."""
    from storage.log_reader import open_log

    return _asked(open_log(_recorded_at(config)), read)


def with_store(config: Path | None, read: Callable[[Store], Awaitable[T]]) -> T:
    """Open the store read-only, run one query, close it."""
    from storage.store import open_store

    return _asked(open_store(_recorded_at(config), read_only=True), read)


def _asked(opening: AbstractAsyncContextManager[S], read: Callable[[S], Awaitable[T]]) -> T:
    import asyncio

    async def scope() -> T:
        async with opening as opened:
            return await read(opened)

    return asyncio.run(scope())


def _recorded_at(config: Path | None) -> str:
    """The database's address. Raises NotReady where there is no such file."""
    from market.errors import NotReady

    url = _database(config)
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        raise NotReady("nothing has been recorded yet.", next_step="Run `edgeclaw run` first.")
    return url


def _database(config: Path | None) -> str:
    """Address of the database that a file names. Without one the defaults hold, and no configuration is built, which
    takes as long as a short answer."""
    if config is None:
        from agent.config.paths import own_database

        return own_database()
    from agent.config.load import load_config
    from agent.config.places import database_url

    return database_url(load_config(config))


async def _chosen(store: Store, decision: str | None, run: str | None) -> list[Record]:
    from agent.reports.lookup import chosen_decision, chosen_run
    from storage.records import RecordKind

    if decision is not None:
        return [await chosen_decision(store, decision, run)]
    return await store.records((await chosen_run(store, run)).id, RecordKind.DECISION)
