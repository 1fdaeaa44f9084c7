"""Catalogue of table operations. Each computes a table, and sentences that state only values of it.

An operation is pure: the same rows give the same table. None runs code from a model or a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations

import polars as pl

from tools.analysis.checking import unsupported
from tools.analysis.table import Cell, Chart, Column, ColumnKind, Profile, Table, TableFinding, number

TOP = 10
"""Largest number of rows of a ranking."""
_MAD = 1.4826
"""Factor from the median absolute deviation to the standard deviation of a normal variable."""
_FAR = 6.0
"""Scaled deviations from the median that make an outlier."""
_HOLE = 5.0
"""Multiple of the median step without a row that makes a gap."""
_PERIODS = (
    ("1m", timedelta(minutes=1)), ("1h", timedelta(hours=1)), ("1d", timedelta(days=1)), ("1w", timedelta(weeks=1)),
    ("1mo", timedelta(days=30)), ("1y", timedelta(days=365)),
)  # fmt: skip
_MOST_PERIODS = 60
NAMES = {"1m": "minute", "1h": "hour", "1d": "day", "1w": "week", "1mo": "month", "1y": "year"}

Made = TableFinding | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One entry of the catalogue. `takes` are the kinds of its columns, in order; `example` is a typical question."""

    name: str
    does: str
    takes: tuple[tuple[ColumnKind, ...], ...]
    run: Callable[[pl.DataFrame, Sequence[str]], Made]
    example: str

    def places(self, profile: Profile) -> Iterator[tuple[str, ...]]:
        """All choices of columns that fit the operation."""
        pools = [profile.of(*kinds) for kinds in self.takes]
        if len(pools) == 2 and self.takes[0] == self.takes[1]:
            yield from ((a.name, b.name) for a, b in combinations(pools[0], 2))
            return
        yield from _products(pools)


def _products(pools: Sequence[Sequence[Column]]) -> Iterator[tuple[str, ...]]:
    if not pools:
        yield ()
        return
    for column in pools[0]:
        yield from ((column.name, *rest) for rest in _products(pools[1:]))


def _cells(frame: pl.DataFrame) -> tuple[tuple[Cell, ...], ...]:
    return tuple(tuple(_cell(v) for v in row) for row in frame.iter_rows())


def _cell(value: object) -> Cell:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return str(value).removesuffix(" 00:00:00")


def total(frame: pl.DataFrame, about: Sequence[str]) -> Made:
    """Sum, mean, median, spread and ends of a number."""
    (name,) = about
    series = frame[name].cast(pl.Float64)
    facts: list[tuple[str, Cell]] = [
        ("rows", series.len() - series.null_count()), ("sum", _cell(series.sum())), ("mean", _cell(series.mean())),
        ("median", _cell(series.median())), ("standard deviation", _cell(series.std())), ("least", _cell(series.min())),
        ("most", _cell(series.max())),
    ]  # fmt: skip
    known = dict(facts)
    says = f"{name} sums to {number(known['sum'])}; a row has {number(known['mean'])} on average, "
    says += (
        f"{number(known['median'])} in the middle, and between {number(known['least'])} and {number(known['most'])}."
    )
    return TableFinding("total", (name,), Table(f"{name} as a whole", ("of it", name), tuple(facts)), (says,), 0.1)


def by_category(frame: pl.DataFrame, about: Sequence[str]) -> Made:
    """Sum, mean and share of a number for each value of a category."""
    name, by = about
    number_of = pl.col(name).cast(pl.Float64)
    made = (
        frame.group_by(pl.col(by).cast(pl.String))
        .agg(pl.len().alias("rows"), number_of.sum().alias("sum"), number_of.mean().alias("mean"))
        .sort(["sum", by], descending=[True, False])
        .with_columns((100 * pl.col("sum") / pl.col("sum").sum()).alias("share, %"))
    )
    rows = _cells(made.select(by, "rows", "sum", "share, %", "mean"))
    first, means = rows[0], made["mean"].drop_nulls()
    says = [
        f"{first[0] or 'no value'} has the most {name}: {number(first[2])}, {number(first[3])} % of all, "
        f"{number(first[4])} a row."
    ]
    if made.height > 1 and means.len():
        low = made.sort("mean").row(0, named=True)
        high = made.sort("mean", descending=True).row(0, named=True)
        says.append(
            f"A row has most {name} where {by} is {high[by]} ({number(_cell(high['mean']))} on average), and least "
            f"where it is {low[by]} ({number(_cell(low['mean']))})."
        )
    table = Table(f"{name} by {by}", (by, "rows", "sum", "share, %", "mean"), rows[:TOP], Chart("bar", by, "sum"))
    said = tuple(s for s in says if _within(s, table))
    return TableFinding(
        "by_category", (name, by), table, said or (says[0],), max(_between(frame, name, by), _uneven(made["sum"]))
    )


def _within(sentence: str, table: Table) -> bool:
    """True if a sentence refers only to rows that the table still has."""
    return not unsupported(sentence, [table])


def _uneven(sums: pl.Series) -> float:
    """Twice the first group's excess over an equal share; 0 if some groups are below zero."""
    values = sums.drop_nulls().to_list()
    whole = sum(values)
    return 2 * max(0.0, values[0] / whole - 1 / len(values)) if whole > 0 and min(values) >= 0 else 0.0


def _between(frame: pl.DataFrame, name: str, by: str) -> float:
    """Share of a number's variance that a category explains."""
    value = pl.col(name).cast(pl.Float64)
    found = frame.select(
        ((value.mean().over(by) - value.mean()) ** 2).mean().alias("between"), (value.var(ddof=0)).alias("all")
    ).row(0)
    return float(found[0] / found[1]) if found[0] is not None and found[1] else 0.0


def rate(frame: pl.DataFrame, about: Sequence[str]) -> Made:
    """Share of true values of a flag, for each value of a category."""
    flag, by = about
    made = (
        frame.group_by(pl.col(by).cast(pl.String))
        .agg(pl.len().alias("rows"), pl.col(flag).sum().alias("true"), (100 * pl.col(flag).mean()).alias("rate, %"))
        .sort(["rate, %", by], descending=[True, False])
    )
    rows = _cells(made)[:TOP]
    if len(rows) < 2:
        return None
    says = f"{flag} is true in {number(rows[0][3])} % of the rows where {by} is {rows[0][0]}, and in "
    says += f"{number(rows[-1][3])} % where it is {rows[-1][0]}."
    spread = _between(frame.with_columns(pl.col(flag).cast(pl.Float64)), flag, by)
    table = Table(
        f"how often {flag} is true, by {by}", (by, "rows", "true", "rate, %"), rows, Chart("bar", by, "rate, %")
    )
    return TableFinding("rate", (flag, by), table, (says,), spread)


def top(frame: pl.DataFrame, about: Sequence[str]) -> Made:
    """The rows with the most of a number."""
    (name,) = about
    chosen = frame.select(name, *[c for c in frame.columns if c != name][:5]).drop_nulls(name)
    rows = _cells(chosen.sort(name, descending=True).head(TOP))
    beside = ", ".join(f"{c} {v}" for c, v in zip(chosen.columns[1:], rows[0][1:], strict=True) if isinstance(v, str))
    says = f"The most {name} is {number(rows[0][0])}" + (f" ({beside})." if beside else ".")
    return TableFinding("top", (name,), Table(f"The most {name}", tuple(chosen.columns), rows), (says,), 0.05)


def over_time(frame: pl.DataFrame, about: Sequence[str]) -> Made:
    """A number's sum and mean in each period of time."""
    name, at = about
    made, period = _by_period(frame, name, at)
    if made.height < 3:
        return None
    rows = _cells(made)
    sums = made["sum"]
    best, least = rows[_first(sums.arg_max())], rows[_first(sums.arg_min())]
    says = (
        f"{period} by {period}, {name} was most in that of {best[0]} ({number(best[2])}) and least in that of "
        f"{least[0]} ({number(least[2])})."
    )
    title = f"{name} by {period} of {at}"
    table = Table(title, (at, "rows", "sum", "mean"), rows, Chart("line", at, "sum"))
    steps = pl.Series(range(made.height), dtype=pl.Float64)
    fit = pl.DataFrame({"a": steps, "b": sums}).select(pl.corr("a", "b")).item()
    return TableFinding(
        "over_time", (name, at), table, (says.capitalize(),), abs(fit) / 2 if fit and fit == fit else 0.0
    )


def _first(at: int | None) -> int:
    return at if at is not None else 0


def _by_period(frame: pl.DataFrame, name: str, at: str) -> tuple[pl.DataFrame, str]:
    """Aggregate a number by the shortest period that gives few enough rows."""
    times = frame[at].drop_nulls().cast(pl.Datetime("us")).cast(pl.Int64)
    span = timedelta(microseconds=int(times.to_numpy().max() - times.to_numpy().min()))
    every = next((code for code, length in _PERIODS if span / length <= _MOST_PERIODS), _PERIODS[-1][0])
    value = pl.col(name).cast(pl.Float64)
    made = (
        frame.drop_nulls(at)
        .with_columns(pl.col(at).cast(pl.Datetime("us")).dt.truncate(every))
        .group_by(at)
        .agg(pl.len().alias("rows"), value.sum().alias("sum"), value.mean().alias("mean"))
        .sort(at)
    )
    return made, NAMES[every]


def shift(frame: pl.DataFrame, about: Sequence[str]) -> Made:
    """Largest change of a number's mean over time."""
    name, at = about
    made, period = _by_period(frame, name, at)
    means = made["mean"].fill_null(strategy="forward").fill_null(strategy="backward")
    cut, score = _cut(means.to_list())
    if cut is None:
        return None
    before, after, when = _cell(means[:cut].mean()), _cell(means[cut:].mean()), _cell(made[at][cut])
    rows = (("before", _cell(made[at][0]), cut, before), ("after", when, made.height - cut, after))
    says = f"From {when} on, {name} has another level: {number(after)} a row where it was {number(before)}."
    table = Table(f"{name} before and after", ("stretch", "from", f"{period}s", "mean"), rows)
    return TableFinding("shift", (name, at), table, (says,), score)


def _cut(means: Sequence[float | None]) -> tuple[int | None, float]:
    """Best split of a series, and the share of its variance that the split explains."""
    values = [v for v in means if v is not None]
    n = len(values)
    if n < 8 or n != len(means):
        return None, 0.0
    whole = sum(values)
    mean = whole / n
    spread = sum((v - mean) ** 2 for v in values)
    if spread <= 0:
        return None, 0.0
    best, at, left = 0.0, None, 0.0
    for cut in range(1, n):
        left += values[cut - 1]
        # A side of one or two periods would be an outlier and no new level.
        if min(cut, n - cut) < 3:
            continue
        gained = cut * (left / cut - mean) ** 2 + (n - cut) * ((whole - left) / (n - cut) - mean) ** 2
        if gained > best:
            best, at = gained, cut
    return at, best / spread


def correlate(frame: pl.DataFrame, about: Sequence[str]) -> Made:
    """Correlation of two numbers."""
    a, b = about
    x, y = (pl.col(c).cast(pl.Float64) for c in about)
    both = frame.drop_nulls([a, b])
    r = both.select(pl.corr(x, y)).item()
    if r is None or r != r or both.height < 10:
        return None
    rank = both.select(pl.corr(x, y, method="spearman")).item()
    words = "together" if r > 0 else "against each other"
    size = "hardly" if abs(r) < 0.2 else "loosely" if abs(r) < 0.6 else "closely"
    table = Table(
        f"{a} and {b}", ("of both", "value"),
        (("rows", both.height), ("correlation", _cell(r)), ("rank correlation", _cell(rank))),
    )  # fmt: skip
    says = f"{a} and {b} go {size} {words}: correlation {number(_cell(r))} over {number(both.height)} rows."
    return TableFinding("correlate", (a, b), table, (says,), abs(r))


def outliers(frame: pl.DataFrame, about: Sequence[str]) -> Made:
    """Values of a number far from all others, by the median deviation."""
    (name,) = about
    series = frame[name].cast(pl.Float64)
    middle = series.median()
    deviation = (series - middle).abs().median() if isinstance(middle, float) else None
    if not isinstance(middle, float) or not isinstance(deviation, float) or not deviation:
        return None
    far = ((pl.col(name).cast(pl.Float64) - middle).abs() / (_MAD * deviation)).alias("deviations")
    others = [c for c in frame.columns if c != name][:4]
    found = frame.select(*others, name, far).filter(pl.col("deviations") > _FAR).sort("deviations", descending=True)
    if not found.height or found.height > 0.01 * frame.height + 3:
        return None  # so many are a long tail, not outliers
    rows = _cells(found.head(TOP))
    many = f"{number(found.height)} row{'s' if found.height > 1 else ''}"
    counted = Table(f"{name} far from the rest: {many}", tuple(found.columns), rows)
    first = found.row(0, named=True)
    where = ", ".join(f"{c} {_cell(first[c])}" for c in others if isinstance(_cell(first[c]), str))
    says = f"{number(_cell(first[name]))} is far from all other values of {name}" + (f" ({where})." if where else ".")
    return TableFinding("outliers", (name,), counted, (says,), min(1.0, math.log10(first["deviations"]) / 2))


def missing(frame: pl.DataFrame, about: Sequence[str]) -> Made:
    """Count of missing values in each column."""
    del about
    lacking = [(c, frame[c].null_count()) for c in frame.columns if frame[c].null_count()]
    if not lacking:
        return None
    lacking.sort(key=lambda one: -one[1])
    rows = tuple((c, n, 100 * n / frame.height) for c, n in lacking)
    says = f"{rows[0][0]} lacks most: {number(rows[0][1])} values, {number(rows[0][2])} % of the rows."
    table = Table("Missing values", ("column", "missing", "share, %"), rows[:TOP], Chart("bar", "column", "missing"))
    return TableFinding("missing", tuple(c for c, _ in lacking[:1]), table, (says,), lacking[0][1] / frame.height + 0.1)


def duplicates(frame: pl.DataFrame, about: Sequence[str]) -> Made:
    """Rows that occur more than once."""
    del about
    twice = frame.group_by(frame.columns).len("times").filter(pl.col("times") > 1)
    if not twice.height:
        return None
    extra = int(twice["times"].sum()) - twice.height
    table = Table("Equal rows", ("of them", "count"), (("rows that repeat another", extra), ("rows", frame.height)))
    return TableFinding(
        "duplicates", (), table, (f"{number(extra)} rows repeat another one.",), 0.2 + extra / frame.height
    )


def gaps(frame: pl.DataFrame, about: Sequence[str]) -> Made:
    """Stretches of time without a row that are much longer than usual."""
    (at,) = about
    times = frame[at].drop_nulls().cast(pl.Datetime("us")).sort()
    steps = times.diff().drop_nulls().dt.total_seconds(fractional=True)
    usual = steps.median()
    if not isinstance(usual, float) or usual <= 0:
        return None
    made = pl.DataFrame({"from": times[:-1], "until": times[1:], "seconds": steps})
    found = made.filter(pl.col("seconds") > _HOLE * usual).sort("seconds", descending=True)
    if not found.height or found.height > 0.02 * made.height + 1:
        return None  # then steps are irregular, and a long one is no finding
    rows = _cells(found.head(TOP))
    says = f"Nothing was written from {rows[0][0]} until {rows[0][1]}: {number(rows[0][2])} seconds."
    table = Table(f"Gaps in {at}", ("from", "until", "seconds"), rows)
    return TableFinding("gaps", (at,), table, (says,), 0.9)


def stuck(frame: pl.DataFrame, about: Sequence[str]) -> Made:
    """The longest stretch in which a measured number did not change at all."""
    name, at = about
    runs = frame.select(at, name).with_columns(
        (pl.col(name) != pl.col(name).shift()).fill_null(True).cum_sum().alias("run")
    )
    lengths = runs.group_by("run", maintain_order=True).agg(
        pl.col(at).first().alias("from"), pl.col(at).last().alias("until"), pl.col(name).first(), pl.len().alias("rows")
    )
    longest = lengths.sort("rows", descending=True).row(0, named=True)
    usual = lengths["rows"].median()
    if not isinstance(usual, float) or longest["rows"] < max(20, 20 * usual):
        return None
    row = tuple(_cell(longest[c]) for c in ("from", "until", name, "rows"))
    says = f"{name} stayed at {number(row[2])} for {number(row[3])} rows, from {row[0]} until {row[1]}."
    table = Table(f"{name} without a change", ("from", "until", name, "rows"), (row,))
    return TableFinding("stuck", (name, at), table, (says,), 0.85)


N, T, C, F = (ColumnKind.NUMBER,), (ColumnKind.TIME,), (ColumnKind.CATEGORY,), (ColumnKind.FLAG,)
CATALOGUE: tuple[Operation, ...] = (
    Operation(
        name="by_category", does="compare groups", takes=(N, C), run=by_category, example="which region sells most"
    ),
    Operation(
        name="over_time", does="follow over time", takes=(N, T), run=over_time, example="how did sales develop by month"
    ),
    Operation(
        name="shift", does="find a change of level", takes=(N, T), run=shift, example="when did the level change"
    ),
    Operation(
        name="correlate", does="relate two numbers", takes=(N, N), run=correlate, example="does price depend on demand"
    ),
    Operation(
        name="rate",
        does="how often something is true",
        takes=(F, C),
        run=rate,
        example="which carrier is late most often",
    ),
    Operation(name="outliers", does="find odd values", takes=(N,), run=outliers, example="are there strange readings"),
    Operation(
        name="gaps", does="find time without rows", takes=(T,), run=gaps, example="is data missing for some hours"
    ),
    Operation(
        name="stuck", does="find a number that stands still", takes=(N, T), run=stuck, example="did a sensor hang"
    ),
    Operation(name="total", does="sum up one number", takes=(N,), run=total, example="how much was sold in all"),
    Operation(name="top", does="list the largest rows", takes=(N,), run=top, example="what were the biggest orders"),
    Operation(name="missing", does="count missing values", takes=(), run=missing, example="how complete is the file"),
    Operation(name="duplicates", does="count repeated rows", takes=(), run=duplicates, example="are rows there twice"),
)
"""All operations, the most informative first."""
BY_NAME = {operation.name: operation for operation in CATALOGUE}


def ask(frame: pl.DataFrame, name: str, about: Sequence[str]) -> Made:
    """Run one operation on some columns. Raises KeyError for one that is not in the catalogue."""
    return BY_NAME[name].run(frame, about)
