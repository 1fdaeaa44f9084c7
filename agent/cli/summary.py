"""The closing summary of a run, for people."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from agent.cli.ladder import print_ladder
from agent.cli.show import ACCENT, BAD, GOOD, MUTED, bar, number, table, tinted
from agent.evaluation.maker_fills import Resting
from agent.reports.run_summary import Summary

_LABELS = {
    "cycles": "decisions",
    "gated": "stopped by the gate",
    "searched": "searched",
    "shadow": "of them shadow searches",
    "verified": "with a verified claim",
    "corrected": "corrected once",
    "traded": "traded",
    "filled": "filled",
}


def print_summary(summary: Summary, screen: Console) -> None:
    """Funnel, money, tokens, latency, ladder, and what the data cannot show."""
    screen.print()
    screen.rule(f"[bold]run {summary.run_id}[/] · {escape(summary.data)} · {escape(summary.model)}", style=ACCENT)
    _provenance(summary, screen)
    decision = summary.funnel.cycles > 0  # a run of plain strategies has nothing to say of decisions
    for section in (_funnel, _reasons, _traders, _tokens, _month, _latency) if decision else (_traders,):
        section(summary, screen)
        screen.print()
    if summary.resting is not None:
        _resting(summary.resting, screen)
        screen.print()
    if decision:
        print_ladder(summary.ladder, screen)
        screen.print()
    for note in summary.notes:
        screen.print(f"[{MUTED}]· {escape(note)}[/]")
    if summary.halted:
        screen.print(f"[bold {BAD}]Trading halted: {escape(summary.halted)}[/]")
    run = summary.run_id[:8]
    screen.print(f"\nRead a decision: [bold]edgeclaw log list --run {run}[/], then [bold]edgeclaw log show ID[/].")


def _provenance(summary: Summary, screen: Console) -> None:
    if summary.appended == 0:
        screen.print(
            f"Recomputed: all {summary.compared} records are identical to the stored ones; nothing was added.\n"
        )
    elif summary.compared:
        screen.print(f"Resumed: {summary.compared} records were there already, {summary.appended} are new.\n")
    else:
        screen.print(f"{summary.appended} records written.\n")


def _funnel(summary: Summary, screen: Console) -> None:
    rows = table("Funnel: from cycle to fill", "", "n", "", right=("n",))
    for key, label in _LABELS.items():
        n = getattr(summary.funnel, key)
        rows.add_row(label, str(n), f"[{ACCENT}]{bar(n / max(summary.funnel.cycles, 1))}[/]")
    screen.print(rows)


def _reasons(summary: Summary, screen: Console) -> None:
    rows = table("Reasons without an order", "reason", "n", right=("n",))
    for reason, n in summary.funnel.reasons.items():
        rows.add_row(reason, str(n))
    screen.print(rows)


def _traders(summary: Summary, screen: Console) -> None:
    rows = table(
        "Profit after fees: same windows, same exchange",
        "strategy", "orders", "fills", "fees", "PnL", "by fill evidence",
        right=("orders", "fills", "fees", "PnL"),
    )  # fmt: skip
    for line in summary.traders:
        classes = ", ".join(f"{m.evidence} {tinted(m.pnl)}" for m in line.money) or f"[{MUTED}]{line.note or '-'}[/]"
        fees = f"${line.fees / 1e6:,.2f}"
        rows.add_row(line.name, str(line.orders), str(line.fills), fees, tinted(line.pnl), classes)
    screen.print(rows)
    if unresolved := sum(m.open for t in summary.traders for m in t.money):
        screen.print(f"[{MUTED}]{unresolved} fills in unresolved markets are excluded from PnL.[/]")


def _resting(found: Resting, screen: Console) -> None:
    rows = table("Maker orders", "", "", right=("",))
    rows.show_header = False
    rows.add_row("orders", f"{found.orders:,}")
    rows.add_row("filled, at least in part", f"{found.filled:,}")
    if found.waited is not None:
        rows.add_row("median seconds to first fill", f"{found.waited:.1f}")
    if found.ahead is not None:
        rows.add_row("median queue ahead, shares", f"{found.ahead / 1e6:,.0f}")
    if found.markout is not None:
        cents = [100 * x for x in (found.markout.mean, found.markout.low, found.markout.high)]
        colour = GOOD if cents[1] > 0 else BAD if cents[2] < 0 else MUTED
        interval = escape(f"[{cents[1]:+.2f}, {cents[2]:+.2f}]")
        rows.add_row(
            f"markout after 10 seconds, cents per share ({found.looked_at} fills)",
            f"[{colour}]{cents[0]:+.2f}[/] {interval}",
        )
    screen.print(rows)


def _tokens(summary: Summary, screen: Console) -> None:
    total, decisions = sum(summary.tokens.values()), max(summary.funnel.cycles, 1)
    numbers = ("tokens", "per decision", "tokens/s", "$/decision", "J/token")
    rows = table("Tokens and cost by phase", "phase", *numbers, "", right=numbers)
    for phase in summary.cost.phases:
        n = phase.tokens
        measured = number(phase.tokens_per_second, 0), f"{phase.dollars:.7f}", number(phase.joules_per_token, 3)
        rows.add_row(
            phase.phase, str(n), f"{n / decisions:.1f}", *measured, f"[{ACCENT}]{bar(n / max(total, 1), 10)}[/]"
        )
    dollars = f"{summary.cost.dollars:.7f}"
    rows.add_row("[bold]total[/]", f"[bold]{total}[/]", f"{total / decisions:.1f}", "", f"[bold]{dollars}[/]", "", "")
    screen.print(rows)
    agrees = "equal to" if summary.engine_tokens == total else "NOT equal to"
    screen.print(f"[{MUTED}]{agrees} the engine's own count of {summary.engine_tokens}; ${summary.dollars:.6f}[/]")
    if summary.cost.energy:
        screen.print(f"[{MUTED}]energy: {escape(summary.cost.energy)}[/]")


def _month(summary: Summary, screen: Console) -> None:
    month = summary.cost.month
    colour = GOOD if month.total < month.goal else BAD
    idle = "" if month.idle is None else f" (inference ${month.inference:,.2f}, the idle box ${month.idle:,.2f})"
    screen.print(
        f"[bold {ACCENT}]Projected month[/]  [bold {colour}]${month.total:,.2f}[/]{idle}; "
        f"the goal is below ${month.goal:,.0f}"
    )
    for line in month.assumes:
        screen.print(f"[{MUTED}]· assumes {escape(line)}[/]")


def _latency(summary: Summary, screen: Console) -> None:
    rows = table(
        "Latency, milliseconds",
        "",
        "n",
        "p50",
        "p99",
        "limit",
        "over limit",
        right=("n", "p50", "p99", "limit", "over limit"),
    )
    for line in summary.latencies:
        limit = number(line.limit, 0), "-" if line.limit is None else str(line.over)
        rows.add_row(line.name, str(line.n), number(line.p50, 1), number(line.p99, 1), *limit)
    screen.print(rows)
