"""Configuration search for a lower cost at no worse forecasts, on decisions that were made already.

Every setting is tried by making the logged decisions again with the model on this machine. Settings are proposed
and compared on every other window; the chosen one is then tried on the windows between, which no choice has
seen, and its result there is the one reported.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.config.load import turned
from agent.config.schema import Config
from agent.decision.decide import Decision
from agent.search.tree import POLICIES
from market.clock import monotonic
from market.errors import Misconfigured, NotReady
from strategies.claims import LADDER
from strategies.score import Floats, Interval, block_interval, log_score, ratio_interval

if TYPE_CHECKING:
    from optuna import Study

Values = Mapping[str, Any]
"""Dotted configuration keys and their values."""
KNOBS: Mapping[str, tuple[Any, ...]] = {
    "edge.strategy": ("compute-optimal", "fixed"),
    "edge.tree_search.policy": tuple(POLICIES),
    "edge.tree_search.depth": tuple(range(1, len(LADDER) + 1)),
    "edge.tree_search.branching_factor": (1, 2, 3),
    "edge.tree_search.width": (1, 2, 4),
    "edge.budget.nodes": (4, 8, 12, 18, 27),
    "edge.budget.tokens": (100, 200, 400, 800, 1600),
    "edge.self_verify.enabled": (True, False),
    "edge.correct": (True, False),
    "edge.answer_tokens": (0, 8, 16),
}
"""Searched keys and their values: the policy and shape of the search, its budget, the gate, and the spending on
verification, correction and the final sentence."""


class Target(StrEnum):
    """The quantity to reduce, per decision."""

    COST = "cost"
    LATENCY = "latency"
    TOKENS = "tokens"
    ENERGY = "energy"


UNITS = {Target.COST: "dollars", Target.LATENCY: "seconds", Target.TOKENS: "tokens", Target.ENERGY: "joules"}


@dataclass(frozen=True, slots=True)
class Aim:
    """Goal of the search: `share` less of the target, within `trials` settings; `seconds` limits the search, None is
    unlimited. `seed` is the sampler's."""

    target: Target
    share: float
    trials: int = 24
    seconds: float | None = None
    seed: int = 7


@dataclass(frozen=True, slots=True)
class SettingTrial:
    """One decision under one setting. `amount` is in the target's unit, `loss` the log loss of the forecast in nats;
    `ordered` is True if there was an order intent."""

    window: str
    amount: float
    loss: float
    ordered: bool


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting compared with the present one on the same decisions. `values` are its changes, `amount` is the mean of
    the target. `less` is the fraction saved, `gain` the log score gained, in nats a decision: below zero it forecasts
    worse. Intervals resample windows."""

    values: Values
    decisions: int
    windows: int
    amount: float
    less: Interval | None
    gain: Interval | None
    ordered: int

    @property
    def worse(self) -> bool:
        """True if it forecasts significantly worse."""
        return self.gain is not None and self.gain.high < 0

    def reaches(self, share: float) -> bool:
        return self.less is not None and self.less.mean >= share


@dataclass(frozen=True, slots=True)
class Optimised:
    """Result of the search. `tried` are all settings, `front` the Pareto front, cheapest first; `silent` is no search
    at all, for comparison. `chosen` and `confirmed` are the same setting, on the windows it was chosen on and on the
    held-out ones."""

    target: Target
    goal: float
    tried: tuple[Setting, ...]
    present: Setting
    front: tuple[Setting, ...]
    silent: Setting
    chosen: Setting | None
    confirmed: Setting | None
    why: str
    seconds: float

    @property
    def met(self) -> bool:
        """True if the goal was reached on the held-out windows."""
        return self.confirmed is not None and self.confirmed.reaches(self.goal) and not self.confirmed.worse


Trial = Callable[[Config, bool], Awaitable[Sequence[tuple[Decision, float]]]]
"""Makes every decision of one half again with a configuration (True: the held-out windows), and returns each with
the payout of YES."""


@dataclass(slots=True)
class Optimiser:
    """One search. `base` is the present configuration, of which `knobs` may be changed."""

    base: Config
    aim: Aim
    trial: Trial
    knobs: Mapping[str, Sequence[Any]] = field(default_factory=lambda: KNOBS)
    heard: Callable[[int], None] = lambda _: None
    _spent: dict[str, list[SettingTrial]] = field(default_factory=dict)
    _order: list[Values] = field(default_factory=list)

    async def run(self) -> Optimised:
        """Try settings, choose one, and confirm it on the held-out windows. Raises NotReady where there is nothing to
        save."""
        begun = monotonic()
        present = await self._tried({})
        if not sum(s.amount for s in present):
            raise NotReady(_nothing(self.aim.target), next_step="See `edgeclaw log list --why`.")
        silent = await self._tried({"edge.tree_search.enabled": False})
        await self._search(begun)
        settings = [_compared(values, self._spent[_key(values)], present) for values in self._order]
        chosen = choose([s for s in settings if s.values], self.aim.share)
        confirmed = await self._confirm(chosen) if chosen else None
        return Optimised(
            target=self.aim.target,
            goal=self.aim.share,
            tried=tuple(settings),
            present=_compared({}, present, present),
            front=tuple(front(settings)),
            silent=_compared({"edge.tree_search.enabled": False}, silent, present),
            chosen=chosen,
            confirmed=confirmed,
            why=_why(settings, chosen, confirmed, self.aim),
            seconds=monotonic() - begun,
        )

    async def _search(self, begun: float) -> None:
        """Ask Optuna for settings and report their results, both the target and the loss."""
        import optuna

        kinds = {name: optuna.distributions.CategoricalDistribution(v) for name, v in self.knobs.items()}
        study = _study(self.aim.seed)
        for guess in self._guesses():
            study.enqueue_trial(guess)
        for number in range(self.aim.trials):
            if self.aim.seconds is not None and monotonic() - begun > self.aim.seconds:
                return
            asked = study.ask(dict(kinds))
            spent = await self._tried(self._changes(asked.params))
            study.tell(asked, [_mean(s.amount for s in spent), _mean(s.loss for s in spent)])
            self.heard(number + 1)

    def _guesses(self) -> list[dict[str, Any]]:
        """Initial settings: the present one, and each key at the value that saves most."""
        now = {name: _at(self.base, name) for name in self.knobs}
        here = {name: value if value in self.knobs[name] else self.knobs[name][-1] for name, value in now.items()}
        saving = {
            "edge.answer_tokens": 0, "edge.self_verify.enabled": False, "edge.budget.nodes": 8,
            "edge.tree_search.policy": "greedy", "edge.tree_search.depth": 2,
        }  # fmt: skip
        return [here, *({**here, name: value} for name, value in saving.items() if name in here)]

    def _changes(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a setting that differ from the present one."""
        return {name: value for name, value in params.items() if value != _at(self.base, name)}

    async def _tried(self, values: Values) -> list[SettingTrial]:
        """Trials of a setting; a repeated one is read from memory."""
        key = _key(values)
        if key not in self._spent:
            self._spent[key] = await self._measure(values, kept_back=False)
            # No search at all is measured for comparison alone; it is not a candidate.
            if "edge.tree_search.enabled" not in values:
                self._order.append(values)
        return self._spent[key]

    async def _measure(self, values: Values, *, kept_back: bool) -> list[SettingTrial]:
        found = await self.trial(turned(self.base, values), kept_back)
        return [_spent(decision, paid, self.aim.target) for decision, paid in found]

    async def _confirm(self, chosen: Setting) -> Setting:
        """The chosen setting against the present one on the held-out windows."""
        present = await self._measure({}, kept_back=True)
        return _compared(chosen.values, await self._measure(chosen.values, kept_back=True), present)


def parsed_goal(text: str) -> float:
    """The fraction in "reduce-by 50%", "50%" or "0.5". Raises Misconfigured."""
    said = text.removeprefix("reduce-by").strip(" =")
    try:
        share = float(said.removesuffix("%")) / (100 if said.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise Misconfigured(f"the goal {text!r} is not understood.", next_step="Ask as in --goal reduce-by 50%.")
    return share


def choose(settings: Sequence[Setting], share: float) -> Setting | None:
    """Of the settings that save enough and forecast not significantly worse, the one that forecasts best; of equals the
    one that changes least, then the cheapest."""
    good = [s for s in settings if s.reaches(share) and not s.worse]
    return min(good, key=lambda s: (-_gain(s), len(s.values), s.amount), default=None)


def front(settings: Sequence[Setting]) -> list[Setting]:
    """Pareto front of the settings, cheapest first; of equals the one that changes least."""
    kept: list[Setting] = []
    for one in sorted(settings, key=lambda s: (s.amount, -_gain(s), len(s.values))):
        if not kept or _gain(one) > _gain(kept[-1]):
            kept.append(one)
    return kept


def _gain(setting: Setting) -> float:
    return setting.gain.mean if setting.gain is not None else 0.0


def _study(seed: int) -> Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=8)
    return optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)


def _spent(decision: Decision, paid: float, target: Target) -> SettingTrial:
    loss = 0.0 if decision.probability is None else float(log_score([decision.probability], [paid])[0])
    return SettingTrial(decision.inputs.market.id, _amount(decision, target), loss, decision.intent is not None)


def _amount(decision: Decision, target: Target) -> float:
    budget = decision.budget
    if target is Target.TOKENS:
        return float(budget.tokens)
    if target is Target.COST:
        return budget.dollars
    if target is Target.LATENCY:
        return sum(row.milliseconds for row in decision.ledger) / 1e3
    return sum(joules or 0.0 for joules in budget.joules.values())


def _compared(values: Values, own: Sequence[SettingTrial], present: Sequence[SettingTrial]) -> Setting:
    windows = [s.window for s in present]
    gains = np.array([b.loss - a.loss for a, b in zip(own, present, strict=True)])
    now, was = (np.array([s.amount for s in them]) for them in (own, present))
    return Setting(
        values=values,
        decisions=len(own),
        windows=len(set(windows)),
        amount=_mean(now),
        less=_saved(now, was, windows),
        gain=block_interval(gains, windows, block=max(1, round(len(set(windows)) ** (1 / 3)))),
        ordered=sum(s.ordered for s in own),
    )


def _saved(now: Floats, was: Floats, windows: Sequence[str]) -> Interval | None:
    kept = ratio_interval(now, was, windows)
    return None if kept is None else Interval(1 - kept.mean, 1 - kept.high, 1 - kept.low)


def _mean(values: Any) -> float:
    found = list(values)
    return float(np.mean(found)) if found else 0.0


def _key(values: Values) -> str:
    return json.dumps(dict(values), sort_keys=True)


def _at(config: Config, dotted: str) -> Any:
    value: Any = config
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


def _nothing(target: Target) -> str:
    if target is Target.ENERGY:
        return "the energy of these decisions cannot be measured here."
    if target is Target.LATENCY:
        return "the engine took no time that was measured in these decisions."
    return "the model was asked nothing in these decisions, so there is nothing to save."


def _why(settings: Sequence[Setting], chosen: Setting | None, confirmed: Setting | None, aim: Aim) -> str:
    """Explanation of the result, in one sentence."""
    if chosen is None:
        fair = [s for s in settings if not s.worse and s.less is not None]
        most = max((s.less.mean for s in fair if s.less is not None), default=0.0)
        return f"No setting saves {aim.share:.0%} without forecasting worse; {most:.0%} is the most that was found."
    if confirmed is None or not confirmed.decisions:
        return "There was no other window to try the chosen setting on."
    if not confirmed.reaches(aim.share):
        return "The chosen setting saved less on the windows that it was not chosen on."
    if confirmed.worse:
        return "The chosen setting forecast worse on the windows that it was not chosen on."
    return "It held on the windows that it was not chosen on."
