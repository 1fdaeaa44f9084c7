"""Rendering of decisions, trees and findings on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from agent.cli.show import ACCENT, BAD, GOOD, MUTED, WARN, bar, number, table, tinted
from market.rules import resolution_rule
from market.types import UNIT

if TYPE_CHECKING:
    # what is shown was made by the verb already: importing the engine room for its types takes longer than showing
    from agent.replay.replay import ReplayResult
    from agent.reports.explain import Explanation
    from storage.decisions import RecordedCorrection, RecordedNode
    from storage.records import DecisionSummary, Problem, Run

_WITH_MARKETS = 108
"""Columns of a terminal from which the list of decisions names the markets."""
_TINT = {
    "supported": GOOD,
    "thin": WARN,
    "stale": WARN,
    "refuted": BAD,
    "false": BAD,
    "leaked": BAD,
    "undecided": MUTED,
    "not_a_claim": MUTED,
}


def print_runs(runs: Sequence[Run], screen: Console) -> None:
    rows = table("Runs", "run", "label", "data", "records", "finished", "started", right=("records",))
    for run in runs:
        data = escape(run.about.data)
        state = "yes" if run.finished else f"[{WARN}]no[/]"
        rows.add_row(run.id, run.identity.label, data, str(run.records), state, f"{run.started_at:%Y-%m-%d %H:%M}")
    screen.print(rows)


def print_decisions(decisions: Sequence[DecisionSummary], screen: Console) -> None:
    # A slug is as long as all the rest of a terminal of 80 columns, and `log show` has it.
    wide = screen.width >= _WITH_MARKETS
    market, corrected = (("market",), " corrected") if wide else ((), "*")
    rows = table(
        "Decisions", "id", "UTC", *market, "decision", "mid", "P(Up)", "verified", "profit", "tokens",
        right=("mid", "P(Up)", "verified", "profit", "tokens"),
    )  # fmt: skip
    for column in rows.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    for d in decisions:
        made = f"[bold {GOOD}]{d.action}[/]" if d.action != "abstain" else d.reason
        rows.add_row(
            d.id,
            f"{d.at:%m-%d %H:%M}",
            *(escape(d.slug) for _ in market),
            f"{made}[{WARN}]{corrected}[/]" if d.corrected else made,
            number(d.mid, 3),
            number(d.probability, 3),
            "-" if d.verified_share is None else f"{d.verified_share:.0%}",
            "-" if d.profit is None else tinted(d.profit),
            str(d.tokens),
        )
    screen.print(rows)
    footnote = "" if wide or not any(d.corrected for d in decisions) else " * corrected."
    screen.print(f"[{MUTED}]{len(decisions)} decisions.{footnote} Open one: edgeclaw log show ID[/]")


def print_reasons(reasons: Sequence[tuple[str, str, int]], screen: Console) -> None:
    rows = table("Decisions by reason", "action", "reason", "count", "", "share", right=("count", "share"))
    total = sum(count for _, _, count in reasons) or 1
    for action, reason, count in reasons:
        made = f"[bold {GOOD}]{action}[/]" if action != "abstain" else action
        rows.add_row(made, reason, f"{count:,}", f"[{ACCENT}]{bar(count / total)}[/]", f"{count / total:.1%}")
    screen.print(rows)


def print_explanation(e: Explanation, screen: Console) -> None:
    """Print one decision, from its inputs to its outcome."""
    screen.print()
    screen.rule(f"[bold]decision {e.id}[/] · {escape(e.market.slug)} · {e.at}", style=ACCENT)
    for section in (_verdict, _known, _book, _tree, _claims, _belief, _orders, _tokens):
        section(e, screen)
    screen.print(f"\n[{MUTED}]record {e.seq} of run {e.run_id}, hash {e.hash}[/]")


def _verdict(e: Explanation, screen: Console) -> None:
    decision, gate = e.decision, e.decision.gate
    colour = GOOD if decision.action != "abstain" else WARN
    screen.print(f"\n[bold {colour}]{decision.action}[/]: {decision.reason}", highlight=False)
    if gate.cost:
        screen.print(
            f"[{MUTED}]largest plausible edge {gate.plausible:.4f} against a cost of {gate.cost:.4f} per share; "
            f"support of {e.inputs['windows']} past windows, {e.inputs['settings']['rule']['min_support']} needed[/]"
        )
    if e.outcome is not None and e.outcome.payout is not None:
        screen.print(f"[{MUTED}]outcome: Up paid {e.outcome.payout} ({e.outcome.source})[/]")


def _known(e: Explanation, screen: Console) -> None:
    rows = table("\nInputs", "", "")
    fees = e.inputs["fees"]
    rows.add_row("question", escape(e.market.question))
    rows.add_row("resolves", _resolves(e.inputs["market"]))
    rows.add_row("free cash", f"${e.inputs['cash'] / UNIT:,.2f}")
    rows.add_row("position", f"{e.inputs['held_yes'] / UNIT:g} Up, {e.inputs['held_no'] / UNIT:g} Down")
    rows.add_row("taker fee", f"{fees['rate']} x p (1 - p) a share ({fees['seen'] or 'dated table'})")
    features = e.decision.features or {}
    rows.add_row("features", ", ".join(f"{k} [bold]{v}[/]" for k, v in features.items()) or "-")
    screen.print(rows)


def _resolves(market: Mapping[str, Any]) -> str:
    opens, closes = (datetime.fromisoformat(market[k]) for k in ("opens_at", "closes_at"))
    rule = resolution_rule(opens, int((closes - opens).total_seconds()))
    price = f"the {rule.average_seconds}-second average" if rule.average_seconds else "the instantaneous"
    return f"Up when {price} Chainlink price at the close is at or above that at the open; a tie is {rule.tie}"


def _book(e: Explanation, screen: Console) -> None:
    if e.book is None:
        return
    rows = table(
        "\nOrder book of Up, best five", "bid size", "bid", "ask", "ask size", right=("bid size", "bid", "ask")
    )
    bids, asks = e.book["bids"][:5], e.book["asks"][:5]
    for i in range(max(len(bids), len(asks))):
        bid = (f"{bids[i][1] / UNIT:,.2f}", bids[i][0]) if i < len(bids) else ("", "")
        ask = (asks[i][0], f"{asks[i][1] / UNIT:,.2f}") if i < len(asks) else ("", "")
        rows.add_row(bid[0], f"[{GOOD}]{bid[1]}[/]", f"[{BAD}]{ask[0]}[/]", ask[1])
    screen.print(rows)
    screen.print(f"[{MUTED}]received {e.book['received_at']}, book hash {e.decision.book}[/]")


def _tree(e: Explanation, screen: Console) -> None:
    search = e.decision.search
    if not search:
        screen.print(f"\n[{MUTED}]The gate was closed: no search, no tokens.[/]")
        return
    root = Tree(f"[bold {ACCENT}]search[/] [{MUTED}]{search.policy}, ended: {search.stop}[/]", guide_style=MUTED)
    picked = {e.nodes[i].hash for i in search.picked}
    branches = {"": root}
    for node in e.nodes:
        branches[node.hash] = branches[node.parent].add(_node(node, chosen=node.hash in picked))
    screen.print()
    screen.print(root)


def _node(node: RecordedNode, *, chosen: bool) -> str:
    claim, verdict = node.claim, node.verdict
    text = claim.bucket if claim.rung == "decision" else f"{claim.feature} {claim.bucket} → {claim.effect}"
    label = f"[bold]{text}[/]" if chosen else text
    tail = "" if verdict == "not_a_claim" else f" [{_TINT[verdict]}]{verdict}[/]"
    return f"{'●' if chosen else '○'} {label}{tail} [{MUTED}]value {node.value:.2f}, prior {node.prior:.2f}[/]"


def _claims(e: Explanation, screen: Console) -> None:
    search = e.decision.search
    if not search:
        return
    rows = table(
        "\nClaims of the chosen path, verified on history before this instant",
        "claim", "verdict", "support", "rate of Up", "base rate", "posterior [interval]", "log Bayes factor",
        right=("support", "rate of Up", "base rate", "log Bayes factor"),
    )  # fmt: skip
    for step in search.path:
        v, verdict = step.evidence, step.verdict
        interval = f"{v.posterior:.3f} [{v.low:.3f}, {v.high:.3f}]" if v.support else "-"
        finding = f" ({step.finding})" if step.finding else ""
        rows.add_row(
            step.says,
            f"[{_TINT[verdict]}]{verdict}{finding}[/]",
            str(v.support),
            number(v.rate, 3) if v.support else "-",
            number(v.base_rate, 3) if v.support else "-",
            escape(interval),
            f"{v.log_bayes_factor:+.2f}",
        )
    screen.print(rows)
    trials = e.inputs["settings"]["policy"]["max_nodes"]
    screen.print(
        f"[{MUTED}]90 % credible intervals, corrected for {trials} simultaneous claims; base rate: the mids[/]"
    )
    if search.correction:
        _correction(search.correction, screen)
    if search.words:
        screen.print(f"[{MUTED}]Rationale by the model: “{escape(search.words)}”[/]")


def _correction(correction: RecordedCorrection, screen: Console) -> None:
    claim, new = correction.faulty.claim, correction.replacement
    became = f"replaced by {new.claim.feature} {new.claim.bucket} → {new.claim.effect}" if new else "dropped"
    screen.print(
        f"[{WARN}]Corrected on {correction.finding}[/]: {claim.feature} {claim.bucket} → {claim.effect} was {became}."
    )


def _belief(e: Explanation, screen: Console) -> None:
    made = e.decision
    if not made.search:
        return
    belief, edge = made.search.belief, made.edge
    screen.print(
        f"\n[bold]Belief[/] P(Up) {number(made.probability)} against a mid of {number(made.mid)}: "
        f"{belief.shift:+.4f} log-odds, verified share {belief.verified_share:.2f}, support {belief.support}"
    )
    if reach := made.band:
        screen.print(f"90 % conformal band of the mid after one minute: {reach.low:.3f} to {reach.high:.3f}")
    if edge and (best := edge.best):
        screen.print(
            f"best side {best.outcome} at {best.price}: net edge {best.net:+.4f} per share after a fee of "
            f"{edge.fee_per_share:.4f} and the buffer"
        )


def _orders(e: Explanation, screen: Console) -> None:
    if not e.orders:
        return
    rows = table("\nOrders", "order", "side", "limit price", "size", "status", right=("limit price", "size"))
    for o in e.orders:
        order = o["order"]
        what = f"{order.side} {order.outcome} {order.tif}"
        rows.add_row(o["order_id"][:14], what, str(order.price), f"{order.size / UNIT:,.2f}", str(o["status"]))
    screen.print(rows)
    for f in e.fills:
        screen.print(f"filled {f.size / UNIT:,.2f} at {f.price}, fee ${f.fee / UNIT:.5f}, evidence {f.evidence}")


def _tokens(e: Explanation, screen: Console) -> None:
    rows = table("\nTokens", "phase", "evaluated", "cached", "generated", "calls", "ms", right=(
        "evaluated", "cached", "generated", "calls", "ms"))  # fmt: skip
    for r in e.tokens:
        rows.add_row(r.phase, str(r.prompt), str(r.cached), str(r.generated), str(r.calls), f"{r.milliseconds:.0f}")
    screen.print(rows)


def print_replays(results: Sequence[ReplayResult], screen: Console) -> None:
    drifted = [r for r in results if r.differences]
    for r in drifted:
        screen.print(f"[{BAD}]{r.decision_id} differs from the record[/]")
        for line in r.differences[:10]:
            screen.print(f"  {escape(line)}")
    same = len(results) - len(drifted)
    screen.print(f"{same} of {len(results)} decisions reproduced exactly.")


def print_problems(problems: Sequence[Problem], screen: Console) -> None:
    for problem in problems:
        screen.print(f"[{BAD}]{escape(problem.sentence)}[/]")
    screen.print("The log is intact: every hash and link is valid." if not problems else f"{len(problems)} problems.")
