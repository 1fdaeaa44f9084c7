"""The page of a backtest: one file with the whole result, readable offline and on paper. Pure text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from agent.evaluation.judgement import Group, Judgement
from agent.evaluation.ladder import LadderRung
from agent.reports import html as pages
from agent.research.judging import Coverage, JudgedRun
from agent.research.report import Report
from market.types import UNIT, Micro
from strategies.score import FEWEST, Interval

_LEVEL = 0.05
_SHOWN = 40
"""Maximum number of markets listed by name."""


def backtest_page(made: Report, figures: Sequence[Path]) -> str:
    """HTML with the SVG figures inside it."""
    drawn = "".join(pages.figure(path) for path in figures)
    body = "".join(
        [
            _strategies(made.tried),
            ladder_table(made.ladder),
            drawn,
            *(_details(t, t.judgement) for t in made.tried if t.judgement is not None and t.judgement.markets),
            _data(made.coverage),
            _manifest(made),
        ]
    )
    return pages.html_page("Backtest", lead(made), body)


def lead(made: Report) -> str:
    """One sentence on the replayed data."""
    c = made.coverage
    return f"{made.name}: {c.markets:,} markets, {c.books:,} books, {c.days:.2f} days of trading."


def dollars(amount: Micro | float | None, *, signed: bool = True) -> str:
    if amount is None:
        return "-"
    return f"{amount / UNIT:{'+' if signed else ''},.2f}"


def interval(found: Interval | None) -> str:
    """A mean in dollars and its interval."""
    if found is None:
        return "-"
    return f"{dollars(found.mean)} [{dollars(found.low)}, {dollars(found.high)}]"


def share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def days(value: float | None) -> str:
    return "-" if value is None else "<1" if value < 1 else f"{value:,.0f}"


def verdict(found: Judgement) -> str:
    """The verdict "gains" or "loses" if neither the interval nor chance at the market's own price explains the result,
    else "no verdict"."""
    if found.per_market is None:
        return "never traded"
    if found.per_market.low > 0 and found.by_chance is not None and found.by_chance < _LEVEL:
        return "gains"
    return "loses" if found.per_market.high < 0 else "no verdict"


def _strategies(tried: Sequence[JudgedRun]) -> str:
    head = pages.row(
        "th", "strategy", "orders", "fills", "markets", "win rate", "fees", "PnL", "PnL per market [95 %]",
        "verdict", "drawdown", "p-value", "deflated Sharpe", "days needed",
    )  # fmt: skip
    lines = []
    for one in tried:
        found = one.judgement
        if found is None:
            lines.append(f"<tr><td>{escape(one.name)}<td colspan=12>{escape(one.failed)}</tr>")
            continue
        lines.append(
            pages.row(
                "td",
                one.name,
                f"{one.orders:,}",
                f"{found.fills:,}",
                f"{found.markets:,}",
                share(found.won / found.markets if found.markets else None),
                dollars(found.fees, signed=False),
                dollars(found.pnl),
                interval(found.per_market),
                verdict(found),
                dollars(found.drawdown, signed=False),
                "-" if found.by_chance is None else f"{found.by_chance:.3f}",
                share(found.deflated),
                days(found.days),
            )
        )
    trials = max((t.judgement.trials for t in tried if t.judgement), default=0)
    return (
        "<h2>Results</h2><p class=quiet>Dollars, after fees, where the outcome is known. <i>p-value</i>: the "
        "probability of at least this profit if every mid was right. <i>Deflated Sharpe</i>: the probability that the "
        f"Sharpe ratio beats the best of {trials} trials without skill. <i>Days needed</i>: days of such trading until "
        "a test detects the observed gain; a dash where there is none. With fewer "
        f"than {FEWEST} markets, the last two are not stated.</p>"
        f"<div class=scroll><table>{head}{''.join(lines)}</table></div>"
    )


def ladder_table(rungs: Sequence[LadderRung]) -> str:
    if not rungs:
        return ""
    head = pages.row("th", "", "decisions", "windows", "Brier score", "log score", "gain [95 %]", "p-value", "tokens")
    lines = "".join(
        pages.row(
            "td",
            r.name,
            f"{r.n:,}",
            f"{r.windows:,}",
            "-" if r.brier is None else f"{r.brier:.4f}",
            "-" if r.log_score is None else f"{r.log_score:.4f}",
            "-" if r.gain is None else f"{r.gain.mean:+.4f} [{r.gain.low:+.4f}, {r.gain.high:+.4f}]",
            "-" if r.chance is None else f"{r.chance:.3f}",
            f"{r.tokens:,.0f}",
        )
        for r in rungs
    )
    return (
        "<h2>Evidence ladder</h2><p class=quiet>Gain of each part over the market price, on the same decisions. "
        "<i>Gain</i>: the mid's log score less this one's, bootstrap intervals over windows. <i>p-value</i>: the "
        "probability of a Brier score this much better than the mid's by chance alone (Clark and West). A gain that a "
        f"placebo shows, too, is no gain.</p><div class=scroll><table>{head}{lines}</table></div>"
    )


def _details(one: JudgedRun, found: Judgement) -> str:
    tables = "".join(f"<div><h3>by {name}</h3>{_groups(groups)}</div>" for name, groups in found.by.items())
    said = f"{found.open} fills have no known outcome and are excluded. " if found.open else ""
    if found.overstated is not None:
        said += f"Fills at the mid without fees would have shown {dollars(found.overstated)} dollars more."
    if found.rebates:
        said += f" Maker rebates would add {dollars(found.rebates)} dollars, which are not counted here."
    return f"<h2>{escape(one.name)}</h2><p class=quiet>Run {one.run_id}. {said}</p><div class=columns>{tables}</div>"


def _groups(groups: Sequence[Group]) -> str:
    head = pages.row("th", "", "fills", "markets", "cost", "fees", "PnL")
    lines = "".join(
        pages.row(
            "td",
            g.name,
            f"{g.fills:,}",
            f"{g.markets:,}",
            dollars(g.cost, signed=False),
            dollars(g.fees, signed=False),
            dollars(g.pnl),
        )
        for g in groups
    )
    return f"<table>{head}{lines}</table>"


def _data(c: Coverage) -> str:
    outcomes = ", ".join(f"{n:,} {source}" for source, n in c.outcomes.items())
    facts = [f"From {c.begins} to {c.ends}.", f"Outcomes: {outcomes}."]
    if c.silent:
        facts.append(f"Without any book: {_some(c.silent)}.")
    if c.unresolved:
        facts.append(f"Without an outcome, excluded from profit: {_some(c.unresolved)}.")
    facts += [*c.notes]
    return "<h2>Data</h2><ul>" + "".join(f"<li>{escape(f)}</li>" for f in facts) + "</ul>"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _manifest(made: Report) -> str:
    rows = (("data", made.data), ("code", made.code), ("configuration", made.config))
    lines = "".join(f"<tr><td>{name}<td><code>{value}</code></tr>" for name, value in rows)
    return (
        "<h2>Reproduction</h2><p class=quiet>The same three hashes give the same result to the byte.</p>"
        f"<div class=scroll><table>{lines}</table></div>"
    )
