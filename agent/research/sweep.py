"""Parameter sweep: many trials of one strategy on the same recording, over processes, and the deflated best.

The points are chosen beforehand from a seed, so that the answer does not depend on how many processes try them or in
which order. Optuna's database is the memory, and this process alone writes to it: a sweep that was stopped goes on
where it was, and a process that dies takes no result with it.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.app.backtests import Rehearsal, rehearsal, strategies
from agent.app.identity import code_identity, strategy_identity
from agent.config.load import load_config
from agent.evaluation.judgement import BLOCK
from agent.install.command import tie_to_parent
from agent.research.space import Point, Space, read_space
from market.errors import NotReady, StrategyFailed
from market.types import Market, Micro
from storage.canonical import digest
from storage.sweeps import open_sweeps
from strategies.score import Floats, Interval, block_interval, deflated_sharpe, overfitting, sharpe

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

_FOLDS = 5
_DATA, _OPENED = "data", "opened"
"""Attributes of a study besides its trials."""
_AGAIN = 3
"""Attempts at trials that were lost with their process."""


@dataclass(frozen=True, slots=True)
class SweepTask:
    """Input of a worker, wherever it runs: paths, and the fraction of the markets that is held out."""

    data: str
    config: str | None
    profile: str
    space: str
    holdout: float


@dataclass(frozen=True, slots=True)
class SweepTrial:
    """One point and the profit of each market it was tried on, in micro-dollars; 0 for markets it did not trade."""

    point: Point
    profits: tuple[Micro, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.profits)) if self.profits else 0.0


@dataclass(frozen=True, slots=True)
class Forward:
    """Walk-forward result: on each fold of time, the point that was best before it. `per_market` is its profit."""

    points: tuple[Point, ...]
    per_market: Interval | None


@dataclass(frozen=True, slots=True)
class Opened:
    """Result of the best point on the held-out markets; `times` counts the looks at them so far."""

    markets: int
    per_market: Interval | None
    times: int


@dataclass(frozen=True, slots=True)
class Swept:
    """Result of a sweep. `tried` is best first. `overfitting` is the probability that the choice is no better than a
    blind one."""

    strategy: str
    study: str
    markets: int
    held_out: int
    size: int
    tried: tuple[SweepTrial, ...]
    deflated: float | None
    overfitting: float | None
    forward: Forward
    failed: tuple[str, ...]
    opened: Opened | None = None


def cut(markets: Sequence[Market], holdout: float) -> tuple[list[Market], list[Market]]:
    """Markets to try on, and the held-out last fraction; markets that overlap the boundary are left out."""
    at = len(markets) - round(len(markets) * holdout)
    kept = list(markets[at:])
    if not kept:
        return list(markets), []
    return [m for m in markets[:at] if m.closes_at <= kept[0].opens_at], kept


def opened_study(storage: str, on: Rehearsal, space: Space, points: Sequence[Point], holdout: float) -> Study:
    """The study of this sweep, identified by code, data, space and points, with its earlier trials."""
    kept = open_sweeps(storage)
    import optuna

    made_of = [code_identity(), strategy_identity(space.strategy), on.fingerprint, on.config.identity()]
    choices = {n: list(v) for n, v in space.choices.items()}
    name = f"{space.strategy.name}-{digest([*made_of, choices, [dict(p) for p in points], holdout])[:12]}"
    study = optuna.create_study(storage=kept, study_name=name, direction="maximize", load_if_exists=True)
    study.set_user_attr(_DATA, on.fingerprint)
    return study


def _key(point: Point) -> str:
    return json.dumps(dict(point), sort_keys=True)


def finished(study: Study) -> dict[str, FrozenTrial]:
    """Completed trials by point."""
    return {_key(t.user_attrs["point"]): t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"}


def _waiting(study: Study, points: Sequence[Point]) -> list[Point]:
    done = finished(study)
    return [p for p in points if _key(p) not in done]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Profit of each market at a point, or the reason for none."""

    profits: tuple[Micro, ...] = ()
    failed: str = ""


def attempt(task: SweepTask, point: Point) -> Attempt:
    """Try one point. Runs in a process of its own, here or elsewhere."""
    on, space, ids = _prepared(task)
    try:
        earned = asyncio.run(on.profits(space.made(point), set(ids)))
    except StrategyFailed as error:
        return Attempt(failed=error.sentence())
    return Attempt(tuple(earned.get(market_id, 0) for market_id in ids))


@lru_cache(maxsize=1)
def _prepared(task: SweepTask) -> tuple[Rehearsal, Space, list[str]]:
    """The recording, the space and the market ids; loaded once by each process."""
    on = rehearsal(load_config(None if task.config is None else Path(task.config), {}, profile=task.profile), task.data)
    tried_on, _ = cut(on.markets, task.holdout)
    return on, read_space(Path(task.space), strategies()), [m.id for m in tried_on]


def _keep(study: Study, space: Space, point: Point, found: Attempt) -> None:
    """Store a result in the study."""
    import optuna

    kinds = {name: optuna.distributions.CategoricalDistribution(values) for name, values in space.choices.items()}
    state = optuna.trial.TrialState.FAIL if found.failed else optuna.trial.TrialState.COMPLETE
    value = None if found.failed else sum(found.profits) / max(len(found.profits), 1)
    told = {"point": dict(point), "profits": list(found.profits), "failed": found.failed}
    study.add_trial(
        optuna.trial.create_trial(
            state=state, value=value, params=dict(point), distributions=dict(kinds), user_attrs=told
        )
    )


def run(
    task: SweepTask, study: Study, space: Space, points: Sequence[Point], workers: int, told: Callable[[int], None]
) -> None:
    """Try all points in processes of this machine; `told` receives the number of points done."""
    for _ in range(_AGAIN):
        waiting = _waiting(study, points)
        told(len(points) - len(waiting))
        try:
            for number, (point, found) in enumerate(_attempts(task, waiting, workers), 1):
                _keep(study, space, point, found)
                told(len(points) - len(waiting) + number)
        except BrokenProcessPool:
            continue  # results received so far are stored; the rest is tried again
        return
    raise NotReady("the worker processes died repeatedly.", next_step="Run it again with --workers 1.")


def _attempts(task: SweepTask, points: Sequence[Point], workers: int) -> Iterator[tuple[Point, Attempt]]:
    """Results as they come."""
    if workers == 1 or len(points) < 2:
        for point in points:
            yield point, attempt(task, point)
        return
    # Not fork: a forked child would inherit the locks of this process's threads in whatever state they are.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with, initargs=(os.getpid(),)) as pool:
        futures = {pool.submit(attempt, task, point): point for point in points}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _end_with(parent: int) -> None:
    """Worker initialiser: the worker dies with the sweep's process, also if that died before it began."""
    if (tie := tie_to_parent()) is not None:
        tie()
    if os.getppid() != parent:
        os._exit(1)


def run_elsewhere(
    task: SweepTask, study: Study, space: Space, points: Sequence[Point], scheduler: str, told: Callable[[int], None]
) -> None:
    """Try all points on the workers of a Dask scheduler, which see the same files; the tasks of one that dies go to the
    others."""
    try:
        dask: Any = importlib.import_module("distributed")
    except ImportError:
        raise NotReady("Dask is not installed.", next_step="Run: pip install 'edgeclaw[cluster]'") from None
    waiting = _waiting(study, points)
    try:
        client = dask.Client(scheduler, timeout=10)
    except OSError:
        raise NotReady(f"no Dask scheduler answers at {scheduler}.", next_step="Start one: dask scheduler") from None
    with client:
        # pure=False: Dask would answer an equal call from an earlier result.
        futures = {client.submit(attempt, task, point, pure=False): point for point in waiting}
        for number, future in enumerate(dask.as_completed(futures), 1):
            _keep(study, space, futures[future], future.result())
            told(len(points) - len(waiting) + number)


def judge(study: Study, space: Space, points: Sequence[Point], on: Rehearsal, task: SweepTask) -> Swept:
    """Judgement of the trials; equal for equal trials, wherever they ran."""
    order = {_key(p): n for n, p in enumerate(points)}
    found = {key: tuple(t.user_attrs["profits"]) for key, t in finished(study).items()}
    tried = sorted(
        (SweepTrial(p, found[_key(p)]) for p in points if _key(p) in found),
        key=lambda t: (-t.mean, order[_key(t.point)]),
    )
    on_markets, held = cut(on.markets, task.holdout)
    matrix = np.array([t.profits for t in tried], np.float64).reshape(len(tried), len(on_markets))
    ratios = [r for row in matrix if (r := sharpe(row)) is not None]
    return Swept(
        strategy=space.strategy.name,
        study=study.study_name,
        markets=len(on_markets),
        held_out=len(held),
        size=space.size,
        tried=tuple(tried),
        deflated=deflated_sharpe(matrix[0], ratios) if tried else None,
        overfitting=overfitting(matrix) if tried else None,
        forward=forward(tried, matrix),
        failed=tuple(sorted({t.user_attrs["failed"] for t in study.get_trials(deepcopy=False)} - {""})),
    )


def forward(tried: Sequence[SweepTrial], matrix: Floats) -> Forward:
    """Walk-forward: on each fold but the first, the best point of all markets before it, one market at the boundary
    left out."""
    folds = np.array_split(np.arange(matrix.shape[1]), _FOLDS)
    chosen, earned = [], list[float]()
    for fold in folds[1:]:
        before = matrix[:, : max(int(fold[0]) - 1, 0)] if len(fold) else matrix[:, :0]
        if not before.size:
            continue
        best = int(before.mean(axis=1).argmax())
        chosen.append(tried[best].point)
        earned += matrix[best, fold].tolist()
    return Forward(tuple(chosen), _interval(np.array(earned)))


def _interval(profits: Floats) -> Interval | None:
    return block_interval(profits, block=max(1, min(BLOCK, len(profits) // 10)))


def open_holdout(study: Study, storage: str, space: Space, best: Point, on: Rehearsal, task: SweepTask) -> Opened:
    """Evaluate the best point on the held-out markets. The number of looks at these data, over all sweeps, is
    stored."""
    _, held = cut(on.markets, task.holdout)
    ids = [m.id for m in held]
    earned: Mapping[str, Micro] = asyncio.run(on.profits(space.made(best), set(ids)))
    # Every look at the held-out markets weakens the next: the count is reported with the result.
    study.set_user_attr(_OPENED, int(study.user_attrs.get(_OPENED, 0)) + 1)
    times = _times_opened(storage, on.fingerprint)
    values = np.array([earned.get(market_id, 0) for market_id in ids], np.float64)
    return Opened(len(ids), _interval(values), times)


def _times_opened(storage: str, fingerprint: str) -> int:
    """Number of looks at the held-out part of these data, over all sweeps."""
    kept = open_sweeps(storage)
    import optuna

    told = [s.user_attrs for s in optuna.get_all_study_summaries(kept)]
    return sum(int(t.get(_OPENED, 0)) for t in told if t.get(_DATA) == fingerprint)
