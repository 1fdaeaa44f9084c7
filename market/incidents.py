"""Counters of what went wrong beside the normal path, with sentences on what of it is recent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from market.clock import monotonic

_RECENT = 600.0
"""Seconds for which an incident counts as recent."""


@dataclass(slots=True)
class Incidents:
    """Counts by kind since the start. `sentences` says what each kind of trouble means; other kinds are only counted.
    `why` is the reason of the newest of each kind, `at` its monotonic time."""

    sentences: Mapping[str, str]
    counted: Counter[str] = field(default_factory=Counter)
    why: dict[str, str] = field(default_factory=dict)
    at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.counted.update(dict.fromkeys(self.sentences, 0))

    def note(self, kind: str, why: object) -> None:
        """Count one more of a kind, with its reason."""
        self.counted[kind] += 1
        self.why[kind], self.at[kind] = str(why), monotonic()

    def counts(self) -> Mapping[str, int]:
        """Every counter by its name."""
        return dict(self.counted)

    def recent(self) -> list[str]:
        """A sentence for each kind of trouble of the last ten minutes."""
        since = monotonic() - _RECENT
        return [
            f"{said} ({self.counted[kind]} since the start), the last: {self.why[kind].rstrip('.')}."
            for kind, said in self.sentences.items()
            if self.at.get(kind, -1.0) > since
        ]
