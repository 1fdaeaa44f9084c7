"""Parity of a backtest with a recorded run: decision by decision, order by order, fill by fill."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from market.types import Fill, Order
from storage.canonical import plain
from storage.decisions import RecordedDecision
from storage.records import RecordKind, Run
from storage.store import Store, StoredIntent

_THOUGHT = ("action", "reason", "mid", "probability", "features", "arms", "gate", "wish", "tokens")
"""Compared fields of a decision: not the hashes of its inputs, which depend on its run and its data."""
_SAID = 20
"""Maximum number of differences listed."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Comparison of one kind of record: `equal` pairs, pairs that `differ`, and those on one side only."""

    kind: str
    equal: int
    differ: int
    only_there: int
    only_here: int


@dataclass(frozen=True, slots=True)
class Parity:
    """Result of a comparison. `there` is the recorded run's id. `notes` list conditions that differ (data,
    configuration, code, model); `differences` the first differing records, in order of time."""

    there: str
    notes: tuple[str, ...]
    compared: tuple[Compared, ...]
    differences: tuple[str, ...]

    @property
    def exact(self) -> bool:
        return all(not (c.differ or c.only_there or c.only_here) for c in self.compared)


Side = tuple[Store, Run]


async def parity(there: Side, here: Side) -> Parity:
    """Compare two runs, each in its store. Run identities, and ids derived from them, are ignored."""
    compared, said = [], list[tuple[str, str]]()
    for kind, read in (("decisions", _decisions), ("orders", _orders), ("fills", _fills)):
        found, differences = _compare(kind, await read(*there), await read(*here))
        compared.append(found)
        said += differences
    said.sort()
    more = len(said) - _SAID
    told = [text for _, text in said[:_SAID]] + ([f"and {more} more"] if more > 0 else [])
    return Parity(there[1].id, _notes(there[1], here[1]), tuple(compared), tuple(told))


def _notes(there: Run, here: Run) -> tuple[str, ...]:
    notes = {
        "The recorded run was made on other data.": there.identity.data != here.identity.data,
        "The recorded run had another configuration, or another number of cycles.": (
            there.about.config != here.about.config
        ),
        "The recorded run was made by other code.": there.identity.code != here.identity.code,
        "The recorded run had another model.": there.identity.model != here.identity.model,
    }
    return tuple(text for text, holds in notes.items() if holds)


Things = Mapping[Hashable, tuple[str, object]]
"""By an identity common to both sides: the instant, and the content that has to be equal."""


async def _decisions(store: Store, run: Run) -> Things:
    found: dict[Hashable, tuple[str, object]] = {}
    for record in await store.records(run.id, RecordKind.DECISION):
        decision, at = RecordedDecision.of(record), record.at
        thought = decision.thought()
        found[decision.market.id, at] = at.isoformat(), {name: thought[name] for name in _THOUGHT}
    return found


async def _orders(store: Store, run: Run) -> Things:
    orders = [i.order for i in await store.intents(run.id)]
    # The key holds a decision id, which depends on the run.
    return {_key(o): (o.placed_at.isoformat(), plain(replace(o, key=""))) for o in orders}


def _key(order: Order) -> Hashable:
    """Identity of an order without its run: an agent's decision id contains the run; market and instant identify the
    same."""
    return order.market_id, order.placed_at, order.key.rpartition("/")[2]


async def _fills(store: Store, run: Run) -> Things:
    orders: dict[str, StoredIntent] = {i.order_id: i for i in await store.intents(run.id)}
    found: dict[Hashable, tuple[str, object]] = {}
    count: dict[Hashable, int] = {}
    for fill in sorted(await store.fills(run.id), key=lambda f: (f.at, f.id)):
        key = _key(orders[fill.order_id].order)
        count[key] = count.get(key, 0) + 1
        found[key, count[key]] = fill.at.isoformat(), _terms(fill)
    return found


def _terms(fill: Fill) -> object:
    return plain((fill.outcome, fill.side, fill.price, fill.size, fill.fee, fill.at, fill.evidence))


def _compare(kind: str, there: Things, here: Things) -> tuple[Compared, list[tuple[str, str]]]:
    both = [key for key in there if key in here]
    differ = [key for key in both if there[key][1] != here[key][1]]
    lost, new = [k for k in there if k not in here], [k for k in here if k not in there]
    one = kind.removesuffix("s")
    said = [(there[k][0], f"{one} at {there[k][0]}: {_apart(there[k][1], here[k][1])}") for k in differ]
    said += [(there[k][0], f"{one} at {there[k][0]}: only in the recorded run") for k in lost]
    said += [(here[k][0], f"{one} at {here[k][0]}: only in the backtest") for k in new]
    return Compared(
        kind=kind, equal=len(both) - len(differ), differ=len(differ), only_there=len(lost), only_here=len(new)
    ), said


def _apart(there: object, here: object) -> str:
    """The parts that differ."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        names: Sequence[str] = [n for n in there if there[n] != here.get(n)]
        return "; ".join(f"{n} was {there[n]} and is {here.get(n)}" for n in names)
    return f"was {there} and is {here}"


def trader_of(run: Run) -> str:
    """The trader of a run, by its name in a backtest."""
    return run.identity.label.removeprefix("baseline:").removeprefix("live:").partition("/")[0]
