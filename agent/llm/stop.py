"""Stop flag of a computation."""

from __future__ import annotations

import ctypes as c
from threading import Timer

from market.errors import EngineTimeout


class CallStop:
    """Stop flag of a call: set at a deadline, in seconds from now, or when its caller is cancelled.

    The library polls after every operation, so it calls a C function: `strlen` of a text that is empty until the flag
    is set. No Python code, and no GIL, delays a computation.
    """

    asked = c.cast(c.CDLL(None).strlen, c.c_void_p)

    def __init__(self, deadline: float | None) -> None:
        self.text = c.create_string_buffer(2)
        self._timer = None if deadline is None else Timer(deadline, self.end)
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> None:
        """Set the flag."""
        self.text[0] = b"x"

    def close(self) -> None:
        """Cancel the timer at the end of the call."""
        if self._timer is not None:
            self._timer.cancel()

    def check(self) -> None:
        """Raises EngineTimeout when the flag is set."""
        if self.text.value:
            raise EngineTimeout("The model was stopped at its deadline.")
