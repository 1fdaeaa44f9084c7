"""Number of examples of a property: one profile for the whole suite, and each property relative to it."""

from __future__ import annotations

import os

from hypothesis import settings

_IN_CI = 100
_FEWEST = 5


def load() -> None:
    """Load the profile that HYPOTHESIS_PROFILE names (dev, ci or nightly), dev by itself.

    No profile has a deadline: how long an example takes says something of the machine, not of the code. CI draws the
    same examples each time, so that a change is judged by what it changes; what is new is found by the other two.
    """
    settings.register_profile("dev", deadline=None, max_examples=20)
    settings.register_profile("ci", deadline=None, max_examples=_IN_CI, derandomize=True)
    settings.register_profile("nightly", deadline=None, max_examples=1000, print_blob=True)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "dev")


def examples(in_ci: int) -> settings:
    """So many examples in CI, and in proportion in the other profiles; a property without this has 100."""
    return settings(max_examples=max(_FEWEST, in_ci * settings().max_examples // _IN_CI))
