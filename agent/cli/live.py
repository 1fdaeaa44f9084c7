"""The live view of a run: one screen, redrawn a few times a second from events. Decides and stores nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.cli.show import ACCENT, BAD, GOOD, MUTED, number, table, tinted
from agent.trading.bus import LocalBus
from market.events import CycleStarted, DecisionMade, OrderFilled, PositionSettled, TradingHalted

CADENCE = timedelta(minutes=5)
ROWS = 12


@dataclass(slots=True)
class Seen:
    """State of the view from the events received so far."""

    stage: str = "starting"
    slot: datetime | None = None
    decisions: int = 0
    tokens: int = 0
    dollars: float = 0.0
    fills: int = 0
    fees: int = 0
    cash: int = 0
    halted: str = ""
    reasons: dict[str, int] = field(default_factory=dict)
    recent: deque[DecisionMade] = field(default_factory=lambda: deque(maxlen=ROWS))

    def started(self, event: CycleStarted) -> None:
        self.slot = event.at

    def stopped(self, event: TradingHalted) -> None:
        self.halted = event.reason

    def decided(self, event: DecisionMade) -> None:
        self.decisions += 1
        self.tokens += sum(n for _, n in event.phase_tokens)
        self.dollars += event.dollars
        self.reasons[event.reason] = self.reasons.get(event.reason, 0) + 1
        self.recent.append(event)

    def filled(self, event: OrderFilled) -> None:
        self.fills += 1
        self.fees += event.fill.fee
        self.cash += event.fill.cash

    def settled(self, event: PositionSettled) -> None:
        self.cash += event.settlement.cash


class LiveView:
    """Live view: subscribes to a bus while it is open and keeps the screen current. `title` names the run's
    mode and market."""

    def __init__(self, bus: LocalBus, screen: Console, title: str) -> None:
        self._bus, self._screen, self._title = bus, screen, title
        self._seen = Seen()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        seen, hear = self._seen, self._stack.enter_context
        hear(self._bus.subscribed(CycleStarted, seen.started))
        hear(self._bus.subscribed(DecisionMade, seen.decided))
        hear(self._bus.subscribed(OrderFilled, seen.filled))
        hear(self._bus.subscribed(PositionSettled, seen.settled))
        hear(self._bus.subscribed(TradingHalted, seen.stopped))
        self._stack.enter_context(
            Live(get_renderable=lambda: draw_screen(seen, self._title), console=self._screen, refresh_per_second=6)
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def stage(self, text: str) -> None:
        """Show the run's current stage."""
        self._seen.stage = text


def draw_screen(seen: Seen, title: str) -> Panel:
    """The whole screen as one renderable; `title` names the mode of the run and its market."""
    parts: list[RenderableType] = [_head(seen), Text(), _decisions(seen)]
    if seen.halted:
        parts.append(Text(f"halted: {seen.halted}", style=f"bold {BAD}"))
    return Panel(
        Group(*parts),
        title=f"[bold]edgeclaw[/] · {escape(title)}",
        title_align="left",
        subtitle=f"[{MUTED}]{escape(seen.stage)}[/]",
        subtitle_align="right",
        border_style=ACCENT,
        padding=(1, 2),
    )


def _head(seen: Seen) -> Table:
    grid = Table.grid(padding=(0, 4))
    clock = f"{seen.slot:%Y-%m-%d %H:%M} UTC" if seen.slot else "-"
    following = f"{seen.slot + CADENCE:%H:%M}" if seen.slot else "-"
    cells = {
        "slot": clock,
        "next": following,
        "decisions": str(seen.decisions),
        "tokens": f"{seen.tokens:,}",
        "cost": f"${seen.dollars:.6f}",
        "fills": str(seen.fills),
        "fees": f"${seen.fees / 1e6:,.2f}",
        "cash": tinted(seen.cash),
    }
    grid.add_row(*(f"[{MUTED}]{k}[/]" for k in cells))
    grid.add_row(*(f"[bold]{v}[/]" for v in cells.values()))
    return grid


def _decisions(seen: Seen) -> Table:
    rows = table(
        "",
        "slot", "market", "closes in", "bid", "ask", "P(Up)", "vs mid", "decision", "tokens", "ms",
        right=("closes in", "bid", "ask", "P(Up)", "vs mid", "tokens", "ms"),
    )  # fmt: skip
    for event in seen.recent:
        rows.add_row(*_row(event))
    for _ in range(ROWS - len(seen.recent)):
        rows.add_row(*[""] * 10)
    return rows


def _row(event: DecisionMade) -> list[str]:
    lean = None if event.mid is None or event.probability is None else event.probability - event.mid
    colour = GOOD if event.action != "abstain" else MUTED
    left = int((event.closes_at - event.at).total_seconds())
    return [
        f"{event.at:%H:%M}",
        event.slug,
        f"{left // 60}:{left % 60:02d}",
        "-" if event.bid is None else f"{event.bid:.3f}",
        "-" if event.ask is None else f"{event.ask:.3f}",
        number(event.probability, 3),
        "-" if lean is None else f"{lean:+.3f}",
        f"[{colour}]{event.action} · {event.reason}[/]",
        str(sum(n for _, n in event.phase_tokens)),
        f"{event.milliseconds:.0f}",
    ]


@contextmanager
def plain_stage(bus: LocalBus, screen: Console) -> Iterator[Callable[[str], None]]:
    """Progress for a pipe or a log: a line a stage and a line a decision."""

    def decided(event: DecisionMade) -> None:
        tokens = sum(n for _, n in event.phase_tokens)
        screen.print(
            f"{event.at:%Y-%m-%d %H:%M} {event.slug} mid {number(event.mid, 3)} P(Up) {number(event.probability, 3)} "
            f"{event.action}: {event.reason} ({tokens} tokens, {event.milliseconds:.0f} ms)",
            markup=False,
            soft_wrap=True,
        )

    with bus.subscribed(DecisionMade, decided):
        yield lambda text: screen.print(f"... {text}", markup=False)
