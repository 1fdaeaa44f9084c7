"""
Every error edgeclaw raises on purpose, grouped by what the caller does next.

* EdgeclawError
  - Transient            try again later; this cycle ends
    + VenueUnavailable
    + ClockStepped
    + EngineUnavailable
      * EngineTimeout
  - CycleSkipped         note the reason, wait for the next cycle
  - Halt                 stop trading until a person has looked
    + LimitExceeded
    + LedgerMismatch
    + StoreUnavailable
  - Refused              do not start; a person changes something and starts again
    + Misconfigured
    + DataInvalid
    + NotReady
    + EgressRefused
  - StrategyFailed       this strategy ends; others go on
  - Drift                a recomputation differs from what was recorded

A message is one plain sentence; `next_step`, where given, says what to do about it.
"""

from __future__ import annotations


class EdgeclawError(Exception):
    """Base class; caught only at the edge of the service.

    `exit_code` is what the command line returns when the error reaches it (design: 1 difference, 2 usage or
    configuration, 3 not ready, 4 halted, 5 venue or engine unavailable).
    """

    exit_code = 1

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.next_step = next_step

    def sentence(self) -> str:
        """The message and the next step, for a person."""
        return f"{self} {self.next_step}".strip()


class Transient(EdgeclawError):
    """May work if tried again."""

    exit_code = 5


class VenueUnavailable(Transient):
    """The exchange or its data feed did not answer."""


class ClockStepped(Transient):
    """The machine's clock was set back: what was heard until now lies in the future. Starting again is the cure."""


class EngineUnavailable(Transient):
    """The model did not answer, or answered nonsense.

    `spent` is what it worked through all the same: prompt, cached and generated tokens, and calls.
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
    """Do not trade again until a person has looked."""

    exit_code = 4


class LimitExceeded(Halt):
    """An order would break a hard limit."""


class LedgerMismatch(Halt):
    """Two accounts of the same money disagree."""


class StoreUnavailable(Halt):
    """The database cannot be read or written: nothing may be done that could not be remembered."""


class Refused(EdgeclawError):
    """The program will not start like this."""

    exit_code = 2


class Misconfigured(Refused):
    """A setting or an argument is wrong."""


class DataInvalid(Refused):
    """A file is damaged, or is not what it should be."""


class NotReady(Refused):
    """Something that has to be installed or set up first is missing."""

    exit_code = 3


class EgressRefused(Refused):
    """A connection to a host that is not on the allow-list."""


class StrategyFailed(EdgeclawError):
    """A strategy raised where it had to answer."""


class Drift(EdgeclawError):
    """A recomputed record is not the recorded one."""
