"""Fault injection of the loopback venue: every fault the real one has shown, and some of networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from market.errors import Misconfigured


class Fault(StrEnum):
    """Kinds of faults. Those of `MODES` last for a time, the others for a number of occasions."""

    RESTARTING = "restarting"
    DISABLED = "disabled"
    CANCEL_ONLY = "cancel_only"
    POST_ONLY = "post_only"
    STALE_GAMMA = "stale_gamma"
    QUIRKS = "quirks"
    FINISHED_NULL = "finished_null"
    FINISHED_GONE = "finished_gone"
    PAGE_OK = "page_ok"
    PAGE_FORBIDDEN = "page_forbidden"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    SLOW = "slow"
    LOST_REQUEST = "lost_request"
    LOST_ANSWER = "lost_answer"
    VERSION_MISMATCH = "version_mismatch"
    SETTLEMENT_FAILS = "settlement_fails"
    NEVER_MINED = "never_mined"
    MINED_SILENTLY = "mined_silently"
    ODD_PAYOUTS = "odd_payouts"
    TICK_CHANGE = "tick_change"
    DISCONNECT = "disconnect"
    MISSED_FRAME = "missed_frame"
    BAD_FRAME = "bad_frame"
    AHEAD_FRAME = "ahead_frame"
    REPEATED_FRAME = "repeated_frame"
    SWAPPED_FRAMES = "swapped_frames"


MODES = frozenset(
    {
        Fault.RESTARTING,
        Fault.DISABLED,
        Fault.CANCEL_ONLY,
        Fault.POST_ONLY,
        Fault.STALE_GAMMA,
        Fault.QUIRKS,
        Fault.FINISHED_NULL,
        Fault.FINISHED_GONE,
        Fault.PAGE_OK,
        Fault.PAGE_FORBIDDEN,
    }
)

IMPOSSIBLE_PAYOUTS: Sequence[object] = (
    [0, 0],
    [1_000_000, 0, 0],
    [-1_000_000, 2_000_000],
    ["one", "zero"],
    [],
    [None, None],
    "1000000,0",
)
"""What `ODD_PAYOUTS` says, one after the other: nothing that a market could pay. The right answer comes after them."""


@dataclass(slots=True)
class Faults:
    """Active faults. `seen` counts the occurrences of each; `options` are the demands made with the last injection."""

    until: dict[Fault, datetime] = field(default_factory=dict)
    left: dict[Fault, int] = field(default_factory=dict)
    seen: dict[Fault, int] = field(default_factory=dict)
    options: dict[Fault, object] = field(default_factory=dict)

    def order(self, name: str, now: datetime, *, count: int = 1, seconds: float = 5.0, option: object = None) -> Fault:
        """Inject a fault `count` times, or a mode for `seconds` of the venue's time. Raises Misconfigured."""
        if name not in list(Fault):
            raise Misconfigured(
                f"{name!r} is not a fault that can be injected.", next_step=f"Choose one of: {', '.join(Fault)}."
            )
        fault = Fault(name)
        if fault in MODES:
            self.until[fault] = now + timedelta(seconds=seconds)
        else:
            self.left[fault] = self.left.get(fault, 0) + count
        self.options[fault] = option
        return fault

    def lasts(self, mode: Fault, now: datetime) -> float:
        """Remaining seconds of a mode in the venue's time; counted as seen if there are any."""
        left = (self.until[mode] - now).total_seconds() if mode in self.until else 0.0
        if left > 0:
            self._count(mode)
        return max(left, 0.0)

    def happens(self, fault: Fault) -> bool:
        """True if the fault happens now, which uses one occasion up."""
        if not self.left.get(fault):
            return False
        self.left[fault] -= 1
        self._count(fault)
        return True

    def clear(self) -> None:
        """Remove all faults."""
        self.until.clear()
        self.left.clear()
        self.options.clear()

    def _count(self, fault: Fault) -> None:
        self.seen[fault] = self.seen.get(fault, 0) + 1
