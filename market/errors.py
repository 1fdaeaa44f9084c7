"""Errors that edgeclaw raises on purpose, grouped by the caller's next step.

* EdgeclawError
  - Transient            try again later; this cycle ends
    + VenueUnavailable
    + ClockStepped
    + RunFailed
    + EngineUnavailable
      * EngineTimeout
  - CycleSkipped         log the reason, wait for the next cycle
  - Halt                 stop trading until an operator has looked
    + LimitExceeded
    + LedgerMismatch
    + StoreUnavailable
  - Refused              do not start; the operator changes something and starts again
    + Misconfigured
    + DataInvalid
    + NotReady
    + EgressRefused
  - StrategyFailed       this strategy ends; others go on
  - Drift                a recomputation differs from the record

A message is one plain sentence; `next_step`, where given, is the operator's remedy.
"""

from __future__ import annotations


class EdgeclawError(Exception):
    """Base class; caught only at the edge of the service.

    `exit_code` is the command line's exit status when the error reaches it (design: 1 difference, 2 usage or
    configuration, 3 not ready, 4 halted, 5 venue or engine unavailable).
    """

    exit_code = 1

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.next_step = next_step

    def sentence(self) -> str:
        """Message and next step, for display."""
        return f"{self} {self.next_step}".strip()


class Transient(EdgeclawError):
    """A failure that a retry may cure."""

    exit_code = 5


class VenueUnavailable(Transient):
    """The exchange or its data feed did not answer."""


class ClockStepped(Transient):
    """The system clock was set back, so data received until now lies in the future. A restart cures it."""


class RunFailed(Transient):
    """Something that nobody foresaw ended a run. Its orders were taken back; a restart recovers from the log."""


class EngineUnavailable(Transient):
    """The model did not answer, or its answer could not be parsed.

    `spent` is the work done all the same: prompt tokens, cached tokens, generated tokens, calls.
    """

    spent: tuple[int, int, int, int] = (0, 0, 0, 0)


class EngineTimeout(EngineUnavailable):
    """The model was stopped at its deadline."""


class CycleSkipped(EdgeclawError):
    """This cycle ends without an order; `reason` is the code kept in the decision log."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason


class Halt(EdgeclawError):
    """Trading stops until an operator has looked."""

    exit_code = 4


class LimitExceeded(Halt):
    """An order would break a hard limit."""


class LedgerMismatch(Halt):
    """Two records of the same balance disagree."""


class StoreUnavailable(Halt):
    """The database cannot be read or written: no action may be taken that could not be recorded."""


class Refused(EdgeclawError):
    """The program will not start in this state."""

    exit_code = 2


class Misconfigured(Refused):
    """A setting or an argument is wrong."""


class DataInvalid(Refused):
    """A file is damaged or of the wrong format."""


class NotReady(Refused):
    """A prerequisite is not installed or set up."""

    exit_code = 3


class EgressRefused(Refused):
    """A connection to a host that is not on the allow-list."""


class StrategyFailed(EdgeclawError):
    """A strategy raised instead of answering."""


class Drift(EdgeclawError):
    """A recomputed record differs from the recorded one."""
