"""When a computation has to end."""

from __future__ import annotations

import ctypes as c
from threading import Timer

from market.errors import EngineTimeout


class CallStop:
    """When a call has to end: at a deadline, in seconds from now, or when its caller has gone.

    The library asks after every operation, so it asks a C function: `strlen` of a text that is empty until it is time.
    Nothing of Python, and no lock of it, is in the way of a computation.
    """

    asked = c.cast(c.CDLL(None).strlen, c.c_void_p)

    def __init__(self, deadline: float | None) -> None:
        self.text = c.create_string_buffer(2)
        self._timer = None if deadline is None else Timer(deadline, self.end)
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> None:
        """It is time."""
        self.text[0] = b"x"

    def close(self) -> None:
        """The call is over."""
        if self._timer is not None:
            self._timer.cancel()

    def check(self) -> None:
        """Raises EngineTimeout when it is time."""
        if self.text.value:
            raise EngineTimeout("The model was stopped at its deadline.")
