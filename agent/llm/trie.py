"""Which beginnings have been seen: how engines without a cache of their own count what a prompt adds.

Knows no text: its items are words or token ids.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


class Trie(dict[Hashable, "Trie"]):
    """Items that follow each other."""

    def take(self, items: Iterable[Hashable], known: Sequence[Trie] = ()) -> int:
        """Add the items; how many of them neither this nor the `known` tries had in this place."""
        here, new = self, 0
        elsewhere: list[Trie | None] = list(known)
        for item in items:
            elsewhere = [way.get(item) if way is not None else None for way in elsewhere]
            new += item not in here and not any(way is not None for way in elsewhere)
            here = here.setdefault(item, Trie())
        return new

    def joined(self, other: Trie) -> Trie:
        """This with all that `other` holds; both are used up."""
        for item, way in other.items():
            self[item] = self[item].joined(way) if item in self else way
        return self
